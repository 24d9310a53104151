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
from cleantune.evaluation.report.page import Mistake
from cleantune.evaluation.threshold import UNDECIDED, Decision
from cleantune.models.classifier import Classifier


@dataclass(frozen=True)
class Split:
    """Documents, what a model says of them, and the truth."""

    table: pd.DataFrame
    labels: np.ndarray
    logits: np.ndarray
    names: Sequence[str]
    decided: Decision = UNDECIDED

    @cached_property
    def probabilities(self) -> np.ndarray:
        """The probability of each class, (documents, classes)."""
        return self.decided.probabilities(self.logits)

    @cached_property
    def predicted(self) -> np.ndarray:
        """The class of each document, (documents,)."""
        return self.decided.predicted(self.probabilities, self.names)

    @property
    def confidence(self) -> np.ndarray:
        """The probability of the class that is predicted, (documents,)."""
        sure: np.ndarray = self.probabilities[np.arange(len(self.labels)), self.predicted]
        return sure

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

    def headline(self, bins: int) -> metrics.Figures:
        """Return the headline figures."""
        return metrics.headline(self.labels, self.probabilities, self.predicted, bins)

    def intervals(self, bins: int) -> dict[str, confidence_intervals.Interval]:
        """Return their 95 % intervals."""
        return confidence_intervals.intervals(
            self.labels, self.probabilities, self.predicted, bins, self.groups
        )


def decide(rule: Decision, validation: Split, test: Split) -> tuple[Split, Split]:
    """Return both splits of one model with what ``rule`` chooses on the first."""
    decided = rule.fitted(validation.labels, validation.logits, validation.names)
    return replace(validation, decided=decided), replace(test, decided=decided)


def refuse_overlap(splits: dict[str, pd.DataFrame]) -> None:
    """Raise ``UserError`` when an id or a text of ``test`` stands in a split learned from."""

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
        found = [f"{i} is in both" for i in shared] or [
            f"{a} reads like {split}'s {b}" for a, b in same
        ]
        if found:
            raise UserError(
                f"the test set is no test: {len(found)} of its documents stand in {split} "
                f"({'; '.join(found[:3])}). Run `dvc repro clean`, which takes leaks out of train."
            )


def predict(model: Classifier, split: str, table: pd.DataFrame, seed: str = "") -> Split:
    """Return what ``model`` says of a split, from the tokens that tokenize_text stored.

    ``seed`` is only said: that of a model trained beside the main one.
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
    """Return what a baseline says of the same documents as the splits of the model."""
    path = tables.BASELINES / f"{name}.parquet"
    table = tables.read_table(path)
    if list(table["id"]) != [*validation.table["id"], *test.table["id"]]:
        raise files.damaged(path, "its ids are not those of validation and test")
    scores = table[[c for c in table if c.startswith("score_")]].to_numpy()
    cut = len(validation.labels)
    return (Split(validation.table, validation.labels, scores[:cut], test.names),
            Split(test.table, test.labels, scores[cut:], test.names))  # fmt: skip


def worst_mistakes(model: Classifier, test: Split, texts: list[str], count: int) -> list[Mistake]:
    """Return the ``count`` wrong predictions with the highest confidence, surest first, explained."""
    predicted, sure = test.predicted, test.confidence
    wrong = np.flatnonzero(~test.right)
    chosen = wrong[np.argsort(-sure[wrong], kind="stable")][:count]
    return [
        Mistake(
            id=str(test.table["id"].iloc[i]),
            label=model.labels[test.labels[i]],
            predicted=model.labels[predicted[i]],
            confidence=float(sure[i]),
            text=texts[i],
            explanation=explain(model, texts[i], int(predicted[i])),
        )
        for i in console.track(chosen, "explaining mistakes", len(chosen))
    ]
