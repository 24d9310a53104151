"""tools.explore: figures that can be counted by hand, words that set a class apart, hostile texts."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from cleantune import files
from cleantune.data import statistics, tables
from stages import clean, download
from tests.conftest import REPOSITORY


def command(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tools.explore", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def table(*rows: tuple[str, str, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["title", "text", "label"])


def test_the_sample_corpus_is_introduced(workspace):
    (workspace / "data/sample").symlink_to(REPOSITORY / "data/sample")
    download.main()
    clean.main()
    found = json.loads(command("--json"))
    kept = pd.concat(
        [tables.read_table(tables.CLEAN / f"{s}.parquet") for s in ("train", "validation")]
    )
    names = tables.label_names()
    assert found["classes"] == {n: int((kept["label"] == i).sum()) for i, n in enumerate(names)}
    count = [len(text.split()) for text in tables.full_text(kept[kept["label"] == 1])]
    assert found["length_in_words"]["Sports"]["p50"] == np.median(count)
    assert found["length_in_words"]["Sports"]["p100"] == max(count)
    assert {"match", "season"} & set(found["phrases"]["Sports"]["distinctive"])
    assert {"AP", "AFP", "Reuters"} <= {agency["name"] for agency in found["agencies"]}
    printed = command()
    for word in ("Vocabulary", "Reuters", "leak", "Near-duplicates kept: 68"):
        assert word in printed


def test_a_file_is_introduced_before_it_is_added():
    path = REPOSITORY / "tests/field_cases/semicolon.csv"
    found = json.loads(command("--json", "--file", str(path)))
    assert found["classes"] == {"bad": 30, "good": 30, "mixed": 30}
    assert "semicolon.csv  90 documents" in command("--file", str(path))


def test_what_is_counted():
    found = statistics.vocabulary(["a b a", "B c"])
    assert found == {"running_words": 5, "different_words": 3, "only_once": 1,
                     "words_that_make_up_90_percent": 3}  # fmt: skip
    assert statistics.lengths([1, 2, 3])["mean"] == 2
    rows = table(("", "LONDON (Reuters) - Oil", 0), ("Oil (AP)", "It rose", 1), ("", "AP - It", 0),
                 ("", "An apple (red) - good", 1))  # fmt: skip
    assert statistics.agencies(rows)[0] == ("AP", {0: 1, 1: 1})


def test_tokens_of_other_documents_are_not_counted(workspace):
    rows = table(("", "x y", 0), ("", "x", 1)).assign(id=["train-1", "train-2"])
    for split in ("train", "validation"):
        tables.write_table(tables.CLEAN / f"{split}.parquet", rows, tables.TEXT_COLUMNS)
        tokens = rows.assign(length=[7, 9])
        tables.write_table(tables.TOKENS / f"{split}.parquet", tokens, ("id", "label", "length"))
    files.write_json(tables.SOURCE, {"labels": ["a", "b"]})
    files.write_json(tables.CLEAN / "summary.json", {
        "dataset": "made", "repairs": {}, "dropped": {},
        "near_duplicates": {"groups": 0, "documents": 0, "largest": 1},
    })  # fmt: skip
    assert "Length in tokens: mean 8" in command()
    others = tokens.assign(label=[2, 2])
    tables.write_table(tables.TOKENS / "validation.parquet", others, ("id", "label", "length"))
    assert "Length in tokens: `dvc repro tokenize_text` counts them" in command()
    assert json.loads(command("--json"))["length_in_tokens"] is None


@pytest.mark.parametrize("longest", [1, 23, 24, 47, 100])
def test_lengths_that_are_equally_frequent_give_a_flat_line(longest):
    found = statistics.length_shares({"a": [*range(longest + 1)] * 2, "b": [longest]})
    shares = found["shares"]["a"]
    assert len(shares) == len(found["middles"]) <= 24
    assert shares[:-1] == pytest.approx([shares[0]] * len(shares[:-1]))
    assert sum(shares) == pytest.approx(1)
    assert found["shares"]["b"][-1] == 1


def test_lengths_in_tokens_are_told_by_class():
    rows = table(("", "x y", 0), ("", "x", 1), ("", "y", 1))
    tokens = pd.DataFrame({"label": [1, 0, 1], "length": [3, 4, 3]})
    spread = statistics.explore(rows, ["a", "b"], tokens)["length_shares"]["tokens"]
    assert [np.dot(of, spread["middles"]) for of in spread["shares"].values()] == [4, 3]
    assert "tokens" not in statistics.explore(rows, ["a", "b"])["length_shares"]


def test_what_sets_a_class_apart_is_what_the_others_lack():
    rows = [("", f"common goal n{i}", 0) for i in range(20)]
    rows += [("", f"common share n{i}", 1) for i in range(20)]
    found = statistics.phrases_by_class([t for _, t, _ in rows], np.repeat([0, 1], 20), ["x", "y"])
    assert next(iter(found["x"]["frequent"].items())) == ("common", 1.0)
    assert found["y"]["frequent"]["common share"] == 1.0
    assert set(found["x"]["distinctive"][:2]) == {"goal", "common goal"}
    assert set(found["y"]["distinctive"][:2]) == {"share", "common share"}


def test_contractions_leave_nothing_among_the_phrases():
    texts = ["They've won", "We’ll see, it didn't rain; the U.S. can’t", "Don't: I'm off, he's in"]
    found = statistics.phrases_by_class(texts * 3, np.repeat([0, 1], [3, 6]), ["a", "b"])
    said = {word for of in found.values() for phrase in of["frequent"] for word in phrase.split()}
    assert {"won", "rain"} <= said
    assert not {"ve", "ll", "didn", "don", "can"} & said


@pytest.mark.parametrize("text", ["[/bold] [red]x", "漢字", ":) :)", "the of and"])
def test_a_text_of_any_kind_is_shown_as_it_is(workspace, text):
    rows = table(("", text, 0), ("T", "y", 1)).assign(id=["train-1", "train-2"])
    for split in ("train", "validation"):
        tables.write_table(tables.CLEAN / f"{split}.parquet", rows, tables.TEXT_COLUMNS)
    files.write_json(tables.SOURCE, {"labels": ["a", "b"]})
    example = {"id": "train-1", "before": "x\x1b[2J\u202e", "after": "x"}
    repairs = {"control_characters": {"documents": 1, "examples": [example]}}
    files.write_json(tables.CLEAN / "summary.json", {
        "dataset": "made", "repairs": repairs, "dropped": {},
        "near_duplicates": {"groups": 0, "documents": 0, "largest": 1},
    })  # fmt: skip
    printed = command()
    assert text in printed
    assert "\x1b" not in printed
    assert "\u202e" not in printed
    assert "\\x1b" in printed
