"""The metrics with the test labels that a person corrected, beside those with the labels as they came."""

from dataclasses import replace
from typing import Any

import numpy as np

from cleantune.evaluation.predictions import Split

METRICS = ("accuracy", "macro_f1")


def measure_corrected(test: Split, labels: np.ndarray, reviewed: int, bins: int) -> dict[str, Any]:
    """Return ``METRICS`` with the corrected ``labels`` (documents,) and their intervals; empty without a review.

    ``changed`` are the corrected labels among those of the ``reviewed``.
    """
    if not reviewed:
        return {}
    corrected = replace(test, labels=labels)
    headline, intervals = corrected.headline(bins), corrected.intervals(bins)
    return {
        "reviewed": reviewed,
        "changed": int((labels != test.labels).sum()),
        **{name: headline[name] for name in METRICS},
        "intervals": {name: intervals[name] for name in METRICS},
    }


def in_words(corrected: dict[str, Any], metrics: dict[str, float]) -> str:
    """Return a sentence on both; ``metrics`` are those with the labels as they came."""
    low, high = corrected["intervals"]["accuracy"] or (np.nan, np.nan)
    return (
        f"{corrected['reviewed']:,} test labels were reviewed by a person and {corrected['changed']:,} corrected: "
        f"with these the accuracy is {corrected['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}), with the "
        f"labels as they came {metrics['accuracy']:.4f}; macro-F1 {corrected['macro_f1']:.4f} and "
        f"{metrics['macro_f1']:.4f}. Only labels that some model contradicts are reviewed, so errors on which all "
        "models agree are not corrected."
    )
