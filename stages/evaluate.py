"""Measure the fine-tuned model on the test documents, which nothing before has looked at.

Run: ``python -m stages.evaluate`` (or ``dvc repro evaluate``), a minute on the sample.

Headline figures go to metrics/test.json, which `dvc metrics show`, `dvc metrics diff` and `dvc exp
show` read; intervals, classes, calibration, baselines, slices and robustness to files of their own
beside it; curves to metrics/plots.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.common import classifier, console, corpus, files, metrics, plot_tables, uncertainty
from stages.common.classifier import Classifier
from stages.common.errors import UserError
from stages.common.params import Evaluate, read_params
from stages.common.robustness import perturbed
from stages.common.slices import near_duplicates, slices

READS = ("seed", "evaluate")
METRICS = Path("metrics")
PLOTS = METRICS / "plots"
HEADLINE = ("accuracy", "macro_precision", "macro_recall", "macro_f1", "roc_auc_ovr", "nll", "ece")


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


def main() -> None:
    """Predict validation and test, then measure, compare, take apart, and write it all down."""
    params = read_params(READS)
    settings = params.evaluate
    console.title("evaluate", "measure the fine-tuned model on documents it has never seen")

    # Read, and make sure that the test is one
    tables = {split: corpus.read_table(corpus.CLEAN / f"{split}.parquet")
              for split in ("validation", "test")}  # fmt: skip
    train = corpus.read_table(corpus.LABELS / "train.parquet")
    dropped = corpus.read_table(corpus.CLEAN / "dropped.parquet")
    raw = corpus.read_table(corpus.RAW / "test.parquet").set_index("id")
    refuse_overlap(tables["test"], {"train": train, "validation": tables["validation"]})
    model = classifier.load()
    names = corpus.label_names()
    if model.labels != names:
        raise UserError(
            f"{model.folder} knows the classes {', '.join(model.labels)}, {corpus.SOURCE} "
            f"{', '.join(names)}. Run `dvc repro`: the model is of another corpus."
        )
    validation, test = (_predict(model, split, tables[split]) for split in ("validation", "test"))
    labels, probabilities = test.labels, test.probabilities

    # Headline figures, with 95 % intervals
    figures = metrics.headline(labels, probabilities, settings.calibration_bins)
    drawn = uncertainty.resamples(settings.bootstrap, len(labels), params.seed)
    intervals = uncertainty.intervals(labels, probabilities, settings.calibration_bins, drawn)

    # Calibration: one temperature, fitted on validation
    calibration, calibrated = calibrate(validation, test, settings)

    # Against the baselines, document by document
    baselines = {
        name: compare(name, validation, test, settings, drawn)
        for name in files.read_json(corpus.BASELINES / "summary.json")
    }

    # Parts of the test set, and texts as they come in elsewhere
    texts = corpus.full_text(test.table)
    parts = measure_slices(test, train, dropped, texts, corpus.full_text(raw.loc[test.table["id"]]))
    robustness = measure_robustness(model, test, texts, settings, params.seed)

    # Write
    files.write_json(
        METRICS / "test.json",
        {"n": len(labels)} | {name: _rounded(figures[name]) for name in HEADLINE},
    )
    on_validation = metrics.headline(
        validation.labels, validation.probabilities, settings.calibration_bins
    )
    kept = {name: on_validation[name] for name in ("accuracy", "macro_f1", "nll")}
    files.write_json(METRICS / "validation.json", {"n": len(validation.labels)} | _rounded(kept))
    files.write_json(
        METRICS / "classes.json", _rounded(metrics.by_class(labels, probabilities, names))
    )
    files.write_json(METRICS / "intervals.json", _rounded(intervals))
    files.write_json(METRICS / "calibration.json", _rounded(calibration))
    files.write_json(METRICS / "baselines.json", _rounded(baselines))
    files.write_json(METRICS / "slices.json", _rounded(parts))
    files.write_json(METRICS / "robustness.json", _rounded(robustness))
    with files.atomic_folder(PLOTS) as folder:
        plot_tables.write_all(
            folder, labels, probabilities, names, settings.calibration_bins, calibrated
        )
        with (classifier.FINETUNED / "history.csv").open(encoding="utf-8") as history:
            plot_tables.write_training(folder, list(csv.DictReader(history)))
        plot_tables.write(folder / "slices.csv", ("slice", "accuracy", "n"), (
            (f"{kind}: {name}", part["accuracy"], part["n"])
            for kind, group in parts.items() for name, part in group.items()
        ))  # fmt: skip
        plot_tables.write(folder / "baselines.csv", ("model", "accuracy"), [
            *((name, b["accuracy"]) for name, b in baselines.items()),
            ("fine-tuned", figures["accuracy"]),
        ])  # fmt: skip
    report(len(labels), figures, intervals, baselines, calibration)
    console.outputs(METRICS / "test.json", METRICS, PLOTS)


def refuse_overlap(test: pd.DataFrame, others: dict[str, pd.DataFrame]) -> None:
    """Raise ``UserError`` when an id or a text of the test set stands in a split learned from."""

    def keys(table: pd.DataFrame) -> list[str]:
        return [" ".join(text.casefold().split()) for text in corpus.full_text(table)]

    texts = dict(zip(keys(test), test["id"], strict=True))
    for split, table in others.items():
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


def _predict(model: Classifier, split: str, table: pd.DataFrame) -> Split:
    """Return what ``model`` says of a split, from the tokens that tokenize_text stored."""
    path = corpus.TOKENS / f"{split}.parquet"
    tokens = corpus.read_table(path, ("id", "input_ids"))
    if list(tokens["id"]) != list(table["id"]):
        raise files.damaged(path, f"its ids are not those of {corpus.CLEAN / split}.parquet")
    with console.Bar(f"predicting {split}", len(table)) as bar:
        logits = model.logits([list(ids) for ids in tokens["input_ids"]], bar.advance)
    return Split(table, table["label"].to_numpy(), logits)


def calibrate(
    validation: Split, test: Split, settings: Evaluate
) -> tuple[dict[str, Any], np.ndarray]:
    """Fit a temperature on validation; return test figures before and after, and the latter's p."""
    heat = metrics.temperature(validation.labels, validation.logits)
    scaled = metrics.softmax(test.logits, heat)
    result: dict[str, Any] = {"temperature": heat}
    for when, shares in (("before", test.probabilities), ("after", scaled)):
        figures = metrics.headline(test.labels, shares, settings.calibration_bins)
        result[when] = {name: figures[name] for name in ("nll", "brier", "ece")}
    return result, scaled


