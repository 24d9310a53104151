"""The same training whatever the number of processes, the ZeRO stage, offload and accumulation.

Real processes on a two-layer model, dropout off; the last batch of an epoch is smaller than the
others, and the 21 validation documents divide by neither 2 nor 4.
"""

import pytest
from safetensors.torch import load_file

from tests import tiny

PARAMS = {"lr": 3e-3, "epochs": 2, "batch_size": 16}
SAME = 1e-3  # relative, at every step


def train(folder, runner, precision, processes, **params):
    tiny.write(folder, documents=55)
    tiny.set_params(folder, **PARAMS, precision=precision)
    return runner.run(folder, processes=processes, **params)


@pytest.fixture(scope="module")
def alone(runner, tmp_path_factory):
    return {precision: train(tmp_path_factory.mktemp(precision), runner, precision, 1, zero_stage=0)
            for precision in ("fp32", "bf16")}  # fmt: skip


@pytest.mark.parametrize(
    ("precision", "processes", "params"),
    [
        ("fp32", 1, {"zero_stage": 1}),
        ("fp32", 1, {"zero_stage": 2, "finetune__micro_batch_size": 8}),
        ("fp32", 1, {"zero_stage": 2, "finetune__micro_batch_size": 5}),
        ("fp32", 1, {"zero_stage": 2, "finetune__gradient_checkpointing": True}),
        ("fp32", 1, {"zero_stage": 3, "finetune__offload": "all"}),
        ("fp32", 2, {"zero_stage": 0}),
        ("fp32", 2, {"zero_stage": 1}),
        ("fp32", 2, {"zero_stage": 2, "finetune__micro_batch_size": 4}),
        ("fp32", 2, {"zero_stage": 2, "finetune__offload": "optimizer"}),
        ("fp32", 2, {"zero_stage": 3}),
        ("fp32", 2, {"zero_stage": 3, "finetune__offload": "all"}),
        ("fp32", 4, {"zero_stage": 2}),
        ("bf16", 2, {"zero_stage": 2}),
        ("bf16", 2, {"zero_stage": 3}),
        ("bf16", 4, {"zero_stage": 1}),
    ],
)
def test_the_loss_is_the_same_at_every_step(runner, tmp_path, alone, precision, processes, params):
    losses = train(tmp_path, runner, precision, processes, **params)
    assert len(losses) == 8
    assert losses == pytest.approx(alone[precision], rel=SAME)
    weights = load_file(tmp_path / "models/finetuned/model.safetensors")
    assert sum(w.numel() for w in weights.values()) == 22_499, "not the full model"
