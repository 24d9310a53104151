"""On a GPU: two runs of one seed give the same bytes, in one process each, as a person starts them."""

import subprocess
import sys

import pytest

from cleantune import files
from tests import tiny

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_runs_of_one_seed_give_the_same_weights(tmp_path, precision):
    weights = []
    for name in ("first", "second"):
        folder = tmp_path / name
        tiny.write(folder, documents=400, dropout=0.1)
        # Embeddings that learn: their gradient is a sum in whatever order, unless told otherwise.
        tiny.set_params(folder, epochs=2, precision=precision, finetune__freeze_embeddings=False,
                        finetune__deterministic=True)  # fmt: skip
        subprocess.run([sys.executable, "-m", "stages.finetune"], cwd=folder, check=True)
        weights.append(files.sha256(folder / "models/finetuned/model.safetensors"))
    assert weights[0] == weights[1]
