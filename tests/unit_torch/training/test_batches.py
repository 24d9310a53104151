"""Training batches: who gets which document, with what weight, however many processes share them."""

import hashlib
import itertools
from collections.abc import Sized

import numpy as np
import pandas as pd
import pytest
import torch

from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.training import batches


def dataset(lengths, labels=None, weights=None):
    n = len(lengths)
    return batches.TokenDataset(
        pd.DataFrame(
            {
                "id": [f"d{i}" for i in range(n)],
                "input_ids": [
                    list(range(10 * i + 1, 10 * i + 1 + k)) for i, k in enumerate(lengths)
                ],
                "label": [0] * n if labels is None else labels,
                "weight": [1.0] * n if weights is None else weights,
            }
        )
    )


def share(data, batch_size=4, seed=0, rank=0, processes=1, accumulation=1):
    return batches.Share(data, batch_size, seed, rank, processes, accumulation)


# ---- the plan of an epoch


@pytest.mark.parametrize(("documents", "batch_size"), [(1, 4), (8, 4), (9, 4), (10, 1), (423, 4)])
def test_each_document_is_in_one_batch_and_at_most_one_batch_is_smaller(documents, batch_size):
    lengths = np.random.default_rng(0).integers(1, 60, documents)
    plan = batches.plan(lengths, batch_size, 0, 0)
    assert sorted(np.concatenate(plan)) == list(range(documents))
    sizes = sorted(map(len, plan))
    assert sizes[1:] == [batch_size] * (len(sizes) - 1)
    assert sizes[0] == (documents - 1) % batch_size + 1


