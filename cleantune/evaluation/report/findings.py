"""What the report page, the model card and the console show of an evaluation."""

from dataclasses import dataclass
from typing import Any

from cleantune.evaluation.confidence_intervals import Interval
from cleantune.evaluation.explanations import Explanation


@dataclass(frozen=True)
class Mistake:
    """A misclassified test document."""

    id: str
    label: str
    predicted: str
    confidence: float
    text: str
    explanation: Explanation


@dataclass(frozen=True)
class Findings:
    """Everything that the report and the model card show."""

    names: list[str]
    n: int
    copied: tuple[int, int]
    """Test documents that are copies of one another, and their number of different texts."""
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    corrected: dict[str, Any]
    """Metrics with the labels that a person corrected; empty without a review."""
    positive: dict[str, Any]
    """Metrics of the positive class; empty with more than two classes."""
    baselines: dict[str, Any]
    about: dict[str, str]
    """A description of each baseline."""
    classes: dict[str, dict[str, float]]
    confusions: list[dict[str, Any]]
    """The commonest: `cleantune.evaluation.many_classes`."""
    warnings: list[str]
    """Where the result is bad, a sentence each: `cleantune.evaluation.result_warnings`."""
    calibration: dict[str, Any]
    confidence: dict[str, Any]
    """Abstention and prediction sets: `cleantune.evaluation.confidence`."""
    slices: dict[str, dict[str, Any]]
    gaps: dict[str, dict[str, Any]]
    """The largest gap in accuracy between the groups of each metadata column."""
    robustness: dict[str, Any]
    seeds: dict[str, Any]
    model: dict[str, Any]
    """finetune's summary."""
    source: dict[str, Any]
    """download's."""
    cleaning: dict[str, Any]
    """clean's."""
    label_noise: dict[str, Any]
    """label_noise's; nested values are not shown."""
    corpus: dict[str, Any]
    """Statistics of train and validation: `cleantune.data.statistics`."""
    sizes: dict[str, int]
    """Documents by split."""
    max_length: int
    weights_sha256: str
    """Of the evaluated model."""
