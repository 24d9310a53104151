"""Intervals against values worked out by hand or by SciPy, and how often they cover."""

from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from cleantune.evaluation import confidence_intervals, metrics
from studies import interval_coverage


def intervals(labels, p, predicted, bins, groups) -> dict[str, Any]:
    return confidence_intervals.intervals(labels, p, predicted, bins, groups)


def scored(n, classes=4, seed=0, kind="overconfident"):
    """Labels, probabilities and predictions of a test set without copies."""
    test = interval_coverage.drawn(
        np.random.default_rng(seed), interval_coverage.KINDS[kind], n, classes
    )
    return test.labels, test.probabilities, test.probabilities.argmax(axis=1)


@pytest.mark.parametrize(("right", "n"), [(0, 7), (3, 7), (921, 1000), (4999, 5000), (5000, 5000)])
def test_the_interval_of_an_accuracy_is_wilsons_however_many_documents(right, n):
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert confidence_intervals.share(np.arange(n) < right, np.arange(n)) == pytest.approx(
        list(expected)
    )


def test_no_documents_have_no_interval():
    assert confidence_intervals.share(np.zeros(0, dtype=bool), np.zeros(0, dtype=int)) is None


def test_copies_change_no_interval_and_no_test():
    labels, p, predicted = scored(300)
    theirs = scored(300, seed=1)[2]
    alone, rows = np.arange(300), np.repeat(np.arange(300), 3)
    once = intervals(labels, p, predicted, 15, alone)
    thrice = intervals(labels[rows], p[rows], predicted[rows], 15, rows)
    assert list(once) == list(thrice)
    for name, ends in once.items():
        assert thrice[name] == pytest.approx(ends), name
    for k in range(4):
        assert confidence_intervals.of_class(labels[rows], predicted[rows], k, rows) == {
            name: pytest.approx(ends)
            for name, ends in confidence_intervals.of_class(labels, predicted, k, alone).items()
        }
    a, b = predicted == labels, theirs == labels
    assert confidence_intervals.mcnemar(a, b, alone) == confidence_intervals.mcnemar(
        a[rows], b[rows], rows
    )
    ahead = confidence_intervals.paired_difference(labels, predicted, theirs, alone)
    again = confidence_intervals.paired_difference(
        labels[rows], predicted[rows], theirs[rows], rows
    )
    assert ahead == {name: pytest.approx(ends) for name, ends in again.items()}
    # as documents of their own they would seem to tell more
    apart = intervals(labels[rows], p[rows], predicted[rows], 15, np.arange(900))
    for name, ends in once.items():
        assert np.diff(apart[name]) < 0.8 * np.diff(ends), name


def test_mcnemar_is_the_exact_binomial_test_of_the_disagreements():
    a = np.array([True] * 9 + [False] * 1 + [True] * 90)
    b = np.array([False] * 9 + [True] * 1 + [True] * 90)
    found = confidence_intervals.mcnemar(a, b, np.arange(100))
    assert (found["only_model_right"], found["only_baseline_right"]) == (9, 1)
    assert found["mcnemar_p"] == pytest.approx(2 * (1 + 10) / 2**10)
    assert confidence_intervals.mcnemar(a, a, np.arange(100))["mcnemar_p"] == 1
    # the nine are copies of one text, with the right label on most
    groups = np.where(np.arange(100) < 10, 0, np.arange(100))
    found = confidence_intervals.mcnemar(a, b, groups)
    assert (found["only_model_right"], found["only_baseline_right"]) == (1, 0)
    assert found["mcnemar_p"] == 1


def test_p_values_are_corrected_one_after_the_other():
    assert confidence_intervals.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx(
        [0.03, 0.06, 0.06, 0.02]
    )
    assert confidence_intervals.holm([0.7, 0.9]) == [1, 1]
    assert confidence_intervals.holm([]) == []


@pytest.mark.parametrize("apart", [6, 40, 41, 300])
def test_the_detectable_difference_is_found_with_its_power(apart):
    difference = confidence_intervals.detectable_difference(1000, apart)
    assert difference is not None
    share = (1 + difference * 1000 / apart) / 2  # of the disagreements that the better model wins
    wins = np.random.default_rng(0).binomial(apart, share, 4000)
    found = [confidence_intervals.mcnemar(np.arange(apart) < k, np.arange(apart) >= k, np.arange(apart))
             ["mcnemar_p"] <= 0.05 for k in np.unique(wins)]  # fmt: skip
    better = np.isin(wins, np.unique(wins)[np.array(found) & (np.unique(wins) > apart / 2)])
    assert better.mean() == pytest.approx(0.8, abs=0.02)


