"""Every decoder of docs/models.md through finetune in two processes: what it saves is what it trained.

Its files in fp32 or bf16, whole or in shards; at ZeRO-2 or 3; all of it learns, or adapters; the saved
model is in shards where the base was. Any two of these settings meet in one of the eight runs, each
of another architecture. All 128 combinations, in about ten minutes:

    EVERY_COMBINATION=1 python -m pytest tests/distributed/test_decoders.py
"""

import itertools
import os

import pytest
import torch
from transformers import AutoModel

from cleantune import files
from cleantune.data import tables
from cleantune.models import classifier, weights
from tests import architectures, tiny

PARAMS = {"lr": 1e-3, "epochs": 1, "batch_size": 20, "precision": "fp32", "processes": 2}
SETTINGS = list(
    itertools.product((torch.float32, torch.bfloat16), (False, True), (2, 3), (False, True))
)
HALF = [run for run in SETTINGS
        if (run[0] == torch.float32) ^ run[1] ^ (run[2] == 2) ^ run[3]]  # fmt: skip
RUNS = (
    list(itertools.product(architectures.DECODERS, SETTINGS))
    if os.environ.get("EVERY_COMBINATION")
    else list(zip(architectures.DECODERS, HALF, strict=True))
)


def test_any_two_settings_meet_in_one_run():
    for first, second in itertools.combinations(range(4), 2):
        assert len({(run[first], run[second]) for run in HALF}) == 4


@pytest.mark.parametrize(("architecture", "settings"), RUNS)
def test_what_is_saved_says_of_validation_what_was_trained(
    runner, tmp_path, architecture, settings
):
    dtype, sharded, stage, adapters = settings
    tiny.write(tmp_path)
    architectures.write(tmp_path / "base", architecture, dtype=dtype)
    if sharded:
        base = AutoModel.from_pretrained(tmp_path / "base")
        (tmp_path / "base/model.safetensors").unlink()
        base.save_pretrained(tmp_path / "base", max_shard_size="20KB")
    tiny.record_base(tmp_path)
    options = {"rank": 2, "alpha": 4.0, "kind": "dora" if stage == 3 else "lora"}
    run = runner.start(tmp_path, before="small_shards" if sharded else None, zero_stage=stage,
                       finetune__lora=options if adapters else None, **PARAMS)  # fmt: skip
    assert not any(run.statuses), run.output
    out = tmp_path / tables.FINETUNED
    assert bool(weights.shards(out)) == sharded
    assert weights.precision(out) == "float32"
    table = tables.read_table(tmp_path / tables.TOKENS / "validation.parquet")
    logits = classifier.load(out).logits([ids.tolist() for ids in table["input_ids"]])
    loss = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits), torch.tensor(table["label"].to_numpy())
    )
    measured = files.read_json(out / "summary.json")["validation"]["loss"]
    assert loss.item() == pytest.approx(measured, rel=1e-5)
