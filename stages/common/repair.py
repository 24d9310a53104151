r"""Repairing text, so that a model reads what the author wrote.

Released corpora carry traces of their way: HTML, entities (in AG News with the ``&`` turned into a
space: `` #39;``), a backslash for a line break, mojibake, controls that change what a person sees.
Each repair is one function from text to text. tools.predict repairs its input the same way as the corpus.
"""

import html
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import ftfy
import pandas as pd
from ftfy import TextFixerConfig
from lxml import etree

from stages.common import console
from stages.common.params import TextSteps

EXAMPLES = 3  # of each repair
SNIPPET = 60  # characters that an example shows from where the repair begins

# Elements that stand alone on the page: the words around them must not grow together.
_BLOCK_NAMES = (
    "address|article|aside|blockquote|body|br|caption|center|dd|div|dl|dt|figcaption|figure|footer|"
    "form|h1|h2|h3|h4|h5|h6|header|hr|html|li|main|nav|ol|option|p|pre|section|select|table|tbody|"
    "td|tfoot|th|thead|title|tr|ul"
)
_HIDDEN_NAMES = "head|object|script|style|template"  # what they hold is not read on the page
_INLINE_NAMES = (
    "a|abbr|acronym|area|b|base|big|button|cite|code|del|dfn|em|embed|font|i|iframe|img|input|ins|"
    "kbd|label|link|map|mark|meta|nobr|noscript|param|q|s|samp|small|source|span|strike|strong|sub|"
    "sup|svg|tt|u|var|video|wbr"
)
_BLOCKS = frozenset(_BLOCK_NAMES.split("|"))
_HIDDEN = frozenset(_HIDDEN_NAMES.split("|"))
# Only what HTML knows is markup: "<MSFT.O>", "a < b" and "if x <b and y> c" are text.
_TAG = re.compile(
    rf"<(?:/?(?:{_BLOCK_NAMES}|{_HIDDEN_NAMES}|{_INLINE_NAMES})(?=\s*/?>|\s+[a-z-]+\s*=)"
    r"|!--|!doctype\s)",
    re.IGNORECASE,
)

_NESTED_AMPERSAND = re.compile("&(?:(?:amp|#38|#x26);)+", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[0-9A-Za-z]{2,31});")
_PASSES = 4  # entities within entities; each pass undoes one level

# What is left of an entity whose "&" became a space or was lost. Codes below 128 only where they
# stand for punctuation: "ranked #50; then" is text.
_BARE_ENTITY = re.compile(
    "(?: |(?<![&\\w]))(?:amp;)*(?:#(3[4689]|6[02]|1[2-9][0-9]|[2-9][0-9]{2}|[0-9]{4,5})"
    "|(quot|amp|lt|gt|apos|nbsp|hellip|[lr][sd]quo|[mn]dash"
    "|[A-Za-z](?:acute|grave|circ|uml|cedil|tilde|ring)));"
    "|(?<=\\w)#(3[4689]|1[3-5][0-9]|8[0-9]{3});"
)
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufffe\uffff\ud800-\udfff]")
_UNPARSED = re.compile("[\x00-\x08\x0e-\x1b\x7f\ufffe\uffff\ud800-\udfff]")
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_EDGES = ".,;:!?\"'()[]{}"  # may touch a word without being part of it
_FTFY = TextFixerConfig(unescape_html=False, explain=False, normalization="NFC")


def repair(text: str) -> str:
    """Return the text with all repairs made."""
    for mend in REPAIRS.values():
        text = mend(text)
    return text


def _control_characters(text: str) -> str:
    """Take out what no text has: NUL and other controls, halves of surrogate pairs."""
    return _CONTROLS.sub("", text)


def _bare_entities(text: str) -> str:
    return _BARE_ENTITY.sub(_character, text) if ";" in text else text


def _character(match: re.Match[str]) -> str:
    number = match[1] or match[3]
    return html.unescape(f"&#{number};" if number else f"&{match[2]};")


def _entities(text: str) -> str:
    for _ in range(_PASSES):
        if "&" not in text:
            break
        decoded = _NESTED_AMPERSAND.sub("&", text)
        decoded = _ENTITY.sub(lambda match: html.unescape(match[0]), decoded)
        if decoded == text:
            break
        text = decoded
    return text


class _Text:
    """What lxml's streaming parser tells its events to: keeps the text, not the tree.

    No tree is built, so a document of 100,000 nested tags takes linear time and no deep stack.
    """

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._hidden = 0

    def start(self, tag: str, _attributes: object) -> None:
        self._hidden += tag in _HIDDEN
        if tag in _BLOCKS:
            self._pieces.append(" ")

    def end(self, tag: str) -> None:
        self._hidden -= tag in _HIDDEN
        if tag in _BLOCKS:
            self._pieces.append(" ")

    def data(self, text: str) -> None:
        if not self._hidden:
            self._pieces.append(text)

    def close(self) -> str:
        return "".join(self._pieces)


