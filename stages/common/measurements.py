"""What evaluate measures on the test documents, beyond the figures of `stages.common.metrics`.

Everything here takes a ``Split``: documents, their labels, and a model's scores for them.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pandas as pd

from stages.common import classifier, console, corpus, files, metrics, plot_tables, uncertainty
from stages.common.classifier import Classifier
from stages.common.decision import Decision
from stages.common.errors import UserError
from stages.common.evaluation_page.page import Mistake
from stages.common.explanations import explain
from stages.common.exploration import explore
from stages.common.robustness import perturbed
from stages.common.slices import near_duplicates, slices


@dataclass(frozen=True)
class Split:
    """Documents, what a model says of them, and the truth."""

    table: pd.DataFrame
    labels: np.ndarray
    logits: np.ndarray

    @property
    def probabilities(self) -> np.ndarray:
        """The softmax of the logits, (documents, classes)."""
        return metrics.softmax(self.logits)


def refuse_overlap(tables: dict[str, pd.DataFrame]) -> None:
    """Raise ``UserError`` when an id or a text of ``test`` stands in a split learned from."""

    def keys(table: pd.DataFrame) -> list[str]:
        return [" ".join(text.casefold().split()) for text in corpus.full_text(table)]

    test = tables["test"]
    texts = dict(zip(keys(test), test["id"], strict=True))
    for split in ("train", "validation"):
        table = tables[split]
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
    path = corpus.TOKENS / f"{split}.parquet"
    tokens = corpus.read_table(path, ("id", "input_ids"))
    if list(tokens["id"]) != list(table["id"]):
        raise files.damaged(path, f"its ids are not those of {corpus.CLEAN / split}.parquet")
    of = f" (seed {seed})" if seed else ""
    with console.Bar(f"predicting {split}{of}", len(table)) as bar:
        logits = model.logits([list(ids) for ids in tokens["input_ids"]], bar.advance)
    return Split(table, table["label"].to_numpy(), logits)


def measure_seeds(
    validation: Split, test: Split, seed: int, folder: Path, bins: int, drawn: np.ndarray
) -> dict[str, Any]:
    """Return the test figures of the model of each seed, their mean and standard deviation.

    ``validation`` and ``test`` are of the main model, trained with ``seed``; those of `study.seeds`
    lie in its ``folder``. Where there are several: the deviation, of a sample (n - 1), and what
    their mean probabilities reach, ``together`` (deep ensembles, arXiv 1612.01474).
    """
    said = {str(seed): (validation, test)}
    for path in classifier.further_seeds(folder):
        other = classifier.load(path)
        said[path.name] = (predict(other, "validation", validation.table, path.name),
                           predict(other, "test", test.table, path.name))  # fmt: skip
    each = {
        name: metrics.headline(t.labels, t.probabilities, bins) for name, (_, t) in said.items()
    }
    columns = {name: [figures[name] for figures in each.values()] for name in each[str(seed)]}
    found: dict[str, Any] = {"seeds": each, "mean": {k: fmean(v) for k, v in columns.items()}}
    if len(each) > 1:
        found["standard_deviation"] = {k: stdev(v) for k, v in columns.items()}
        on_validation, on_test = (
            np.mean([split.probabilities for split in splits], axis=0)
            for splits in zip(*said.values(), strict=True)
        )
        found["together"] = metrics.headline(test.labels, on_test, bins)
        found["together_intervals"] = uncertainty.intervals(test.labels, on_test, bins, drawn)
        found["together_on_validation"] = metrics.headline(validation.labels, on_validation, bins)
    return found


def calibrate(validation: Split, test: Split, bins: int) -> tuple[dict[str, Any], np.ndarray]:
    """Fit a temperature on validation; return test figures before and after, and the latter's p."""
    heat = metrics.temperature(validation.labels, validation.logits)
    scaled = metrics.softmax(test.logits, heat)
    result: dict[str, Any] = {"temperature": heat}
    for when, shares in (("before", test.probabilities), ("after", scaled)):
        figures = metrics.headline(test.labels, shares, bins)
        result[when] = {name: figures[name] for name in ("nll", "brier", "ece")}
    return result, scaled


def measure_positive(
    decided: Decision, validation: Split, test: Split, names: list[str], drawn: np.ndarray
) -> dict[str, Any]:
    """Return how well the positive of two classes is found as ``decided``; else nothing.

    ``curve`` has validation's precision, recall and F1 by threshold.
    """
    if decided.positive is None:
        return {}
    k = names.index(decided.positive)
    each = [decided.figures(test.labels, test.probabilities, names, row) for row in drawn]
    scores, true, false = metrics.cumulated(validation.labels == k, validation.probabilities[:, k])
    hits, chosen, all_true = true[1:], (true + false)[1:], max(true[-1], 1)
    lines = {"precision": hits / chosen, "recall": hits / all_true,
             "F1": 2 * hits / (chosen + all_true)}  # fmt: skip
    predicted = decided.predicted(test.probabilities, names)
    false_alarms = (predicted == k)[test.labels != k]
    return {
        "class": decided.positive,
        "rule": decided.rule,
        "threshold": decided.threshold,
        **decided.figures(test.labels, test.probabilities, names),
        "intervals": {f: uncertainty.percentiles([e[f] for e in each]) for f in each[0]},
        "validation": decided.figures(validation.labels, validation.probabilities, names),
        "false_positive_rate": float(false_alarms.mean()) if len(false_alarms) else 0.0,
        "confusion": metrics.confusion(test.labels, predicted, 2).tolist(),
        "curve": {name: plot_tables.thinned(scores, y) for name, y in lines.items()},
    }


