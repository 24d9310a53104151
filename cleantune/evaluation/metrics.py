"""Metrics of a classifier: accuracy, ranking, calibration.

Everywhere ``labels`` is an int array of shape (n,), ``probabilities`` a float array of shape
(n, classes) whose rows sum to one, and ``predicted`` an int array of shape (n,), the predicted
classes (``cleantune.evaluation.threshold``). What is undefined, such as the recall of a class
without documents, is NaN.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import rankdata

Metrics = dict[str, float]
TINY = 1e-12  # keeps the logarithm of a probability finite


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return the softmax of ``logits / temperature`` over the last axis, float64."""
    scaled = logits.astype(np.float64) / temperature
    raised = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    shares: np.ndarray = raised / raised.sum(axis=-1, keepdims=True)
    return shares


def put_last(scores: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """Return ``scores`` (n, classes) in which classes not ``learned``, bool (classes,), come last.

    Each is less likely than any learned one by a factor of ``TINY``, and finite.
    """
    lowest = scores[:, learned].min(axis=1, keepdims=True) + np.log(TINY)
    return np.where(learned, scores, lowest)


def mean_logits(logits: Sequence[np.ndarray]) -> np.ndarray:
    """Return the logarithm of the mean probability that several models give each class."""
    mean = np.mean([softmax(scores) for scores in logits], axis=0)
    result: np.ndarray = np.log(np.maximum(mean, TINY))
    return result


def headline(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, bins: int
) -> Metrics:
    """Return accuracy, macro precision, recall, F1 and ROC-AUC, NLL, Brier score and ECE.

    Macro averages are over the classes that occur among ``labels``; a class that is never
    predicted has precision 0, as in scikit-learn with ``zero_division=0``. ROC-AUC is one class
    against the rest; NaN where only one occurs.
    """
    counts = confusion(labels, predicted, probabilities.shape[1])
    precision, recall, f1 = precision_recall_f1(counts)
    there = counts.sum(axis=1) > 0
    areas = [roc_auc(labels == k, probabilities[:, k]) for k in np.flatnonzero(there)]
    return {
        "accuracy": float(np.trace(counts) / len(labels)),
        "macro_precision": float(precision[there].mean()),
        "macro_recall": float(recall[there].mean()),
        "macro_f1": float(f1[there].mean()),
        "roc_auc_ovr": float(np.mean(areas)),
        "nll": nll(labels, probabilities),
        "brier": brier(labels, probabilities),
        "ece": ece(labels, probabilities, predicted, bins),
    }


def accuracy_and_f1(logits: np.ndarray, labels: np.ndarray) -> Metrics:
    """Return accuracy and macro-F1 of the argmax of ``logits`` (n, classes)."""
    counts = confusion(labels, logits.argmax(axis=1), logits.shape[1])
    f1 = precision_recall_f1(counts)[2]
    return {"accuracy": float(np.trace(counts) / len(labels)),
            "macro_f1": float(f1[counts.sum(axis=1) > 0].mean())}  # fmt: skip


def by_class(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, names: Sequence[str]
) -> dict[str, Metrics]:
    """Return per class n, precision, recall, F1, ROC-AUC, average precision; then weighted means.

    The weights of ``weighted`` are the classes' shares among ``labels``; ``macro`` counts each of
    the ``classes`` that occur once. A class without a document has none of these: NaN.
    """
    counts = confusion(labels, predicted, len(names))
    precision, recall, f1 = precision_recall_f1(counts)
    size = counts.sum(axis=1)
    table = np.array([
        [precision[k], recall[k], f1[k], roc_auc(labels == k, probabilities[:, k]),
         average_precision(labels == k, probabilities[:, k])] if size[k] else [np.nan] * 5
        for k in range(len(names))
    ])  # fmt: skip
    columns = ("precision", "recall", "f1", "roc_auc", "average_precision")
    rows = {
        name: {"n": int(size[k])} | dict(zip(columns, map(float, table[k]), strict=True))
        for k, name in enumerate(names)
    }
    here = size > 0
    for name, share in (("macro", here), ("weighted", size)):
        mean = np.average(table[here], axis=0, weights=share[here])
        rows[f"({name})"] = {"n": int(size.sum()), "classes": int(here.sum())} | dict(
            zip(columns, map(float, mean), strict=True)
        )
    return rows


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return how often each label (row) was predicted as each class (column)."""
    cells = np.bincount(labels * classes + predicted, minlength=classes**2)
    counts: np.ndarray = cells.reshape(classes, classes)
    return counts


def precision_recall_f1(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each class's precision, recall and F1 from a confusion matrix; 0 where undefined."""
    right = np.diag(counts).astype(float)
    predicted, true = counts.sum(axis=0), counts.sum(axis=1)
    return _ratio(right, predicted), _ratio(right, true), _ratio(2 * right, predicted + true)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), 0.0)


