"""The same training whatever the number of processes, the ZeRO stage, offload and accumulation.

Real processes on a two-layer model, dropout off; the last batch of an epoch is smaller than the
others, and the 21 validation documents divide by neither 2 nor 4.
"""

import itertools
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from cleantune.data import tables
from cleantune.models import classifier, long_documents
from tests import tiny

PARAMS = {"lr": 3e-3, "epochs": 2, "batch_size": 16, "finetune__freeze_embeddings": False}
# Relative, at every step. In bf16 the gradient of each part of a batch is rounded to 8 bits, so that
# weights differ from the first update on, and the loss by half as much as it does from that in fp32.
SAME_LOSS = {"fp32": 1e-5, "bf16": 3e-3}
SAME_WEIGHTS = {"fp32": 1e-5, "bf16": 3e-4}  # of .012 and .0004 that the farthest one moves


def train(folder, runner, precision, processes, **params):
    tiny.write(folder, documents=55)
    tiny.set_params(folder, **PARAMS, precision=precision)
    if precision == "bf16":
        tiny.set_params(folder, lr=1e-4)  # the default; at 3e-3 rounding alone moves the loss 0.3 %
    return runner.run(folder, processes=processes, **params)


class Alone(NamedTuple):
    """What one process without ZeRO said."""

    losses: list[float]
    judged: list[float]
    weights: dict[str, torch.Tensor]


def saved(folder):
    return load_file(folder / "models/finetuned/model.safetensors")


def judged(folder):
    """Return the validation loss of every epoch."""
    rows = tiny.history(folder)
    return [row["validation_loss"] for row in rows if "validation_loss" in row]


@pytest.fixture(scope="module")
def alone(runner, tmp_path_factory):
    found = {}
    for precision in ("fp32", "bf16"):
        folder = tmp_path_factory.mktemp(precision)
        losses = train(folder, runner, precision, 1, zero_stage=0)
        found[precision] = Alone(losses, judged(folder), saved(folder))
    return found


# Any two settings of any two columns meet in one run: test_any_two_settings_meet_in_one_run.
COLUMNS = ("precision", "processes", "zero_stage", "offload", "accumulation", "recompute",
           "kernels")  # fmt: skip
RUNS = [
    ("fp32", 1, 0, "optimizer", 2, False, "plain"),
    ("fp32", 1, 1, "all", 1, False, "plain"),
    ("fp32", 1, 2, "optimizer", 1, False, "plain"),
    ("fp32", 1, 2, "none", 4, False, "fast"),  # four uneven parts
    ("fp32", 1, 3, "all", 2, False, "fast"),
    ("fp32", 2, 0, "none", 1, False, "plain"),
    ("fp32", 2, 1, "optimizer", 2, True, "fast"),
    ("fp32", 2, 2, "none", 2, True, "fast"),
    ("fp32", 2, 3, "none", 1, True, "fast"),
    ("fp32", 4, 2, "none", 1, False, "fast"),
    ("bf16", 1, 3, "optimizer", 1, True, "plain"),
    ("bf16", 2, 0, "all", 1, True, "fast"),
    ("bf16", 2, 1, "none", 2, False, "fast"),
    ("bf16", 2, 2, "none", 1, False, "fast"),
    ("bf16", 2, 2, "all", 2, True, "fast"),
    ("bf16", 4, 1, "none", 1, False, "fast"),
]
MICRO_BATCH = {1: None, 2: 8, 4: 5}  # of 16 documents in one process


def test_any_two_settings_meet_in_one_run():
    values: dict[str, list[object]] = {
        "precision": ["fp32", "bf16"], "processes": [1, 2], "zero_stage": [0, 1, 2, 3],
        "offload": ["none", "optimizer", "all"], "accumulation": [1, 2], "recompute": [False, True],
        "kernels": ["fast", "plain"],
    }  # fmt: skip
    runs = [dict(zip(COLUMNS, run, strict=True)) for run in RUNS]
    missing = [(a, b) for a, b in itertools.combinations(values, 2)
               if not {(run[a], run[b]) for run in runs}
               >= set(itertools.product(values[a], values[b]))]  # fmt: skip
    assert missing == []


