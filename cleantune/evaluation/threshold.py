"""How a class and its probability follow from a model's scores: a temperature, then a threshold.

The temperature makes probabilities less or more sure, where validation says that this helps. Of two
classes the positive one may be taken from another probability on than 0.5: a class that is rare, or
dearer to miss than to suspect, wants that; of more classes the likeliest is always taken.
evaluate chooses both on validation, by each model's own scores, and leaves them beside the models;
whatever counts or prints predictions reads them there.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from cleantune import files
from cleantune.errors import UserError
from cleantune.evaluation import metrics
from cleantune.params.sections import Evaluate

FILE = "decision.json"
WEIGHTS = "model.safetensors"
FOLDS, REPEATS = 5, 5  # of the cross-validation of a temperature
CLEARLY = 2  # standard errors that the NLL has to be better by


@dataclass(frozen=True)
class Decision:
    """What was chosen for one model."""

    rule: str = "argmax"
    """argmax, f1 or precision, as ``evaluate.threshold``; argmax is a threshold of 0.5."""
    positive: str | None = None
    """The class that the threshold is for; None where there are more than two."""
    precision: float | None = None
    """What the rule ``precision`` asks for."""
    threshold: float | None = None
    """A document is of the positive class where its probability is over this."""
    temperature: float = 1.0
    """What the scores are divided by before they become probabilities."""
    tried_temperature: float = 1.0
    """The best one on all validation documents, taken or not."""
    nll_gain: float = 0.0
    """What a temperature betters the NLL by on documents that it was not fitted on."""
    nll_gain_error: float = 0.0
    """The standard error of that."""
    documents: int = 0
    """How many of validation all this was chosen on; 0 where nothing was chosen."""
    validation_sha256: str | None = None
    """That of their table."""

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return the probability of each class from ``logits``, both (documents, classes)."""
        return metrics.softmax(logits, self.temperature)

    def predicted(self, probabilities: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Return the class of each row of ``probabilities`` (documents, classes), (documents,)."""
        if self.threshold is None or self.rule == "argmax":
            likeliest: np.ndarray = probabilities.argmax(axis=1)
            return likeliest
        k = list(names).index(str(self.positive))
        return np.where(probabilities[:, k] > self.threshold, k, 1 - k)

    def fitted(self, labels: np.ndarray, logits: np.ndarray, names: Sequence[str]) -> "Decision":
        """Return temperature and threshold by the same rule for a model's validation scores.

        ``labels`` is (n,), ``logits`` (n, classes). The temperature is the one of lowest NLL if
        cross-validation says that one is clearly better than none. ``f1`` takes the threshold with
        the highest F1, of several the one nearest to 0.5; ``precision`` the one with the highest
        recall among those of at least that precision, or, where there is none, of the highest.
        Raises ``UserError`` when no document is of the positive class.
        """
        tried = round(metrics.temperature(labels, logits), 4)
        gain, error = temperature_gain(labels, logits)
        found = replace(
            self, temperature=tried if gain > CLEARLY * error else 1.0, tried_temperature=tried,
            nll_gain=round(gain, 6), nll_gain_error=round(error, 6), documents=len(labels),
        )  # fmt: skip
        if self.rule == "argmax":
            return replace(found, threshold=0.5 if self.positive else None)
        k = list(names).index(str(self.positive))
        if not (labels == k).any():
            raise UserError(
                f"No validation document is of the class {self.positive}: evaluate.threshold: "
                f"{self.rule} has nothing to go by. Raise clean.validation_share, or set argmax."
            )
        return replace(found, threshold=self._best(labels == k, found.probabilities(logits)[:, k]))

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

    def in_words(self) -> list[str]:
        """Say what is unusual about the classes, and whether the probabilities are calibrated."""
        how = {"f1": "best F1", "precision": "the precision asked for"}.get(self.rule)
        lines = [f"{self.positive} where its probability is over {self.threshold:.3f} "
                 f"({how} on validation)"] if how else []  # fmt: skip
        if not self.documents:
            return [
                *lines,
                "probabilities are not calibrated: nothing was chosen for these weights",
            ]
        on = f"{self.documents:,} validation documents"
        if self.calibrated:
            return [
                *lines,
                f"probabilities are calibrated: temperature {self.temperature:g}, from {on}",
            ]
        return [*lines, f"probabilities are not calibrated: on {on} no temperature clearly helps"]

    @property
    def calibrated(self) -> bool:
        """Whether the probabilities are other than the model's own."""
        return self.temperature != 1

    def follows(self, other: "Decision") -> bool:
        """Whether this was chosen by the same rule and on the same documents as ``other``."""
        names = ("rule", "positive", "precision", "documents", "validation_sha256")
        return all(getattr(self, name) == getattr(other, name) for name in names)


UNDECIDED = Decision()


def asked(
    settings: Evaluate, names: Sequence[str], validation_sha256: str | None = None
) -> Decision:
    """Return the rule that ``settings`` ask for, nothing chosen yet.

    Raises ``UserError`` when they ask for what these classes do not have.
    """
    if len(names) > 2:
        for key, value, usual in (("threshold", settings.threshold, "argmax"),
                                  ("positive", settings.positive, None)):  # fmt: skip
            if value != usual:
                raise UserError(
                    f"evaluate.{key}: {value} is for two classes; these are {len(names)}: "
                    f"{', '.join(names)}. Set it to {usual or 'null'}."
                )
        return Decision(validation_sha256=validation_sha256)
    if settings.positive is not None and settings.positive not in names:
        raise UserError(
            f"evaluate.positive: {settings.positive!r} is no class; allowed: {', '.join(names)}, "
            "or null for the last of them."
        )
    wanted = settings.threshold_precision if settings.threshold == "precision" else None
    return Decision(settings.threshold, settings.positive or names[-1], wanted,
                    validation_sha256=validation_sha256)  # fmt: skip


def temperature_gain(labels: np.ndarray, logits: np.ndarray) -> tuple[float, float]:
    """Return what a temperature betters the NLL by on documents it was not fitted on, and the error.

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
            heat = metrics.temperature(labels[~held], logits[~held])
            scaled = metrics.losses(labels[held], metrics.softmax(logits[held], heat))
            gains[held] += (plain[held] - scaled) / REPEATS
    return float(gains.mean()), float(gains.std(ddof=1) / len(gains) ** 0.5)


def write(path: Path, decisions: Sequence[tuple[Decision, Sequence[Path]]]) -> None:
    """Write each decision with the sha256 of the weights, one file or several, that it is of."""
    files.write_json(path, {"decisions": [
        {"weights_sha256": sorted(map(files.sha256, weights))} | asdict(decided)
        for decided, weights in decisions
    ]})  # fmt: skip


def read(folder: Path, *weights: Path) -> Decision:
    """Return what was decided for ``weights``, by default those in ``folder``.

    An export has its record within; that of models/finetuned and of its seeds stands in models.
    ``UNDECIDED`` where there is no record of these weights. ``UserError`` when one cannot be read.
    """
    of = sorted(map(files.sha256, weights or [folder / WEIGHTS]))
    for place in (folder, *folder.absolute().parents[:3]):
        if not (place / FILE).is_file():
            continue
        try:
            for record in files.read_json(place / FILE)["decisions"]:
                if record.pop("weights_sha256") == of:
                    return Decision(**record)
        except (KeyError, TypeError, AttributeError) as error:
            raise files.damaged(place / FILE, error) from None
    return UNDECIDED
