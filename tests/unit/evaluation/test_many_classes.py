"""What charts and plots show of many classes: nothing is lost in the sums, and the worst are there."""

import numpy as np
import pytest

from cleantune.data.class_tables import ENDS, SHOWN
from cleantune.evaluation import many_classes, metrics

NAMES = [f"class {k}" for k in range(77)]


@pytest.fixture(scope="module")
def scored() -> tuple[np.ndarray, np.ndarray]:
    """Labels (770,), and probabilities (770, 77) under which class 5 is never told apart."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(77), 10)
    logits = rng.normal(0, 1, (770, 77)) + 3 * np.eye(77)[labels]
    logits[:, 5] = rng.normal(0, 1, 770)
    return labels, metrics.softmax(logits)


def test_a_grouped_matrix_keeps_every_document_and_the_most_confused_classes(scored):
    labels, probabilities = scored
    counts = metrics.confusion(labels, probabilities.argmax(axis=1), 77)
    rows, shown = many_classes.most_confused(counts, NAMES)
    small = many_classes.grouped(counts, rows)
    assert small.shape == (SHOWN, SHOWN)
    assert small.sum() == 770
    assert shown[-1] == "63 other classes"
    mistakes = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
    kept = [NAMES.index(name) for name in shown[:-1]]
    assert kept == sorted(kept)
    assert min(mistakes[kept]) >= max(np.delete(mistakes, kept))
    i, j = kept[0], kept[1]
    assert small[0, 1] == counts[i, j]
    assert small[0, -1] == np.delete(counts[i], kept).sum()


def test_a_matrix_of_few_classes_is_whole():
    counts = np.arange(16).reshape(4, 4)
    rows, shown = many_classes.most_confused(counts, NAMES[:4])
    assert shown == NAMES[:4]
    assert (many_classes.grouped(counts, rows) == counts).all()


def test_of_many_curves_the_average_and_the_worst_are_shown(scored):
    labels, probabilities = scored
    roc = many_classes.roc_curves(labels, probabilities, NAMES)
    average, *worst = roc
    assert average == "macro average of 77 classes"
    assert len(worst) == ENDS
    assert worst[0] == "class 5"
    x, y = roc[average]
    areas = [metrics.roc_auc(labels == k, probabilities[:, k]) for k in range(77)]
    assert np.trapezoid(y, x) == pytest.approx(np.mean(areas), abs=0.005)
    precision = many_classes.precision_recall_curves(labels, probabilities, NAMES)
    assert list(precision)[1] == "class 5"


def test_few_classes_have_a_curve_each_where_they_have_documents(scored):
    labels, probabilities = scored
    kept = labels < 3
    few = probabilities[kept][:, :4] / probabilities[kept][:, :4].sum(axis=1, keepdims=True)
    roc = many_classes.roc_curves(labels[kept], few, NAMES[:4])
    assert list(roc) == NAMES[:3]
    for k, curve in enumerate(roc.values()):
        expected = metrics.roc_curve(labels[kept] == k, few[:, k])
        assert np.array_equal(curve, expected)


def test_confusions_and_predictions_are_named_and_counted():
    counts = np.array([[90, 10, 0], [7, 50, 0], [0, 1, 80]])
    first = many_classes.confusions(counts, ["a", "b", "c"])[0]
    assert first == {"label": "a", "predicted": "b", "n": 10, "share": 0.1}
    as_which = many_classes.predicted_as(counts, ["a", "b", "c"])
    assert as_which == {"a": {"a": 90, "b": 10}, "b": {"b": 50, "a": 7}, "c": {"c": 80, "b": 1}}
