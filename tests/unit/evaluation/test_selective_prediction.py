"""Abstention and prediction sets: areas by their definitions, promises kept in simulations."""

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cleantune.evaluation import prediction_sets, selective_prediction
from cleantune.evaluation.selective_prediction import augrc, aurc, fit_threshold


def answers(n: int, seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Whether each answer is right, and confidences that say more than the truth."""
    rng = np.random.default_rng(seed)
    confidence = rng.beta(3, 1, n)
    right = rng.random(n) < chance(confidence)
    return right, confidence.round(1) if ties else confidence


def chance(confidence: np.ndarray) -> np.ndarray:
    """The probability that an answer of this confidence is right."""
    return 0.5 + 0.5 * confidence**2


def test_aurc_is_the_mean_risk_of_the_most_confident_and_of_ties_in_any_order():
    right = np.array([True, False, True, False])
    assert aurc(right, np.array([0.9, 0.8, 0.7, 0.6])) == pytest.approx(
        np.mean([0, 1 / 2, 1 / 3, 1 / 2])
    )
    tied = np.array([0.9, 0.5, 0.5, 0.5])
    orders = [aurc(right, np.array([0.9, *order])) for order in permutations((0.5, 0.4, 0.3))]
    assert aurc(right, tied) == pytest.approx(np.mean(orders))
    assert aurc(np.ones(4, dtype=bool), tied) == 0


@pytest.mark.parametrize("ties", [False, True])
def test_augrc_is_what_the_paper_derives_from_the_accuracy_and_the_ranking(ties):
    right, confidence = answers(200, 0, ties)
    accuracy, area = right.mean(), roc_auc_score(right, confidence)
    expected = (1 - area) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2
    assert augrc(right, confidence) == pytest.approx(expected)
    assert augrc(~right & right, confidence) == pytest.approx(0.5), "always wrong"


def test_the_risk_ends_at_the_error_rate_of_all():
    right, confidence = answers(200, 0, ties=True)
    coverage, risk = selective_prediction.risk_coverage(right, confidence)
    assert (coverage[-1], risk[-1]) == pytest.approx((1, 1 - right.mean()))
    assert len(coverage) == len(np.unique(confidence))
    first = confidence == confidence.max()
    assert (coverage[0], risk[0]) == pytest.approx((first.mean(), 1 - right[first].mean()))


@pytest.mark.parametrize(("n", "accuracy", "least"), [(150, 0.85, 0.2), (1000, 0.9, 0.9), (1000, 0.82, 0.95)])  # fmt: skip
def test_answers_reach_the_accuracy_in_all_but_a_twentieth_of_the_draws(n, accuracy, least):
    grid = np.sort(np.random.default_rng(1).beta(3, 1, 50_000))[::-1]
    reached = chance(grid).cumsum() / np.arange(1, len(grid) + 1)  # by how many are above
    draws, found, failed = 250, 0, 0
    for seed in range(draws):
        right, confidence = answers(n, seed)
        threshold = fit_threshold(right, confidence, accuracy)
        if threshold is not None:
            found += 1
            above = int(np.searchsorted(-grid, -threshold))
            failed += reached[max(above - 1, 0)] < accuracy
    assert failed / draws < 0.05 + 2 * (0.05 * 0.95 / draws) ** 0.5
    assert found / draws > least, "an empty promise"


def test_a_threshold_needs_as_many_right_answers_as_are_significant():
    # 0.95 ** 59 is the first power below 0.05
    confidence = np.linspace(0.5, 1, 59)
    assert fit_threshold(np.ones(59, dtype=bool), confidence, 0.95) == 0, "all are answered"
    assert fit_threshold(np.ones(58, dtype=bool), confidence[1:], 0.95) is None
    assert fit_threshold(np.ones(1, dtype=bool), confidence[:1], 0.95) is None


def test_the_threshold_is_the_confidence_of_the_first_that_is_not_answered():
    right = np.arange(2000) < 1000
    confidence = np.linspace(1, 0, 2000)
    threshold = fit_threshold(right, confidence, 0.9)
    assert threshold is not None
    assert threshold in confidence
    answered = confidence > threshold
    assert 1000 < answered.sum() < 1100
    assert right[answered].mean() > 0.9


def test_a_model_good_at_its_most_confident_alone_answers_these():
    rng = np.random.default_rng(0)
    confidence = rng.random(4000)
    right = rng.random(4000) < np.where(confidence > 0.9, 0.99, 0.5)
    threshold = fit_threshold(right, confidence, 0.95)
    assert threshold is not None
    assert threshold == pytest.approx(0.9, abs=0.03)


def test_the_highest_accuracy_is_one_that_a_threshold_is_found_for_and_no_higher_is():
    right, confidence = answers(300, 0)
    highest = selective_prediction.highest_accuracy(right, confidence)
    assert highest is not None
    assert fit_threshold(right, confidence, highest) is not None
    assert fit_threshold(right, confidence, highest + 0.01) is None
    assert selective_prediction.highest_accuracy(~right & right, confidence) is None


@pytest.mark.parametrize("n", [19, 100])
@pytest.mark.parametrize("level", prediction_sets.LEVELS)
def test_sets_contain_the_label_as_often_as_promised_on_average(n, level):
    rng = np.random.default_rng(0)
    contained = []
    for _ in range(1500):
        p = rng.dirichlet([0.3] * 5, size=2 * n)
        labels = (rng.random((2 * n, 1)) > (0.7 * p + 0.06).cumsum(axis=1)).sum(axis=1).clip(max=4)
        least = prediction_sets.fit_threshold(labels[:n], p[:n], level)
        contained.append((p[np.arange(n, 2 * n), labels[n:]] >= least).mean())
    error = 3 * np.std(contained) / 1500**0.5
    assert level - error < np.mean(contained) < level + 1 / (n + 1) + error


def test_of_too_few_documents_the_sets_hold_every_class():
    p = np.full((8, 2), 0.5)
    assert prediction_sets.fit_threshold(np.zeros(8, dtype=int), p, 0.9) == 0
    assert prediction_sets.fit_threshold(np.zeros(0, dtype=int), p[:0], 0.9) == 0
