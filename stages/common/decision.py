"""Which of two classes a document gets: the likelier one, or the positive one from a threshold on.

A class that is rare, or dearer to miss than to suspect, wants another threshold than 0.5.
evaluate chooses it on validation and leaves it beside the model, where tools.predict finds it.
With more classes than two the likeliest is always taken.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.common import files, metrics
from stages.common.errors import UserError
from stages.common.params import Evaluate

FILE = "threshold.json"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Decision:
    """How classes follow from probabilities."""

    rule: str = "argmax"
    """argmax, f1 or precision, as ``evaluate.threshold``; argmax is a threshold of 0.5."""
    positive: str | None = None
    """The class that the threshold is for; None where there are more than two."""
    threshold: float | None = None
    """A document is of the positive class where its probability is over this."""

    def predicted(self, probabilities: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Return the class of each row of ``probabilities`` (documents, classes), (documents,)."""
        if self.rule == "argmax" or self.positive is None:
            likeliest: np.ndarray = probabilities.argmax(axis=1)
            return likeliest
        k = list(names).index(self.positive)
        return np.where(probabilities[:, k] > self.threshold, k, 1 - k)

    def figures(
        self, labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str],
        weights: np.ndarray | None = None,
    ) -> dict[str, float]:  # fmt: skip
        """Return precision, recall and F1 of the positive class, and accuracy; arrays as in metrics."""
        assert self.positive is not None
        k = list(names).index(self.positive)
        counts = metrics.confusion(labels, self.predicted(probabilities, names), 2, weights)
        each = metrics.precision_recall_f1(counts)
        found = {
            name: float(v[k]) for name, v in zip(("precision", "recall", "f1"), each, strict=True)
        }
        return found | {"accuracy": float(np.trace(counts) / counts.sum())}

    def in_words(self) -> str:
        """Say what the rule is, where it is not the usual one."""
        how = {"f1": "best F1", "precision": "the precision asked for"}[self.rule]
        return f"{self.positive} where its probability is over {self.threshold:.3f} ({how} on validation)"


ARGMAX = Decision()


def positive_class(settings: Evaluate, names: Sequence[str]) -> str | None:
    """Return the name of the positive class, None where there are more than two.

    Raises ``UserError`` when the settings ask for what these classes do not have.
    """
    if len(names) > 2:
        for key, value, usual in (("threshold", settings.threshold, "argmax"),
                                  ("positive", settings.positive, None)):  # fmt: skip
            if value != usual:
                raise UserError(
                    f"evaluate.{key}: {value} is for two classes; these are {len(names)}: "
                    f"{', '.join(names)}. Set it to {usual or 'null'}."
                )
        return None
    if settings.positive is not None and settings.positive not in names:
        raise UserError(
            f"evaluate.positive: {settings.positive!r} is no class; allowed: {', '.join(names)}, "
            "or null for the last of them."
        )
    return settings.positive or names[-1]


def choose(
    labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str], settings: Evaluate
) -> Decision:
    """Choose by ``settings`` on validation; labels (n,) and probabilities (n, classes) are its own.

    ``f1`` takes the threshold with the highest F1, of several the one nearest to 0.5;
    ``precision`` the one with the highest recall among those of at least ``threshold_precision``,
    or, where there is none, of the highest precision. Thresholds lie midway between two scores.
    """
    positive = positive_class(settings, names)
    if positive is None:
        return ARGMAX
    if settings.threshold == "argmax":
        return Decision("argmax", positive, 0.5)
    k = list(names).index(positive)
    if not (labels == k).any():
        raise UserError(
            f"No validation document is of the class {positive}: evaluate.threshold: "
            f"{settings.threshold} has nothing to go by. Raise clean.validation_share, or set argmax."
        )
    scores, true, false = metrics.cumulated(labels == k, probabilities[:, k])
    between = (scores + np.append(scores[1:], 0.0)) / 2
    between = np.minimum(between, np.nextafter(scores, 0))  # halfway may round up to the score
    precision = true[1:] / (true[1:] + false[1:])
    if settings.threshold == "f1":
        gain = 2 * true[1:] / (true[1:] + false[1:] + true[-1])
        best = np.flatnonzero(gain >= gain.max() - 1e-12)
    else:
        wanted = min(settings.threshold_precision, precision.max())
        enough = np.flatnonzero(precision >= wanted - 1e-12)
        best = enough[true[1:][enough] == true[1:][enough].max()][:1]
    nearest = best[np.abs(between[best] - 0.5).argmin()]
    return Decision(settings.threshold, positive, float(between[nearest]))


def write(path: Path, decision: Decision, model: Path) -> None:
    """Write ``decision`` down, and of which weights it is: those in the folder ``model``."""
    record = {**asdict(decision), "weights_sha256": files.sha256(model / WEIGHTS)}
    files.write_json(path, record)


def read(model: Path) -> Decision:
    """Return what was decided for the model in a folder; argmax where nothing was.

    An export has it within; that of models/finetuned stands beside it, and counts if it is of
    these weights. Raises ``UserError`` when the record cannot be read.
    """
    own, beside = model / FILE, model.parent / FILE
    path = own if own.is_file() else beside
    if not path.is_file():
        return ARGMAX
    record: dict[str, Any] = files.read_json(path)
    try:
        found = Decision(**{name: record[name] for name in ("rule", "positive", "threshold")})
        of = record["weights_sha256"]
    except (KeyError, TypeError) as error:
        raise files.damaged(path, f"no {error}") from None
    weights = model / WEIGHTS
    if found.rule == "argmax" or path == own:
        return found
    if weights.is_file() and files.sha256(weights) == of:
        return found
    sys.stderr.write(f"{path} is about another model and not used; `dvc repro` renews it.\n")
    return ARGMAX
