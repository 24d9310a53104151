"""Long documents: which tokens are read, that chunks cover them, and what the counts recommend."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleantune import files
from cleantune.errors import UserError
from cleantune.models import long_documents, token_counts
from cleantune.models.long_documents import Reading

FIRST, LAST = 1000, 2000  # special tokens


def document(length: int, before: int, after: int) -> list[int]:
    return [FIRST] * before + list(range(length - before - after)) + [LAST] * after


@st.composite
def readings(draw: st.DrawFn) -> tuple[Reading, list[int]]:
    before, after = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    method = draw(st.sampled_from(long_documents.METHODS))
    reading = Reading(method, draw(st.integers(8, 20)), draw(st.integers(1, 5)), before, after)
    return reading, document(draw(st.integers(before + after, 150)), before, after)


def test_head_and_tail_are_those_of_sun_et_al():
    whole = document(1002, 1, 1)
    read = Reading("head_tail", 512, 16, 1, 1).select(whole)
    assert read == [FIRST, *range(128), *range(1000 - 382, 1000), LAST]
    assert len(read) == 512


def test_the_head_is_the_beginning():
    assert Reading("head", 16, 5, 1, 1).select(document(30, 1, 1)) == [FIRST, *range(14), LAST]


@given(readings())
@settings(deadline=None, max_examples=100, derandomize=True)
def test_chunks_hold_the_text_in_order_once_and_are_found_again(made):
    reading, whole = made
    read = reading.select(whole)
    chunks = long_documents.divide(read, reading.chunk_length)
    assert chunks == [[whole[i] for i in at] for at in reading.positions(len(whole))]
    assert all(len(chunk) <= reading.max_length for chunk in chunks)
    assert max(map(len, chunks)) - min(map(len, chunks)) <= 1
    assert len(read) <= reading.limit
    text = [[t for t in chunk if t < FIRST] for chunk in chunks]
    for chunk, part in zip(chunks, text, strict=True):
        assert chunk == [FIRST] * reading.before + part + [LAST] * reading.after
    joined = list(itertools.chain(*text))
    assert joined == sorted(set(joined))
    assert len(joined) == len(whole) - reading.before - reading.after - reading.unread(len(whole))
    if reading.method == "chunks":
        assert joined == list(range(len(joined)))
        fits = reading.max_chunks * (reading.max_length - reading.before - reading.after)
        assert len(joined) == min(fits, len(whole) - reading.before - reading.after)


@given(readings())
@settings(deadline=None, max_examples=50, derandomize=True)
def test_a_document_that_fits_is_read_as_it_is(made):
    reading, whole = made
    if len(whole) <= reading.max_length:
        assert reading.select(whole) == whole
        assert reading.unread(len(whole)) == 0


def test_the_logits_of_a_document_are_the_mean_of_its_chunks():
    logits = np.array([[1, 2], [3, 4], [5, 0], [9, 9]], np.float32)
    assert long_documents.mean(logits, [2, 1, 1]).tolist() == [[2, 3], [5, 0], [9, 9]]
    assert long_documents.mean(logits, [1, 1, 1, 1]) is logits
    assert long_documents.mean(logits[:0], []).shape == (0, 2)


def test_the_tokenizers_own_tokens_are_found_around_a_text():
    def encode(text: str, special: bool) -> list[int]:
        return [7, 5, 6, 8, 9] if special else [5, 6]

    found = long_documents.reading("chunks", 16, 3, encode)
    assert (found.before, found.after, found.limit) == (1, 2, 48)


def test_what_a_model_was_trained_with_is_recorded_with_it(tmp_path):
    assert long_documents.recorded(tmp_path) == ("head", 1)
    path = tmp_path / "summary.json"
    files.write_json(path, {"steps": 3})
    assert long_documents.recorded(tmp_path) == ("head", 1)
    files.write_json(path, long_documents.record("chunks", 7))
    assert long_documents.recorded(tmp_path) == ("chunks", 7)
    files.write_json(path, {"long_documents": {"method": "middle", "max_chunks": 7}})
    with pytest.raises(UserError, match=r"summary\.json.*middle"):
        long_documents.recorded(tmp_path)


# ---- what the counts recommend


def warnings(
    lengths: list[int], reading: Reading, text: str = "word " * 9, unknown: int = 0
) -> str:
    tokens = [[1] * unknown + [0] * (min(n, reading.limit) - unknown) for n in lengths]
    counts = token_counts.count([text * n for n in lengths], tokens, lengths, 1, reading)
    return " ".join(token_counts.warnings(counts, "minilm", 512))


def test_a_script_that_the_tokenizer_does_not_know_calls_for_a_multilingual_model():
    reading = Reading("head", 16, 4, 1, 1)
    assert warnings([10, 10], reading) == ""
    assert "10% of the training tokens are unknown to the tokenizer of minilm" in (
        said := warnings([10, 10], reading, unknown=1)
    )
    assert "-S model=xlm-roberta -S label_noise.encoder=xlm-roberta" in said
    models = Path(files.__file__).parents[1] / "params.yaml"
    assert f"\n  {token_counts.MULTILINGUAL}:" in models.read_text(encoding="utf-8")


def test_bytes_for_characters_call_for_it_too():
    counts = token_counts.count(["ที่ดี"], [[0] * 12], [12], None, Reading("head", 16, 4, 1, 1))
    (said,) = token_counts.warnings(counts, "gpt2", 1024)
    assert "makes 2.4 tokens of each character" in said
    assert "model=xlm-roberta" in said


def test_words_in_single_letters_call_for_it_too():
    def said(text: str, tokens: int) -> list[str]:
        reading = Reading("head", 32, 4, 1, 1)
        counts = token_counts.count([text], [[0] * tokens], [tokens], 1, reading)
        return token_counts.warnings(counts, "minilm", 512)

    (sentence,) = said("الخدمة ممتازة جدا", 2 + 15)
    assert "makes 5.0 tokens of each word" in sentence
    assert "-S model=xlm-roberta -S label_noise.encoder=xlm-roberta" in sentence
    assert said("الخدمة ممتازة جدا", 2 + 7) == [], "special tokens are none of a word's"
    assert said("今天天气很好", 2 + 6) == [], "where words are not separated, each character is one"


def test_documents_that_are_cut_call_for_more_tokens_or_another_way():
    lengths = [66, 66, 10, 10, 10]  # 16 are read of each
    said = warnings(lengths, Reading("head", 16, 4, 1, 1))
    assert "40% of the training documents" in said
    assert f"{100 / 162:.0%} of all tokens are not read" in said
    assert f"-S max_length=64 leaves {4 / 162:.0%} unread" in said
    assert f"-S long_documents=chunks leaves {16 / 162:.0%} unread" in said
    assert "head_tail" in said
    assert warnings([66, 10, 10, 10, 10], Reading("head", 16, 4, 1, 1)) == "", "20 % or less"
    said = warnings(lengths, Reading("chunks", 16, 4, 1, 1))
    assert "-S max_chunks=16 leaves 0% unread" in said
    assert "long_documents=" not in said
    assert warnings(lengths, Reading("chunks", 16, 5, 1, 1)) == "", "all is read"


def test_the_summary_counts_what_is_read():
    reading = Reading("head", 16, 4, 1, 1)
    counts = token_counts.count(["x", "y"], [[0] * 16, [0, 1, 0]], [20, 3], 1, reading)
    assert counts.summary() == {"documents": 2, "tokens": 19, "unknown_tokens": 1, "truncated": 1,
                                "unread_share": round(4 / 23, 6), "fertility": 9.5}  # fmt: skip
