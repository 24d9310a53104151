"""Which documents leave train and validation, and why."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from cleantune.data.near_duplicates import Shingles, Similar, drop_copies
from cleantune.params.sections import Clean

Reasons = dict[int, tuple[str, str]]
"""Row of a table to reason and the id of the document that it is a duplicate of."""


class Leaving(NamedTuple):
    """What was found among the documents of all splits."""

    reasons: dict[str, Reasons]
    """By split: train, and validation where it is given."""
    group: list[str]
    """Of each row of train: the smallest id among its near-duplicates that stay."""
    conflicts: list[list[int]]
    """Rows of train that are one text with several labels."""
    leaks: list[tuple[int, int]]
    """Row of train and of the test document that it is a near-duplicate of."""


def find_leaving(
    splits: Mapping[str, pd.DataFrame], texts: Mapping[str, list[str]], certain: Sequence[bool],
    options: Clean,
) -> Leaving:  # fmt: skip
    """Return what leaves ``train`` and ``validation``, which may be absent; of ``test`` nothing does.

    ``texts`` are those of ``splits``, repaired; the rows of each are in the order of their ids.
    ``certain``, of train's rows, are labels by a person. A given validation set keeps its copies.
    """
    train, test = splits["train"], splits["test"]
    validation = splits.get("validation", train[:0])
    n, v = len(train), len(validation)
    every = [*texts["train"], *texts.get("validation", []), *texts["test"]]
    ids = [*train["id"], *validation["id"], *test["id"]]
    similar = Similar(Shingles(every), options.near_duplicate_jaccard)

    # Nothing to learn from, or known from test
    dropped = {i: ("empty", "") for i in range(n + v) if not every[i]}
    present = [i for i in range(n + v) if i not in dropped]
    leaks = similar.nearest(present, [i for i in range(n + v, len(every)) if every[i]])
    dropped |= {i: ("leak", ids[j]) for i, (j, _) in leaks.items()}
    present = [i for i in present if i not in leaks]

    # Known from the given validation set
    held_out = [i for i in present if i >= n]
    present = [i for i in present if i < n]
    if held_out:
        known = similar.nearest(present, held_out, "comparing train with validation")
        dropped |= {i: ("in_validation", ids[j]) for i, (j, _) in known.items()}
        present = [i for i in present if i not in known]

    # Copies and near-duplicates within train
    copies, conflicts = drop_copies(every, train["label"].to_list(), certain, present)
    dropped |= {i: (reason, ids[j]) for i, (reason, j) in copies.items()}
    group = similar.groups([i for i in present if i not in dropped])
    if options.drop_near_duplicates:
        dropped |= {i: ("near_duplicate", ids[first]) for i, first in group.items() if i != first}

    reasons = {"train": {i: why for i, why in dropped.items() if i < n}}
    if "validation" in splits:
        reasons["validation"] = {i - n: why for i, why in dropped.items() if i >= n}
    return Leaving(
        reasons, [ids[group.get(i, i)] for i in range(n)], conflicts,
        [(i, j - n - v) for i, (j, _) in leaks.items() if i < n],
    )  # fmt: skip
