"""What charts and plots show of many classes: averages, the worst, the most confused.

Arrays are as in ``cleantune.evaluation.metrics``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cleantune.data.class_tables import ENDS, SHOWN, commonest_pairs, smallest
from cleantune.evaluation import metrics

CURVES = 8  # on one chart: as many as there are colours
GRID = np.linspace(0, 1, 201)
Curve = tuple[np.ndarray, np.ndarray]


def roc_curves(
    labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str]
) -> dict[str, Curve]:
    """Return false and true positive rates by class; of many, the average and the worst."""
    kept = [k for k in range(len(names)) if 0 < (labels == k).sum() < len(labels)]
    return _shown(metrics.roc_curve, metrics.roc_auc, labels, probabilities, names, kept)


def precision_recall_curves(
    labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str]
) -> dict[str, Curve]:
    """Return recall and precision by class; of many, the average and the worst."""
    kept = [k for k in range(len(names)) if (labels == k).any()]
    return _shown(metrics.precision_recall_curve, metrics.average_precision, labels, probabilities,
                  names, kept)  # fmt: skip


def _shown(
    curve: Callable[..., Curve], area: Callable[..., float], labels: np.ndarray,
    probabilities: np.ndarray, names: Sequence[str], kept: list[int],
) -> dict[str, Curve]:  # fmt: skip
    """Return the curve of each class in ``kept``, or the macro average and those of least ``area``.

    The average is vertical, over the classes, as in Fawcett (2006).
    """
    every = {k: curve(labels == k, probabilities[:, k]) for k in kept}
    if len(kept) <= CURVES:
        return {names[k]: points for k, points in every.items()}
    areas = [area(labels == k, probabilities[:, k]) for k in kept]
    mean = np.mean([np.interp(GRID, *points) for points in every.values()], axis=0)
    worst = [kept[i] for i in smallest(areas, ENDS)]
    return {f"macro average of {len(kept):,} classes": (GRID, mean)} | {
        names[k]: every[k] for k in worst
    }


def most_confused(counts: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Return for each class (classes,) its row of a smaller confusion matrix, and the rows' names.

    With more than ``SHOWN`` classes the rows are those with most mistakes, and one for all others.
    """
    if len(names) <= SHOWN:
        return np.arange(len(names)), list(names)
    apart = counts * (1 - np.eye(len(counts), dtype=int))
    mistakes = apart.sum(axis=0) + apart.sum(axis=1)
    chosen = np.sort(np.argsort(-mistakes, kind="stable")[: SHOWN - 1])
    rows = np.full(len(names), len(chosen))
    rows[chosen] = np.arange(len(chosen))
    return rows, [*(names[k] for k in chosen), f"{len(names) - len(chosen):,} other classes"]


def grouped(counts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the confusion matrix of ``most_confused``'s ``rows``; documents within "others" are right or not."""
    size = int(rows.max()) + 1
    result = np.zeros((size, size), dtype=int)
    np.add.at(result, (rows[:, None], rows[None, :]), counts)
    return result


def confusions(counts: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the commonest confusions: ``label``, ``predicted``, ``n``, ``share`` of the label's documents."""
    sizes = counts.sum(axis=1)
    return [{"label": names[i], "predicted": names[j], "n": int(counts[i, j]),
             "share": float(counts[i, j] / sizes[i])} for i, j in commonest_pairs(counts)]  # fmt: skip


def predicted_as(counts: np.ndarray, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return for each class how many of its documents were predicted as which, the commonest first."""
    return {
        name: {names[j]: int(row[j]) for j in np.argsort(-row, kind="stable") if row[j]}
        for name, row in zip(names, counts, strict=True)
    }
