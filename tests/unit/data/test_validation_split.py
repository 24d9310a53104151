"""The validation split: a hash of each group decides, and every class has both sides."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from cleantune.data.validation_split import choose_test, choose_validation
from cleantune.errors import UserError


def table(labels, groups=None):
    groups = [f"g{i}" for i in range(len(labels))] if groups is None else groups
    return pd.DataFrame({"group": groups, "label": labels})


def held_out(labels, groups=None, share=0.1, seed=0):
    return choose_validation(table(labels, groups), share, seed)


def drawn(seed, group):
    salt = "" if seed is None else f"{seed}\n"
    digest = hashlib.sha256(f"{salt}{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.26, 0.5, 0.99, 1.0])
def test_the_groups_whose_hash_is_lowest_go_and_one_at_least_is_on_each_side(share):
    for seed in range(5):
        hashes = [drawn(seed, f"g{i}") for i in range(10)]
        number = min(max(sum(x < share for x in hashes), 1), 9)
        chosen = held_out([0] * 10, share=share, seed=seed)
        assert set(np.flatnonzero(chosen)) == set(np.argsort(hashes)[:number])


def test_no_other_class_and_no_size_of_a_group_decides():
    labels = [0] * 100 + [1] * 40 + [2] * 10 + [7] * 2
    together = held_out(labels, share=0.2)
    for label in (0, 1, 2, 7):
        rows = np.flatnonzero(np.array(labels) == label)
        names = [f"g{i}" for i in rows]
        assert (together[rows] == held_out([label] * len(rows), names, share=0.2).to_numpy()).all()
        more = held_out([label] * (len(rows) + 50), names + names[:1] * 50, share=0.2)
        assert (more[: len(rows)].to_numpy() == together[rows]).all()


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
    assert 0.15 < chosen.mean() < 0.45


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
    assert np.flatnonzero(chosen).tolist() == [7, 12, 13, 15, 17]


def test_a_test_set_is_held_out_by_the_text_alone():
    given = table([0] * 60 + [1] * 60)
    low = [i for i in range(120) if drawn(None, f"g{i}") < 0.25]
    assert np.flatnonzero(choose_test(given, 0.25)).tolist() == low
    assert not choose_test(table([0, 1, 2]), 0.9).any(), "each class is a single text"


def test_a_class_that_is_nowhere_in_the_majority_is_learned_all_the_same():
    # ten groups of class 0; class 9 has a document in two of them
    labels, groups = [0] * 20 + [9, 9], [f"g{i % 10}" for i in range(20)] + ["g3", "g7"]
    for seed in range(20):
        chosen = held_out(labels, groups, 0.99, seed)
        last = max((drawn(seed, group), group) for group in ("g3", "g7"))[1]
        of_last = np.array([group == last for group in groups])
        assert not chosen[of_last].any()
        assert chosen[[20, 21]].sum() == 1
        assert chosen[:20].sum() in (16, 18), "the highest hash of class 0 and that of class 9"


def test_a_class_without_a_majority_takes_no_group_from_a_class_that_needs_it():
    # class 9 is in the group of class 0 that stays in training and in the one that is held out of class 5
    seed = next(
        s
        for s in range(1000)
        if max(drawn(s, "a"), drawn(s, "b")) < min(drawn(s, "c"), drawn(s, "d"))
    )
    trained = max("ab", key=lambda group: drawn(seed, group))
    measured = min("cd", key=lambda group: drawn(seed, group))
    groups = ["a", "a", "b", "b", "c", "c", "d", "d", trained, measured]
    chosen = held_out([0, 0, 0, 0, 5, 5, 5, 5, 9, 9], groups, 0.0, seed)
    assert chosen.tolist() == [
        group == measured or (group in "ab" and group != trained) for group in groups
    ]


def test_a_document_that_goes_moves_no_other():
    labels = [0, 1, 2] * 30
    given = table(labels)
    chosen = choose_validation(given, 0.2, 0)
    for gone in (0, 30, 60):
        after = choose_validation(given.drop(index=gone), 0.2, 0)
        moved = given.loc[after.index][after != chosen[after.index]]
        assert moved.empty
