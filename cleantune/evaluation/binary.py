"""Precision, recall and false alarms of the positive one of two classes."""

from typing import Any

import numpy as np

from cleantune.evaluation import confidence_intervals, metrics, plot_tables
from cleantune.evaluation.predictions import Split


def measure_positive(validation: Split, test: Split) -> dict[str, Any]:
    """Return how well the positive of two classes is found; nothing where there are more.

    NaN where no document is of that class; ``curve`` has validation's precision, recall and F1 by
    threshold.
    """
    decided = test.decided
    if decided.positive is None:
        return {}
    k = list(test.names).index(decided.positive)

    def found(split: Split) -> dict[str, float]:
        row = metrics.by_class(split.labels, split.probabilities, split.predicted, split.names)[
            split.names[k]
        ]
        return {name: row[name] for name in ("precision", "recall", "f1")}

    scores, true, false = metrics.cumulated(validation.labels == k, validation.probabilities[:, k])
    hits, chosen, all_true = true[1:], (true + false)[1:], max(true[-1], 1)
    lines = {"precision": hits / chosen, "recall": hits / all_true,
             "F1": 2 * hits / (chosen + all_true)}  # fmt: skip
    false_alarms = (test.predicted == k)[test.labels != k]
    return {
        "class": decided.positive,
        "rule": decided.rule,
        "threshold": decided.threshold,
        **found(test),
        "intervals": confidence_intervals.of_class(test.labels, test.predicted, k, test.groups),
        "validation": found(validation),
        "false_positive_rate": float(false_alarms.mean()) if len(false_alarms) else np.nan,
        "curve": {name: plot_tables.thinned(scores, y) for name, y in lines.items()},
    }