@pytest.mark.parametrize(COLUMNS, RUNS)
def test_the_loss_is_the_same_at_every_step(
    runner, tmp_path, alone, precision, processes, zero_stage, offload, accumulation, recompute, kernels
):  # fmt: skip
    micro_batch = MICRO_BATCH[accumulation]
    losses = train(
        tmp_path, runner, precision, processes, zero_stage=zero_stage, finetune__offload=offload,
        finetune__micro_batch_size=micro_batch and micro_batch // processes,
        finetune__gradient_checkpointing=recompute, kernels=kernels,
    )  # fmt: skip
    assert len(losses) == 8
    assert losses == pytest.approx(alone[precision].losses, rel=SAME_LOSS[precision])
    # Every validation document counts once, however many there are for each process.
    assert judged(tmp_path) == pytest.approx(alone[precision].judged, rel=SAME_LOSS[precision])
    weights, expected = saved(tmp_path), alone[precision].weights
    if zero_stage == 3:  # cut up in training, a model like any other afterwards
        loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "models/finetuned")
        torch.testing.assert_close(loaded.state_dict(), weights, rtol=0, atol=0)
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        # Softmax cancels a key's bias: its gradient is rounding, of which Adam makes whole steps.
        if not name.endswith("key.bias"):
            torch.testing.assert_close(weights[name], value, rtol=0, atol=SAME_WEIGHTS[precision])


@pytest.mark.parametrize(
    ("processes", "params"),
    [
        (1, {"zero_stage": 0}),
        (2, {"zero_stage": 2, "finetune__micro_batch_size": 3}),
        (2, {"zero_stage": 3}),
    ],
)
def test_r_drop_of_equal_passes_is_the_plain_loss(runner, tmp_path, alone, processes, params):
    # A share of dropout that is rounded to nothing: without any, R-Drop is refused.
    params = params | {"finetune__dropout": 1e-9, "finetune__r_drop": 2.0}
    losses = train(tmp_path, runner, "fp32", processes, **params)
    assert losses == pytest.approx(alone["fp32"].losses, rel=SAME_LOSS["fp32"])


def test_soft_labels_give_the_same_loss_in_any_number_of_processes(runner, tmp_path, alone):
    tiny.write(tmp_path, documents=55)
    path = tmp_path / tables.TOKENS / "train.parquet"
    table = tables.read_table(path)
    rng = np.random.default_rng(0)
    soft = table.assign(other_label=(table["label"] + 1) % len(tiny.CLASSES),
                        other_share=rng.choice([0, 0.2, 0.7], len(table)), weight=rng.uniform(0.5, 1, len(table)))  # fmt: skip
    tables.write_table(path, soft, tables.with_soft_labels(tuple(table.columns), soft))
    changes = {**PARAMS, "precision": "fp32", "finetune__class_weights": "balanced"}
    expected = runner.run(tmp_path, zero_stage=0, **changes)
    parts = {"finetune__micro_batch_size": 3, "processes": 2}
    assert runner.run(tmp_path, zero_stage=2, **parts) == pytest.approx(
        expected, rel=SAME_LOSS["fp32"]
    )
    assert expected != pytest.approx(alone["fp32"].losses, rel=1e-3), "the labels are soft"


def test_processes_leave_out_different_activations(runner, tmp_path):
    tiny.write(tmp_path)
    path = tmp_path / tables.TOKENS / "train.parquet"
    table = tables.read_table(path)
    same = {name: [table[name][0]] * len(table) for name in ("input_ids", "label", "length")}
    tables.write_table(path, table.assign(**same), tuple(table.columns))
    params = {"finetune__dropout": 0.3, "epochs": 1, "precision": "fp32"}
    one = runner.run(tmp_path, batch_size=1, **params)[0]
    two = runner.run(tmp_path, batch_size=2, processes=2, **params)[0]
    assert two != pytest.approx(one, rel=1e-3), "the mean of two equal losses"


