"""Parts of the test set on which a model may do better or worse than on the whole."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from cleantune.evaluation import confidence_intervals
from cleantune.evaluation.predictions import Split

LENGTHS = (0, 30, 45, 60, 90)  # lower edges, in words
CONFIDENCES = (0.0, 0.5, 0.7, 0.9, 0.97)  # lower edges
AGENCIES = {
    "Reuters": r"\bReuters\b", "AP": r"\bAP\b|Associated Press", "AFP": r"\bAFP\b",
    "other sources in brackets": r"\((?!Reuters|AP\b|AFP)[A-Z][\w .]+\) *-",
}  # fmt: skip
ARTIFACTS = re.compile(r"&\w+;|#\d+;|\bquot;|<[^>]+>|\\|https?://|www\.")
"""What releases leave in texts: entities, tags, backslashes, addresses."""

Slice = tuple[str, str, np.ndarray]
"""Kind, name, and which documents belong to it, bool of shape (documents,)."""


def slices(texts: list[str], raw: list[str], confidence: np.ndarray) -> Iterator[Slice]:
    """Yield each slice that holds a document.

    ``texts`` are as the model reads them, ``raw`` as released, ``confidence`` is the probability
    of the predicted class, of shape (documents,).
    """
    words = np.array([len(text.split()) for text in texts])
    yield from _bands("length", words, LENGTHS, " words")
    named = np.zeros(len(raw), dtype=bool)
    for name, pattern in AGENCIES.items():
        found = np.array([bool(re.search(pattern, text)) for text in raw])
        yield from _named("agency", name, found & ~named)
        named |= found
    if named.any():  # else the corpus is no news, or has no agencies in it
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


def near_duplicates(
    test: pd.DataFrame, train: pd.DataFrame, dropped: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    """Return which test documents have a near-duplicate in train, and which of them a doubtful label.

    Those in train may have been dropped as leaks (``dropped.duplicate_of``) or still stand there
    under the same ``group``. A label is doubtful when any of them has another one.
    """
    kin = pd.concat([
        dropped[["duplicate_of", "label"]].set_axis(["key", "label"], axis=1),
        train[["group", "label"]].set_axis(["key", "label"], axis=1),
    ])  # fmt: skip
    labels_of = kin.groupby("key")["label"].agg(set).to_dict()
    found, doubtful = [], []
    for name, group, label in zip(test["id"], test["group"], test["label"], strict=True):
        others = labels_of.get(name, set()) | labels_of.get(group, set())
        found.append(bool(others))
        doubtful.append(bool(others - {label}))
    return np.array(found, dtype=bool), np.array(doubtful, dtype=bool)


def measure_slices(
    test: Split, train: pd.DataFrame, dropped: pd.DataFrame, texts: list[str], raw: list[str]
) -> dict[str, dict[str, Any]]:
    """Return n and accuracy, with its 95 % interval, of each part of the test set, by kind and name."""
    right = test.right
    known, doubtful = near_duplicates(test.table, train, dropped)
    everything = np.ones(len(right), dtype=bool)
    found = [
        ("test set", "as released", everything),
        ("test set", "without near-duplicates of train", ~known),
        ("test set", "without those whose duplicates disagree in label", ~doubtful),
        *slices(texts, raw, test.confidence),
    ]
    parts: dict[str, dict[str, Any]] = {}
    for kind, name, where in found:
        if where.any():
            parts.setdefault(kind, {})[name] = {
                "n": int(where.sum()),
                "accuracy": float(right[where].mean()),
                "interval": confidence_intervals.share(right[where], test.groups[where]),
            }
    return parts
