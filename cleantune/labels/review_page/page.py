"""The page for reviewing flagged labels: one HTML file that loads nothing.

page.html, page.css and page.js beside this module are inlined with the data into one file. Texts
reach the browser as JSON in a script element that is not executed, and enter the page only as text
nodes; a Content-Security-Policy allows this one script and this one style by hash, so that nothing
in a document can run, and nothing is fetched.
"""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cleantune import files
from cleantune.data import tables
from cleantune.labels.corrections import fingerprints

PAGE = Path("reports/label_review.html")
TEMPLATES = Path(__file__).parent
LONGEST_TEXT = 20_000  # characters of a flagged document that the page shows
LONGEST_NEIGHBOUR = 400  # the page shows three lines of a neighbour

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


def write_page(
    path: Path,
    dataset: str,
    names: list[str],
    documents: pd.DataFrame,
    raw: pd.DataFrame,
    flagged: FlaggedLabels,
    corrections: pd.DataFrame,
) -> None:
    """Write the page for labels ``flagged`` among ``documents`` (cleaned: id, title, text, label).

    ``dataset`` is the name that an export gives in each row. ``raw`` has the same documents, and
    maybe more, as in data/raw: corrections refer to these. ``corrections`` is what
    ``read_corrections`` returned for them. The bytes depend on the arguments alone. Raises
    ``ValueError`` when a flagged document is not in ``raw``.
    """
    content = _content(names, documents, raw, flagged, corrections) | {"dataset": dataset}
    template, style, script = (
        (TEMPLATES / f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    parts = {
        "style": style,
        "style-hash": _csp_hash(style),
        "script": script,
        "script-hash": _csp_hash(script),
        "data": _as_script(content),
    }
    # one pass, so that {{style}} in a document's text stays text
    files.write_text(path, re.sub(r"\{\{([a-z-]+)\}\}", lambda m: parts[m[1]], template))


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
    names: list[str],
    documents: pd.DataFrame,
    raw: pd.DataFrame,
    flagged: FlaggedLabels,
    corrections: pd.DataFrame,
) -> dict[str, Any]:
    """Return what page.js reads; flagged labels and neighbours refer to documents by index."""
    rows = [int(row) for row in flagged.rows]
    near = flagged.neighbours.astype(int).tolist()
    listed = list(dict.fromkeys([*rows, *(n for line in near for n in line)]))
    index = {row: i for i, row in enumerate(listed)}
    ids = documents["id"].tolist()
    flagged_ids = [ids[row] for row in rows]
    about = raw[raw["id"].isin(flagged_ids)]
    missing = set(flagged_ids) - set(about["id"])
    if missing:
        raise ValueError(f"not in the raw data: {sorted(missing)[:3]}")
    prints = dict(zip(about["id"], fingerprints(about), strict=True))
    old = dict(zip(about["id"], about["label"], strict=True))
    given = documents["label"].tolist()
    entries = []
    for i, row in enumerate(rows):
        similarity = flagged.similarity[i].tolist()
        entries.append(
            {
                "document": index[row],
                "sha": prints[ids[row]],
                "old": int(old[ids[row]]),
                "given": int(given[row]),
                "suggested": int(flagged.suggested[i]),
                "quality": round(float(flagged.quality[i]), 4),
                "p": [round(p, 4) for p in flagged.probabilities[i].tolist()],
                "near": [[index[n], round(s, 3)] for n, s in zip(near[i], similarity, strict=True)],
                "why": list(flagged.reasons[i]) if flagged.reasons else [],
            }
        )
    full = set(rows)
    shown = zip(listed, documents.iloc[listed][list(tables.TEXT_COLUMNS)].values, strict=True)
    return {
        "key": data_key(raw, names),
        "names": names,
        "reviewed": {
            name: names[label]
            for name, label in zip(corrections["id"], corrections["new_label"], strict=True)
        },
        "documents": [
            _document(values, LONGEST_TEXT if row in full else LONGEST_NEIGHBOUR)
            for row, values in shown
        ],
        "flagged": entries,
    }


def _document(values: Sequence[Any], longest: int) -> dict[str, Any]:
    name, title, text, label = values
    cut = {"more": len(text) - longest} if len(text) > longest else {}
    return {"id": name, "title": title[:longest], "text": text[:longest], "label": int(label)} | cut


def _as_script(content: dict[str, Any]) -> str:
    """Return JSON without characters that have a meaning in HTML."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # NEL, LS, PS and bidi marks too, which confuse editors that show this file
    return re.sub(
        "[<>&\u0085\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]",
        lambda match: f"\\u{ord(match[0]):04x}",
        text,
    )


def _csp_hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
