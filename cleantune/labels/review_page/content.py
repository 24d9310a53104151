"""What the review page embeds: flagged labels with texts, probabilities and neighbours."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cleantune.data import tables
from cleantune.labels.corrections import fingerprints

LONGEST_NEIGHBOUR = 240  # the page shows three lines of a neighbour
LONGEST_VALUE = 200  # of metadata
LIKELIEST = 10  # classes, one for each digit key

Floats = np.ndarray[tuple[int, ...], np.dtype[np.floating[Any]]]
Positions = np.ndarray[tuple[int, ...], np.dtype[np.integer[Any]]]


@dataclass(frozen=True)
class FlaggedLabels:
    """What the page shows of n flagged labels, in the order in which it lists them."""

    rows: Positions
    """(n,) positions in the documents passed with them."""
    suggested: Positions
    """(n,) the most probable other label."""
    quality: Floats
    """(n,) probability that the given label is right."""
    probabilities: Floats
    """(n, classes) of being the true label, out-of-fold."""
    neighbours: Positions
    """(n, k) positions of the nearest other documents, nearest first."""
    similarity: Floats
    """(n, k) cosine with each of these."""
    reasons: Sequence[Sequence[str]] = ()
    """(n,) further reasons as sentences; or empty."""
    total: int = 0
    """How many labels are flagged, where that is more than n."""
    split: str = "train"


@dataclass(frozen=True)
class Source:
    """Where flagged labels come from: the arguments of ``write_page``."""

    dataset: str
    names: list[str]
    documents: pd.DataFrame
    raw: pd.DataFrame
    corrections: pd.DataFrame
    unchecked: Sequence[str] = ()
    advice: Sequence[str] = ()


def data_key(raw: pd.DataFrame, names: list[str]) -> str:
    """Return 16 hex digits that name this version of the raw data.

    The browser stores decisions under it: they are found again when other labels of the same data
    are flagged, and never with other data.
    """
    digest = hashlib.sha256(json.dumps(names).encode())
    for row in zip(raw["id"], raw["label"], fingerprints(raw), strict=True):
        digest.update(json.dumps([str(value) for value in row]).encode())
    return digest.hexdigest()[:16]


def entries(source: Source, flagged: FlaggedLabels) -> list[dict[str, Any]]:
    """Return what page.js reads of each flagged label, apart from texts and neighbours.

    Raises ``ValueError`` when a flagged document is not in ``raw``.
    """
    shown = source.documents.iloc[flagged.rows]
    about = source.raw[source.raw["id"].isin(shown["id"])].set_index("id")
    missing = set(shown["id"]) - set(about.index)
    if missing:
        raise ValueError(f"not in the raw data: {sorted(missing)[:3]}")
    prints = dict(zip(about.index, fingerprints(about), strict=True))
    old = about["label"].to_dict()
    columns = [*tables.with_metadata((), shown)]
    values = shown[columns].fillna("").astype(str).to_numpy().tolist()
    result = []
    for i, (name, given) in enumerate(zip(shown["id"], shown["label"], strict=True)):
        suggested = int(flagged.suggested[i])
        result.append(
            {
                "id": name,
                "sha": prints[name],
                "old": int(old[name]),
                "given": int(given),
                "suggested": suggested,
                "quality": round(float(flagged.quality[i]), 4),
                "p": list(_likeliest(flagged.probabilities[i], given, suggested)),
                "why": list(flagged.reasons[i]) if flagged.reasons else [],
                "metadata": [" ".join(value.split())[:LONGEST_VALUE] for value in values[i]],
            }
        )
    return result


def content(
    source: Source,
    flagged: FlaggedLabels,
    entries: list[dict[str, Any]],
    longest: int,
    nearest: int,
) -> dict[str, Any]:
    """Return what page.js reads of the first flagged labels, those in ``entries``.

    Their documents come first, in the same order, then the other neighbours: ``near`` refers to
    them by index.
    """
    count = len(entries)
    rows = flagged.rows[:count].tolist()
    near = flagged.neighbours[:count, :nearest].tolist()
    similarity = flagged.similarity[:count, :nearest].round(3).tolist()
    listed = list(dict.fromkeys([*rows, *(n for line in near for n in line)]))
    index = {row: i for i, row in enumerate(listed)}
    shown = source.documents.iloc[listed]
    lengths = [longest] * count + [LONGEST_NEIGHBOUR] * (len(listed) - count)
    documents = [
        _document(*each)
        for each in zip(shown["title"], shown["text"], shown["label"], lengths, strict=True)
    ]
    cut = sum("more" in document for document in documents[:count])
    fewer = nearest if nearest < flagged.neighbours.shape[1] else 0
    reviewed = source.corrections
    return {
        "dataset": source.dataset,
        "split": flagged.split,
        "names": source.names,
        "metadata": [
            name.removeprefix(tables.METADATA) for name in tables.with_metadata((), shown)
        ],
        "notes": list(_notes(source, flagged, count, cut, longest, fewer)),
        "reviewed": {
            name: source.names[label]
            for name, label in zip(reviewed["id"], reviewed["new_label"], strict=True)
        },
        "documents": documents,
        "flagged": [
            entry | {"near": [[index[n], s] for n, s in zip(*line, strict=True)]}
            for entry, *line in zip(entries, near, similarity, strict=True)
        ],
    }


def _likeliest(probabilities: Floats, given: int, suggested: int) -> Iterator[tuple[int, float]]:
    """Yield label and probability of the likeliest classes and of these two, the likeliest first."""
    order = np.argsort(-probabilities, kind="stable").tolist()
    for rank, label in enumerate(order):
        if rank < LIKELIEST or label in (given, suggested):
            yield label, round(float(probabilities[label]), 4)


def _document(title: str, text: str, label: int, longest: int) -> dict[str, Any]:
    cut = {"more": len(text) - longest} if len(text) > longest else {}
    return {"title": title[:longest], "text": text[:longest], "label": int(label)} | cut


def _notes(
    source: Source, flagged: FlaggedLabels, count: int, cut: int, longest: int, nearest: int
) -> Iterator[str]:
    """Yield the advice, and a sentence for each thing that is not on the page."""
    yield from source.advice
    total = max(flagged.total, len(flagged.rows))
    if count < total:
        again = "dvc repro" if flagged.split == "train" else "python -m tools.review open --test"
        yield (
            f"These are the first {count:,} of {total:,} flagged labels. "
            f"The next ones follow once these are reviewed, exported and applied ({again})."
        )
    if cut:
        yield (
            f"{cut:,} {'text is' if cut == 1 else 'texts are'} cut after {longest:,} characters; "
            f"data/clean/{flagged.split}.parquet has all of it."
        )
    if nearest:
        yield f"Only {nearest} nearest documents of each are shown."
    if len(source.names) > LIKELIEST:
        yield (
            f"Of {len(source.names)} classes, probabilities are given for the {LIKELIEST} likeliest, "
            "the given and the suggested one."
        )
    if source.unchecked:
        yield (
            "Classes with too few documents to find label errors in them: "
            f"{', '.join(source.unchecked)}."
        )