def test_with_five_disagreements_no_difference_is_detectable():
    assert confidence_intervals.detectable_difference(1000, 5) is None
    assert confidence_intervals.detectable_difference(1000, 0) is None


def test_the_interval_of_a_difference_is_the_normal_one_of_its_documents():
    labels, _, predicted = scored(500)
    theirs = np.where(np.random.default_rng(2).random(500) < 0.2, (labels + 1) % 4, predicted)
    net = (predicted == labels).astype(float) - (theirs == labels)
    half = 1.959964 * net.std(ddof=1) / 500**0.5
    found: dict[str, Any] = confidence_intervals.paired_difference(
        labels, predicted, theirs, np.arange(500)
    )
    assert found["accuracy"] == pytest.approx([net.mean() - half, net.mean() + half])
    f1 = [metrics.accuracy_and_f1(np.eye(4)[x], labels)["macro_f1"] for x in (predicted, theirs)]
    assert np.mean(found["macro_f1"]) == pytest.approx(f1[0] - f1[1])
    # classes are about equal here, so the two spread alike
    assert np.diff(found["macro_f1"]) == pytest.approx(np.diff(found["accuracy"]), rel=0.15)
    same = confidence_intervals.paired_difference(labels, predicted, predicted, np.arange(500))
    assert same == {"accuracy": None, "macro_f1": None}


def test_the_interval_of_an_auc_has_delongs_variance():
    labels, p, predicted = scored(400, classes=2, kind="rare")
    own, other = p[labels == 1, 1], p[labels == 0, 1]
    above = (own[:, None] > other) + 0.5 * (own[:, None] == other)
    variance = above.mean(axis=1).var(ddof=1) / len(own) + above.mean(axis=0).var(ddof=1) / len(
        other
    )
    low, high = intervals(labels, p, predicted, 15, np.arange(400))["roc_auc_ovr"]
    area = metrics.roc_auc(labels == 1, p[:, 1])
    odds = [np.log(x / (1 - x)) for x in (low, area, high)]
    assert odds[2] - odds[1] == pytest.approx(odds[1] - odds[0])
    halves = (odds[2] - odds[1]) * area * (1 - area) / variance**0.5
    assert 1.96 < halves < 3, "Student's quantile for the few errors among the few positives"


def test_a_loss_that_is_not_skewed_has_students_interval():
    losses = np.tile([0.2, 0.4, 0.6], 50)
    labels, p = np.zeros(150, dtype=int), np.stack([np.exp(-losses), 1 - np.exp(-losses)], axis=1)
    found = intervals(labels, p, labels, 15, np.arange(150))["nll"]
    expected = stats.ttest_1samp(losses, 0).confidence_interval()
    assert found == pytest.approx(list(expected), rel=1e-4)


def test_a_class_that_is_always_right_is_not_thought_perfect():
    labels = np.repeat([0, 1], 50)
    found = intervals(labels, np.eye(2)[labels] * 0.98 + 0.01, labels, 15, np.arange(100))
    for name in ("macro_precision", "macro_recall", "macro_f1"):
        low, high = found[name]
        assert 0.93 < low < 0.98, name
        assert high == pytest.approx(1)
    assert found["roc_auc_ovr"] is None, "of a perfect ranking nothing is known of its errors"
    assert found["ece"][0] == 0
    assert 0.02 < found["ece"][1] < 0.07, "three of a hundred could be wrong, and none be seen"


def test_a_rare_class_takes_the_averages_their_intervals():
    labels, p, predicted = scored(300)
    keep = (labels != 2) | (np.cumsum(labels == 2) <= confidence_intervals.MIN_DOCUMENTS)
    few = keep & ((labels != 2) | (np.cumsum(labels == 2) < confidence_intervals.MIN_DOCUMENTS))
    for rows, some in ((keep, True), (few, False)):
        found = intervals(labels[rows], p[rows], predicted[rows], 15, np.arange(rows.sum()))
        gone = {name for name, ends in found.items() if ends is None}
        names = {"macro_precision", "macro_recall", "macro_f1", "roc_auc_ovr"}
        assert gone == (set() if some else names)