@pytest.mark.parametrize(
    ("precision", "clip", "frozen"),  # each pair of values in one of the runs
    [("fp32", 0.0, False), ("fp32", 1.0, True), ("bf16", 0.0, True), ("bf16", 1.0, False)],
)
def test_zero_in_one_process_is_plain_trainer(runner, tmp_path, precision, clip, frozen):
    tiny.write(tmp_path, documents=48, dropout=0.1)
    changes = {"precision": precision, "finetune__max_gradient_norm": clip, "epochs": 1,
               "finetune__freeze_embeddings": frozen}  # fmt: skip
    plain = runner.start(tmp_path, module="tests.plain_trainer", **{**PARAMS, **changes})
    assert plain.statuses == [0], plain.output
    expected = load_file(tmp_path / "plain.safetensors")
    for zero_stage in (0, 1, 2):
        runner.run(tmp_path, zero_stage=zero_stage)
        assert min(row["gradient_norm"] for row in tiny.history(tmp_path)) > clip, "not clipped"
        weights = saved(tmp_path)
        if zero_stage:  # DeepSpeed sums the gradient's norm in another order
            for name in [name for name in weights if name.endswith("key.bias")]:
                del weights[
                    name
                ]  # their true gradient is 0: Adam makes steps of what rounding leaves
        torch.testing.assert_close(weights, {name: expected[name] for name in weights}, rtol=0,
                                   atol=1e-6 if zero_stage else 0)  # fmt: skip


# ---- documents in chunks: of 6 to 32 tokens, up to four chunks of 8

CHUNKS = {"long_documents": "chunks", "max_length": 8}


@pytest.fixture(scope="module")
def in_chunks(runner, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chunks")
    return folder, train(folder, runner, "fp32", 1, zero_stage=0, **CHUNKS)


@pytest.mark.parametrize(
    ("processes", "params"),
    [(1, {"finetune__micro_batch_size": 3}), (2, {"zero_stage": 2}), (2, {"zero_stage": 3})],
)
def test_chunks_give_the_same_loss_in_any_number_of_processes(
    runner, tmp_path, alone, in_chunks, processes, params
):
    folder, expected = in_chunks
    losses = train(tmp_path, runner, "fp32", processes, **CHUNKS, **params)
    assert losses == pytest.approx(expected, rel=SAME_LOSS["fp32"])
    assert judged(tmp_path) == pytest.approx(judged(folder), rel=SAME_LOSS["fp32"])
    assert losses != pytest.approx(alone["fp32"].losses, rel=1e-3), "read whole"


def test_documents_of_one_chunk_are_learnt_as_by_the_head(runner, tmp_path, alone):
    losses = train(
        tmp_path, runner, "fp32", 1, zero_stage=0, long_documents="chunks", max_length=64
    )
    assert losses == alone["fp32"].losses


@pytest.mark.parametrize("r_drop", [0.0, 2.0])
def test_the_loss_is_that_of_the_mean_logits_of_the_chunks(runner, tmp_path, r_drop):
    still = {"lr": 1e-12, "epochs": 1, "batch_size": 55, "finetune__r_drop": r_drop,
             "finetune__dropout": 1e-9}  # fmt: skip
    (loss,) = train(tmp_path, runner, "fp32", 1, **CHUNKS, **still)
    model = classifier.load(tmp_path / "models/finetuned")
    assert model.reading.method == "chunks"
    for split, measured in (("train", loss), ("validation", judged(tmp_path)[0])):
        table = tables.read_table(tmp_path / tables.TOKENS / f"{split}.parquet")
        each = []
        for ids in table["input_ids"]:
            parts = long_documents.divide(ids, 8)
            each.append(np.mean([model.logits([part])[0] for part in parts], axis=0))
        logits = torch.tensor(np.array(each))
        expected = torch.nn.functional.cross_entropy(
            logits, torch.tensor(table["label"].to_numpy())
        )
        assert measured == pytest.approx(expected.item(), rel=1e-5)
        tokens = [list(ids) for ids in table["input_ids"]]
        np.testing.assert_allclose(model.logits(tokens), logits, atol=1e-5)
