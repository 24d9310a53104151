"""The page for reviewing flagged labels: one HTML file that loads nothing, under 3 MB.

page.html, page.css and page.js beside this module are inlined with the data into one file. Texts
reach the browser as JSON in a script element that is not executed, and enter the page only as text
nodes; a Content-Security-Policy allows this one script and this one style by hash, so that nothing
in a document can run, and nothing is fetched.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cleantune import files
from cleantune.labels.review_page.content import FlaggedLabels, Source, fitting

PAGE = Path("reports/label_review.html")
TEMPLATES = Path(__file__).parent
MAX_BYTES = 3_000_000


def write_page(
    path: Path,
    dataset: str,
    names: list[str],
    documents: pd.DataFrame,
    raw: pd.DataFrame,
    flagged: FlaggedLabels,
    corrections: pd.DataFrame,
    not_judged: Sequence[str] = (),
) -> None:
    """Write the page for labels ``flagged`` among ``documents`` (cleaned: id, title, text, label).

    Columns ``metadata.NAME`` of ``documents`` are shown and filtered by. ``dataset`` is the name
    that an export gives in each row. ``raw`` has the same documents, and maybe more, as in data/raw:
    corrections refer to these. ``corrections`` is what ``read_corrections`` returned for them.
    ``not_judged`` are names of classes too rare to find label errors in them. The page has at most
    ``MAX_BYTES``; what is left out for that is said on it. The bytes depend on the arguments alone.
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
    source = Source(dataset, names, documents, raw, corrections, not_judged)
    room = MAX_BYTES - sum(len(part.encode()) for part in (template, *parts.values()))
    parts["data"] = fitting(source, flagged, room)
    # one pass, so that {{style}} in a document's text stays text
    files.write_text(path, re.sub(r"\{\{([a-z-]+)\}\}", lambda m: parts[m[1]], template))


def _csp_hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
