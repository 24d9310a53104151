"""benchmarks.scaling: a real corpus of the asked size, real costs, and growth that is not hidden."""

import csv
import sys

import pandas as pd
import pytest

from benchmarks import scaling, synthetic_corpus
from tools import record

SOURCE = pd.DataFrame({"text": ["a b c a d", "a c b", "x y z x", "y x z z"], "label": [0, 0, 1, 1]})


def test_a_made_corpus_has_the_size_and_the_words_that_were_asked_for(tmp_path):
    files = [tmp_path / name for name in ("one.csv", "again.csv")]
    for path in files:
        synthetic_corpus.write_csv(path, SOURCE, 500, 20, 0)
    assert files[0].read_bytes() == files[1].read_bytes()
    header, *rows = csv.reader(files[0].read_text().splitlines())
    assert header == ["label", "text"]
    assert len(rows) == 500
    assert {len(text.split()) for _, text in rows} == {20}
    of_first = [w for label, text in rows if label == "0" for w in text.split() if w in "abcdxyz"]
    assert sum(word in "abcd" for word in of_first) > 0.9 * len(of_first), "of its class, mostly"
    assert len({text for _, text in rows}) < 500, "with copies"


def test_memory_is_that_of_a_process_and_its_children_together(tmp_path):
    hold = "import time; held = bytearray(60_000_000); time.sleep(1)"
    alone = scaling.measure([sys.executable, "-c", hold], tmp_path)
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    both = scaling.measure(
        [sys.executable, "-c", f"kept = bytearray(60_000_000); {start}"], tmp_path
    )
    assert 60e6 < alone.memory < 100e6
    assert 120e6 < both.memory < 200e6
    assert alone.seconds > 1


@pytest.mark.parametrize("power", [1.0, 1.3])
def test_growth_is_the_exponent_between_sizes(capsys, power):
    sizes = [1_000, 10_000]
    costs = {"clean": [scaling.Cost(n**power, int(1e3 * n)) for n in sizes]}
    scaling.report(sizes, costs, 45, record.Record(None))
    printed = capsys.readouterr().out
    assert f"{power:.2f}" in printed
    assert "1.00" in printed
