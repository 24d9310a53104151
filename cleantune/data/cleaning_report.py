"""What the clean stage prints."""

from typing import Any

import numpy as np
import pandas as pd

from cleantune import console
from cleantune.data import class_tables, tables
from cleantune.data.near_duplicates import Hashes

FEW_DIFFERENT = 0.9  # share of different texts below which there are many copies


def say_what_was_read(raw: dict[str, pd.DataFrame], corrections: int) -> None:
    """Print the numbers of documents and corrections."""
    given = f", {len(raw['validation']):,} validation" if "validation" in raw else ""
    console.say(f"read {len(raw['train']):,} training{given} and {len(raw['test']):,} test documents, "
                f"{corrections:,} corrections")  # fmt: skip


def say_if_many_copies(released: Hashes) -> None:
    """Print whether most documents are copies, by a hash of each one's released text."""
    different = len(np.unique(released))
    if different < FEW_DIFFERENT * len(released):
        console.say(f"many copies: only {different:,} different texts among {len(released):,} documents; "
                    "of each, one stays in train")  # fmt: skip


def report(summary: dict[str, Any], classes: list[str]) -> None:
    """Print the counts of the summary as tables."""
    repaired = [(k, v["documents"]) for k, v in summary["repairs"].items() if v["documents"]]
    console.table("Repairs", ("kind", "documents"), repaired)
    console.table("Dropped from train", ("reason", "documents"), list(summary["dropped"].items()))
    if "dropped_from_validation" in summary:
        gone = list(summary["dropped_from_validation"].items())
        console.table("Dropped from validation", ("reason", "documents"), gone)
    if "nearly_empty" in summary:
        counts = ", ".join(f"{count:,} in {s}" for s, count in summary["nearly_empty"].items())
        console.say(f"empty or nearly so (fewer than two letters or digits) and kept: {counts}")
    mixed = summary["two_labels"]
    console.say(
        f"near-duplicates kept: {summary['near_duplicates']['documents']:,} documents in "
        f"{summary['near_duplicates']['groups']:,} groups; with two labels: "
        f"{len(mixed['same_text']):,} identical texts, {len(mixed['near_duplicates']):,} near-duplicate groups"
    )
    class_tables.print_counts(
        "Documents by class",
        ("class", "train", "validation", "test"),
        [(name, *summary["classes"][name].values()) for name in classes],
        f"{tables.CLEAN}/summary.json",
    )
    for split in tables.SPLITS:
        absent = [name for name in classes if not summary["classes"][name][split]]
        if absent:
            console.say(f"note: no document of {class_tables.listed(absent)} in {split}")
