"""Which documents leave train and validation, and why."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from cleantune.data.near_duplicates import Shingles, Similar, drop_copies
from cleantune.data.prepared_texts import Prepared
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
    splits: Mapping[str, pd.DataFrame],
    prepared: Mapping[str, Prepared],
    certain: Sequence[bool],
    options: Clean,
) -> Leaving:
    """Return what leaves ``train`` and ``validation``, which may be absent; of ``test`` nothing does.

    ``prepared`` is what is known of ``splits``; the rows of each are in the order of their ids.
    ``certain``, of train's rows, are labels by a person. A given validation set keeps its copies.
    """
    order = [split for split in ("train", "validation", "test") if split in splits]
    n, v = len(splits["train"]), len(splits.get("validation", ()))
    ids = [name for split in order for name in splits[split]["id"].to_list()]
    empty, same, keys = (
        np.concatenate([getattr(prepared[split], what) for split in order])
        for what in ("empty", "same", "keys")
    )
    shingles = Shingles.joined([prepared[split].shingles for split in order])
    similar = Similar(shingles, options.near_duplicate_jaccard, keys)

    # Nothing to learn from, or known from test
    dropped = dict.fromkeys(np.flatnonzero(empty[: n + v]).tolist(), ("empty", ""))
    present = np.flatnonzero(~empty[: n + v]).tolist()
    leaks = similar.nearest(present, (n + v + np.flatnonzero(~empty[n + v :])).tolist())
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
    labels = splits["train"]["label"].to_list()
    copies, conflicts = drop_copies(same, labels, certain, present)
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
