"""Calibration of the test probabilities, without and with temperature scaling."""

from typing import Any

import numpy as np

from cleantune.evaluation import metrics
from cleantune.evaluation.predictions import Split


def measure_calibration(test: Split, bins: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what was tried of a temperature on validation, and test figures without and with it.

    The second result are the probabilities, (documents, classes), without and with it.
    """
    tried = test.decided
    probabilities = {"as trained": metrics.softmax(test.logits),
                     "temperature scaled": metrics.softmax(test.logits, tried.tried_temperature)}  # fmt: skip
    result: dict[str, Any] = {
        "temperature": tried.tried_temperature, "taken": tried.calibrated,
        "nll_gain_on_validation": tried.nll_gain, "its_standard_error": tried.nll_gain_error,
    }  # fmt: skip
    for when, shares in zip(("before", "after"), probabilities.values(), strict=True):
        figures = metrics.headline(test.labels, shares, test.predicted, bins)
        result[when] = {name: figures[name] for name in ("nll", "brier", "ece")}
    return result, probabilities
