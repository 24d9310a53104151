"""A base model in bf16 or fp16 is trained as the same weights in fp32: every ZeRO stage, 1 and 2 processes.

tests/models/test_architectures.py has every architecture, in one process.
"""

import pytest
import torch
from safetensors.torch import load_file

from cleantune import files
from cleantune.data import tables
from cleantune.models import encoder
from tests import architectures, tiny

PARAMS = {"lr": 1e-3, "epochs": 1, "batch_size": 8, "precision": "fp32"}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# An encoder and a decoder meet every stage, number of processes and precision: any two in one run.
RUNS = [
    (architecture, stage, 1 + (stage + shift) % 2, ("bf16", "fp16")[(stage // 2 + shift) % 2])
    for shift, architecture in enumerate(("bert", "llama"))
    for stage in range(4)
]


def train(folder, runner, architecture, dtype, **params):
    """Return the first ten losses of finetune."""
    tiny.write(folder, documents=80)
    architectures.write(folder / "base", architecture, dtype=DTYPES[dtype])
    pointer = encoder.pointer_to("base", None, folder / "base")
    files.write_json(folder / "models/pretrained/base_model.json", pointer)
    losses = runner.run(folder, **PARAMS, finetune__dropout=0.0, **params)
    assert len(losses) == 10
    return losses


@pytest.fixture(scope="module")
def whole(runner, tmp_path_factory):
    """The losses from fp32, without ZeRO, in one process."""
    return {name: train(tmp_path_factory.mktemp(name), runner, name, "fp32", zero_stage=0)
            for name in ("bert", "llama")}  # fmt: skip


@pytest.mark.parametrize(("architecture", "stage", "processes", "dtype"), RUNS)
def test_half_precision_learns_as_the_same_weights_in_fp32(
    runner, tmp_path, whole, architecture, stage, processes, dtype
):
    losses = train(tmp_path, runner, architecture, dtype, zero_stage=stage, processes=processes)
    assert losses == pytest.approx(whole[architecture], rel=1e-6)
    out = tmp_path / tables.FINETUNED
    assert files.read_json(out / "config.json")["dtype"] == "float32"
    assert {w.dtype for w in load_file(out / "model.safetensors").values()} == {torch.float32}