def test_the_plan_is_another_for_each_seed_and_each_epoch():
    plans = [batches.plan(np.ones(30, int), 5, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    orders = [tuple(np.concatenate(plan)) for plan in plans]
    assert len(set(orders)) == 4
    assert np.array_equal(
        np.concatenate(batches.plan(np.ones(30, int), 5, 1, 1)), np.array(orders[3])
    )


def test_the_plan_stays_what_it_was():
    """Published results and resumed runs depend on the order; ties of length are a part of it."""
    lengths = np.random.default_rng(0).integers(1, 6, 1000)
    plan = batches.plan(lengths, 8, 3, 2)
    assert hashlib.sha256(np.concatenate(plan).tobytes()).hexdigest()[:16] == "23e191dd6a1194fc"
    assert [b.tolist() for b in batches.plan(np.array([3, 9, 1, 7, 5]), 2, 0, 0)] == [
        [4, 0],
        [2],
        [1, 3],
    ]


def test_documents_of_similar_length_go_together_pool_by_pool():
    lengths = np.random.default_rng(0).integers(1, 100, 2000)
    plan = batches.plan(lengths, 10, 0, 0)  # 200 batches, four pools
    padded = sum(len(b) * lengths[b].max() for b in plan) / lengths.sum()
    assert padded < 1.04  # 1.8 in random order
    # within a pool the longest come first; batches of one pool cover all lengths between them
    spans = sorted((lengths[b].min(), lengths[b].max()) for b in plan)
    overlaps = sum(b[0] < a[1] for a, b in itertools.pairwise(spans))
    assert overlaps > 100, "one pool of everything would leave no order to chance"
    assert max(lengths[b].max() for b in plan[:20]) > 90 > min(lengths[b].max() for b in plan[:20])


def test_prediction_takes_the_longest_first():
    lengths = np.array([5, 9, 5, 7, 5, 9, 1])
    assert [b.tolist() for b in batches.in_order_of_length(lengths, 3)] == [
        [1, 5, 3],
        [0, 2, 4],
        [6],
    ]
    ties = np.random.default_rng(0).integers(1, 6, 1000)
    order = np.concatenate(batches.in_order_of_length(ties, 7)).tolist()
    assert order == sorted(range(1000), key=lambda i: -ties[i]), (
        "equally long ones keep their order"
    )


# ---- the dataset


def test_a_dataset_holds_what_the_table_holds():
    data = dataset([2, 1], labels=[1, 0], weights=[0.5, 2.0])
    assert len(data) == 2
    assert data.lengths.tolist() == [2, 1]
    assert data.lengths.dtype == np.int64
    first = data[0]
    assert set(first) == {"id", "input_ids", "label", "weight"}
    assert (first["id"], first["label"], first["weight"]) == ("d0", 1, 0.5)
    assert first["input_ids"].tolist() == [1, 2]
    assert first["input_ids"].dtype == torch.int64
    assert (data.labels.dtype, data.weights.dtype) == (np.int64, np.float64)
    assert data.class_weights.tolist() == [1.0, 1.0]


def test_a_dataset_computes_in_the_same_types_whatever_the_table_has():
    table = pd.DataFrame({"id": ["a"], "input_ids": [np.array([5], np.int32)], "label": [0],
                          "weight": [1.0]}).astype({"label": "int32", "weight": "float32"})  # fmt: skip
    for data in (batches.TokenDataset(table), batches.TokenDataset(table[:0])):
        assert data.labels.dtype == data.lengths.dtype == np.int64
        assert data.weights.dtype == np.float64
        assert all(ids.dtype == torch.int64 for ids in data.input_ids)


def test_balanced_classes_count_the_same_and_the_mean_document_one():
    data = dataset([1] * 6, labels=[0, 0, 0, 2, 2, 5], weights=[1, 1, 2, 1, 1, 0.5])
    data.balance()
    counted = data.weights * data.class_weights
    assert counted.sum() == pytest.approx(data.weights.sum())
    per_class = [counted[data.labels == k].sum() for k in (0, 2, 5)]
    assert per_class == pytest.approx([6.5 / 3] * 3)


def test_balanced_classes_count_soft_labels_by_their_shares():
    n = 100
    labels, others = np.array([0] * 90 + [1] * 10), np.array([1] * 90 + [0] * 10)
    shares = np.where(np.arange(n) < 40, 0.9, 0.25)
    table = pd.DataFrame({"id": [f"d{i}" for i in range(n)], "input_ids": [[1]] * n, "label": labels,
                          "weight": 1.0, "other_label": others, "other_share": shares})  # fmt: skip
    data = batches.TokenDataset(table)
    data.balance()
    assert data.soft is not None
    of_others = data.class_weights * data.soft[1]
    of_labels = data.class_weights - of_others
    mass = np.bincount(labels, of_labels) + np.bincount(others, of_others)
    assert mass == pytest.approx([n / 2, n / 2], rel=1e-5)


def test_a_class_without_weight_gets_none_and_spoils_no_other():
    data = dataset([1] * 3, labels=[0, 1, 1], weights=[0.0, 1.0, 1.0])
    data.balance()
    assert data.class_weights.tolist() == [0.0, 1.0, 1.0]
    data = dataset([1], labels=[0], weights=[0.0])
    data.balance()
    assert data.class_weights.tolist() == [0.0]


def test_soft_labels_follow_their_documents():
    lengths = [3, 1, 2]
    table = pd.DataFrame(
        {"id": [*"abc"], "input_ids": [[1] * k for k in lengths], "label": [0, 1, 0], "weight": 1.0}
    )
    assert "soft" not in batches.Collator(batches.TokenDataset(table), 0)([(0, 1.0, 0)])
    soft = table.assign(other_label=[1, 0, 2], other_share=[0.0, 0.25, 0.5])
    batch = batches.Collator(batches.TokenDataset(soft), 0)([(2, 1.0, 0), (1, 1.0, 0)])
    others, shares = batch["soft"]
    assert others.tolist() == [2, 0]
    assert shares.tolist() == [0.5, 0.25]


# ---- the shares of the processes


def steps_of(data, batch_size, processes, accumulation, **given):
    """Return, step by step, the documents of all processes' micro-batches, and their weights."""
    runs = [
        list(share(data, batch_size, 0, rank, processes, accumulation, **given))
        for rank in range(processes)
    ]
    assert len({len(run) for run in runs}) == 1, "every process takes as many steps"
    found = []
    for step in range(0, len(runs[0]), accumulation):
        found.append(
            [d for run in runs for micro in run[step : step + accumulation] for d in micro]
        )
    return found


@pytest.mark.parametrize(("processes", "accumulation"), [(1, 1), (2, 1), (1, 2), (2, 2), (3, 2)])
@pytest.mark.parametrize("documents", [16, 13])
def test_however_it_is_split_a_step_is_the_weighted_mean_of_its_global_batch(
    processes, accumulation, documents
):
    rng = np.random.default_rng(1)
    data = dataset(rng.integers(1, 9, documents), weights=rng.uniform(0.1, 3, documents))
    alone = steps_of(data, 8, 1, 1)
    split = steps_of(data, 8, processes, accumulation)
    assert len(alone) == len(split) == 2
    for a, b in zip(alone, split, strict=True):
        # a document that fills up an empty share has no weight
        real = [(row, w / processes) for row, w, _ in b if w > 0]
        assert sorted(r for r, _ in real) == sorted(r for r, _, _ in a)
        assert dict(real) == pytest.approx({row: w for row, w, _ in a})
        assert sum(w for _, w, _ in a) == pytest.approx(1)
        rows = [row for row, _, _ in a]
        assert [w for _, w, _ in a] == pytest.approx(data.weights[rows] / data.weights[rows].sum())


def test_the_micro_batches_are_equal_parts_in_the_order_of_the_plan():
    data = dataset([8, 7, 6, 5, 4, 3, 2, 1])
    (batch,) = batches.plan(data.lengths, 8, 0, 0)
    parts = [[row for row, _, _ in micro] for i in range(2)
             for micro in itertools.islice(share(data, 8, 0, i, 2, 2), 2)]  # fmt: skip
    # process 0 has parts 0 and 2, process 1 has parts 1 and 3
    assert parts == [batch[0:2].tolist(), batch[4:6].tolist(),
                     batch[2:4].tolist(), batch[6:8].tolist()]  # fmt: skip


def test_a_process_without_a_document_computes_one_that_counts_nothing():
    data = dataset([3, 2])
    runs = [list(share(data, 4, 0, rank, 3, 1)) for rank in range(3)]
    assert [len(run) for run in runs] == [1, 1, 1]
    ((row, weight, epoch),) = runs[2][0]
    assert (row, weight, epoch) == (1, 0.0, 0)  # the shortest: it costs least


def test_documents_without_weight_do_not_divide_by_zero():
    data = dataset([3, 2], weights=[0.0, 0.0])
    assert [w for _, w, _ in next(iter(share(data)))] == [0.0, 0.0]
    data = dataset([3, 2], weights=[1e-6, 3e-6])
    assert [w for _, w, _ in next(iter(share(data)))] == pytest.approx([0.25, 0.75])


def test_class_weights_multiply_and_are_not_made_up_for_in_a_batch():
    data = dataset([1] * 4, labels=[0, 0, 0, 1])
    data.balance()
    documents = [d for micro in share(data, 2) for d in micro]
    assert {row: w for row, w, _ in documents} == pytest.approx(
        {0: 1 / 3, 1: 1 / 3, 2: 1 / 3, 3: 1}
    )


@pytest.mark.parametrize(
    ("documents", "accumulation", "micro_batches"), [(8, 1, 2), (9, 1, 3), (9, 3, 9)]
)
def test_its_length_is_the_number_of_micro_batches(documents, accumulation, micro_batches):
    sampler = share(dataset([1] * documents), 4, accumulation=accumulation)
    assert len(sampler) == len(list(sampler)) == micro_batches


def test_documents_name_the_epoch_that_was_chosen():
    data = dataset(range(1, 21))
    sampler = share(data, 5, seed=4)
    assert {epoch for micro in sampler for _, _, epoch in micro} == {0}
    sampler.set_epoch(3)
    drawn = list(sampler)
    assert {epoch for micro in drawn for _, _, epoch in micro} == {3}
    assert [[row for row, _, _ in micro] for micro in drawn] == [
        b.tolist() for b in batches.plan(data.lengths, 5, 4, 3)
    ]


# ---- padding


def test_a_micro_batch_is_padded_to_its_longest_document():
    data = dataset([2, 3, 1], labels=[2, 0, 1])
    got = batches.Collator(data, 99)([(1, 0.25, 0), (2, 0.5, 0)])
    assert got["input_ids"].tolist() == [[11, 12, 13], [21, 99, 99]]
    assert got["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert got["labels"].tolist() == [0, 1]
    assert got["weights"].tolist() == [0.25, 0.5]
    assert got["rows"] == [1, 2]
    assert set(got) == {"input_ids", "attention_mask", "labels", "weights", "rows"}
    assert (got["attention_mask"].dtype, got["labels"].dtype) == (torch.int64, torch.int64)
    assert got["weights"].dtype == torch.float32


def test_padding_is_masked_also_where_a_document_contains_the_padding_token():
    data = dataset([2, 3])
    got = batches.Collator(data, 1)([(0, 1.0, 0), (1, 1.0, 0)])
    assert got["input_ids"].tolist() == [[1, 2, 1], [11, 12, 13]]
    assert got["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]


def test_a_loader_yields_the_collated_micro_batches_of_the_chosen_epoch():
    data = dataset(range(1, 14))
    sampler, pad = share(data, 4), batches.Collator(data, 0)
    loader = batches.Loader(sampler, data, pad)
    assert len(loader) == 4
    loader.set_epoch(2)
    expected = [b.tolist() for b in batches.plan(data.lengths, 4, 0, 2)]
    assert [batch["rows"] for batch in loader] == expected
    assert isinstance(loader.dataset, Sized)
    assert len(loader.dataset) == 13, "as Trainer reports it"


# ---- documents in chunks


def test_a_document_in_chunks_has_a_row_for_each():
    whole = dataset([7, 3, 8])
    data = batches.TokenDataset(table(whole), chunk_length=4)
    batch = batches.Collator(data, padding_id=0)([(0, 1.0, 0), (1, 1.0, 0), (2, 0.5, 0)])
    assert batch["chunks"] == [2, 1, 2]
    assert batch["input_ids"].tolist() == [
        [1, 2, 3, 0], [4, 5, 6, 7], [11, 12, 13, 0], [21, 22, 23, 24], [25, 26, 27, 28],
    ]  # fmt: skip
    assert batch["attention_mask"].sum(dim=1).tolist() == [3, 4, 3, 4, 4]
    assert batch["labels"].shape == batch["weights"].shape == (3,)
    assert "chunks" not in batches.Collator(whole, padding_id=0)([(0, 1.0, 0)])


def test_a_forward_pass_holds_no_more_than_its_tokens_but_one_document():
    assert batches.micro_batch(np.array([10, batches.CHUNK_TOKENS // 4])) == 4
    assert batches.micro_batch(np.array([batches.CHUNK_TOKENS // 4 + 1])) == 3
    assert batches.micro_batch(np.array([2 * batches.CHUNK_TOKENS])) == 1
    assert batches.micro_batch(np.array([], np.int64)) == batches.CHUNK_TOKENS


def table(data):
    return pd.DataFrame({"id": data.ids.to_pylist(), "input_ids": [t.tolist() for t in data.input_ids],
                         "label": data.labels, "weight": data.weights})  # fmt: skip


def test_tokens_mapped_from_a_file_are_those_of_the_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = pd.DataFrame({"id": ["a", "b", "c"], "input_ids": [[5, 6, 7], [], [2**31 - 1]],
                         "label": [0, 1, 1], "length": [3, 0, 1], "weight": [1.0, 0.5, 1.0]})  # fmt: skip
    path = tmp_path / "train.parquet"
    tables.write_table(path, made, tuple(made))
    read, expected = batches.TokenDataset.read(path), batches.TokenDataset(made)
    assert [ids.tolist() for ids in read.input_ids] == made["input_ids"].to_list()
    assert all(ids.dtype == torch.int64 for ids in read.input_ids)
    pd.testing.assert_frame_equal(table(read), table(expected))
    assert read.lengths.tolist() == expected.lengths.tolist() == [3, 0, 1]
    assert not list(batches.STORE.iterdir()), "the file is gone, and its content stays"
    tables.write_table(path, made[1:2], tuple(made))
    assert [ids.tolist() for ids in batches.TokenDataset.read(path).input_ids] == [[]]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="damaged"):
        batches.TokenDataset.read(path)
