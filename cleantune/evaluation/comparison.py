"""What evaluate measures on the test documents, beyond the figures of `cleantune.evaluation.metrics`.

Everything here takes a ``Split``: documents, their labels, a model's scores for them, and the
decision by which its classes follow from these.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cleantune import console, files
from cleantune.data import tables
from cleantune.data.statistics import explore
from cleantune.errors import UserError
from cleantune.evaluation import confidence_intervals, metrics, plot_tables
from cleantune.evaluation.explanations import explain
from cleantune.evaluation.report.page import Mistake
from cleantune.evaluation.robustness import perturbed
from cleantune.evaluation.slices import near_duplicates, slices
from cleantune.evaluation.threshold import UNDECIDED, WEIGHTS, Decision
from cleantune.models import classifier
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


Decided = list[tuple[Decision, Sequence[Path]]]
"""Decisions, each with the weights it is of."""


def measure_seeds(
    rule: Decision, validation: Split, test: Split, seed: int, folder: Path, bins: int
) -> tuple[dict[str, Any], Decided]:
    """Return the test figures of the model of each seed, their mean and standard deviation.

    ``validation`` and ``test`` are of the main model, trained with ``seed``; those of `study.seeds`
    lie in its ``folder``. Where there are several: the deviation, of a sample (n - 1), and what
    their mean probabilities reach, ``together`` (deep ensembles, arXiv 1612.01474). Each model and
    all together follow ``rule`` by a choice of their own; the second result is what was chosen.
    """
    said = {str(seed): (validation, test)}
    decided: Decided = [(test.decided, [folder / WEIGHTS])]
    for path in classifier.further_seeds(folder):
        other = classifier.load(path)
        said[path.name] = decide(rule, predict(other, "validation", validation.table, path.name),
                                 predict(other, "test", test.table, path.name))  # fmt: skip
        decided.append((said[path.name][1].decided, [path / WEIGHTS]))
    each = {name: of_test.headline(bins) for name, (_, of_test) in said.items()}
    columns = {name: [figures[name] for figures in each.values()] for name in each[str(seed)]}
    found: dict[str, Any] = {"seeds": each,
                             "mean": {k: float(np.mean(v)) for k, v in columns.items()}}  # fmt: skip
    if len(each) > 1:
        found["standard_deviation"] = {k: float(np.std(v, ddof=1)) for k, v in columns.items()}
        on_validation, on_test = decide(rule, *(
            replace(splits[0], logits=metrics.mean_logits([split.logits for split in splits]))
            for splits in zip(*said.values(), strict=True)
        ))  # fmt: skip
        decided.append((on_test.decided, [path for _, weights in decided for path in weights]))
        found["together"] = on_test.headline(bins)
        found["together_intervals"] = on_test.intervals(bins)
        found["together_on_validation"] = on_validation.headline(bins)
    return found, decided


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


def compare(rule: Decision, name: str, validation: Split, test: Split, bins: int) -> dict[str, Any]:
    """Return a baseline's figures and how the model does against it on the same documents.

    Its temperature and threshold follow ``rule`` on validation, as those of the model do.
    """
    _, theirs = decide(rule, *read_baseline(name, validation, test))
    ahead = confidence_intervals.paired_difference(
        test.labels, test.predicted, theirs.predicted, test.groups
    )
    return (
        theirs.headline(bins)
        | {"temperature": theirs.decided.temperature, "threshold": theirs.decided.threshold}
        | {"model_ahead_by": ahead}
        | confidence_intervals.mcnemar(test.right, theirs.right, test.groups)
    )


def explore_learned_from(splits: dict[str, pd.DataFrame], names: list[str]) -> dict[str, Any]:
    """Describe the documents of train and validation: see `cleantune.data.statistics`."""
    learned = ("train", "validation")
    tokens = pd.concat([
        tables.read_table(tables.TOKENS / f"{split}.parquet", ("id", "label", "length"))
        for split in learned
    ])  # fmt: skip
    together = pd.concat([splits[split] for split in learned], ignore_index=True)
    return explore(together, names, tokens[tables.originals(tokens["id"])])


def measure_slices(
    test: Split, train: pd.DataFrame, dropped: pd.DataFrame, texts: list[str], raw: list[str]
) -> dict[str, dict[str, Any]]:
    """Return n and accuracy, with its 95 % interval, of each part of the test set, by kind and name."""
    right = test.right
    known, doubtful = near_duplicates(test.table, train, dropped)
    everything = np.ones(len(right), dtype=bool)
    found = [
        ("test set", "as released", everything),
        ("test set", "without near-duplicates of train", ~known),
        ("test set", "without those whose duplicates disagree in label", ~doubtful),
        *slices(texts, raw, test.confidence),
    ]
    parts: dict[str, dict[str, Any]] = {}
    for kind, name, where in found:
        if where.any():
            parts.setdefault(kind, {})[name] = {
                "n": int(where.sum()),
                "accuracy": float(right[where].mean()),
                "interval": confidence_intervals.share(right[where], test.groups[where]),
            }
    return parts


def measure_robustness(
    model: Classifier, test: Split, texts: list[str], count: int, seed: int
) -> dict[str, Any]:
    """Return the accuracy on a sample of test texts, as they are and in each disguise.

    With it, by name, its 95 % interval. What reaches the model as the same tokens twice,
    such as another case if it knows none, is predicted once.
    """
    count = min(count, len(texts))
    rows = np.sort(np.random.default_rng(seed).permutation(len(texts))[:count])
    originals = [texts[i] for i in rows]
    versions = {"as it is": originals} | perturbed(originals, seed)
    tokens = {k: [tuple(ids) for ids in model.encode(version)] for k, version in versions.items()}
    known = dict(zip(tokens["as it is"], test.predicted[rows], strict=True))
    new = list(dict.fromkeys(t for version in tokens.values() for t in version if t not in known))
    with console.Bar("predicting disturbed texts", len(new)) as bar:
        logits = model.logits(new, bar.advance)
    predicted = replace(test, logits=logits).predicted
    known |= dict(zip(new, predicted, strict=True))
    accuracy, intervals = {}, {}
    for name, version in tokens.items():
        right = np.array([known[t] for t in version]) == test.labels[rows]
        accuracy[name] = float(right.mean())
        intervals[name] = confidence_intervals.share(right, test.groups[rows])
    return {"n": count, "accuracy": accuracy, "intervals": intervals}


def measure_flipped(validation: Split, test: Split) -> dict[str, float]:
    """Return tfidf's accuracy by share of training labels flipped, as far as baselines went.

    It takes the likeliest class: nothing is chosen on validation for those trained on flipped ones.
    """
    path = tables.BASELINES / tables.FLIPPED
    if not path.is_file():
        return {}
    accuracy = {"0": float(read_baseline("tfidf", validation, test)[1].right.mean())}
    for share, table in tables.read_table(path).groupby("share"):
        if list(table["id"]) != list(test.table["id"]):
            raise files.damaged(path, "its ids are not those of test")
        accuracy[f"{share:g}"] = float((table["predicted"].to_numpy() == test.labels).mean())
    return accuracy


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
