"""What a word is, in every script: the one module that decides it.

Chinese, Japanese, Thai, Lao, Khmer and Burmese do not separate words by blanks. A character of such
a script, with the marks above and below it, counts as a word; everything else is separated by
blanks and punctuation. So texts that mix scripts work, and nothing is assumed of a language.
"""

import re
import unicodedata
from itertools import islice

UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Burmese
    "\u1780-\u17ff\u19e0-\u19ff"  # Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)
"""The blocks of the scripts without blanks between words, for a set in a pattern. Korean has blanks."""
_EMOJI = "\u2600-\u27bf\U0001f000-\U0001faff"  # and dingbats: each is a word
# Combining vowel signs and accents belong to a word; \w lacks them.
_MARKS = "".join(c for c in map(chr, range(0x300, 0x10000)) if unicodedata.category(c)[0] == "M")
_CHARACTER = f"(?=\\w)[{UNSPACED}][{_MARKS}]*"
_WORD = re.compile(f"[{_EMOJI}]|{_CHARACTER}|(?:(?![_{_EMOJI}{UNSPACED}])[\\w{_MARKS}])+")
_CHARACTER_ALONE = re.compile(_CHARACTER)
_GAP = re.compile(f"([{UNSPACED}][{_MARKS}]*) (?=[{UNSPACED}])")
_CONTENT = re.compile(f"[^\\W_]|[{_EMOJI}]")  # letters, digits, emoji
_PIECE = re.compile(f"[{UNSPACED}][{_MARKS}]*|[^\\s{UNSPACED}]+")

TERM = f"{_CHARACTER}|[^\\W{UNSPACED}]+"
"""A pattern of words, those of one letter too, for scikit-learn's ``token_pattern``."""
LONG_TERM = f"{_CHARACTER}|[^\\W{UNSPACED}]{{2,}}"
"""The same without words of one letter."""
TERM_OR_SIGN = re.compile(f"{TERM}|[^\\w\\s]")
"""Words, and each punctuation mark or symbol."""


def words(text: str) -> list[str]:
    """Return the words of a text without case and punctuation; what it has if it has no words."""
    return _WORD.findall(text.casefold()) or text.split()


def count(text: str) -> int:
    """Return the length of a text: what is between blanks, and each character of unspaced scripts."""
    return len(_PIECE.findall(text))


def first(text: str, number: int) -> str:
    """Return the first ``number`` words of a text as ``count`` counts them, at least one."""
    end = len(text)
    for i, piece in enumerate(_PIECE.finditer(text), start=1):
        if i == number:
            end = piece.end()
            break
    return " ".join(text[:end].split())


def joined(phrase: str) -> str:
    """Return a phrase, words with a blank between, as its script writes it."""
    return _GAP.sub(r"\1", phrase)


def is_character(word: str) -> bool:
    """Whether a word is a single character of a script that does not separate words."""
    return _CHARACTER_ALONE.fullmatch(word) is not None


def is_nearly_empty(text: str) -> bool:
    """Tell whether a text has fewer than two letters, digits or emoji: there is nothing to classify."""
    return len([*islice(_CONTENT.finditer(text), 2)]) < 2
