"""Metrics against scikit-learn, against values worked out by hand, and by their properties."""

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn import metrics as reference

from cleantune.evaluation import metrics


def scored(seed, n=60, classes=3):
    """Labels in which every class occurs, and probabilities with many ties."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    return labels, metrics.softmax(rng.integers(-2, 3, (n, classes)).astype(float))


def headline(labels, p, bins=10):
    return metrics.headline(labels, p, p.argmax(axis=1), bins)


def reliability(labels, p, bins):
    return metrics.reliability(labels, p, p.argmax(axis=1), bins)


def by_class(labels, p, names):
    return metrics.by_class(labels, p, p.argmax(axis=1), names)


def ece(labels, p, bins):
    return metrics.ece(labels, p, p.argmax(axis=1), bins)


SEEDS = pytest.mark.parametrize("seed", range(5))

# ---- softmax


def test_the_softmax_is_the_share_of_the_exponential():
    assert metrics.softmax(np.array([[0.0, np.log(3)]])) == pytest.approx(np.array([[0.25, 0.75]]))
    logits = np.array([[1.0, 2.0, 4.0], [800.0, -800.0, 0.0]])
    assert metrics.softmax(logits) == pytest.approx(np.exp(log_softmax(logits, axis=1)))
    half = np.array([[0.0, 2 * np.log(3)]])
    assert metrics.softmax(half, 2.0) == pytest.approx(np.array([[0.25, 0.75]]))
    assert metrics.softmax(logits.astype(np.float32)).dtype == np.float64
    assert metrics.softmax(np.zeros((2, 3, 4))).sum(axis=-1) == pytest.approx(np.ones((2, 3)))
    far = metrics.softmax(np.array([[[0.0, 0.0], [2000.0, 0.0]]]))
    assert far == pytest.approx(np.array([[[0.5, 0.5], [1, 0]]]))


# ---- the headline


@SEEDS
def test_the_headline_is_that_of_scikit_learn(seed):
    labels, p = scored(seed)
    precision, recall, f1, _ = reference.precision_recall_fscore_support(
        labels, p.argmax(axis=1), average="macro", zero_division=0
    )
    truth = np.eye(3)[labels]
    expected = {
        "accuracy": reference.accuracy_score(labels, p.argmax(axis=1)),
        "macro_precision": precision,
        "macro_recall": recall,
        "macro_f1": f1,
        "roc_auc_ovr": reference.roc_auc_score(labels, p, multi_class="ovr"),
        "nll": reference.log_loss(labels, p),
        "brier": ((p - truth) ** 2).sum(axis=1).mean(),
    }
    found = headline(labels, p)
    assert {k: found[k] for k in expected} == pytest.approx(expected)
    assert set(found) == {*expected, "ece"}
    assert all(type(value) is float for value in found.values())


def test_a_class_that_does_not_occur_is_in_no_macro_mean():
    labels = np.array([0, 0, 1, 1])
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.2, 0.7], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]])
    found = headline(labels, p)
    assert found["macro_recall"] == pytest.approx((0.5 + 1) / 2)
    assert found["macro_precision"] == 1
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["roc_auc_ovr"] == pytest.approx((2.5 / 4 + 1) / 2)
    judged = metrics.accuracy_and_f1(np.log(p), labels)
    assert judged == {k: pytest.approx(found[k]) for k in ("accuracy", "macro_f1")}


@SEEDS
def test_an_epoch_is_judged_by_the_same_metrics(seed):
    labels, p = scored(seed)
    measured = headline(labels, p)
    judged = metrics.accuracy_and_f1(np.log(p), labels)
    assert judged == {k: pytest.approx(measured[k]) for k in ("accuracy", "macro_f1")}
    assert all(type(value) is float for value in judged.values())


def test_a_class_of_one_document_counts_as_any_other():
    labels, p = np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2]])
    assert headline(labels, p)["macro_recall"] == 0.5
    assert metrics.accuracy_and_f1(np.log(p), labels)["macro_f1"] == pytest.approx(0.4)
    assert by_class(labels, p, ["a", "b"])["(macro)"]["recall"] == 0.5


# ---- by class


@SEEDS
def test_each_class_has_the_metrics_of_scikit_learn(seed):
    labels, p = scored(seed)
    rows = by_class(labels, p, ["a", "b", "c"])
    assert list(rows) == ["a", "b", "c", "(macro)", "(weighted)"]
    each = reference.precision_recall_fscore_support(labels, p.argmax(axis=1), zero_division=0)
    for k, name in enumerate("abc"):
        assert rows[name] == {
            "n": (labels == k).sum(),
            "precision": pytest.approx(each[0][k]),
            "recall": pytest.approx(each[1][k]),
            "f1": pytest.approx(each[2][k]),
            "roc_auc": pytest.approx(reference.roc_auc_score(labels == k, p[:, k])),
            "average_precision": pytest.approx(
                reference.average_precision_score(labels == k, p[:, k])
            ),
        }
    sizes = np.bincount(labels)
    for key in ("precision", "recall", "f1", "roc_auc", "average_precision"):
        values = [rows[name][key] for name in "abc"]
        assert rows["(macro)"][key] == pytest.approx(np.mean(values))
        assert rows["(weighted)"][key] == pytest.approx(np.average(values, weights=sizes))
    assert rows["(macro)"]["n"] == rows["(weighted)"]["n"] == len(labels)
    assert all(type(row["n"]) is int for row in rows.values())


def test_a_class_without_documents_is_in_no_mean_over_classes():
    labels = np.array([0, 0, 1, 1])
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.2, 0.7], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]])
    rows = by_class(labels, p, ["a", "b", "c"])
    assert rows["c"].pop("n") == 0
    assert np.isnan(list(rows["c"].values())).all()
    assert rows["(macro)"]["classes"] == 2
    assert rows["(macro)"]["recall"] == pytest.approx(0.75)
    assert rows["(weighted)"]["recall"] == pytest.approx(0.75)


# ---- counts


def test_a_confusion_matrix_has_labels_in_rows_and_predictions_in_columns():
    labels, predicted = np.array([0, 0, 1, 2]), np.array([0, 2, 1, 2])
    assert metrics.confusion(labels, predicted, 4).tolist() == [
        [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]
    ]  # fmt: skip


def test_precision_recall_and_f1_of_counts_and_0_where_undefined():
    counts = np.array([[3, 1, 0, 0], [2, 4, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    precision, recall, f1 = metrics.precision_recall_f1(counts)
    assert precision == pytest.approx([3 / 6, 4 / 6, 0, 0])
    assert recall == pytest.approx([3 / 4, 4 / 6, 0, 0])
    assert f1 == pytest.approx([6 / 10, 8 / 12, 0, 0])


def test_counts_under_one_count_too():
    precision, recall, f1 = metrics.precision_recall_f1(np.array([[0.1, 0.1], [0.0, 0.2]]))
    assert precision == pytest.approx([1, 2 / 3])
    assert recall == pytest.approx([1 / 2, 1])
    assert f1 == pytest.approx([2 / 3, 4 / 5])


# ---- ranking


@SEEDS
def test_ranking_is_measured_as_by_scikit_learn(seed):
    labels, p = scored(seed)
    positive, scores = labels == 0, p[:, 0]
    assert metrics.roc_auc(positive, scores) == pytest.approx(
        reference.roc_auc_score(positive, scores)
    )
    assert metrics.average_precision(positive, scores) == pytest.approx(
        reference.average_precision_score(positive, scores)
    )
    false, true = metrics.roc_curve(positive, scores)
    expected = reference.roc_curve(positive, scores, drop_intermediate=False)
    assert false == pytest.approx(expected[0])
    assert true == pytest.approx(expected[1])
    recall, precision = metrics.precision_recall_curve(positive, scores)
    expected = reference.precision_recall_curve(positive, scores)
    assert precision == pytest.approx(expected[0][-2::-1])
    assert recall == pytest.approx(expected[1][-2::-1])


def test_the_curves_count_what_is_at_or_over_each_threshold():
    positive = np.array([True, False, True, False, True])
    scores = np.array([0.2, 0.9, 0.9, 0.5, 0.5])
    thresholds, true, false = metrics.cumulated(positive, scores)
    assert thresholds.tolist() == [0.9, 0.5, 0.2]
    assert true.tolist() == [0, 1, 2, 3]
    assert false.tolist() == [0, 1, 2, 2]


def test_a_curve_of_one_document_on_each_side_ends_at_1():
    positive, scores = np.array([True, False]), np.array([0.6, 0.3])
    false, true = metrics.roc_curve(positive, scores)
    assert (false.tolist(), true.tolist()) == ([0, 0, 1], [0, 1, 1])
    assert metrics.precision_recall_curve(positive, scores)[0].tolist() == [1, 1]


def test_one_document_on_a_side_is_enough_to_rank():
    scores = np.array([0.9, 0.5, 0.1])
    assert metrics.roc_auc(np.array([False, False, True]), scores) == 0
    assert metrics.roc_auc(np.array([True, True, False]), scores) == 1
    assert metrics.roc_auc(np.array([False, True, False]), scores) == 0.5


def test_one_positive_at_the_end_is_found_at_the_lowest_precision():
    positive, scores = np.array([False, False, True]), np.array([0.9, 0.5, 0.1])
    assert metrics.average_precision(positive, scores) == pytest.approx(1 / 3)


def test_a_curve_of_nothing_stays_at_0():
    scores = np.array([0.3, 0.6])
    none, all_ = np.array([False, False]), np.array([True, True])
    false, true = metrics.roc_curve(none, scores)
    assert (false.tolist(), true.tolist()) == ([0, 0.5, 1], [0, 0, 0])
    false, true = metrics.roc_curve(all_, scores)
    assert (false.tolist(), true.tolist()) == ([0, 0, 0], [0, 0.5, 1])
    recall, precision = metrics.precision_recall_curve(none, scores)
    assert (recall.tolist(), precision.tolist()) == ([0, 0], [0, 0])
    assert np.isnan(metrics.average_precision(none, scores))
    assert metrics.average_precision(all_, scores) == 1


@pytest.mark.parametrize("side", [True, False])
def test_without_both_sides_ranking_is_undefined(side):
    assert np.isnan(metrics.roc_auc(np.array([side, side]), np.array([0.3, 0.6])))


# ---- probabilities


def test_likelihood_and_brier_score_of_known_probabilities():
    labels = np.array([0, 1])
    p = np.array([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1]])
    assert metrics.nll(labels, p) == pytest.approx((np.log(2) + np.log(10)) / 2)
    assert metrics.brier(labels, p) == pytest.approx((0.375 + 1.46) / 2)
    assert metrics.brier(np.array([0]), np.array([[0.0, 1.0]])) == 2


def test_a_probability_of_0_costs_a_finite_loss():
    assert metrics.nll(np.array([1]), np.array([[1.0, 0.0]])) == pytest.approx(-np.log(1e-12))


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    p = np.array([[0.8, 0.2]] * 10)
    assert ece(np.array([0] * 8 + [1] * 2), p, 15) == pytest.approx(0)
    assert ece(np.array([0] * 5 + [1] * 5), p, 15) == pytest.approx(0.3)


def test_confidence_is_counted_in_bins_that_hold_their_upper_edge():
    p = np.array([[0.5, 0.5], [0.6, 0.4], [0.25, 0.75], [0.1, 0.9], [0.0, 1.0], [1.0 + 1e-15, 0.0]])
    labels = np.array([0, 1, 1, 1, 0, 0])
    share, confidence, accuracy = reliability(labels, p, 4)
    assert share == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6])
    assert confidence == pytest.approx([0, 0.5, (0.6 + 0.75) / 2, (0.9 + 1 + 1) / 3])
    assert accuracy == pytest.approx([0, 1, 1 / 2, 2 / 3])


def test_confidences_from_0_to_1_have_bins_from_the_first_to_the_last():
    assert metrics.bin_of(np.array([0.0, 0.1, 0.25, 0.26, 1.0]), 4).tolist() == [0, 0, 0, 1, 3]


def test_one_bin_holds_everything():
    p = np.array([[0.9, 0.1], [0.4, 0.6]])
    assert ece(np.array([0, 0]), p, 1) == pytest.approx(abs(0.5 - 0.75))


# ---- temperature


def heated(by, n=4000):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (n, 4))
    p = metrics.softmax(logits)
    labels = (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(max=3)
    return labels, logits * by


@pytest.mark.filterwarnings("error")  # of an option that the minimizer does not know
@pytest.mark.parametrize("by", [0.5, 1.0, 2.5])
def test_the_temperature_found_is_the_one_the_scores_were_heated_by(by):
    labels, logits = heated(by)
    best = metrics.temperature(labels, logits)
    assert best == pytest.approx(by, rel=0.1)

    def nll(temperature):
        return metrics.nll(labels, metrics.softmax(logits, temperature))

    assert nll(best) < min(nll(best * 1.001), nll(best / 1.001)), "it is the best to a thousandth"
    assert metrics.temperature(labels, logits + 1000) == pytest.approx(best, rel=1e-3)


def test_the_temperature_stays_between_its_bounds():
    labels, logits = heated(1.0)
    assert metrics.temperature(labels, logits * 1000) == pytest.approx(20, rel=1e-3)
    assert metrics.temperature(labels, logits / 1000) == pytest.approx(0.05, rel=1e-3)


def test_without_an_error_there_is_nothing_to_learn_a_temperature_from():
    _, logits = heated(3.0)
    assert metrics.temperature(logits.argmax(axis=1), logits) == 1
    # one error is enough
    labels = logits.argmax(axis=1)
    labels[0] = (labels[0] + 1) % 4
    assert metrics.temperature(labels, logits) != 1


# ---- rounding


def test_floats_are_rounded_to_six_digits_wherever_they_are():
    value = {"a": 0.123456789, "b": [1234567.8, {"c": 1e-9 / 3}], "n": 12345678, "s": "0.123456789",
             "none": None, "true": True}  # fmt: skip
    assert metrics.rounded(value) == {
        "a": 0.123457, "b": [1234570.0, {"c": 3.33333e-10}], "n": 12345678, "s": "0.123456789",
        "none": None, "true": True}  # fmt: skip
    assert type(metrics.rounded(12345678)) is int
    assert metrics.rounded({"a": [float("nan"), np.nan]}) == {"a": [None, None]}


# ---- several models, and words no class has


def test_the_mean_of_several_models_is_that_of_their_probabilities():
    a, b = np.array([[0.0, np.log(3)]]), np.array([[5.0, 5.0]])
    mean = metrics.mean_logits([a, b])
    assert metrics.softmax(mean) == pytest.approx(np.array([[0.375, 0.625]]))
    assert np.exp(mean) == pytest.approx(np.array([[0.375, 0.625]])), "logarithms of probabilities"
    sure = metrics.mean_logits([np.array([[2000.0, 0.0]])])
    assert sure == pytest.approx(np.array([[0.0, np.log(1e-12)]]))


def test_classes_not_learned_come_last_by_a_factor_of_a_million_millions():
    scores = np.array([[1.0, 9.0, 2.0, -3.0], [0.0, 5.0, 4.0, 7.0]])
    learned = np.array([True, False, True, True])
    found = metrics.put_last(scores, learned)
    assert found[:, learned] == pytest.approx(scores[:, learned])
    assert found[:, 1] == pytest.approx([-3 + np.log(1e-12), 0 + np.log(1e-12)])
    two = metrics.put_last(scores, np.array([True, False, False, True]))
    assert two[:, 1] == pytest.approx(two[:, 2])


# ---- further calibration errors


def test_the_adaptive_error_is_that_of_bins_with_as_many_documents_each():
    confidence = np.linspace(0.5, 0.99, 12)
    p = np.stack([confidence, 1 - confidence], axis=1)[np.random.default_rng(0).permutation(12)]
    labels = np.arange(12) % 2
    order = np.argsort(p[:, 0])
    gaps = [abs(p[part, 0].mean() - (labels[part] == 0).mean()) for part in np.split(order, 3)]
    found = metrics.adaptive_ece(labels, p, np.zeros(12, dtype=int), 3)
    assert found == pytest.approx(np.mean(gaps))


def test_documents_of_equal_confidence_share_a_bin_whatever_their_order():
    p = np.array([[0.8, 0.2]] * 10)
    labels, first = np.array([0] * 8 + [1] * 2), np.zeros(10, dtype=int)
    assert metrics.adaptive_ece(labels, p, first, 5) == pytest.approx(0)
    assert metrics.adaptive_ece(labels[::-1], p, first, 5) == pytest.approx(0)


def test_the_classwise_error_sees_the_classes_that_are_not_predicted():
    p = np.array([[0.6, 0.4, 0.0]] * 10)
    labels = np.array([0] * 6 + [2] * 4)
    assert ece(labels, p, 10) == pytest.approx(0)
    assert metrics.classwise_ece(labels, p, 10) == pytest.approx((0 + 0.4 + 0.4) / 3)