def compare(
    name: str, validation: Split, test: Split, bins: int, drawn: np.ndarray
) -> dict[str, Any]:
    """Return a baseline's figures and how the model does against it on the same documents."""
    path = corpus.BASELINES / f"{name}.parquet"
    table = corpus.read_table(path)
    if list(table["id"]) != [*validation.table["id"], *test.table["id"]]:
        raise files.damaged(path, "its ids are not those of validation and test")
    scores = table[[c for c in table if c.startswith("score_")]].to_numpy()
    cut = len(validation.labels)
    theirs = Split(test.table, test.labels, scores[cut:])
    figures = metrics.headline(test.labels, theirs.probabilities, bins)
    calibration, _ = calibrate(
        Split(validation.table, validation.labels, scores[:cut]), theirs, bins
    )
    right = [s.logits.argmax(axis=1) == test.labels for s in (test, theirs)]
    ahead = uncertainty.paired_difference(
        test.labels, test.probabilities, theirs.probabilities, drawn
    )
    return (
        figures
        | {"after_temperature_scaling": calibration["after"]}
        | {"model_ahead_by": ahead}
        | uncertainty.mcnemar(*right)
    )


def explore_learned_from(tables: dict[str, pd.DataFrame], names: list[str]) -> dict[str, Any]:
    """Describe the documents of train and validation: see `stages.common.exploration`."""
    learned = ("train", "validation")
    tokens = pd.concat([
        corpus.read_table(corpus.TOKENS / f"{split}.parquet", ("id", "label", "length"))
        for split in learned
    ])  # fmt: skip
    together = pd.concat([tables[split] for split in learned], ignore_index=True)
    return explore(together, names, tokens[corpus.originals(tokens["id"])])


def measure_slices(
    test: Split, train: pd.DataFrame, dropped: pd.DataFrame, texts: list[str], raw: list[str]
) -> dict[str, dict[str, Any]]:
    """Return n and accuracy of each part of the test set, by kind and name."""
    right = test.logits.argmax(axis=1) == test.labels
    known, doubtful = near_duplicates(test.table, train, dropped)
    everything = np.ones(len(right), dtype=bool)
    found = [
        ("test set", "as released", everything),
        ("test set", "without near-duplicates of train", ~known),
        ("test set", "without those whose duplicates disagree in label", ~doubtful),
        *slices(texts, raw, test.probabilities.max(axis=1)),
    ]
    parts: dict[str, dict[str, Any]] = {}
    for kind, name, where in found:
        if where.any():
            part = {"n": int(where.sum()), "accuracy": float(right[where].mean())}
            parts.setdefault(kind, {})[name] = part
    return parts


def measure_robustness(
    model: Classifier, test: Split, texts: list[str], count: int, seed: int
) -> dict[str, Any]:
    """Return the accuracy on a sample of test texts, as they are and in each disguise.

    With it, by name, its 95 % bootstrap interval. What reaches the model as the same tokens twice,
    such as another case if it knows none, is predicted once.
    """
    count = min(count, len(texts))
    rows = np.sort(np.random.default_rng(seed).permutation(len(texts))[:count])
    originals = [texts[i] for i in rows]
    versions = {"as it is": originals} | perturbed(originals, seed)
    tokens = {k: [tuple(ids) for ids in model.encode(version)] for k, version in versions.items()}
    known = dict(zip(tokens["as it is"], test.logits[rows].argmax(axis=1), strict=True))
    new = list(dict.fromkeys(t for version in tokens.values() for t in version if t not in known))
    with console.Bar("predicting disturbed texts", len(new)) as bar:
        logits = model.logits(new, bar.advance)
    known |= dict(zip(new, logits.argmax(axis=1), strict=True))
    drawn = uncertainty.resamples(1000, count, seed)
    accuracy, intervals = {}, {}
    for name, version in tokens.items():
        right = np.array([known[t] for t in version]) == test.labels[rows]
        accuracy[name] = float(right.mean())
        intervals[name] = uncertainty.percentiles(drawn @ right / count)
    return {"n": count, "accuracy": accuracy, "intervals": intervals}


def measure_flipped(test: Split) -> dict[str, float]:
    """Return tfidf's accuracy by share of training labels flipped, as far as baselines went."""
    path = corpus.BASELINES / corpus.FLIPPED
    if not path.is_file():
        return {}
    accuracy = {}
    for share, table in corpus.read_table(path).groupby("share"):
        if list(table["id"]) != list(test.table["id"]):
            raise files.damaged(path, "its ids are not those of test")
        accuracy[f"{share:g}"] = float((table["predicted"].to_numpy() == test.labels).mean())
    return accuracy


def worst_mistakes(model: Classifier, test: Split, texts: list[str], count: int) -> list[Mistake]:
    """Return the ``count`` wrong predictions with the highest confidence, surest first, explained."""
    shares = test.probabilities
    predicted = shares.argmax(axis=1)
    wrong = np.flatnonzero(predicted != test.labels)
    chosen = wrong[np.argsort(-shares[wrong, predicted[wrong]], kind="stable")][:count]
    return [
        Mistake(
            id=str(test.table["id"].iloc[i]),
            label=model.labels[test.labels[i]],
            predicted=model.labels[predicted[i]],
            confidence=float(shares[i, predicted[i]]),
            text=texts[i],
            explanation=explain(model, texts[i], int(predicted[i])),
        )
        for i in console.track(chosen, "explaining mistakes", len(chosen))
    ]
