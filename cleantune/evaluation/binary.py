"""Precision, recall and false-positive rate of the positive class, in binary classification."""

from typing import Any

import numpy as np

from cleantune.evaluation import confidence_intervals, metrics, plot_tables
from cleantune.evaluation.predictions import Split


def measure_positive(validation: Split, test: Split) -> dict[str, Any]:
    """Return the metrics of the positive class, empty with more than two classes.

    NaN where no document is of that class; ``curve`` holds precision, recall and F1 on validation by
    threshold.
    """
    decision = test.decision
    if decision.positive is None:
        return {}
    k = list(test.names).index(decision.positive)

    def scores_of(split: Split) -> dict[str, float]:
        row = metrics.by_class(split.labels, split.probabilities, split.predicted, split.names)[
            split.names[k]
        ]
        return {name: row[name] for name in ("precision", "recall", "f1")}

    scores, true, false = metrics.cumulated(validation.labels == k, validation.probabilities[:, k])
    true_positives, predicted, positives = true[1:], (true + false)[1:], max(true[-1], 1)
    lines = {"precision": true_positives / predicted, "recall": true_positives / positives,
             "F1": 2 * true_positives / (predicted + positives)}  # fmt: skip
    false_positives = (test.predicted == k)[test.labels != k]
    return {
        "class": decision.positive,
        "rule": decision.rule,
        "threshold": decision.threshold,
        **scores_of(test),
        "intervals": confidence_intervals.of_class(test.labels, test.predicted, k, test.groups),
        "validation": scores_of(validation),
        "false_positive_rate": float(false_positives.mean()) if len(false_positives) else np.nan,
        "curve": {name: plot_tables.thinned(scores, y) for name, y in lines.items()},
    }