def compare(
    name: str, validation: Split, test: Split, settings: Evaluate, drawn: np.ndarray
) -> dict[str, Any]:
    """Return a baseline's figures and how the model does against it on the same documents."""
    path = corpus.BASELINES / f"{name}.parquet"
    table = corpus.read_table(path)
    if list(table["id"]) != [*validation.table["id"], *test.table["id"]]:
        raise files.damaged(path, "its ids are not those of validation and test")
    scores = table[[c for c in table if c.startswith("score_")]].to_numpy()
    cut = len(validation.labels)
    theirs = Split(test.table, test.labels, scores[cut:])
    figures = metrics.headline(test.labels, theirs.probabilities, settings.calibration_bins)
    calibration, _ = calibrate(
        Split(validation.table, validation.labels, scores[:cut]), theirs, settings
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
    model: Classifier, test: Split, texts: list[str], settings: Evaluate, seed: int
) -> dict[str, Any]:
    """Return the accuracy on a sample of test texts, as they are and in each disguise."""
    count = min(settings.robustness_documents, len(texts))
    rows = np.sort(np.random.default_rng(seed).permutation(len(texts))[:count])
    versions = perturbed([texts[i] for i in rows], seed)
    right = test.logits[rows].argmax(axis=1) == test.labels[rows]
    accuracy = {"as it is": float(right.mean())}
    with console.Bar("predicting disturbed texts", count * len(versions)) as bar:
        for name, version in versions.items():
            logits = model.logits(model.encode(version), bar.advance)
            accuracy[name] = float((logits.argmax(axis=1) == test.labels[rows]).mean())
    return {"n": count, "accuracy": accuracy}


def _rounded(value: Any) -> Any:
    """Round floats to six significant digits: what follows differs between processors."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def report(
    count: int,
    figures: dict[str, float],
    intervals: dict[str, list[float]],
    baselines: dict[str, Any],
    calibration: dict[str, Any],
) -> None:
    """Print the headline figures and the comparison with the baselines."""
    console.table(f"test, {count:,} documents", ("figure", "value", "95 % interval"), (
        (name, f"{value:.4f}", "{:.4f} to {:.4f}".format(*intervals[name]))
        for name, value in figures.items()
    ))  # fmt: skip
    console.table("against the baselines", ("baseline", "accuracy", "model ahead by", "McNemar p"), (
        (name, f"{b['accuracy']:.4f}", "{:+.4f} to {:+.4f}".format(*b["model_ahead_by"]["accuracy"]),
         f"{b['mcnemar_p']:.2g}") for name, b in baselines.items()
    ))  # fmt: skip
    before, after = calibration["before"], calibration["after"]
    console.say(
        f"temperature {calibration['temperature']:.3f} from validation: NLL {before['nll']:.4f} to "
        f"{after['nll']:.4f}, ECE {before['ece']:.4f} to {after['ece']:.4f}"
    )


if __name__ == "__main__":
    console.run(main)
