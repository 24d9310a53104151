"""Accuracy on slices of the test set: by what the texts are like, and by the corpus' own metadata."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import chi2_contingency

from cleantune.data import tables, words
from cleantune.evaluation import confidence_intervals
from cleantune.evaluation.predictions import Split

LENGTHS = (0, 30, 45, 60, 90)  # lower edges, in words (see cleantune.data.words)
CONFIDENCES = (0.0, 0.5, 0.7, 0.9, 0.97)  # lower edges
AGENCIES = {
    "Reuters": r"\bReuters\b", "AP": r"\bAP\b|Associated Press", "AFP": r"\bAFP\b",
    "other sources in brackets": r"\((?!Reuters|AP\b|AFP)[A-Z][\w .]+\) *-",
}  # fmt: skip
ARTIFACTS = re.compile(r"&\w+;|#\d+;|\bquot;|<[^>]+>|\\|https?://|www\.")
"""Markup left in released texts: entities, tags, backslashes, URLs."""
EMPTY = "empty or nearly empty texts"
MIN_VALUE = 20  # documents with a value of a metadata column that make a slice
MIN_GROUP = 50  # documents of a value that is compared with the column's others
MAX_VALUES = 20  # slices of a metadata column, those of the most frequent values
DATE = re.compile(
    r"(\d{4})[-/.]\d{1,2}(?:[-/.]\d{1,2})?(?:[T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.](\d{4})(?:[T ].*)?"
)
"""A date by its year first or last."""

Slice = tuple[str, str, np.ndarray]
"""Kind, name, and which documents belong to it, bool of shape (documents,)."""


def slices(texts: list[str], raw: list[str], confidence: np.ndarray) -> Iterator[Slice]:
    """Yield each slice that is not empty.

    ``texts`` are as the model reads them, ``raw`` as released, ``confidence`` is the probability
    of the predicted class, of shape (documents,).
    """
    lengths = np.array([words.count(text) for text in texts])
    yield from _bands("length", lengths, LENGTHS, " words")
    named = np.zeros(len(raw), dtype=bool)
    for name, pattern in AGENCIES.items():
        matches = np.array([bool(re.search(pattern, text)) for text in raw])
        yield from _named("agency", name, matches & ~named)
        named |= matches
    if named.any():  # otherwise the corpus is not news, or names no agencies
        yield from _named("agency", "none named", ~named)
    artifacts = np.array([bool(ARTIFACTS.search(text)) for text in raw])
    yield from _named("artifacts as released", "with", artifacts)
    yield from _named("artifacts as released", "without", ~artifacts)
    yield from _bands("confidence", confidence, CONFIDENCES, "")


def _named(kind: str, name: str, where: np.ndarray) -> Iterator[Slice]:
    if where.any():
        yield kind, name, where


def _bands(kind: str, values: np.ndarray, edges: tuple[float, ...], unit: str) -> Iterator[Slice]:
    for low, high in zip(edges, (*edges[1:], np.inf), strict=True):
        name = f"{low:g} and more" if high == np.inf else f"{low:g} up to {high:g}"
        yield from _named(kind, name + unit, (values >= low) & (values < high))


def metadata_slices(table: pd.DataFrame) -> Iterator[Slice]:
    """Yield a slice for each frequent value of each metadata column of ``table``; dates by their year."""
    for column in tables.with_metadata((), table):
        values = table[column]
        dates = [DATE.fullmatch(value) for value in values]
        if any(dates) and all(date or not value for date, value in zip(dates, values, strict=True)):
            values = pd.Series([date[1] or date[2] if date else "" for date in dates])
        counts = values.value_counts()
        counts = (
            counts[counts >= MIN_VALUE].sort_index().sort_values(ascending=False, kind="stable")
        )
        for value in counts.index[:MAX_VALUES]:
            yield column, value or "(none)", (values == value).to_numpy()


def near_duplicates(
    test: pd.DataFrame, train: pd.DataFrame, dropped: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    """Return which test documents have a near-duplicate in train, and which a conflicting label there.

    The near-duplicates may have been dropped from train as leaks (``dropped.duplicate_of``) or be
    in it with the same ``group``. The label conflicts when any of them has another one.
    """
    dropped = dropped[dropped["split"] == "train"]
    duplicates = pd.concat([
        dropped[["duplicate_of", "label"]].set_axis(["key", "label"], axis=1),
        train[["group", "label"]].set_axis(["key", "label"], axis=1),
    ])  # fmt: skip
    labels_of = duplicates.groupby("key")["label"].agg(set).to_dict()
    duplicated, conflicting = [], []
    for name, group, label in zip(test["id"], test["group"], test["label"], strict=True):
        others = labels_of.get(name, set()) | labels_of.get(group, set())
        duplicated.append(bool(others))
        conflicting.append(bool(others - {label}))
    return np.array(duplicated, dtype=bool), np.array(conflicting, dtype=bool)


def measure_slices(
    test: Split, train: pd.DataFrame, dropped: pd.DataFrame, texts: list[str], raw: list[str]
) -> dict[str, dict[str, Any]]:
    """Return n and accuracy, with its 95 % interval, of each slice of the test set, by kind and name."""
    right = test.right
    duplicated, conflicting = near_duplicates(test.table, train, dropped)
    empty = np.array([words.is_nearly_empty(text) for text in texts], dtype=bool)
    everything = np.ones(len(right), dtype=bool)
    all_slices = [
        ("test set", "as released", everything),
        ("test set", "without near-duplicates of train", ~duplicated),
        ("test set", "without near-duplicates with another label", ~conflicting),
        *_named("test set", f"without {EMPTY}", ~empty if empty.any() else empty),
        *_named("test set", EMPTY, empty),
        *slices(texts, raw, test.confidence),
        *metadata_slices(test.table),
    ]
    parts: dict[str, dict[str, Any]] = {}
    for kind, name, where in all_slices:
        if where.any():
            parts.setdefault(kind, {})[name] = {
                "n": int(where.sum()),
                "accuracy": float(right[where].mean()),
                "interval": confidence_intervals.share(right[where], test.groups[where]),
            }
    return parts


def measure_gaps(test: Split) -> dict[str, dict[str, Any]]:
    """Return by metadata column the largest gap in accuracy between its groups of ``MIN_GROUP`` documents.

    Copies count once. The interval of the gap is Newcombe's (1998), of these two groups alone, which are
    chosen from all ``comparisons``; ``p`` is of the chi-squared test that all groups are equally accurate,
    corrected for the number of columns (Holm).
    """
    once = np.zeros(len(test.labels), dtype=bool)
    once[np.unique(test.groups, return_index=True)[1]] = True
    columns: dict[str, dict[str, np.ndarray]] = {}
    for column, value, where in metadata_slices(test.table):
        if (where & once).sum() >= MIN_GROUP:
            columns.setdefault(column, {})[value] = test.right[where & once]
    columns = {column: groups for column, groups in columns.items() if len(groups) > 1}
    corrected = confidence_intervals.holm([_equal(groups) for groups in columns.values()])
    return {column: _gap(groups) | {"p": p}
            for (column, groups), p in zip(columns.items(), corrected, strict=True)}  # fmt: skip


def _equal(groups: dict[str, np.ndarray]) -> float:
    """Return the p-value of the test that all groups are right equally often."""
    counts = np.array([[right.sum(), (~right).sum()] for right in groups.values()])
    return float(chi2_contingency(counts).pvalue) if counts.sum(axis=0).all() else 1.0


def _gap(groups: dict[str, np.ndarray]) -> dict[str, Any]:
    by_accuracy = sorted(groups, key=lambda value: groups[value].mean())
    low, high = (groups[by_accuracy[k]] for k in (0, -1))
    ends = [
        confidence_intervals.share(right, np.arange(len(right))) or [0, 1] for right in (high, low)
    ]
    gap = float(high.mean() - low.mean())
    down = np.hypot(high.mean() - ends[0][0], ends[1][1] - low.mean())
    up = np.hypot(ends[0][1] - high.mean(), low.mean() - ends[1][0])
    return {
        "lowest": by_accuracy[0], "lowest_accuracy": float(low.mean()),
        "highest": by_accuracy[-1], "highest_accuracy": float(high.mean()),
        "gap": gap, "interval": [float(gap - down), float(gap + up)],
        "groups": len(groups), "comparisons": len(groups) * (len(groups) - 1) // 2,
    }  # fmt: skip
