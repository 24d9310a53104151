"""studies.label_detection: the noises are what they say, and nothing is measured on what it was fit to."""

import csv

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from cleantune import files
from studies import label_detection, noisy_labels
from tests.conftest import REPOSITORY
from tools import record

PEOPLE, OTHERS, TEST = 400, 900, 50


@pytest.fixture(scope="module")
def made():
    """A corpus whose people take class 3 for class 2 where the first number of its vector is high."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, PEOPLE + OTHERS + TEST)
    vectors = rng.normal(size=(len(labels), 3))
    own = labels[:PEOPLE]
    said = np.where((own == 3) & (vectors[:PEOPLE, 0] > 0.3), 2, own)
    people = np.column_stack([said, said, own, np.roll(own, 1)])
    return noisy_labels.Corpus([""] * len(labels), labels, people, vectors, PEOPLE + OTHERS)


def test_noise_is_as_much_and_as_it_says(made):
    rows, given, true = noisy_labels.make("uniform", made, 1000)
    assert 0.17 < (given != true).mean() < 0.23
    assert (true == made.labels[rows]).all()
    rows, given, true = noisy_labels.make("pair", made, 1000)
    assert (given[given != true] == noisy_labels.PAIRS[true[given != true]]).all()
    _, given, true = noisy_labels.make("none", made, 1000)
    assert (given == true).all()
    rows, given, _ = noisy_labels.make("annotator-2", made, 1000)
    assert (rows < PEOPLE).all()
    assert (given == made.people[:, 2]).all()


@pytest.mark.parametrize("number", [0, 1])
def test_drawn_labels_follow_the_other_half_of_the_people_alone(made, number):
    rows, given, true = noisy_labels.make(f"human-{number}", made, 1000)
    own = rows[rows < PEOPLE]
    assert len(rows) == len(set(rows)) == 1000
    assert (given[: len(own)] == made.people[own, 0]).all()
    drawn = given[len(own) :], true[len(own) :]
    wrong = drawn[0] != drawn[1]
    assert (drawn[1][wrong] == 3).all(), "the people mistake no other class"
    assert made.vectors[rows[len(own) :]][wrong, 0].mean() > 0.3, "nor where they do not"
    # what the own half said changes no drawn label; what the other half said does
    people = made.people.copy()
    people[own] = (people[own] + 1) % 4
    _, again, _ = noisy_labels.make(f"human-{number}", made._replace(people=people), 1000)
    assert (again[len(own) :] == drawn[0]).all()
    rows, other, _ = noisy_labels.make(f"human-{1 - number}", made._replace(people=people), 1000)
    _, before, _ = noisy_labels.make(f"human-{1 - number}", made, 1000)
    assert (other != before)[rows >= PEOPLE].any()


def test_figures_of_a_perfect_and_of_a_blind_detector():
    wrong = np.arange(2000) % 5 == 0
    nothing = np.zeros((2000, 2))
    perfect = label_detection.metrics(
        label_detection.Detection(wrong * 1.0, wrong, 0.2, nothing), wrong
    )
    assert perfect == [*["1.000"] * 3, "0.800", "0.400", *["1.000"] * 3, "0.200"]
    blind = label_detection.metrics(
        label_detection.Detection(np.ones(2000), ~wrong, 0.8, nothing), wrong
    )
    assert blind[:2] == ["0.500", "0.200"]
    assert blind[5:] == ["0.000", "0.000", "0.000", "0.800"]


@pytest.mark.slow
def test_the_whole_table_on_the_sample(tmp_path, monkeypatch):
    sample = REPOSITORY / "data/sample"
    with (sample / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = [(title, text, int(label) - 1) for label, title, text in csv.reader(file)]
    with (tmp_path / "human.csv").open("w", encoding="utf-8", newline="") as file:
        people = csv.writer(file)
        people.writerow(["title", "description", "label", *(f"annotator_{i}" for i in (1, 2, 3))])
        people.writerows((*row, row[2], row[2], row[2]) for row in rows[:100])
    monkeypatch.chdir(REPOSITORY)
    given = ["--train", str(sample / "train.csv"), "--test", str(sample / "test.csv"),
             "--human", str(tmp_path / "human.csv"), "--documents", "300", "--noises", "uniform",
             "--keep", "labels"]  # fmt: skip
    monkeypatch.setattr("sys.argv", ["label_detection", *given])
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(label_detection, "REVIEWED", (0.1, 0.2))
    with threadpool_limits(1):  # two threads would wait for each other
        label_detection.main()
    detection, training = files.read_json(tmp_path / "labels.json")["tables"]
    assert detection["caption"].startswith("Detection: uniform, 300 documents")
    found = {name: float(cells[0]) for name, *cells in detection["rows"]}
    assert set(found) == {"cleanlab, TF-IDF", "TF-IDF + encoder, prediction differs", "ours, tfidf, prior given",
                          "ours, encoder, prior given", "ours, ensemble, prior given", "(ensemble trained on the true labels)"}  # fmt: skip
    assert all(auroc > 0.8 for auroc in found.values()), found
    accuracy = {arm: float(cells[0].split()[0]) for arm, *cells in training["rows"]}
    assert accuracy["noisy"] < accuracy["true"]
    assert len([arm for arm in accuracy if "reviewed" in arm]) == 4 * len(label_detection.REVIEWED)
