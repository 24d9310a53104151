"""The reviewer is told what each label model predicts, and the words that speak for the suggested class."""

import numpy as np
import pytest

from cleantune.labels.review_page import reasons

NAMES = ["Sea", "Road", "Sky"]
OWN = [["boat", "wave"], ["lorry", "bend"], ["cloud", "wing"]]


def corpus(classes: int) -> tuple[list[str], np.ndarray]:
    """Forty documents of each class, each of its class's two words and three of anybody's."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), 40)
    shared = [" ".join(rng.choice(["the", "old", "long", "grey"], 3)) for _ in labels]
    return [f"{' '.join(OWN[k])} {words}" for k, words in zip(labels, shared, strict=True)], labels


def test_models_that_agree_are_counted_and_others_named():
    predicted = np.array([[1, 1], [1, 2], [1, 1]])
    models = ("embeddings", "neighbours", "TF-IDF")
    assert reasons.of_predictions(models, predicted, np.array([1, 0]), NAMES) == [
        ["embeddings and TF-IDF predict Road; neighbours predict Sky"],
        ["All 3 models predict Road"],
    ]
    assert reasons.of_predictions(models[:1], predicted[:1], np.array([0]), NAMES) == [[]]


@pytest.mark.parametrize("classes", [2, 3])
def test_the_words_of_the_suggested_class_are_named_and_no_others(classes):
    texts, true = corpus(classes)
    given, row = true.copy(), 40
    given[row] = 0
    flagged = np.arange(len(texts)) == row
    (found,) = reasons.of_words(texts, given, flagged, np.array([row]), true, NAMES, 0)
    (sentence,) = found
    about, words = sentence.split(": ")
    assert about == "Words for Road rather than Sea"
    assert set(words.split(", ")[:2]) == set(OWN[1])
    assert not set(words.split(", ")) & set(OWN[0])


def test_flagged_labels_do_not_speak_for_themselves():
    texts, true = corpus(2)
    flagged = np.zeros(len(texts), bool)
    flagged[[3, 4]] = True
    for i in (3, 4):
        texts[i] += " flotsam"
    suggested = 1 - true
    for found in reasons.of_words(texts, true, flagged, np.array([3, 4]), suggested, NAMES, 0):
        assert "flotsam" not in " ".join(found)


def test_without_words_in_common_or_another_class_nothing_is_said():
    texts = ["a1 b1", "c1 d1", "e1 f1", "g1 h1"]
    labels, rows = np.array([0, 0, 1, 1]), np.array([0])
    flagged = np.array([True, False, False, False])
    assert reasons.of_words(texts, labels, flagged, rows, 1 - labels, NAMES, 0) == [[]]
    assert reasons.of_words(texts, labels, labels == 1, rows, 1 - labels, NAMES, 0) == [[]]
