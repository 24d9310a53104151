"""The baselines: probabilities that are ones, learning that learns, and no look at test labels."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cleantune.baselines import recurrent, tfidf
from cleantune.baselines.ngram import KneserNey, NgramClassifier
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.evaluation import metrics
from cleantune.params.sections import Baselines
from stages import baselines
from tests import evaluated, tiny
from tests.conftest import REPOSITORY


@given(st.lists(st.integers(0, 5), min_size=3, max_size=40), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_kneser_ney_probabilities_sum_to_one_after_every_history(words, order):
    size = 6
    windows = np.lib.stride_tricks.sliding_window_view(np.array(words), order)
    model = KneserNey(windows, size)
    for history in np.ndindex(*[size] * (order - 1)):
        each = model.probability(np.array([[*history, word] for word in range(size)]))
        assert each.sum() == pytest.approx(1)
        assert (each > 0).all()


def test_kneser_ney_gives_what_the_formula_gives_by_hand():
    # "a b", "a c", "b c": one word after another, each once; no count of two, so the discount is 1/2.
    model = KneserNey(np.array([[0, 1], [0, 2], [1, 2]]), 3)
    # b has followed 1 of 3 kinds of pairs, c 2: counts 1 and 2, discount 1 / (1 + 2).
    lower = {1: (1 - 1 / 3) / 3, 2: (2 - 1 / 3) / 3}
    lower = {word: p + (1 / 3) * 2 / 3 / 3 for word, p in lower.items()}
    expected = [(1 - 0.5) / 2 + 0.5 * 2 / 2 * lower[word] for word in (1, 2)]
    assert model.probability(np.array([[0, 1], [0, 2]])) == pytest.approx(expected)


def test_the_language_model_prefers_the_class_whose_words_follow_in_that_order():
    documents = [["dog", "bites", "man"]] * 5 + [["man", "bites", "dog"]] * 5
    model = NgramClassifier(order=2).fit(documents, np.array([0] * 5 + [1] * 5), classes=3)
    scores = model.log_probabilities([["dog", "bites", "man"], ["man", "bites", "dog"], []])
    assert scores[:2].argmax(axis=1).tolist() == [0, 1]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    tiny.set_params(tmp_path, baselines__hidden=16, baselines__dimensions=16, baselines__epochs=4)
    evaluated.write(tmp_path)
    return tmp_path


def outputs() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(tables.BASELINES.iterdir())}


def test_all_four_learn_and_two_runs_write_the_same_bytes_whatever_the_test_labels(project):
    baselines.main()
    before = outputs()
    assert sorted(before) == [
        "lstm.parquet",
        "ngram.parquet",
        "rnn.parquet",
        "summary.json",
        "tfidf.parquet",
        "tfidf_on_flipped_labels.parquet",
    ]
    test = tables.read_table(tables.CLEAN / "test.parquet")
    for name, facts in json.loads(before["summary.json"]).items():
        table = tables.read_table(tables.BASELINES / f"{name}.parquet")
        assert table["split"].value_counts().to_dict() == {"validation": 45, "test": 60}
        scores = table.loc[table["split"] == "test", ["score_0", "score_1", "score_2"]].to_numpy()
        right = (scores.argmax(axis=1) == test["label"]).mean()
        assert right > 0.55, f"{name} learned nothing"
        assert facts["validation_accuracy"] > 0.55
    flipped = tables.read_table(tables.BASELINES / tables.FLIPPED)
    for _, part in flipped.groupby("share"):
        assert list(part["id"]) == list(test["id"])
        assert (part["predicted"].to_numpy() == test["label"]).mean() > 0.5
    assert sorted(set(flipped["share"])) == [0.05, 0.1, 0.2]
    shuffled = test.assign(label=0)
    tables.write_table(tables.CLEAN / "test.parquet", shuffled, tuple(test.columns))
    baselines.main()
    assert outputs() == before


def test_one_class_cannot_be_told_from_another(project):
    path = tables.LABELS / "train.parquet"
    table = tables.read_table(path).assign(label=1)
    tables.write_table(path, table, tuple(table.columns))
    with pytest.raises(UserError, match="holds 1 class"):
        baselines.main()
    assert not tables.BASELINES.exists()


def test_random_word_vectors_and_a_class_of_two_documents_go_through(project):
    tiny.set_params(project, baselines__word_vectors="random", baselines__models=["tfidf", "rnn"])
    path = tables.LABELS / "train.parquet"
    table = tables.read_table(path)
    few = table[(table["label"] != 2) | (table.groupby("label").cumcount() < 2)]
    tables.write_table(path, few, tuple(table.columns))
    baselines.main()
    assert len(outputs()) == 4


@pytest.mark.parametrize("losses", [[3.0, 1.0, 2.0, 2.0, 2.0], [3.0, 2.0, 2.5, 2.5, 1.0]])
def test_a_recurrent_model_makes_all_passes_and_keeps_the_weights_of_the_lowest_loss(losses):
    torch.manual_seed(0)
    start = torch.randn(6, 4)
    model = recurrent.RecurrentClassifier("rnn", start, 3, 2)
    seen = []

    def validation_loss():
        seen.append(copy.deepcopy(model.state_dict()))
        return losses[len(seen) - 1]

    documents = [torch.tensor([2, 3]), torch.tensor([4, 5])] * 4
    recurrent.train(model, documents, np.array([0, 1] * 4), validation_loss, len(losses), seed=0)
    assert len(seen) == len(losses), "nothing ends training early"
    torch.testing.assert_close(model.state_dict(), seen[np.argmin(losses)], rtol=0, atol=0)
    assert not torch.equal(seen[0]["head.weight"], seen[-1]["head.weight"]), "it learns"


@given(st.lists(st.integers(0, 2), min_size=2, max_size=200), st.floats(0.01, 0.99))
@settings(max_examples=40, deadline=None)
def test_the_share_asked_for_is_flipped_and_each_to_another_class(labels, share):
    before = np.array(labels)
    after = tfidf.flipped(before, share, 3, seed=1)
    assert (before != after).sum() == round(share * len(labels))
    assert set(after) <= {0, 1, 2}
    assert before.tolist() == labels


@pytest.mark.parametrize(
    ("kind", "empty"), [("ngram", 0), ("ngram", 1), ("tfidf", 0), ("rnn", 0), ("lstm", 0)]
)
def test_a_class_without_words_in_train_is_never_predicted_for_a_text(kind, empty):
    """Class 1 has that many documents, empty ones."""
    texts = ["oil prices rose again on monday", "the match was won late"] * 20 + [""] * empty
    labels = np.array([0, 2] * 20 + [1] * empty)
    parts = {
        "train": texts,
        "validation": texts,
        "test": [*texts[:2], "never seen words only here"],
    }
    words = {split: [text.split() for text in part] for split, part in parts.items()}
    data = baselines.Corpus(parts, words, labels, labels, 3)
    chosen = Baselines(
        models=[kind], ngram_order=3, tfidf_c=10, flipped_shares=[], word_vectors="random",
        dimensions=16, hidden=16, epochs=10,
    )  # fmt: skip
    if kind in baselines.FIT:
        scores = baselines.FIT[kind](data, chosen, 0)
    else:
        scores = recurrent.fit(kind, words, labels, labels, 3, chosen, 0)[1]
    on_test = metrics.softmax(scores[1])
    assert np.isfinite(scores[0]).all()
    assert np.isfinite(scores[1]).all()
    assert on_test[:2].argmax(axis=1).tolist() == [0, 2]
    if kind == "ngram" or not empty:
        assert on_test[:, 1].max() < 1e-9
