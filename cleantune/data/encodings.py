"""Which encoding a text file was written in: certain where its bytes show it, else the likely readings.

A byte order mark and valid UTF-8 decide alone. For everything else charset-normalizer proposes readings;
of these, the ones stay whose letters are those of one language, and where two stay that differ, the
question goes to a person: ``é`` in one code page is ``č`` in another.
"""

import re
import unicodedata
from collections import Counter
from typing import Any, NamedTuple

from charset_normalizer import from_bytes

from cleantune.data.decoding import MARKS
from cleantune.errors import UserError

# What people's files are written in, the commonest first; of equal readings the first is taken.
CANDIDATES = ("cp1252", "gb18030", "cp932", "big5hkscs", "cp949", "euc_jp", "cp1251", "cp1250", "cp1254",
              "cp1253", "cp1256", "cp1255", "cp874", "koi8_r", "cp1257", "iso8859_2", "mac_roman", "cp866",
              "cp850", "iso8859_5", "iso8859_6", "iso8859_7", "iso8859_8", "iso8859_1")  # fmt: skip
NAMES = {"cp1252": "Windows-1252", "gb18030": "GB18030 (GBK)", "cp932": "Shift JIS", "big5hkscs": "Big5",
         "cp949": "EUC-KR", "euc_jp": "EUC-JP", "utf-8": "UTF-8", "utf-16": "UTF-16",
         **{f"cp125{i}": f"Windows-125{i}" for i in (0, 1, 3, 4, 5, 6, 7)}}  # fmt: skip
SAMPLE = 40_000  # bytes of lines with letters beyond ASCII
PLAUSIBLE = 0.93  # share of those characters that one language and its typography explain
MARGIN = 0.03  # a reading as good as the best to within this share is another likely reading
COHERENCE = 0.1  # charset-normalizer's, by which one reading is clearly ahead of another

LATIN = {
    "French": "àâæçéèêëîïôœùûüÿ", "German": "äöüßé", "Spanish": "áéíóúüñç", "Portuguese": "áàâãçéêíóôõúü",
    "Italian": "àèéìíòóùú", "Dutch": "éëïöüèáó", "Swedish": "åäöéáü", "Danish": "æøåéöäü", "Finnish": "äöåšž",
    "Icelandic": "áéíóúýðþæö", "Estonian": "äöüõšž", "Polish": "ąćęłńóśźż", "Czech": "áčďéěíňóřšťúůýž",
    "Slovak": "áäčďéíĺľňóôŕšťúýž", "Croatian": "čćđšž", "Hungarian": "áéíóöőúüű", "Romanian": "ăâîșțşţ",
    "Turkish": "çğıöşüâîû", "Lithuanian": "ąčęėįšųūž", "Latvian": "āčēģīķļņšūž",
}  # fmt: skip
SCRIPTS = ("CYRILLIC", "GREEK", "ARABIC", "HEBREW", "THAI")
TYPOGRAPHY = set(
    "“”‘’„‚‹›«»–—…•·€£¥©®™°§¿¡½¼¾²³×÷±ºª\u00a0´`¸\u00ad，。、；：？！（）《》「」『』【】～"
)
# Of languages that cp1252 serves, none of them a word of those that other code pages serve.
WESTERN = frozenset(b"the and is of to in it that was le les une des und der die das ist nicht het een och "
                    b"og che il el los con por para you this for".split())  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+")
_SIGN_IN_WORD = re.compile(r"(?<=[^\W\d_])[¿¡³²¹ºª£¥¸÷×±¼½¾“”„‚‹›«»…•§°®©™](?=[^\W\d_])")
_WORDS_OF_ONE_LETTER = set("àáâéèêíìóòôúùöåäæøюяиваукосáéóúíη")


class Reading(NamedTuple):
    """A likely encoding, and the line that shows best what it makes of the bytes."""

    encoding: str
    line: int
    """From 1; 0 where there is nothing to show."""
    shown: str


def readings(content: bytes, name: str) -> list[Reading]:
    """Return the likely encodings of a text, best first: one when it is certain or clearly ahead.

    Raises ``UserError`` where the bytes are no text in any known encoding, or almost UTF-8.
    """
    marked = next((encoding for mark, encoding in MARKS if content.startswith(mark)), None)
    if marked and _decodes(content, marked):
        return [Reading(marked, 0, "")]
    try:
        content.decode()
        return [Reading("utf-8", 0, "")]
    except UnicodeDecodeError as error:
        _refuse_damaged_utf8(content, error, name)
    if content[:2000].count(0) > 20:  # of text, only UTF-16 has these
        wide = [e for e in ("utf-16-le", "utf-16-be") if _decodes(content, e)]
        wide.sort(
            key=lambda e: content[: 2000 - 2000 % 2].decode(e, "replace").isascii(), reverse=True
        )
        if wide:
            return [Reading(wide[0], 0, "")]
        raise UserError(f"{name} is not text: it holds NUL bytes. Save it as CSV, JSON or Parquet.")
    lines = _sample(content)
    sample = b"\n".join(text for _, text in lines)
    found = _ranked(sample, [e for e in CANDIDATES if _decodes(content, e)])
    if not found:
        raise UserError(
            f"{name}: no encoding fits its text. Name it: --encoding cp1252, for example."
        )
    number, shown = _telling_line(lines, found)
    return [Reading(e, number, shown.decode(e, "replace").strip("\r\n")) for e in found]


def is_utf8(content: bytes) -> bool:
    """Tell UTF-8, ASCII too."""
    return _decodes(content, "utf-8")


