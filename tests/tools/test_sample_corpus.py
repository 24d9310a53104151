"""The corpus in data/sample: made by its generator to the byte, and holding what its lists say."""

import csv
import shutil
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from tests.conftest import REPOSITORY
from tools import make_sample

FOLDER = REPOSITORY / "data/sample"


def read(name: str) -> list[list[str]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def documents() -> dict[str, list[list[str]]]:
    return {name: read(name) for name in ("train.csv", "test.csv")}


def test_the_generator_writes_the_same_bytes(workspace: Path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["make_sample"])
    shutil.copytree(FOLDER / "phrases", "data/sample/phrases")
    make_sample.write_corpus()
    for path in sorted((workspace / "data/sample").glob("*.csv")):
        assert path.read_bytes() == (FOLDER / path.name).read_bytes(), path.name


def test_it_is_large_enough_without_its_copies(documents):
    copies = [row["file"] for row in csv.DictReader((FOLDER / "known_duplicates.csv").open())]
    assert len(documents["train.csv"]) - copies.count("train.csv") >= 1500
    assert len(documents["test.csv"]) - copies.count("test.csv") >= 400


def test_one_label_in_twenty_is_wrong_and_listed(documents):
    errors = list(csv.DictReader((FOLDER / "known_errors.csv").open()))
    assert 0.045 <= len(errors) / len(documents["train.csv"]) <= 0.06
    names = list(make_sample.TOPICS)
    for error in errors:
        label, title, _ = documents["train.csv"][int(error["row"]) - 1]
        assert (names[int(label) - 1], title) == (error["given"], error["title"])
        assert error["true"] != error["given"]


def test_copies_are_what_their_list_says(documents):
    for row in csv.DictReader((FOLDER / "known_duplicates.csv").open()):
        copy = documents[row["file"]][int(row["row"]) - 1]
        original = documents[row["of_file"]][int(row["of_row"]) - 1]
        same_label, same_text = copy[0] == original[0], copy[1:] == original[1:]
        if row["kind"] == "exact":
            assert same_label and same_text
        elif row["kind"] == "near":
            assert same_label and not same_text
        elif row["kind"] == "two labels":
            assert same_text and not same_label
        else:
            assert (row["kind"], row["file"]) == ("leak", "test.csv")


def test_it_has_the_artifacts_of_ag_news(documents):
    text = "\n".join(row[2] for row in documents["train.csv"])
    for artifact in ("#39;", "&amp;", "&lt;A HREF=", "\\", "(Reuters) - ", "AP - "):
        assert artifact in text, artifact


def test_words_alone_decide_most_documents_but_not_all(documents):
    train, test = documents["train.csv"], documents["test.csv"]
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=5, max_iter=500)
    )
    model.fit([f"{row[1]} {row[2]}" for row in train], [row[0] for row in train])
    accuracy = model.score([f"{row[1]} {row[2]}" for row in test], [row[0] for row in test])
    assert 0.75 <= accuracy <= 0.93
