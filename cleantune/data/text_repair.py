r"""Repairing text, so that a model reads what the author wrote.

Released corpora carry traces of their way: HTML, entities, mojibake, controls that change what a
person sees. AG News' own are entities with the ``&`` turned into a space (`` #39;``) and a backslash for
a line break; elsewhere a backslash is text, so these are undone only in a corpus that has them.
Each repair is one function from text to text that leaves alone what is right: code, formulas, paths,
every script's own characters. tools.predict repairs its input the same way as the corpus.
"""

import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from html.entities import name2codepoint

import ftfy
import ftfy.fixes
from ftfy import TextFixerConfig
from lxml import etree

from cleantune.params.sections import TextSteps

SNIPPET = 60  # characters that an example shows from where the repair begins

# Block-level elements: the words around them must stay separate.
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
_ALONE = frozenset(("br", "dd", "dt", "hr", "img", "li", "p", "td", "th", "tr", "wbr"))  # unpaired
# Only what HTML knows is markup, and most of it in pairs or with an attribute: "<MSFT.O>", "a < b",
# "if x <b and y> c", "a<b>c", "List<Section>" and "usage: copy <source>" are text.
_TAG = re.compile(
    rf"<(?:(/?)({_BLOCK_NAMES}|{_HIDDEN_NAMES}|{_INLINE_NAMES})(?:(?=\s*/?>)|(?=\s+[a-z-]+\s*=)())"
    r"|!--|!doctype\s)",
    re.IGNORECASE,
)

_NESTED_AMPERSAND = re.compile("&(?:(?:amp|#38|#x26);)+", re.IGNORECASE)
# Letters, punctuation and currencies, as texts are escaped; HTML's mathematical and Greek names are
# left, for "&part;" and "&phi;" are code's addresses of variables.
_NAMED = [
    name
    for name, code in name2codepoint.items()
    if code < 0x100 or 0x2000 <= code < 0x2100 or unicodedata.name(chr(code)).startswith("LATIN")
]
_NAMES = "|".join([*_NAMED, "trade", "apos", "AMP", "LT", "GT", "QUOT", "NBSP"])
_ENTITY = re.compile(rf"&(?:#[0-9]{{1,7}}|#[xX][0-9a-fA-F]{{1,6}}|{_NAMES});")
_PASSES = 4  # entities within entities; each pass undoes one level

# What is left of an entity whose "&" became a space or was lost. Codes below 128 only where they
# stand for punctuation: "ranked #50; then" is text.
_BARE_ENTITY = re.compile(
    "(?: |(?<![&\\w]))(?:amp;)*(?:#(3[4689]|6[02]|1[2-9][0-9]|[2-9][0-9]{2}|[0-9]{4,5})"
    "|(quot|amp|lt|gt|apos|nbsp|hellip|[lr][sd]quo|[mn]dash"
    "|[A-Za-z](?:acute|grave|circ|uml|cedil|tilde|ring)));"
    "|(?<=\\w)#(3[4689]|1[3-5][0-9]|8[0-9]{3});"
)
# An entity that lost its "&" is AG News' (in a quarter of its documents); nobody writes one.
_LOST_AMPERSAND = re.compile(r"(?<!&)(?:#39|\bquot);")
_EVIDENCE, _EVIDENCE_DOCUMENTS = (
    0.01,
    3,
)  # share of the documents that show it, and how many at least
_CONTROLS = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u206a-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff]"
)
_UNPARSED = re.compile("[\x00-\x08\x0e-\x1b\x7f\ufffe\uffff\ud800-\udfff]")
_OVERRIDE = re.compile("[\u202d\u202e]")
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_EDGES = ".,;:!?\"'()[]{}"  # may touch a word without being part of it
# Mojibake alone: full-width forms, ligatures, curly quotes and unnormalized letters are what was written.
_FTFY = TextFixerConfig(
    unescape_html=False, fix_latin_ligatures=False, fix_character_width=False, uncurl_quotes=False,
    fix_line_breaks=False, remove_control_chars=False, normalization=None, explain=False,
)  # fmt: skip


def repair(text: str, ag_news_artifacts: bool = False) -> str:
    """Return the text with all repairs made, those of AG News' own artifacts only if asked for."""
    made = [*changes(text, ag_news_artifacts)]
    return made[-1][2] if made else text


