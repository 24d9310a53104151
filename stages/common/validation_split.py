"""Which documents are held out to choose the best epoch."""

import hashlib

import pandas as pd

from stages.common.errors import UserError


def choose_validation(kept: pd.DataFrame, share: float, seed: int) -> pd.Series:
    """Return which rows go to validation: about ``share`` of each class, in whole groups.

    A group counts to the class most of its documents have. Each class takes its groups in the order
    of a hash of seed and group until it has its share, so that documents hardly change sides when
    others change: where one document is relabelled or removed, classes that it neither leaves nor
    enters stay as they are, and in the other one or two at most the group next to the boundary
    moves (more only with a group of several documents, which takes its share along).
    A class of two groups or more has documents on both sides; one of a single group stays in
    training, and so does, where there is another, a group larger than the share.
    Raises ``UserError`` when nothing can be held out.
    """
    votes = kept.groupby(["group", "label"]).size().reset_index(name="count")
    votes = votes.sort_values(["count", "label"], ascending=[False, True], kind="stable")
    about = votes.drop_duplicates("group").set_index("group")
    about["size"] = kept["group"].value_counts()
    about["place"] = [hashlib.sha256(f"{seed}\n{group}".encode()).digest() for group in about.index]
    chosen: list[str] = []
    for _, of_class in about.sort_values("place").groupby("label"):
        if len(of_class) < 2:
            continue
        wanted = share * of_class["size"].sum()
        small = of_class[of_class["size"] <= max(wanted, of_class["size"].min())]
        taken = 0
        for group, size in list(zip(small.index, small["size"], strict=True))[: len(of_class) - 1]:
            if taken and taken + size / 2 > wanted:
                break
            chosen.append(group)
            taken += size
    if not chosen:
        raise UserError(
            f"No validation set can be split off {len(kept):,} training documents: each class is "
            "a single document or a single group of near-duplicates. Add documents."
        )
    return kept["group"].isin(chosen)
