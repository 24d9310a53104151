"""What is shown of classes where there are too many, or their names are too long, to show all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from cleantune.data import class_tables

LONG = [f"why_is_my_card_payment_that_was_declined_twice_number_{k:03}_still_pending" for k in range(150)]  # fmt: skip


@given(
    st.lists(st.text("ab的é", min_size=1, max_size=40), unique=True, max_size=12),
    st.integers(8, 30),
)
@settings(max_examples=20, deadline=None)
def test_shortened_names_fit_and_stay_different(names, width):
    short = class_tables.shortened(names, width)
    assert len(set(short)) == len(names)
    for name, shown in zip(names, short, strict=True):
        assert cell_len(shown) <= width
        assert (shown == name) == (cell_len(name) <= width)


def test_a_sentence_names_the_first_and_counts_the_rest():
    assert class_tables.listed(["a", "b", "c"], limit=2) == "a, b, c"
    assert class_tables.listed(["a", "b", "c", "d"], limit=2) == "a, b and 2 more"


def test_the_commonest_pairs_are_of_different_classes_and_occur():
    counts = np.array([[90, 2, 0], [7, 50, 0], [0, 1, 80]])
    assert class_tables.commonest_pairs(counts) == [(1, 0), (0, 1), (2, 1)]
    assert class_tables.commonest_pairs(counts, 1) == [(1, 0)]
    assert class_tables.commonest_pairs(np.diag([3, 4])) == []


def test_the_smallest_are_those_that_have_a_value():
    assert class_tables.smallest([0.4, np.nan, 0.1, 0.4], 2) == [2, 0]
    assert class_tables.largest([4, 1, 9, 9], 3) == [2, 3, 0]


@pytest.mark.parametrize("classes", [2, 5, 13, 77, 150])
@pytest.mark.parametrize("long", [False, True])
def test_a_table_of_counts_fits_80_columns_at_any_number_of_classes(capsys, classes, long):
    names = LONG[:classes] if long else [f"class {k}" for k in range(classes)]
    rows = [(name, 100_000 - 500 * k, k, 12_000) for k, name in enumerate(names)]
    class_tables.print_counts("Documents", ("class", "train", "validation", "test"), rows, "a file")
    lines = capsys.readouterr().out.splitlines()
    assert max(cell_len(line) for line in lines) <= 80
    assert len(lines) <= class_tables.SHOWN + 6
    text = " ".join(lines)
    short = class_tables.shortened(names)
    assert all(name in text for name in (short[0], short[-1]))
    assert ("all 77 classes: a file" in text) == (classes == 77)
    if classes == 77:
        assert "67 more classes" in text


def test_a_table_of_pairs_fits_80_columns_and_leads_with_the_commonest(capsys):
    counts = np.arange(150 * 150).reshape(150, 150)
    columns = ("given", "suggested", "flagged", "documents given")
    class_tables.print_pairs("flagged", columns, LONG, counts, [1_234] * 150)
    lines = capsys.readouterr().out.splitlines()
    assert max(cell_len(line) for line in lines) <= 80
    assert "the 10 commonest of 22,350 pairs" in lines[0]
    assert "22,497" in " ".join(lines[:6])
