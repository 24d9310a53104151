"""How far a figure can be trusted: bootstrap intervals and paired comparisons of two models.

Arrays are as in ``stages.common.metrics``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from stages.common import metrics

LEVEL = (2.5, 97.5)  # percentiles: a 95 % interval


def resamples(count: int, documents: int, seed: int) -> np.ndarray:
    """Return how often each document is drawn in each resample, (count, documents) of uint8."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros((count, documents), dtype=np.uint8)
    for row in drawn:
        row += np.bincount(
            rng.integers(documents, size=documents), minlength=documents
        ).astype(np.uint8)  # fmt: skip
    return drawn


def intervals(
    labels: np.ndarray,
    probabilities: np.ndarray,
    predicted: np.ndarray,
    bins: int,
    drawn: np.ndarray,
) -> dict[str, list[float]]:
    """Return the 95 % percentile-bootstrap interval of each headline figure (Efron 1979)."""
    each = [
        metrics.headline(labels, probabilities, predicted, bins, row.astype(float)) for row in drawn
    ]
    return {name: percentiles([figures[name] for figures in each]) for name in each[0]}


def percentiles(values: NDArray[np.float64] | list[float]) -> list[float]:
    """Return the lower and the upper end of the 95 % interval of resampled ``values``."""
    return [float(v) for v in np.percentile(values, LEVEL)]


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> dict[str, Any]:
    """Compare two models document by document: exact two-sided McNemar test (1947).

    Takes bool arrays, whether each model is right. Returns how many documents only A and only B
    get right, and the p-value, 1 when the models never disagree.
    """
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    both = only_a + only_b
    p = float(binomtest(only_a, both).pvalue) if both else 1.0
    return {"only_model_right": only_a, "only_baseline_right": only_b, "mcnemar_p": p}


def paired_difference(
    labels: np.ndarray, a: np.ndarray, b: np.ndarray, drawn: np.ndarray
) -> dict[str, list[float]]:
    """Return 95 % intervals of accuracy and macro-F1 of A less those of B, on the same resamples.

    ``a`` and ``b`` are the classes that each predicts, (n,).
    """
    classes = int(max(labels.max(), a.max(), b.max())) + 1
    differences = []
    for row in drawn:
        pair = [_accuracy_and_f1(labels, predicted, classes, row) for predicted in (a, b)]
        differences.append(np.subtract(*pair))
    low, high = np.percentile(differences, LEVEL, axis=0)
    return {
        name: [float(low[i]), float(high[i])] for i, name in enumerate(("accuracy", "macro_f1"))
    }


def _accuracy_and_f1(
    labels: np.ndarray, predicted: np.ndarray, classes: int, row: np.ndarray
) -> np.ndarray:
    counts = metrics.confusion(labels, predicted, classes, row.astype(float))
    f1 = metrics.precision_recall_f1(counts)[2]
    return np.array([np.trace(counts) / counts.sum(), f1[counts.sum(axis=1) > 0].mean()])
