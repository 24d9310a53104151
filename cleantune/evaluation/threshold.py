"""Temperature scaling, the decision threshold for binary classification, abstention, prediction sets.

The temperature calibrates probabilities, where it clearly improves the NLL on validation. With two
classes the threshold of the positive one may differ from 0.5, which helps where that class is rare,
or where false negatives cost more than false positives; with more classes the prediction is the
argmax. evaluate fits all of it on validation, for each model, and saves it beside the models; whatever
counts or prints predictions reads it there.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from cleantune import files
from cleantune.errors import UserError
from cleantune.evaluation import metrics, prediction_sets, selective_prediction
from cleantune.models import weights
from cleantune.params.sections import Evaluate

FILE = "decision.json"
FOLDS, REPEATS = 5, 5  # of the cross-validation of a temperature
MIN_GAIN = 2  # standard errors by which a temperature has to improve the NLL


@dataclass(frozen=True)
class Decision:
    """What is fitted on validation for one model."""

    rule: str = "argmax"
    """argmax, f1 or precision, as ``evaluate.threshold``; argmax is a threshold of 0.5."""
    positive: str | None = None
    """The class that the threshold is for; None where there are more than two."""
    precision: float | None = None
    """The precision that the rule ``precision`` requires."""
    threshold: float | None = None
    """The prediction is the positive class where its probability is above this."""
    temperature: float = 1.0
    """The divisor of the logits before the softmax."""
    tried_temperature: float = 1.0
    """The best one on all validation documents, applied or not."""
    nll_gain: float = 0.0
    """The cross-validated improvement of the NLL by a temperature."""
    nll_gain_error: float = 0.0
    """Its standard error."""
    documents: int = 0
    """The number of validation documents it was fitted on; 0 if not fitted."""
    validation_sha256: str | None = None
    """Of the table of these documents."""
    answer_accuracy: float | None = None
    """The accuracy that answers have to reach; below the next value the model abstains."""
    answer_above: float | None = None
    """The confidence above which they do; None where none was found."""
    highest_accuracy: float | None = None
    """The highest accuracy, in whole per cent, for which one is found."""
    set_thresholds: dict[str, float] = field(default_factory=dict)
    """By the probability that a prediction set contains the label: the least probability of its classes."""

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return the probability of each class from ``logits``, both (documents, classes)."""
        return metrics.softmax(logits, self.temperature)

    def predicted(self, probabilities: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Return the class of each row of ``probabilities`` (documents, classes), (documents,)."""
        if self.threshold is None or self.rule == "argmax":
            argmax: np.ndarray = probabilities.argmax(axis=1)
            return argmax
        k = list(names).index(str(self.positive))
        return np.where(probabilities[:, k] > self.threshold, k, 1 - k)

    def answered(self, confidence: np.ndarray) -> np.ndarray:
        """Return which documents are answered, bool (n,), by the probability of the predicted class (n,)."""
        if self.answer_above is None:
            return np.zeros(len(confidence), dtype=bool)
        above: np.ndarray = confidence > self.answer_above
        return above

    def sets(self, probabilities: np.ndarray) -> dict[str, np.ndarray]:
        """Return by level which classes are in the prediction set, bool (documents, classes)."""
        return {level: probabilities >= least for level, least in self.set_thresholds.items()}

    def fitted(self, labels: np.ndarray, logits: np.ndarray, names: Sequence[str]) -> "Decision":
        """Return what the same rule fits on a model's validation logits.

        ``labels`` is (n,), ``logits`` (n, classes). The temperature minimises the NLL; it is applied
        if cross-validation shows a clear improvement. ``f1`` takes the threshold with the highest
        F1, of several the one nearest to 0.5; ``precision`` the one with the highest recall among
        those of at least that precision or, if there is none, of the highest precision.
        Raises ``UserError`` when no document is of the positive class.
        """
        tried = round(metrics.temperature(labels, logits), 4)
        gain, error = temperature_gain(labels, logits)
        decision = replace(
            self, temperature=tried if gain > MIN_GAIN * error else 1.0, tried_temperature=tried,
            nll_gain=round(gain, 6), nll_gain_error=round(error, 6), documents=len(labels),
        )  # fmt: skip
        probabilities = decision.probabilities(logits)
        if self.rule == "argmax":
            decision = replace(decision, threshold=0.5 if self.positive else None)
        else:
            k = list(names).index(str(self.positive))
            if not (labels == k).any():
                raise UserError(
                    f"No validation document is of the class {self.positive}: evaluate.threshold: "
                    f"{self.rule} cannot be fitted. Raise clean.validation_share, or set argmax."
                )
            decision = replace(decision, threshold=self._best(labels == k, probabilities[:, k]))
        return decision._with_confidence(labels, probabilities, names)

    def _with_confidence(
        self, labels: np.ndarray, probabilities: np.ndarray, names: Sequence[str]
    ) -> "Decision":
        """Return this with what says how far a confidence can be trusted: abstention, prediction sets."""
        predicted = self.predicted(probabilities, names)
        right, confidence = predicted == labels, probabilities[np.arange(len(labels)), predicted]
        sets = {f"{level:g}": prediction_sets.fit_threshold(labels, probabilities, level)
                for level in prediction_sets.LEVELS}  # fmt: skip
        if self.answer_accuracy is None:
            return replace(self, set_thresholds=sets)
        return replace(
            self, set_thresholds=sets,
            answer_above=selective_prediction.fit_threshold(right, confidence, self.answer_accuracy),
            highest_accuracy=selective_prediction.highest_accuracy(right, confidence),
        )  # fmt: skip

    def _best(self, positive: np.ndarray, probabilities: np.ndarray) -> float:
        scores, true, false = metrics.cumulated(positive, probabilities)
        between = (scores + np.append(scores[1:], 0.0)) / 2
        between = np.minimum(between, np.nextafter(scores, 0))  # halfway may round up to the score
        precision = true[1:] / (true[1:] + false[1:])
        if self.precision is None:
            gain = 2 * true[1:] / (true[1:] + false[1:] + true[-1])
            best = np.flatnonzero(gain >= gain.max() - 1e-12)
        else:
            enough = np.flatnonzero(precision >= min(self.precision, precision.max()) - 1e-12)
            best = enough[true[1:][enough] == true[1:][enough].max()][:1]
        return float(between[best[np.abs(between[best] - 0.5).argmin()]])

    def describe(self) -> list[str]:
        """Return sentences on the threshold, if it is not argmax, and on calibration."""
        how = {"f1": "best F1", "precision": "the required precision"}.get(self.rule)
        lines = [f"decision threshold for {self.positive}: {self.threshold:.3f} "
                 f"({how} on validation)"] if how else []  # fmt: skip
        if not self.documents:
            return [
                *lines,
                "probabilities are not calibrated: nothing was fitted for these weights",
            ]
        on = f"{self.documents:,} validation documents"
        if self.calibrated:
            return [
                *lines,
                f"probabilities are calibrated: temperature {self.temperature:g}, fitted on {on}",
            ]
        return [
            *lines,
            f"probabilities are not calibrated: on {on} no temperature clearly improves the NLL",
        ]

    @property
    def calibrated(self) -> bool:
        """Whether a temperature other than 1 is applied."""
        return self.temperature != 1

    def follows(self, other: "Decision") -> bool:
        """Whether this was fitted by the same rule and on the same documents as ``other``."""
        names = (
            "rule",
            "positive",
            "precision",
            "documents",
            "validation_sha256",
            "answer_accuracy",
        )
        return all(getattr(self, name) == getattr(other, name) for name in names)


DEFAULT = Decision()


def from_settings(
    settings: Evaluate, names: Sequence[str], validation_sha256: str | None = None
) -> Decision:
    """Return the decision rule of ``settings``, not fitted yet.

    Raises ``UserError`` when it does not apply to these classes.
    """
    if len(names) > 2:
        for key, value, usual in (("threshold", settings.threshold, "argmax"),
                                  ("positive", settings.positive, None)):  # fmt: skip
            if value != usual:
                raise UserError(
                    f"evaluate.{key}: {value} is for two classes; these are {len(names)}: "
                    f"{', '.join(names)}. Set it to {usual or 'null'}."
                )
        return Decision(
            validation_sha256=validation_sha256, answer_accuracy=settings.answer_accuracy
        )
    if settings.positive is not None and settings.positive not in names:
        raise UserError(
            f"evaluate.positive: {settings.positive!r} is not a class; allowed: {', '.join(names)}, "
            "or null for the last of them."
        )
    precision = settings.threshold_precision if settings.threshold == "precision" else None
    return Decision(settings.threshold, settings.positive or names[-1], precision,
                    validation_sha256=validation_sha256,
                    answer_accuracy=settings.answer_accuracy)  # fmt: skip


def temperature_gain(labels: np.ndarray, logits: np.ndarray) -> tuple[float, float]:
    """Return the cross-validated improvement of the NLL by a temperature, and its standard error.

    The mean over repeated random splits into folds, and the standard error of the mean over
    documents; ``labels`` is (n,), ``logits`` (n, classes).
    """
    if len(labels) < 2:
        return 0.0, 0.0
    rng = np.random.default_rng(0)
    gains = np.zeros(len(labels))
    plain = metrics.losses(labels, metrics.softmax(logits))
    for _ in range(REPEATS):
        fold = rng.permutation(len(labels)) % FOLDS
        for held in (fold == k for k in range(FOLDS)):
            fitted = metrics.temperature(labels[~held], logits[~held])
            scaled = metrics.losses(labels[held], metrics.softmax(logits[held], fitted))
            gains[held] += (plain[held] - scaled) / REPEATS
    return float(gains.mean()), float(gains.std(ddof=1) / len(gains) ** 0.5)


def write(path: Path, decisions: Sequence[tuple[Decision, Sequence[Path]]]) -> None:
    """Write each decision with the sha256 of the files of its weights."""
    files.write_json(path, {"decisions": [
        {"weights_sha256": sorted(map(files.sha256, paths))} | asdict(decision)
        for decision, paths in decisions
    ]})  # fmt: skip


def read(folder: Path, *paths: Path) -> Decision:
    """Return the decision of the weights in ``paths``, by default those of ``folder``.

    An export contains its record; that of models/finetuned and of its seeds is in models.
    ``DEFAULT`` where there is no record of these weights. ``UserError`` when one cannot be read.
    """
    of = sorted(map(files.sha256, paths or weights.of(folder)))
    for parent in (folder, *folder.absolute().parents[:3]):
        if not (parent / FILE).is_file():
            continue
        try:
            for record in files.read_json(parent / FILE)["decisions"]:
                if record.pop("weights_sha256") == of:
                    return Decision(**record)
        except (KeyError, TypeError, AttributeError) as error:
            raise files.damaged(parent / FILE, error) from None
    return DEFAULT
