"""The predictions of one model for the documents of one split, next to their labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from cleantune import console, files
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.evaluation import confidence_intervals, metrics
from cleantune.evaluation.explanations import explain
from cleantune.evaluation.report.findings import Mistake
from cleantune.evaluation.threshold import DEFAULT, Decision
from cleantune.models.classifier import Classifier


@dataclass(frozen=True)
class Split:
    """Documents of a split, their labels, and a model's logits for them."""

    table: pd.DataFrame
    labels: np.ndarray
    logits: np.ndarray
    names: Sequence[str]
    decision: Decision = DEFAULT

    @cached_property
    def probabilities(self) -> np.ndarray:
        """The probability of each class, (documents, classes)."""
        return self.decision.probabilities(self.logits)

    @cached_property
    def predicted(self) -> np.ndarray:
        """The class of each document, (documents,)."""
        return self.decision.predicted(self.probabilities, self.names)

    @property
    def confidence(self) -> np.ndarray:
        """The probability of the class that is predicted, (documents,)."""
        confidence: np.ndarray = self.probabilities[np.arange(len(self.labels)), self.predicted]
        return confidence

    @property
    def right(self) -> np.ndarray:
        """Whether the prediction is the label, bool of shape (documents,)."""
        equal: np.ndarray = self.predicted == self.labels
        return equal

    @cached_property
    def groups(self) -> np.ndarray:
        """A number for each document, (documents,), the same for copies."""
        texts = [tables.comparable(text) for text in tables.full_text(self.table)]
        return np.unique(texts, return_inverse=True)[1]

    @property
    def copied(self) -> tuple[int, int]:
        """How many documents are copies of one another, and how many texts these are."""
        counts = np.bincount(self.groups)
        return int(counts[counts > 1].sum()), int((counts > 1).sum())

    def headline(self, bins: int) -> metrics.Metrics:
        """Return the headline metrics."""
        return metrics.headline(self.labels, self.probabilities, self.predicted, bins)

    def intervals(self, bins: int) -> dict[str, confidence_intervals.Interval]:
        """Return their 95 % intervals."""
        return confidence_intervals.intervals(
            self.labels, self.probabilities, self.predicted, bins, self.groups
        )


def fit_decision(rule: Decision, validation: Split, test: Split) -> tuple[Split, Split]:
    """Return both splits of one model with temperature and threshold fitted on validation by ``rule``."""
    decision = rule.fitted(validation.labels, validation.logits, validation.names)
    return replace(validation, decision=decision), replace(test, decision=decision)


def raise_on_leakage(splits: dict[str, pd.DataFrame]) -> None:
    """Raise ``UserError`` on train/test leakage: an id or a text of ``test`` in train or validation."""

    def keys(table: pd.DataFrame) -> list[str]:
        return [tables.comparable(text) for text in tables.full_text(table)]

    test = splits["test"]
    texts = dict(zip(keys(test), test["id"], strict=True))
    for split in ("train", "validation"):
        table = splits[split]
        shared = sorted(set(test["id"]) & set(table["id"]))
        same = [
            (texts[key], name)
            for key, name in zip(keys(table), table["id"], strict=True)
            if key in texts
        ]
        leaks = [f"{i} is in both" for i in shared] or [
            f"{a} has the same text as {b} in {split}" for a, b in same
        ]
        if leaks:
            raise UserError(
                f"train/test leakage: {len(leaks)} test documents also appear in {split} "
                f"({'; '.join(leaks[:3])}). Run `dvc repro clean`, which drops them from train."
            )


def predict(model: Classifier, split: str, table: pd.DataFrame, seed: str = "") -> Split:
    """Return the predictions of ``model`` for a split, from the token ids that tokenize_text stored.

    ``seed``, for display only, is that of a model of ``study.seeds``.
    """
    path = tables.TOKENS / f"{split}.parquet"
    tokens = tables.read_table(path, ("id", "input_ids"))
    if list(tokens["id"]) != list(table["id"]):
        raise files.damaged(path, f"its ids are not those of {tables.CLEAN / split}.parquet")
    of = f" (seed {seed})" if seed else ""
    with console.Bar(f"predicting {split}{of}", len(table)) as bar:
        logits = model.logits([list(ids) for ids in tokens["input_ids"]], bar.advance)
    return Split(table, table["label"].to_numpy(), logits, model.labels)


def read_baseline(name: str, validation: Split, test: Split) -> tuple[Split, Split]:
    """Return a baseline's predictions for the same documents."""
    path = tables.BASELINES / f"{name}.parquet"
    table = tables.read_table(path)
    if list(table["id"]) != [*validation.table["id"], *test.table["id"]]:
        raise files.damaged(path, "its ids are not those of validation and test")
    scores = table[[c for c in table if c.startswith("score_")]].to_numpy()
    cut = len(validation.labels)
    return (Split(validation.table, validation.labels, scores[:cut], test.names),
            Split(test.table, test.labels, scores[cut:], test.names))  # fmt: skip


def worst_mistakes(model: Classifier, test: Split, texts: list[str], count: int) -> list[Mistake]:
    """Return the ``count`` wrong predictions with the highest confidence, highest first, explained."""
    predicted, confidence = test.predicted, test.confidence
    wrong = np.flatnonzero(~test.right)
    chosen = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    return [
        Mistake(
            id=str(test.table["id"].iloc[i]),
            label=model.labels[test.labels[i]],
            predicted=model.labels[predicted[i]],
            confidence=float(confidence[i]),
            text=texts[i],
            explanation=explain(model, texts[i], int(predicted[i])),
        )
        for i in console.track(chosen, "explaining mistakes", len(chosen))
    ]
