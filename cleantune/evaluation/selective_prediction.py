"""Selective prediction: the model answers where it is confident enough, and else abstains.

``right`` is bool (n,), whether each prediction is the label; ``confidence`` float (n,), the probability
of the predicted class.
"""

import math

import numpy as np
from scipy.stats import binom

from cleantune.evaluation import metrics

LEVEL = 0.95  # confidence with which the answers reach the accuracy


def risk_coverage(right: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of documents answered (coverage), and of these the share that is wrong (risk).

    One point for each distinct confidence, from the highest to the lowest.
    """
    _, true, false = metrics.cumulated(right, confidence)
    answered = (true + false)[1:]
    return answered / len(right), false[1:] / answered


def aurc(right: np.ndarray, confidence: np.ndarray) -> float:
    """Return the area under the risk-coverage curve: the mean risk over the coverages 1/n to 1.

    Geifman, Uziel and El-Yaniv (2019); in an expected order where confidences are equal.
    """
    _, true, false = metrics.cumulated(right, confidence)
    answered = np.arange(1, len(right) + 1)
    return float((np.interp(answered, true + false, false) / answered).mean())


def augrc(right: np.ndarray, confidence: np.ndarray) -> float:
    """Return the area under the generalized risk-coverage curve, 0 to 0.5 (arXiv 2407.01032).

    The generalized risk is the share of all documents that are answered and wrong; the area is its mean
    over all coverages: the share of documents that fail silently.
    """
    _, true, false = metrics.cumulated(right, confidence)
    return float(np.trapezoid(false, true + false) / len(right) ** 2)


def fit_threshold(right: np.ndarray, confidence: np.ndarray, accuracy: float) -> float | None:
    """Return the confidence above which answers are right with at least ``accuracy``, 0 to 1.

    The lowest that holds with the probability ``LEVEL`` over the choice of these documents; 0 answers
    all, None where there is none. Learn then Test (arXiv 2110.01052): exact binomial tests
    (Clopper and Pearson 1934) of ever more answers, up to the first that is not significant. One
    sequence has all documents alone, others start at half of them, a quarter and so on, for models that
    are good at their most confident only; they share the error probability (Bonferroni).
    """
    scores, true, false = metrics.cumulated(right, confidence)
    answered = (true + false)[1:]
    p = binom.cdf(false[1:], answered, 1 - accuracy)
    fewest = math.log(1 - LEVEL) / math.log(accuracy)  # answers, all right, that are significant
    starts = [n for k in range(64) if (n := len(right) / 2**k) >= fewest] or [fewest]
    last = -1
    for start in starts:
        first = int(np.searchsorted(answered, start))
        failed = np.flatnonzero(p[first:] > (1 - LEVEL) / len(starts))
        end = first + (failed[0] if len(failed) else len(p) - first)
        last = max(last, end - 1 if end > first else -1)
    return float([*scores[1:], 0.0][last]) if last >= 0 else None


def highest_accuracy(right: np.ndarray, confidence: np.ndarray) -> float | None:
    """Return the highest accuracy, in whole per cent, that ``fit_threshold`` finds a confidence for."""
    hundredths = (k / 100 for k in range(99, 0, -1))
    return next((a for a in hundredths if fit_threshold(right, confidence, a) is not None), None)
