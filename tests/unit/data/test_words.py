"""Words: characters where a script does not separate words, everything else as Python's own \\w and blanks."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleantune.data import words
from cleantune.data.near_duplicates import Shingles

UNSPACED = {
    "Chinese": ("今天", ["今", "天"]),
    "Japanese": ("カメラで", ["カ", "メ", "ラ", "で"]),
    "Thai": ("ที่ดี", ["ที่", "ดี"]),
    "Lao": ("ລາວ", ["ລ", "າ", "ວ"]),
    "Khmer": ("ភាសា", ["ភា", "សា"]),
    "Burmese": ("ဘာသာ", ["ဘာ", "သာ"]),
}
# Letters, marks, digits, blanks and signs of scripts that separate words.
SPACED = st.text(
    st.sampled_from("aZßé\u0301x7_-.,!’ \t\n\x1c\u00a0\u2003дЖяकि한국مر😀❤\ufe0f"), max_size=30
)


@pytest.mark.parametrize("script", UNSPACED)
def test_a_character_with_its_marks_is_a_word(script):
    text, characters = UNSPACED[script]
    mixed = f"Sony 7{text}ok"
    assert words.words(text) == characters
    assert words.words(mixed) == ["sony", "7", *characters, "ok"]
    assert re.findall(words.TERM, mixed) == ["Sony", "7", *characters, "ok"]
    assert re.findall(words.LONG_TERM, mixed) == ["Sony", *characters, "ok"]
    assert words.TERM_OR_SIGN.findall(f"{text}!") == [*characters, "!"]
    assert words.count(mixed) == 3 + len(characters)
    assert words.first(mixed, 3) == f"Sony 7{characters[0]}"
    assert words.joined(f"a {' '.join(characters)} b c") == f"a {text} b c"
    assert all(words.is_character(c) for c in characters)


def test_korean_separates_its_words():
    assert words.words("날씨가 좋다") == ["날씨가", "좋다"]
    assert not words.is_character("가")


@given(SPACED)
@settings(deadline=None, max_examples=50, derandomize=True)
def test_other_scripts_are_read_as_by_python(text):
    assert re.findall(words.TERM, text) == re.findall(r"\b\w+\b", text)
    assert re.findall(words.LONG_TERM, text) == re.findall(r"\b\w\w+\b", text)
    assert words.TERM_OR_SIGN.findall(text) == re.findall(r"\w+|[^\w\s]", text)
    assert words.count(text) == len(text.split())
    for number in (1, 3, 99):
        assert words.first(text, number) == " ".join(text.split()[:number])


@pytest.mark.parametrize("text", [
    "วันนี้อากาศดีมากเราไปเดินเล่นที่สวนสาธารณะกับเพื่อน", "今天天气很好我们和朋友一起去公园散步然后回家吃晚饭",
])  # fmt: skip
def test_one_other_character_leaves_a_near_duplicate(text):
    shingles = Shingles([text, text[:-1] + "x", text[::-1]])
    assert shingles.jaccard(0, 1) > 0.8
    assert shingles.jaccard(0, 2) < 0.2