def _decodes(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _refuse_damaged_utf8(content: bytes, error: UnicodeDecodeError, name: str) -> None:
    """Raise ``UserError`` for UTF-8 in which a few bytes are wrong: another encoding reads it all wrong."""
    decoded = content.decode("utf-8", "replace")
    wrong = decoded.count("\ufffd")
    right = sum(c > "\x7f" and c != "\ufffd" for c in decoded[: 10**6])
    if right > 20 * wrong:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{name}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8, as all of the file is "
            f"but for {wrong} such {'place' if wrong == 1 else 'places'}. Correct the file, or leave them "
            "out: iconv -c -f utf-8 -t utf-8 FILE > NEW"
        )


def _sample(content: bytes) -> list[tuple[int, bytes]]:
    """Return numbered lines with bytes beyond ASCII, from all of the file, ``SAMPLE`` bytes at most."""
    lines = [(i, text) for i, text in enumerate(content.split(b"\n"), 1) if not text.isascii()]
    size = sum(len(text) for _, text in lines)
    return lines[:: max(1, size // SAMPLE)]


def _ranked(sample: bytes, possible: list[str]) -> list[str]:
    """Return the likely ones of ``possible``, best first and no two alike."""
    proposed: Any = from_bytes(sample, cp_isolation=possible, threshold=0.3) if possible else []
    named = {other: match.coherence for match in proposed
             for other in (match.encoding, *match.could_be_from_charset)}  # fmt: skip
    first: dict[str, str] = {}  # of each decoded text the commonest encoding that gives it
    for encoding in possible:
        if encoding in named or encoding.startswith("cp125") or not named:
            first.setdefault(sample.decode(encoding), encoding)
    scores = {encoding: explained(text) for text, encoding in first.items()}
    best = max(scores.values(), default=0.0)
    order = sorted(scores, key=lambda e: -scores[e])
    likely = [e for e in order if scores[e] >= max(PLAUSIBLE, best - MARGIN)]
    if len(likely) > 1 and not any(e == "cp1252" for e in likely):
        clearest = max(named.get(e, 0.0) for e in likely)
        likely = [e for e in likely if named.get(e, 0.0) >= clearest - COHERENCE]
    if "cp949" in likely and "gb18030" in likely:
        return ["cp949"]  # Korean uses a part of the bytes that Chinese uses; seldom the reverse
    words = re.findall(rb"[a-z]+", sample.lower())
    western = sum(word in WESTERN for word in words) > 0.04 * len(words)
    if western and (not likely or "cp1252" in likely):
        # Where nothing fits, the few letters beyond ASCII are damaged; the others are the same in all.
        return next(([e] for e in ("cp1252", "iso8859_1") if e in possible), likely)
    return likely


def explained(text: str) -> float:
    """Return the share of the characters beyond ASCII that one language and its typography explain."""
    beyond = [c for c in text if c > "\x7f"]
    signs = sum(c in TYPOGRAPHY for c in beyond) - 2 * len(_SIGN_IN_WORD.findall(text))
    letters = Counter(
        c for word in _WORD.findall(text) for c in word if c > "\x7f" and _is_cased(word)
    )
    alphabets = [
        sum(n for c, n in letters.items() if c.lower() in of or c == "İ") for of in LATIN.values()
    ]
    scripts = [sum(n for c, n in letters.items() if unicodedata.name(c, "").startswith(script))
               for script in SCRIPTS]  # fmt: skip
    marks = sum(
        unicodedata.category(c) == "Mn" for c in beyond
    )  # Thai vowels, Arabic and Hebrew points
    known = max(*alphabets, *(count + marks for count in scripts), *_east_asian(beyond))
    return (known + max(0, signs)) / max(1, len(beyond))


def _is_cased(word: str) -> bool:
    """Tell a word whose capitals are where words have them; letters of a wrong code page are not."""
    if word.upper() == word.lower():
        return True
    if len(word) == 1:
        return word in _WORDS_OF_ONE_LETTER
    latin = {c < "\u0250" for c in word}
    return len(latin) == 1 and (word.isupper() or word[1:] == word[1:].lower())


def _east_asian(beyond: list[str]) -> list[int]:
    """Return how many characters are common ones of Chinese (two scripts), Japanese, Korean."""
    kana = sum("\u3040" <= c <= "\u30ff" for c in beyond)
    japanese = kana + _common(beyond, "euc_jp", 0xB0, 0xCF) if kana > 0.15 * len(beyond) else 0
    chinese = 0 if kana > 0.05 * len(beyond) else 1
    return [chinese * _common(beyond, "gb2312", 0xB0, 0xD7), chinese * _common(beyond, "big5", 0xA4, 0xC6),
            japanese, _common([c for c in beyond if "\uac00" <= c <= "\ud7a3"], "euc_kr", 0xB0, 0xC8)]  # fmt: skip


def _common(characters: list[str], encoding: str, first: int, last: int) -> int:
    """Count the characters in the rows of a standard's character set that hold the common ones."""
    found = (c.encode(encoding, "ignore")[:1] for c in characters if c not in TYPOGRAPHY)
    return sum(first <= lead[0] <= last for lead in found if lead)


def _telling_line(lines: list[tuple[int, bytes]], encodings: list[str]) -> tuple[int, bytes]:
    """Return the numbered line that shows best what an encoding makes of a text, or where two differ."""

    def tells(line: tuple[int, bytes]) -> tuple[int, int]:
        texts = {line[1].decode(e, "replace") for e in encodings}
        return len(texts), min(sum(byte > 0x7F for byte in line[1]), 20)

    return max(lines, key=tells)
