"""Which documents are held out: for the test set of a single file, and to choose the best epoch."""

import hashlib

import pandas as pd

from cleantune.errors import UserError


def choose_test(documents: pd.DataFrame, share: float) -> pd.Series:
    """Return which rows are the test set of a corpus that has none: about ``share`` of them.

    As ``choose_validation``, without a seed: the same in every run. ``group`` is the text, so copies
    stay together. Nothing is held out where each class is a single text.
    """
    return _held_out(documents, share, "")


def choose_validation(kept: pd.DataFrame, share: float, seed: int) -> pd.Series:
    """Return which rows go to validation: about ``share`` of them, in whole groups.

    A group is held out when a hash of ``seed`` and its name, uniform in [0, 1), is under ``share``:
    other documents, their number and their order play no part.
    One exception, so that a rare class can be both learned and measured: of the groups in which a
    class has the most documents, the one with the lowest hash is always held out and the one with
    the highest never. It decides where the hashes alone would leave a class of two groups or more
    out of one side, and keeps a class of one group in training, as it does a class that is nowhere in
    the majority; only there can a group change sides when another group of its class comes or goes.
    Raises ``UserError`` when nothing can be held out.
    """
    held_out = _held_out(kept, share, f"{seed}\n")
    if not held_out.any():
        raise UserError(
            f"No validation set can be split off {len(kept):,} training documents: each class is a "
            "single document or a single group of near-duplicates. Add documents."
        )
    return held_out


def _held_out(documents: pd.DataFrame, share: float, salt: str) -> pd.Series:
    """Return which rows of ``documents``, with ``group`` and ``label``, are held out."""
    votes = documents.groupby(["group", "label"]).size().reset_index(name="count")
    votes = votes.sort_values(["count", "label"], ascending=[False, True], kind="stable")
    groups = votes.drop_duplicates("group").set_index("group")
    groups["drawn"] = [
        int.from_bytes(hashlib.sha256(f"{salt}{name}".encode()).digest()[:8], "big") / 2**64
        for name in groups.index
    ]
    groups = groups.sort_values("drawn")
    held_out = groups["drawn"] < share
    of_class, majorities = groups.groupby("label"), set(groups["label"])
    held_out[of_class.head(1).index] = True
    held_out[of_class.tail(1).index] = False
    for label, everywhere in votes.groupby("label")["group"]:
        if label not in majorities and held_out[everywhere].all():
            held_out[groups.loc[everywhere, "drawn"].idxmax()] = False
    return documents["group"].isin(held_out.index[held_out])
