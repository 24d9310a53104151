"""The page for reviewing flagged labels: one HTML file that loads nothing, under 3 MB.

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
from pathlib import Path
from typing import Any

import pandas as pd

from cleantune import files
from cleantune.labels.review_page.content import FlaggedLabels, Source, content, data_key, entries

PAGE = Path("reports/label_review.html")
TEMPLATES = Path(__file__).parent
MAX_BYTES = 3_000_000
# characters of a text and neighbours of a document: the first that fit the page are taken
LIMITS = ((20_000, 5), (10_000, 5), (5_000, 5), (2_000, 5), (2_000, 2))


def write_page(
    path: Path,
    dataset: str,
    names: list[str],
    documents: pd.DataFrame,
    raw: pd.DataFrame,
    flagged: FlaggedLabels,
    corrections: pd.DataFrame,
    unchecked: Sequence[str] = (),
    advice: Sequence[str] = (),
) -> None:
    """Write the page for labels ``flagged`` among ``documents`` (cleaned: id, title, text, label).

    Columns ``metadata.NAME`` of ``documents`` are shown and filtered by. ``dataset`` is the name
    that an export gives in each row. ``raw`` has the same documents, and maybe more, as in data/raw:
    corrections refer to these. ``corrections`` is what ``read_corrections`` returned for them.
    ``unchecked`` are names of classes too rare to find label errors in them, ``advice`` sentences on
    what to review. The page has at most ``MAX_BYTES``; what is left out for that is said on it. The bytes depend on the arguments alone.
    Raises ``ValueError`` when a flagged document is not in ``raw``.
    """
    template, style, script = (
        (TEMPLATES / f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    parts = {
        "style": style,
        "style-hash": _csp_hash(style),
        "script": script,
        "script-hash": _csp_hash(script),
    }
    source = Source(dataset, names, documents, raw, corrections, unchecked, advice)
    room = MAX_BYTES - sum(len(part.encode()) for part in (template, *parts.values()))
    parts["data"] = _fitting(source, flagged, room)
    # one pass, so that {{style}} in a document's text stays text
    files.write_text(path, re.sub(r"\{\{([a-z-]+)\}\}", lambda m: parts[m[1]], template))


def _fitting(source: Source, flagged: FlaggedLabels, room: int) -> str:
    """Return JSON for page.js of at most ``room`` bytes, if need be with shorter texts and fewer labels.

    ``LIMITS`` are tried first; then the flagged labels of highest quality are left out.
    """
    key = data_key(source.raw, source.names)
    listed = entries(source, flagged)
    characters = source.documents["text"].iloc[flagged.rows].str.len()
    count = len(listed)
    limits = iter(LIMITS)
    longest, near = next(limits)
    while True:
        text = ""
        size = int(characters[:count].clip(upper=longest).sum())
        if size <= room:  # else the texts alone are too many bytes
            embedded = content(source, flagged, listed[:count], longest, near)
            text = _as_script(embedded | {"key": key})
            size = len(text.encode())
        if size <= room or count == 0:
            return text
        stricter = next(limits, None)
        if stricter is None:
            # a little less than in proportion, for some of the size does not depend on the number
            count = min(count - 1, int(0.97 * count * room / size))
        else:
            longest, near = stricter


def _as_script(data: dict[str, Any]) -> str:
    """Return JSON without characters that have a meaning in HTML."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # NEL, LS, PS and bidi marks too, which confuse editors that show this file
    return re.sub(
        "[<>&\u0085\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]",
        lambda match: f"\\u{ord(match[0]):04x}",
        text,
    )


def _csp_hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
