"""Which documents are held out to choose the best epoch."""

import hashlib

import pandas as pd

from cleantune.errors import UserError


def choose_validation(kept: pd.DataFrame, share: float, seed: int) -> pd.Series:
    """Return which rows go to validation: about ``share`` of them, in whole groups.

    A group is held out when a hash of ``seed`` and its name, uniform in [0, 1), is under ``share``:
    other documents, their number and their order play no part.
    One exception, so that a rare class can be both learned and measured: of the groups in which a
    class has the most documents, the one with the lowest hash is always held out and the one with
    the highest never. It decides where the hashes alone would leave a class of two groups or more
    out of one side, and keeps a class of one group in training; only there can a group change sides
    when another group of its class comes or goes.
    Raises ``UserError`` when nothing can be held out.
    """
    votes = kept.groupby(["group", "label"]).size().reset_index(name="count")
    votes = votes.sort_values(["count", "label"], ascending=[False, True], kind="stable")
    groups = votes.drop_duplicates("group").set_index("group")
    groups["drawn"] = [
        int.from_bytes(hashlib.sha256(f"{seed}\n{name}".encode()).digest()[:8], "big") / 2**64
        for name in groups.index
    ]
    groups = groups.sort_values("drawn")
    held_out = groups["drawn"] < share
    of_class = groups.groupby("label")
    held_out[of_class.head(1).index] = True
    held_out[of_class.tail(1).index] = False
    if not held_out.any():
        raise UserError(
            f"No validation set can be split off {len(kept):,} training documents: each class is "
            "a single document or a single group of near-duplicates. Add documents."
        )
    return kept["group"].isin(held_out.index[held_out])
