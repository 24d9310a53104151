"""What the review page embeds: flagged labels with texts, probabilities and neighbours, within a size."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cleantune.labels.corrections import fingerprints

METADATA = "metadata."  # columns of the documents that the page shows and filters by
# characters of a text and neighbours of a document: the first that fit the page are taken
LIMITS = ((20_000, 5), (10_000, 5), (5_000, 5), (2_000, 5), (2_000, 2))
LONGEST_NEIGHBOUR = 240  # the page shows three lines of a neighbour
LONGEST_VALUE = 200  # of metadata
LIKELIEST = 10  # classes, one for each digit key

Floats = np.ndarray[tuple[int, ...], np.dtype[np.floating[Any]]]
Positions = np.ndarray[tuple[int, ...], np.dtype[np.integer[Any]]]


@dataclass(frozen=True)
class FlaggedLabels:
    """What the page shows of n flagged labels, in order of label quality, the lowest first."""

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


@dataclass(frozen=True)
class Source:
    """Where flagged labels come from: the arguments of ``write_page``."""

    dataset: str
    names: list[str]
    documents: pd.DataFrame
    raw: pd.DataFrame
    corrections: pd.DataFrame
    not_judged: Sequence[str] = ()


def fitting(source: Source, flagged: FlaggedLabels, room: int) -> str:
    """Return JSON for page.js of at most ``room`` bytes, if need be with shorter texts and fewer labels.

    ``LIMITS`` are tried first; then the flagged labels of highest quality are left out. The data's ``notes`` are sentences on what was left out. Raises
    ``ValueError`` when a flagged document is not in ``raw``.
    """
    key = data_key(source.raw, source.names)
    count = len(flagged.rows)
    limits = iter(LIMITS)
    longest, near = next(limits)
    while True:
        text = _as_script(_content(source, flagged, count, longest, near) | {"key": key})
        size = len(text.encode())
        if size <= room or count == 0:
            return text
        stricter = next(limits, None)
        if stricter is None:
            # a little less than in proportion, for some of the size does not depend on the number
            count = min(count - 1, int(0.97 * count * room / size))
        else:
            longest, near = stricter


def data_key(raw: pd.DataFrame, names: list[str]) -> str:
    """Return 16 hex digits that name this version of the raw data.

    The browser stores decisions under it: they are found again when other labels of the same data
    are flagged, and never with other data.
    """
    digest = hashlib.sha256(json.dumps(names).encode())
    for row in zip(raw["id"], raw["label"], fingerprints(raw), strict=True):
        digest.update(json.dumps([str(value) for value in row]).encode())
    return digest.hexdigest()[:16]


def _content(
    source: Source, flagged: FlaggedLabels, count: int, longest: int, nearest: int
) -> dict[str, Any]:
    """Return what page.js reads of the first ``count`` flagged labels.

    They refer to ``documents`` by index: the flagged documents first, in the same order, then
    their neighbours.
    """
    rows = flagged.rows[:count].astype(int).tolist()
    near = flagged.neighbours[:count, :nearest].astype(int).tolist()
    listed = list(dict.fromkeys([*rows, *(n for line in near for n in line)]))
    index = {row: i for i, row in enumerate(listed)}
    shown = source.documents.iloc[listed]
    ids = shown["id"].tolist()[:count]
    about = source.raw[source.raw["id"].isin(ids)].set_index("id")
    missing = set(ids) - set(about.index)
    if missing:
        raise ValueError(f"not in the raw data: {sorted(missing)[:3]}")
    prints = dict(zip(about.index, fingerprints(about), strict=True))
    old = about["label"].to_dict()
    columns = [column for column in shown if column.startswith(METADATA)]
    values = shown[columns].head(count).fillna("").astype(str).to_numpy().tolist()
    given = shown["label"].tolist()
    entries = []
    for i, name in enumerate(ids):
        suggested = int(flagged.suggested[i])
        similarity = flagged.similarity[i, :nearest].tolist()
        entries.append(
            {
                "id": name,
                "sha": prints[name],
                "old": int(old[name]),
                "given": int(given[i]),
                "suggested": suggested,
                "quality": round(float(flagged.quality[i]), 4),
                "p": list(_likeliest(flagged.probabilities[i], given[i], suggested)),
                "near": [[index[n], round(s, 3)] for n, s in zip(near[i], similarity, strict=True)],
                "why": list(flagged.reasons[i]) if flagged.reasons else [],
                "metadata": [" ".join(value.split())[:LONGEST_VALUE] for value in values[i]],
            }
        )
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
        "names": source.names,
        "metadata": [column.removeprefix(METADATA) for column in columns],
        "notes": list(_notes(source, len(flagged.rows), count, cut, longest, fewer)),
        "reviewed": {
            name: source.names[label]
            for name, label in zip(reviewed["id"], reviewed["new_label"], strict=True)
        },
        "documents": documents,
        "flagged": entries,
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
    source: Source, flagged: int, count: int, cut: int, longest: int, nearest: int
) -> Iterator[str]:
    """Yield a sentence for each thing that is not on the page."""
    if count < flagged:
        yield (
            f"These are the first {count:,} of {flagged:,} flagged labels, in order of label quality. "
            "The next ones follow once these are reviewed, exported and applied (dvc repro)."
        )
    if cut:
        yield (
            f"{cut:,} {'text is' if cut == 1 else 'texts are'} cut after {longest:,} characters; "
            "data/clean/train.parquet has all of it."
        )
    if nearest:
        yield f"Only {nearest} nearest documents of each are shown."
    if len(source.names) > LIKELIEST:
        yield (
            f"Of {len(source.names)} classes, probabilities are given for the {LIKELIEST} likeliest, "
            "the given and the suggested one."
        )
    if source.not_judged:
        yield (
            "Classes with too few documents to find label errors in them: "
            f"{', '.join(source.not_judged)}."
        )


def _as_script(content: dict[str, Any]) -> str:
    """Return JSON without characters that have a meaning in HTML."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # NEL, LS, PS and bidi marks too, which confuse editors that show this file
    return re.sub(
        "[<>&\u0085\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]",
        lambda match: f"\\u{ord(match[0]):04x}",
        text,
    )