def test_a_class_that_is_never_predicted_has_no_interval_of_its_precision():
    labels, predicted = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 0])
    found = confidence_intervals.of_class(labels, predicted, 1, np.arange(4))
    assert found["precision"] is None
    assert found["recall"] == pytest.approx(
        list(stats.binomtest(0, 2).proportion_ci(method="wilson"))
    )
    assert confidence_intervals.of_class(labels * 0, predicted, 1, np.arange(4)) == dict.fromkeys(
        found
    )


# ---- known values: those whose coverage studies.interval_coverage counted


def small(n=60, classes=3):
    """Documents of three classes, the first fifteen copies of two texts; probabilities with ties."""
    rng = np.random.default_rng(3)
    labels = np.arange(n) % classes
    p = rng.dirichlet([1.0] * classes, n) + 0.8 * np.eye(classes)[labels] * rng.random((n, 1))
    p = np.round(p / p.sum(axis=1, keepdims=True), 2)
    p[:, -1] = 1 - p[:, :-1].sum(axis=1)
    groups = np.where(np.arange(n) < 15, np.arange(n) // 9, np.arange(n))
    return labels, p, p.argmax(axis=1), groups


def rounded(found):
    return {
        name: None if ends is None else [pytest.approx(end, rel=1e-3, abs=1e-5) for end in ends]
        for name, ends in found.items()
    }


WITH_COPIES: Any = {
    "accuracy": [0.38138, 0.76072],
    "macro_precision": [0.46401, 0.69677],
    "macro_recall": [0.4651, 0.6927],
    "macro_f1": [0.46508, 0.69387],
    "roc_auc_ovr": [0.7286, 0.87611],
    "nll": [0.71576, 0.92614],
    "brier": [0.42285, 0.57014],
    "ece": [0.0, 0.069125],
}
WITHOUT: Any = {
    "accuracy": [0.45728, 0.69936],
    "macro_precision": [0.45527, 0.70415],
    "macro_recall": [0.45316, 0.70284],
    "macro_f1": [0.45415, 0.70314],
    "roc_auc_ovr": [0.71503, 0.88326],
    "nll": [0.69756, 0.96413],
    "brier": [0.41217, 0.58426],
    "ece": [0.0, 0.08885],
}
OF_CLASSES: Any = [
    {"precision": [0.37721, 0.7879], "recall": [0.35229, 0.80532], "f1": [0.40257, 0.76954]},
    {"precision": [0.39025, 0.82116], "recall": [0.35229, 0.80532], "f1": [0.4211, 0.77873]},
    {"precision": [0.24763, 0.78616], "recall": [0.31014, 0.76867], "f1": [0.35862, 0.7057]},
]
SIX: Any = {
    "accuracy": [0.4365, 0.96995],
    "macro_precision": None,
    "macro_recall": None,
    "macro_f1": None,
    "roc_auc_ovr": None,
    "nll": [0.17824, 0.69896],
    "brier": [0.062609, 0.52768],
    "ece": [0.0, 0.4917],
}
PERFECT_RANKING: Any = {
    "accuracy": [0.74151, 0.97684],
    "macro_precision": [0.73041, 0.98422],
    "macro_recall": [0.71383, 0.9798],
    "macro_f1": [0.71025, 0.97985],
    "roc_auc_ovr": None,
    "nll": [0.10232, 0.64948],
    "brier": [0.01734, 0.49289],
    "ece": [0.0, 0.14583],
}
SURE_AND_WRONG: Any = {
    "accuracy": [0.43136, 0.56864],
    "macro_precision": [0.036699, 0.74467],
    "macro_recall": [0.49032, 0.50968],
    "macro_f1": [0.30046, 0.36791],
    "roc_auc_ovr": None,
    "nll": [1.3177, 1.7293],
    "brier": [0.77919, 1.0308],
    "ece": [0.38145, 0.52207],
}
DIFFERENCE: Any = {"accuracy": [0.1185, 0.2515], "macro_f1": [0.11791, 0.25264]}
MCNEMAR: Any = {
    "only_model_right": 72,
    "only_baseline_right": 22,
    "mcnemar_p": 2.2605981543610277e-07,
}


def test_intervals_with_and_without_copies_stay_what_they_were():
    labels, p, predicted, groups = small()
    assert intervals(labels, p, predicted, 10, groups) == rounded(WITH_COPIES)
    assert intervals(labels, p, predicted, 10, np.arange(60)) == rounded(WITHOUT)
    for k, expected in enumerate(OF_CLASSES):
        assert confidence_intervals.of_class(labels, predicted, k, groups) == rounded(expected)


def test_intervals_of_few_documents_stay_what_they_were():
    labels, p = np.array([0, 0, 1, 1, 1, 0]), np.array([0.1, 0.4, 0.8, 0.6, 0.7, 0.55])
    p = np.stack([1 - p, p], axis=1)
    assert intervals(labels, p, p.argmax(axis=1), 5, np.arange(6)) == rounded(SIX)
    labels, p = np.repeat([0, 1], 12), np.repeat([0.1, 0.9], 12)
    p[:2] = 0.7, 0.6
    p = np.stack([1 - p, p], axis=1)
    assert intervals(labels, p, p.argmax(axis=1), 10, np.arange(24)) == rounded(PERFECT_RANKING)
    # scores that are sure and wrong: nothing near 0 fits
    labels, p = np.arange(200) % 2, np.tile([0.95, 0.05], (200, 1))
    assert intervals(labels, p, p.argmax(axis=1), 10, np.arange(200)) == rounded(SURE_AND_WRONG)


def test_differences_stay_what_they_were():
    labels, _, predicted, groups = small(200)
    theirs = np.where(np.arange(200) % 2 == 0, np.roll(predicted, 1), predicted)
    found = confidence_intervals.paired_difference(labels, predicted, theirs, groups)
    assert found == rounded(DIFFERENCE)
    # a class that no document is of, and none predicts, is not counted
    apart = confidence_intervals.paired_difference(labels * 2, predicted * 2, theirs * 2, groups)
    assert apart == rounded(DIFFERENCE)
    found = confidence_intervals.mcnemar(predicted == labels, np.arange(200) % 3 == 0, groups)
    assert found == MCNEMAR | {"mcnemar_p": pytest.approx(MCNEMAR["mcnemar_p"])}


def test_a_loss_of_few_or_equal_documents_has_no_interval():
    two = np.array([[0.9, 0.1], [0.3, 0.7]])
    found = intervals(np.array([0, 1]), two, np.array([0, 1]), 5, np.arange(2))
    assert (found["nll"], found["brier"]) == (None, None)
    three = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    found = intervals(np.zeros(3, int), three, np.zeros(3, int), 5, np.arange(3))
    assert found["nll"] is not None
    found = intervals(
        np.zeros(9, int), np.tile([0.9, 0.1], (9, 1)), np.zeros(9, int), 5, np.arange(9)
    )
    assert (found["nll"], found["brier"]) == (None, None)


@pytest.mark.parametrize("extra", [0, 1])
def test_ten_documents_are_enough_and_nine_are_not(extra):
    counts = [30, confidence_intervals.MIN_DOCUMENTS - 1 + extra]
    labels = np.repeat([0, 1], counts)
    predicted = np.where(np.arange(len(labels)) % 3 == 0, 1 - labels, labels)
    alone = np.arange(len(labels))
    assert (confidence_intervals.of_class(labels, predicted, 1, alone)["f1"] is None) == (
        extra == 0
    )
    p = np.eye(2)[predicted] * 0.6 + 0.2 + 0.01 * (alone % 7)[:, None] * [1, -1]
    found = intervals(labels, p, predicted, 10, alone)
    assert (found["macro_f1"] is None) == (found["roc_auc_ovr"] is None) == (extra == 0)
    theirs = 1 - predicted
    found = confidence_intervals.paired_difference(labels, predicted, theirs, alone)
    assert found["accuracy"] is not None
    assert (found["macro_f1"] is None) == (extra == 0)
    # and so many documents on which the two differ
    labels = np.repeat([0, 1], 50)
    theirs = np.where(
        np.arange(100) < confidence_intervals.MIN_DOCUMENTS - 1 + extra, 1 - labels, labels
    )
    found = confidence_intervals.paired_difference(labels, labels, theirs, np.arange(100))
    assert (found["accuracy"] is None) == (extra == 0)


def test_a_class_of_a_single_document_is_a_rare_one():
    labels = np.array([0, 1] * 40 + [2])
    predicted = np.where(np.arange(81) % 5 == 0, 0, labels)
    theirs = np.where(np.arange(81) % 3 == 0, 1, labels)
    found = confidence_intervals.paired_difference(labels, predicted, theirs, np.arange(81))
    assert found["accuracy"] is not None
    assert found["macro_f1"] is None


def test_classes_that_only_labels_or_only_predictions_have_count_where_they_are():
    labels, alone = np.repeat([0, 1, 2], 20), np.arange(60)
    without = np.where(labels == 2, 0, labels)  # class 2 is never predicted
    beyond = np.where(alone % 2 == 0, 3, labels)  # class 3 is no document's
    for k in range(3):
        found = confidence_intervals.of_class(labels, without, k, alone)
        assert (found["precision"] is None) == (k == 2)
        assert found["recall"] is not None
        assert confidence_intervals.of_class(labels, beyond, k, alone)["precision"] is not None
    assert confidence_intervals.of_class(labels, beyond, 3, alone)["recall"] is None
    one = confidence_intervals.paired_difference(labels, without, beyond, alone)
    other = confidence_intervals.paired_difference(labels, beyond, without, alone)
    for name in ("accuracy", "macro_f1"):
        ends, turned = one[name], other[name]
        assert ends is not None
        assert turned == pytest.approx([-ends[1], -ends[0]])
    neither = np.where((alone % 2 == 0) & (labels < 2), 1 - without, without)
    third = confidence_intervals.paired_difference(labels, without, neither, alone)
    assert third["macro_f1"] is not None
    f1 = [reference.f1_score(labels, x, labels=[0, 1, 2], average="macro", zero_division=0)
          for x in (without, beyond)]  # fmt: skip
    assert np.mean(one["macro_f1"] or []) == pytest.approx(f1[0] - f1[1])


def test_a_class_that_no_document_has_takes_no_interval_away():
    labels, p, predicted = scored(300)
    four = np.concatenate([p * 0.9, np.full((300, 1), 0.1)], axis=1)
    guess = np.where(np.arange(300) % 9 == 0, 4, predicted)  # and is predicted all the same
    found = intervals(labels, four, guess, 15, np.arange(300))
    assert all(ends is not None for ends in found.values())
    expected = intervals(labels, p, predicted, 15, np.arange(300))
    assert found["roc_auc_ovr"] == pytest.approx(expected["roc_auc_ovr"])
    recall = reference.recall_score(labels, guess, labels=range(4), average="macro")
    assert found["macro_recall"][0] < recall < found["macro_recall"][1]


def test_of_one_class_there_is_no_ranking():
    p = np.tile([0.7, 0.3], (30, 1))
    found = intervals(np.zeros(30, int), p, np.zeros(30, int), 10, np.arange(30))
    assert found["roc_auc_ovr"] is None
    assert found["accuracy"] == pytest.approx(
        list(stats.binomtest(30, 30).proportion_ci(method="wilson"))
    )


def test_of_what_is_always_right_and_of_two_scores_intervals_stay_what_they_were():
    labels, alone = np.repeat([0, 1], [80, 20]), np.arange(100)
    p = np.eye(2)[labels] * 0.9 + 0.05
    found = intervals(labels, p, labels, 10, alone)
    assert {k: found[k] for k in ALWAYS_RIGHT} == rounded(ALWAYS_RIGHT)
    labels = np.arange(40) % 2
    p = np.where(np.arange(40) // 2 % 4 == 0, 0.3, 0.7)
    p = np.stack([np.where(labels == 0, p, 1 - p), np.where(labels == 1, p, 1 - p)], axis=1)
    found = intervals(labels, p, p.argmax(axis=1), 10, np.arange(40))
    assert {k: found[k] for k in TWO_SCORES} == rounded(TWO_SCORES)


ALWAYS_RIGHT: Any = {
    "macro_precision": [0.81415, 1.0],
    "macro_recall": [0.81415, 1.0],
    "macro_f1": [0.81415, 1.0],
}
TWO_SCORES: Any = {"roc_auc_ovr": [0.46459, 0.8077], "macro_f1": [0.59173, 0.8613]}