def _html_tags(text: str) -> str:
    """Return the text of a page's markup; a link cut off at the end goes with it."""
    if "<" not in text or not _TAG.search(text):
        return text
    # An opening that is never closed would swallow the rest of the text.
    lower = text.lower()
    last = {name: lower.rfind(f"</{name}") for name in _HIDDEN} | {"!--": text.rfind("-->")}
    pieces, end = [], 0
    for match in _TAG.finditer(text):
        if last.get(match[0][1:].lower(), len(text)) > match.start():
            pieces.append(text[end : match.start()].replace("&", "&amp;").replace("<", "&lt;"))
            pieces.append("<")
            end = match.start() + 1
    pieces.append(text[end:].replace("&", "&amp;").replace("<", "&lt;"))
    parser = etree.HTMLParser(target=_Text(), huge_tree=True, encoding="utf-8")
    # The parser takes no NUL and no half of a surrogate pair; C1 controls are mojibake's to mend.
    page = "<html><body>" + _UNPARSED.sub("", "".join(pieces))
    parsed: str = etree.fromstring(page.encode(), parser)
    return parsed


def _encoding(text: str) -> str:
    """Undo mojibake and the like (ftfy); plain ASCII has none."""
    return text if text.isascii() and "\x1b" not in text else ftfy.fix_text(text, _FTFY)


def _bidi_marks(text: str) -> str:
    """Take out invisible marks that turn the reading direction, and byte order marks."""
    return text if text.isascii() else _BIDI.sub("", text)


def _backslashes(text: str) -> str:
    r"""Turn AG News' line break into a space; before a dollar sign it is an escape."""
    if "\\" not in text:
        return text
    return re.sub(r"\\+", " ", re.sub(r"(?<![\w.,;:\\])\\++(?=\$)", "", text))


def _spaces(text: str) -> str:
    return " ".join(text.split())


REPAIRS: dict[str, Callable[[str], str]] = {
    "entities": _entities,
    "bare_entities": _bare_entities,
    "html_tags": _html_tags,
    "encoding": _encoding,
    "control_characters": _control_characters,  # after decoding, which may bring some to light
    "bidi_marks": _bidi_marks,
    "backslashes": _backslashes,
    "spaces": _spaces,
}
"""In the order in which they are made."""


def repair_tables(tables: Sequence[pd.DataFrame]) -> dict[str, dict[str, Any]]:
    """Repair titles and texts in place; return for each repair how many documents, and examples."""
    found: dict[str, dict[str, Any]] = {kind: {"documents": 0, "examples": []} for kind in REPAIRS}
    with console.Bar("repairing texts", sum(len(table) for table in tables)) as bar:
        for table in tables:
            columns: dict[str, list[str]] = {"title": [], "text": []}
            for name, *parts in zip(table["id"], table["title"], table["text"], strict=True):
                counted = set()
                for column, text in zip(columns.values(), parts, strict=True):
                    for kind, mend in REPAIRS.items():
                        before, text = text, mend(text)
                        if text != before and kind not in counted:
                            counted.add(kind)
                            found[kind]["documents"] += 1
                            if len(found[kind]["examples"]) < EXAMPLES:
                                example = {"id": name, **_difference(before, text)}
                                found[kind]["examples"].append(example)
                    column.append(text)
                bar.advance()
            for heading, texts in columns.items():
                table[heading] = texts
    return found


def _difference(before: str, after: str) -> dict[str, str]:
    """Return both texts from shortly before the first place where they differ."""
    pairs = zip(before, after, strict=False)
    shorter = min(len(before), len(after))
    start = max(0, next((i for i, (a, b) in enumerate(pairs) if a != b), shorter) - SNIPPET // 3)
    return {"before": before[start : start + SNIPPET], "after": after[start : start + SNIPPET]}


def prepare(text: str, options: TextSteps) -> str:
    """Return the text after repair and the article's steps, as far as they are switched on.

    The stop words are scikit-learn's English list.
    """
    if options.repair:
        text = repair(text)
    if options.lowercase:
        text = text.lower()
    if options.remove_stop_words:
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        kept = (w for w in text.split() if w.strip(_EDGES).lower() not in ENGLISH_STOP_WORDS)
        text = " ".join(kept)
    if options.strip_punctuation:
        text = _spaces("".join(" " if unicodedata.category(c)[0] in "PS" else c for c in text))
    return text
