"""The validation split: by class, in whole groups, and as little moved as can be."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from stages.common.errors import UserError
from stages.common.validation_split import choose_validation


def table(labels, groups=None):
    groups = [f"g{i}" for i in range(len(labels))] if groups is None else groups
    return pd.DataFrame({"group": groups, "label": labels})


def held_out(labels, groups=None, share=0.1, seed=0):
    return choose_validation(table(labels, groups), share, seed)


@pytest.mark.parametrize(
    ("share", "number"),
    [(0.1, 1), (0.2, 2), (0.24, 2), (0.26, 3), (0.5, 5), (0.0, 1), (0.01, 1), (0.99, 9), (1.0, 9)],
)
def test_of_ten_documents_the_nearest_number_and_at_least_one_on_each_side(share, number):
    assert held_out([0] * 10, share=share).sum() == number


def test_half_a_document_more_is_still_taken():
    assert held_out([0] * 10, share=0.25).sum() == 3


def test_each_class_gives_its_share():
    labels = [0] * 100 + [1] * 40 + [2] * 10 + [7] * 2
    chosen = held_out(labels, share=0.2)
    assert Counter(np.array(labels)[chosen]) == {0: 20, 1: 8, 2: 2, 7: 1}


def test_a_class_of_a_single_group_stays_in_training_and_the_others_do_not():
    chosen = held_out([0, 1, 1, 1, 2, 2, 2], ["a", "b", "b", "b", "c", "d", "e"], share=0.3)
    assert not chosen[:4].any()
    assert chosen[4:].sum() == 1


@pytest.mark.parametrize("labels", [[0], [0, 1, 2], []])
def test_where_nothing_can_be_held_out_the_reason_is_said(labels):
    with pytest.raises(UserError) as said:
        held_out(labels)
    assert str(said.value).startswith(
        f"No validation set can be split off {len(labels)} training documents: each class is a single"
    )
    assert str(said.value).endswith("near-duplicates. Add documents.")
    with pytest.raises(UserError, match="1,200 training documents"):
        held_out([0] * 1200, ["all"] * 1200)


def test_groups_stay_whole():
    rng = np.random.default_rng(0)
    groups = [f"g{k}" for k in rng.integers(0, 60, 300)]
    labels = rng.integers(0, 3, 300)
    chosen = held_out(labels, groups, share=0.3)
    sides = pd.DataFrame({"group": groups, "chosen": chosen}).groupby("group")["chosen"].nunique()
    assert (sides == 1).all()
    assert 0.25 < chosen.mean() < 0.35


def test_a_group_counts_to_the_class_that_most_of_it_has():
    # class 1 has the groups b and c; a is of class 0 alone, so it cannot be split
    labels, groups = [0, 0, 1, 1, 1], ["a", "a", "a", "b", "c"]
    for seed in range(5):
        chosen = held_out(labels, groups, 0.5, seed)
        assert not chosen[:3].any()
        assert chosen[3:].sum() == 1


def test_a_group_of_two_labels_in_equal_parts_counts_to_the_lower():
    labels, groups = [1, 0, 0, 1, 1], ["a", "a", "b", "c", "d"]
    for seed in range(5):
        chosen = held_out(labels, groups, 0.5, seed)
        assert chosen[[0, 2]].sum() == 1, "a and b are class 0"
        assert chosen[[3, 4]].sum() == 1, "c and d are class 1"


def test_a_group_larger_than_the_share_stays_in_training_where_there_is_another():
    groups = ["large"] * 6 + ["a", "b", "c", "d"]
    for seed in range(10):
        chosen = held_out([0] * 10, groups, 0.2, seed)
        assert not chosen[:6].any()
        assert chosen.sum() == 2
    # where all are larger, one of the smallest goes
    for seed in range(10):
        chosen = held_out([0] * 10, ["six"] * 6 + ["four"] * 4, 0.2, seed)
        assert chosen.tolist() == [False] * 6 + [True] * 4


def test_a_group_just_as_large_as_the_share_may_go():
    groups = ["two", "two", *"abcdefgh"]
    assert any(held_out([0] * 10, groups, 0.2, seed)[0] for seed in range(20))


def test_the_order_and_the_names_of_the_rows_change_nothing():
    rng = np.random.default_rng(0)
    given = table(rng.integers(0, 3, 90), [f"g{k}" for k in rng.integers(0, 60, 90)])
    chosen = choose_validation(given, 0.2, 1)
    order = rng.permutation(90)
    again = choose_validation(given.iloc[order], 0.2, 1)
    assert again.index.equals(given.index[order])
    assert again.sort_index().equals(chosen)


def test_another_seed_holds_out_others():
    splits = {tuple(held_out([0] * 100, share=0.3, seed=seed)) for seed in range(4)}
    assert len(splits) == 4


def test_the_split_stays_what_it_was():
    """Corrections and published results depend on it."""
    chosen = held_out([0] * 12 + [1] * 8, share=0.25, seed=42)
    assert np.flatnonzero(chosen).tolist() == [3, 6, 7, 12, 17]


def test_a_document_that_goes_moves_no_document_of_another_class():
    labels = [0, 1, 2] * 30
    given = table(labels)
    chosen = choose_validation(given, 0.2, 0)
    for gone in (0, 30, 60):
        after = choose_validation(given.drop(index=gone), 0.2, 0)
        moved = given.loc[after.index][after != chosen[after.index]]
        assert set(moved["label"]) <= {0}
        assert len(moved) <= 1
