"""The tables for `dvc plots`: small CSV files with a header, one row per point."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cleantune import files
from cleantune.evaluation import many_classes, metrics, selective_prediction

POINTS = 200  # of a curve at most; more would not be visible
Row = Sequence[Any]


def write(path: Path, columns: Row, rows: Iterable[Row]) -> None:
    """Write one table; floats keep six significant digits."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in rows)
    files.write_text(path, text.getvalue())


def write_curves(
    folder: Path,
    labels: np.ndarray,
    probabilities: np.ndarray,
    predicted: np.ndarray,
    names: Sequence[str],
    bins: int,
    reliability: Mapping[str, np.ndarray],
) -> None:
    """Write the tables of the test set, without curves of classes that have no test documents.

    Of many classes: what ``cleantune.evaluation.many_classes`` chooses.

    ``probabilities`` has shape (documents, classes), and so have those of ``reliability``, by
    temperature; ``predicted`` has (documents,).
    """
    counts = metrics.confusion(labels, predicted, len(names))
    row, shown = many_classes.most_confused(counts, names)
    pairs = ((shown[row[a]], shown[row[b]]) for a, b in zip(labels, predicted, strict=True))
    write(folder / "confusion.csv", ("actual", "predicted"), pairs)
    write(folder / "roc.csv", ("series", "false_positive_rate", "true_positive_rate"), (
        (name, *point)
        for name, curve in many_classes.roc_curves(labels, probabilities, names).items()
        for point in thinned(*curve)
    ))  # fmt: skip
    write(folder / "precision_recall.csv", ("series", "recall", "precision"), (
        (name, *point)
        for name, curve in many_classes.precision_recall_curves(labels, probabilities, names).items()
        for point in thinned(*curve)
    ))  # fmt: skip
    write(folder / "reliability.csv", ("series", "confidence", "accuracy", "share"), (
        (kind, *map(float, (confidence, accuracy, share)))
        for kind, values in reliability.items()
        for share, confidence, accuracy in zip(
            *metrics.reliability(labels, values, predicted, bins), strict=True)
        if share
    ))  # fmt: skip


def write_risk_coverage(folder: Path, right: np.ndarray, confidence: np.ndarray) -> None:
    """Write the share of wrong answers by the share answered; arguments as of ``selective_prediction``."""
    write(folder / "risk_coverage.csv", ("coverage", "risk"),
          thinned(*selective_prediction.risk_coverage(right, confidence)))  # fmt: skip


def write_bars(
    folder: Path, slices: dict[str, dict[str, Any]], models: Mapping[str, Mapping[str, float]]
) -> None:
    """Write the accuracy of each slice, and macro-F1 and accuracy of each model."""
    write(folder / "slices.csv", ("slice", "accuracy", "n"), (
        (f"{kind}: {name}", part["accuracy"], part["n"])
        for kind, group in slices.items() for name, part in group.items()
    ))  # fmt: skip
    write(folder / "baselines.csv", ("model", "macro_f1", "accuracy"), (
        (name, of["macro_f1"], of["accuracy"]) for name, of in models.items()
    ))  # fmt: skip


def read_history(path: Path) -> list[dict[str, str]]:
    """Return the rows of finetune's history; ``UserError`` when it is missing."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise files.missing(path) from None


def write_training(folder: Path, history: list[dict[str, str]]) -> None:
    """Write loss and F1 by step from finetune's history (one row per step, validation metrics at the end of each epoch)."""
    write(folder / "loss.csv", ("step", "series", "loss"), (
        (int(row["step"]), split, float(row[column])) for split, column in
        (("train", "loss"), ("validation", "validation_loss")) for row in history if row[column]
    ))  # fmt: skip
    write(folder / "f1.csv", ("step", "validation_macro_f1"), (
        (int(row["step"]), float(row["validation_macro_f1"])) for row in history
        if row["validation_macro_f1"]
    ))  # fmt: skip


def thinned(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    """Return at most ``POINTS`` points of a curve, ends included, evenly along its length."""
    if len(x) == 0:
        return []
    distance = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    keep = np.searchsorted(distance, np.linspace(0, distance[-1], POINTS)) if distance[-1] else [0]
    keep = np.union1d(np.asarray(keep), [0, len(x) - 1])
    return [(float(a), float(b)) for a, b in zip(x[keep], y[keep], strict=True)]