def roc_auc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve; ties count half; NaN when one side is empty."""
    _, true, false = cumulated(positive, scores)
    if true[-1] == 0 or false[-1] == 0:
        return np.nan
    return float(np.trapezoid(true, false) / (true[-1] * false[-1]))


def average_precision(positive: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean precision over the recall steps; NaN when nothing is positive."""
    _, true, false = cumulated(positive, scores)
    if true[-1] == 0:
        return np.nan
    precision = true[1:] / (true[1:] + false[1:])
    return float((np.diff(true) * precision).sum() / true[-1])


def roc_curve(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true positive rates from (0, 0) to (1, 1); rates of nothing are 0."""
    _, true, false = cumulated(positive, scores)
    return false / max(false[-1], 1), true / max(true[-1], 1)


def precision_recall_curve(
    positive: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and precision, from the highest score to all documents."""
    _, true, false = cumulated(positive, scores)
    return true[1:] / max(true[-1], 1), true[1:] / (true[1:] + false[1:])


def cumulated(
    positive: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return thresholds from high to low, and the true and false positives at each, after 0."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of each run of ties
    true = np.concatenate([[0.0], positive[order].cumsum()[last]])
    both = np.concatenate([[0.0], last + 1.0])
    return ranked[last], true, both - true


def nll(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean negative log-likelihood of the labels, in nats."""
    return float(losses(labels, probabilities).mean())


def losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the negative log-likelihood of each label, in nats, (n,)."""
    given = np.maximum(probabilities[np.arange(len(labels)), labels], TINY)
    each: np.ndarray = -np.log(given)
    return each


def brier(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the Brier score: squared error summed over classes, 0 to 2 (Brier 1950)."""
    return float(squared_errors(labels, probabilities).mean())


def squared_errors(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return each document's squared error summed over classes, (n,)."""
    each: np.ndarray = ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1)
    return each


def ece(labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, bins: int) -> float:
    """Return the expected calibration error: gap of confidence and accuracy (Guo et al. 2017)."""
    share, confidence, accuracy = reliability(labels, probabilities, predicted, bins)
    return float((share * np.abs(confidence - accuracy)).sum())


def adaptive_ece(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, bins: int
) -> float:
    """Return the calibration error over bins of equal numbers of documents (Nguyen and O'Connor 2015).

    Documents of equal confidence are in one bin.
    """
    confidence = probabilities[np.arange(len(labels)), predicted]
    at = (rankdata(confidence, method="min") - 1).astype(int) * bins // len(labels)
    return _weighted_gap(at, confidence, predicted == labels)


def classwise_ece(labels: np.ndarray, probabilities: np.ndarray, bins: int) -> float:
    """Return the mean over classes of the gap between a class's probability and its share of the documents.

    In bins of equal width of this probability, for all documents, whatever is predicted (Kull et al. 2019).
    """
    return float(np.mean([_weighted_gap(bin_of(column, bins), column, labels == k)
                          for k, column in enumerate(probabilities.T)]))  # fmt: skip


def _weighted_gap(at: np.ndarray, given: np.ndarray, true: np.ndarray) -> float:
    """Return the gap between the means of ``given`` and ``true`` in each bin ``at``, weighted by its size."""
    return float(np.abs(np.bincount(at, weights=given - true)).sum() / len(at))


def reliability(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, per confidence bin of equal width, share of documents, mean confidence, accuracy.

    Confidence is the probability of the predicted class. An empty bin has share,
    confidence and accuracy 0.
    """
    confidences = probabilities[np.arange(len(labels)), predicted]
    right = predicted == labels
    at = bin_of(confidences, bins)
    size = np.bincount(at, minlength=bins)
    safe = np.where(size > 0, size, 1)
    confidence = np.bincount(at, weights=confidences, minlength=bins) / safe
    accuracy = np.bincount(at, weights=right, minlength=bins) / safe
    return size / size.sum(), confidence, accuracy


def bin_of(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Return the bin of each confidence, (n,): of equal width, counted from 0.

    Upper edges belong to their bin, as in the method's paper; rounding may put 1.0 above 1.
    """
    at: np.ndarray = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return at


def temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """Return the temperature, 0.05 to 20, that minimises the NLL (Guo et al. 2017).

    1 where no document is misclassified: the NLL then has no minimum.
    """
    if (logits.argmax(axis=1) == labels).all():
        return 1.0

    def loss(log_t: float) -> float:
        scaled = logits / np.exp(log_t)
        top = scaled.max(axis=1, keepdims=True)
        norm = top[:, 0] + np.log(np.exp(scaled - top).sum(axis=1))
        return float((norm - scaled[np.arange(len(labels)), labels]).mean())

    best = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded",
                           options={"xatol": 1e-6})  # fmt: skip
    return float(np.exp(best.x))


def rounded(value: Any) -> Any:
    """Round floats to six significant digits: further digits differ between processors.

    NaN, an undefined value, becomes None, null in JSON.
    """
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if not isinstance(value, float):
        return value
    return None if np.isnan(value) else float(f"{value:.6g}")
