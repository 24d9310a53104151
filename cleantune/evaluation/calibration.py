"""Calibration of the test probabilities, without and with temperature scaling."""

from typing import Any

import numpy as np

from cleantune.evaluation import metrics
from cleantune.evaluation.predictions import Split


def measure_calibration(test: Split, bins: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the temperature fitted on validation, and test metrics without and with it.

    The second result holds the probabilities, (documents, classes), without and with it.
    """
    decision = test.decision
    probabilities = {"as trained": metrics.softmax(test.logits),
                     "temperature scaled": metrics.softmax(test.logits, decision.tried_temperature)}  # fmt: skip
    result: dict[str, Any] = {
        "temperature": decision.tried_temperature, "applied": decision.calibrated,
        "nll_gain_on_validation": decision.nll_gain, "nll_gain_standard_error": decision.nll_gain_error,
    }  # fmt: skip
    for when, shares in zip(("before", "after"), probabilities.values(), strict=True):
        result[when] = {
            "nll": metrics.nll(test.labels, shares),
            "brier": metrics.brier(test.labels, shares),
            "ece": metrics.ece(test.labels, shares, test.predicted, bins),
            "adaptive_ece": metrics.adaptive_ece(test.labels, shares, test.predicted, bins),
            "classwise_ece": metrics.classwise_ece(test.labels, shares, bins),
        }
    return result, probabilities
