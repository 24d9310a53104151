"""What the confidence is worth on the test set: abstention and prediction sets, fitted on validation."""

from typing import Any

import numpy as np

from cleantune.evaluation import confidence_intervals, selective_prediction
from cleantune.evaluation.predictions import Split


def measure_confidence(validation: Split, test: Split) -> dict[str, Any]:
    """Return AURC and AUGRC on test, the answers above the fitted threshold, and the prediction sets.

    ``validation`` and ``test`` have the share that is ``answered`` and the ``accuracy`` of the answers, NaN
    without an answer; test with its 95 % interval. ``highest_accuracy`` is what validation could show.
    """
    decision, right, confidence = test.decision, test.right, test.confidence
    return {
        "aurc": selective_prediction.aurc(right, confidence),
        "augrc": selective_prediction.augrc(right, confidence),
        "required_accuracy": decision.answer_accuracy,
        "threshold": decision.answer_above,
        "highest_accuracy": decision.highest_accuracy,
        "validation": _answers(validation),
        "test": _answers(test),
        "prediction_sets": _sets(test),
    }  # fmt: skip


def _answers(split: Split) -> dict[str, Any]:
    answered = split.decision.answered(split.confidence)
    right = split.right[answered]
    return {"n": int(answered.sum()), "answered": float(answered.mean()),
            "accuracy": float(right.mean()) if len(right) else np.nan,
            "interval": confidence_intervals.share(right, split.groups[answered])}  # fmt: skip


def _sets(test: Split) -> dict[str, Any]:
    """Return coverage and mean size of the sets by level, overall and by class.

    Overall also the shares of sets with one class and with none.
    """
    result: dict[str, Any] = {}
    own = {name: test.labels == k for k, name in enumerate(test.names)}
    for level, within in test.decision.sets(test.probabilities).items():
        covered = within[np.arange(len(test.labels)), test.labels]
        size = within.sum(axis=1)

        def measured(
            here: np.ndarray, covered: np.ndarray = covered, size: np.ndarray = size
        ) -> dict[str, Any]:
            return {"n": int(here.sum()), "coverage": float(covered[here].mean()),
                    "interval": confidence_intervals.share(covered[here], test.groups[here]),
                    "mean_size": float(size[here].mean())}  # fmt: skip

        result[level] = measured(np.ones(len(size), dtype=bool)) | {
            "one_class": float((size == 1).mean()), "empty": float((size == 0).mean()),
            "classes": {name: measured(here) for name, here in own.items() if here.any()},
        }  # fmt: skip
    return result