def changes(text: str, ag_news_artifacts: bool) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, before, after) of each repair that changes the text, until none does.

    One may bring another's work to light: a NUL within an entity, a tag within mojibake.
    """
    for _ in range(_PASSES):
        start = text
        for kind, fix in REPAIRS.items():
            before = text
            if ag_news_artifacts or kind not in AG_NEWS_ARTIFACTS:
                text = fix(text)
            if text != before:
                yield kind, before, text
        if text == start:
            return


def has_ag_news_artifacts(texts: Iterable[str]) -> bool:
    """Return whether entities have lost their ampersand in 1 % of the texts, and in three at least."""
    count = total = 0
    for text in texts:
        count += _LOST_AMPERSAND.search(text) is not None
        total += 1
    return count >= max(_EVIDENCE_DOCUMENTS, _EVIDENCE * total)


def decide_steps(options: TextSteps, texts: Iterable[str]) -> TextSteps:
    """Return the steps with ``auto`` decided by the training texts as they were released."""
    decided = options.ag_news_artifacts
    if decided == "auto":
        decided = has_ag_news_artifacts(texts)
    steps = options.model_dump(include=set(TextSteps.model_fields)) | {"ag_news_artifacts": decided}
    return TextSteps.model_validate(steps)


def _control_characters(text: str) -> str:
    """Take out what no text has: NUL and other controls, halves of surrogate pairs."""
    return _CONTROLS.sub("", text)


def _bare_entities(text: str) -> str:
    return _BARE_ENTITY.sub(_character, text) if ";" in text else text


def _character(match: re.Match[str]) -> str:
    number = match[1] or match[3]
    character = html.unescape(f"&#{number};" if number else f"&{match[2]};")
    return str(ftfy.fixes.uncurl_quotes(character))  # as nearly all of AG News has them


def _entities(text: str) -> str:
    for _ in range(_PASSES):
        if "&" not in text:
            break
        decoded = _NESTED_AMPERSAND.sub("&", text)
        decoded = _ENTITY.sub(_decoded, decoded)
        if decoded == text:
            break
        text = decoded
    return text


def _decoded(match: re.Match[str]) -> str:
    name = match[0].lower() if match[0].isupper() else match[0]
    return html.unescape(name).replace("\xa0", " ")  # which pages use for a plain one


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
    tags = [(m.start(), (m[2] or m[0][1:]).lower(), m[1], m[3]) for m in _TAG.finditer(text)]
    opened: dict[str, int] = {}  # where each element first opens, and last closes
    closed = {"!--": text.rfind("-->")}
    for start, name, closing, _ in tags:
        if closing:
            closed[name] = start
        else:
            opened.setdefault(name, start)
    pieces, end = [], 0
    for start, name, closing, attribute in tags:
        # An opening that is never closed would swallow the rest of the text.
        if closing:
            markup = opened.get(name, start) < start
        elif name == "!--" or name in _HIDDEN:
            markup = closed.get(name, -1) > start
        else:
            alone = name in _ALONE and not (name == "p" and text[start - 1 : start].isalnum())
            markup = attribute is not None or alone or closed.get(name, -1) > start
        if markup or name.startswith("!d"):
            pieces.append(text[end:start].replace("&", "&amp;").replace("<", "&lt;"))
            pieces.append("<")
            end = start + 1
    if not pieces:
        return text
    pieces.append(text[end:].replace("&", "&amp;").replace("<", "&lt;"))
    parser = etree.HTMLParser(target=_Text(), huge_tree=True, encoding="utf-8")
    # The parser takes no NUL and no half of a surrogate pair; C1 controls are left to the mojibake repair.
    page = "<html><body>" + _UNPARSED.sub("", "".join(pieces))
    parsed: str = etree.fromstring(page.encode(), parser)
    return re.sub(" {2,}", " ", parsed)


def _encoding(text: str) -> str:
    """Undo mojibake and the like (ftfy); plain ASCII has none."""
    return text if text.isascii() and "\x1b" not in text else ftfy.fix_text(text, _FTFY)


def _bidi_marks(text: str) -> str:
    """Take the marks that turn the reading direction out of a text in which one overrides it.

    Without an override they show letters in their own order, which Arabic and Hebrew need.
    """
    return _BIDI.sub("", text) if _OVERRIDE.search(text) else text


def _backslashes(text: str) -> str:
    r"""Turn AG News' line break into a space; before a dollar sign it is an escape."""
    if "\\" not in text:
        return text
    return re.sub(r"\\+", " ", re.sub(r"(?<![\w.,;:\\])\\++(?=\$)", "", text))


def _spaces(text: str) -> str:
    """Take off the ends, write all line ends alike; lines and their indentation are the author's."""
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def _single_spaces(text: str) -> str:
    return " ".join(text.split())


REPAIRS: dict[str, Callable[[str], str]] = {
    "entities": _entities,
    "bare_entities": _bare_entities,
    "html_tags": _html_tags,
    "encoding": _encoding,
    "control_characters": _control_characters,  # after decoding, which may bring some to light
    "bidi_marks": _bidi_marks,
    "backslashes": _backslashes,
    "single_spaces": _single_spaces,
    "spaces": _spaces,
}
"""In the order in which they are made."""
AG_NEWS_ARTIFACTS = frozenset({"bare_entities", "backslashes", "single_spaces"})
"""Those that are made in a corpus with AG News' artifacts alone."""


def difference(before: str, after: str) -> dict[str, str]:
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
        text = repair(text, options.ag_news_artifacts is True)
    if options.lowercase:
        text = text.lower()
    if options.remove_stop_words:
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        kept = (w for w in text.split() if w.strip(_EDGES).lower() not in ENGLISH_STOP_WORDS)
        text = " ".join(kept)
    if options.strip_punctuation:
        text = _single_spaces(
            "".join(" " if unicodedata.category(c)[0] in "PS" else c for c in text)
        )
    return text
