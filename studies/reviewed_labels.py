"""Accuracy after a review of a random sample of the flagged labels, beside that of all labels as they came.

    python -m studies.reviewed_labels metadata.annotator_1 uniform:0.2 pair:0.2 confusion:0.2 none
                                                                        (after `dvc repro clean`)

The clean documents' labels are taken as true. The given ones are those of a metadata column (class names
or their numbers from 0), or true but for a share that is changed: ``uniform``, to any other class;
``pair``, each class to the next; ``confusion``, in proportion to the doubts of a model out of fold, to
the class that it takes a document for. Validation labels are as noisy as training labels; test labels
are true.

A reviewer decides the sample that the review page lists first, and errs in a share ``--mistakes`` of it:
then he takes the wrong one of the given and the suggested label. ``review alone`` is without the action
``auto``, ``relabelled`` the action of that name without a review. Each model is trained by its own stage
in a temporary folder, with the params of params.yaml; in brackets the share of the gap from the given to
the true labels that is closed. ``vectors`` is logistic regression on the encoder's vectors, quick enough
for many noises; TF-IDF does not learn from soft labels.
"""

import argparse
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from cleantune import console
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.labels import actions, label_models, label_scores
from cleantune.labels import confident_learning as lq
from cleantune.labels.reviewed_sample import SAMPLE
from cleantune.models import encoder, precision
from cleantune.params.read import read_params
from cleantune.params.sections import LabelNoise
from studies.arguments import names, numbers, shares
from studies.stage_runs import accuracies, spread
from tools import record

KINDS = ("uniform", "pair", "confusion")
MODELS = ("vectors", "tfidf", "transformer")
ARMS = ("given", "relabelled", "softened", "auto", "review alone", "true")


class Noise(NamedTuple):
    """Given labels: a metadata column, or a kind and the share of labels that are changed."""

    kind: str
    share: float


class Treated(NamedTuple):
    """The n training documents with what became of their labels."""

    documents: pd.DataFrame
    """With ``label``, ``weight`` and, where labels are soft, ``other_label`` and ``other_share``."""
    changed: int
    """Labels that the action changed without review."""
    softened: int
    """Labels that it made soft."""
    lower: float | None
    """Bound on the share of right suggestions among the changed ones, from the review."""


def main() -> None:
    """Print a table for every noise: labels changed and right, accuracy of each model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("noises", nargs="+", type=noise, metavar="KIND:SHARE or metadata.COLUMN")
    parser.add_argument("--mistakes", type=shares, default=[0.0, 0.1])
    parser.add_argument("--models", type=names, default=list(MODELS))
    parser.add_argument("--arms", type=names, default=list(ARMS))
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2])
    record.add_option(parser)
    options = parser.parse_args()
    for option, asked, known in (("models", options.models, MODELS), ("arms", options.arms, ARMS)):
        if wrong := set(asked) - set(known):
            raise UserError(f"--{option}: {', '.join(sorted(wrong))}; known: {', '.join(known)}.")
    kept = record.Record(options.keep)
    settings = read_params(("label_noise",)).label_noise
    train, validation, test = (
        tables.read_table(tables.CLEAN / f"{split}.parquet") for split in ("train", "validation", "test")
    )  # fmt: skip
    for of in options.noises:
        rows: dict[str, list[tuple[Treated, dict[str, float]]]] = {}
        for seed in options.seeds:
            true = train["label"].to_numpy()
            noisy = train.assign(label=given_labels(train, of, seed), weight=1.0)
            noisy_validation = validation.assign(label=given_labels(validation, of, seed))
            done: dict[bytes, dict[str, float]] = {}
            for arm, treated in arms(noisy, true, options.mistakes, settings, seed).items():
                if arm.split(",")[0] not in options.arms:
                    continue
                splits = {"train": treated.documents, "validation": noisy_validation, "test": test}
                same = treated.documents.to_csv().encode()  # an arm that changed nothing
                if same not in done:
                    stages = [model for model in options.models if model != "vectors"]
                    done[same] = accuracies(splits, stages, {"seed": seed}) if stages else {}
                    if "vectors" in options.models:
                        done[same]["vectors"] = of_vectors(treated.documents, test)
                rows.setdefault(arm, []).append((treated, done[same]))
                console.say(f"{of.kind} {of.share}, seed {seed}, {arm}: {done[same]}")
        kept.table(caption(of, len(train), len(test), options.seeds, settings),
                   ("labels", "changed", "soft", "bound", "wrong", *options.models),
                   [row(arm, rows, train["label"].to_numpy(), options.models) for arm in rows])  # fmt: skip


# ---- the noise


def noise(text: str) -> Noise:
    """Return what a noise such as ``uniform:0.2`` stands for; ``ValueError`` if it is none."""
    kind, _, share = text.partition(":")
    if text.startswith(tables.METADATA) or text == "none":
        return Noise(text, 0)
    if kind not in KINDS or not 0 < float(share) < 1:
        raise ValueError(text)
    return Noise(kind, float(share))


def given_labels(documents: pd.DataFrame, of: Noise, seed: int) -> lq.Ints:
    """Return the given labels (n,) of ``documents``, whose ``label`` is the true one.

    Raises ``UserError`` for a metadata column that is missing or has other values than classes.
    """
    true, classes = documents["label"].to_numpy(), tables.label_names()
    if of.kind.startswith(tables.METADATA):
        return annotated(documents, of.kind, classes)
    rng = np.random.default_rng(seed)
    count = round(of.share * len(true))
    if of.kind == "confusion":
        features = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        text = features.fit_transform(tables.full_text(documents))
        model = LogisticRegression(max_iter=200)
        probabilities = cross_val_predict(model, text, true, cv=5, method="predict_proba")
        doubt = 1 - probabilities[np.arange(len(true)), true]
        changed = rng.choice(len(true), count, replace=False, p=doubt / doubt.sum())
        other = np.where(np.eye(len(classes), dtype=bool)[true], -1, probabilities).argmax(axis=1)
    else:
        changed = rng.choice(len(true), count, replace=False)
        step = 1 if of.kind == "pair" else rng.integers(1, len(classes), len(true))
        other = (true + step) % len(classes)
    labels: lq.Ints = true.copy()
    labels[changed] = other[changed]
    return labels


def annotated(documents: pd.DataFrame, column: str, classes: list[str]) -> lq.Ints:
    """Return the labels (n,) in a metadata column: names of classes, or their numbers from 0."""
    if column not in documents:
        raise UserError(
            f"{tables.CLEAN} has no column {column}. Name it in `columns.metadata` of the dataset in "
            "params.yaml, then run `dvc repro clean`."
        )
    number = {str(i): i for i in range(len(classes))} | {name: i for i, name in enumerate(classes)}
    labels = documents[column].map(number)
    if (unknown := labels.isna()).any():
        value = documents.loc[unknown, column].iloc[0]
        raise UserError(f"{column}: {value!r} is none of the classes {', '.join(classes)}.")
    result: lq.Ints = labels.to_numpy(np.int64)
    return result


# ---- review and action


def arms(
    documents: pd.DataFrame,
    true: lq.Ints,
    mistakes: Sequence[float],
    settings: LabelNoise,
    seed: int,
) -> dict[str, Treated]:
    """Return what each way to treat the given labels of ``documents`` makes of them, by its name."""
    given, nobody = documents["label"], np.zeros(len(documents), bool)
    of_texts = None if settings.model == "tfidf" else vectors(tuple(tables.full_text(documents)))
    scores = label_scores.score(documents, given, nobody, settings, seed, of_texts)
    found = {
        "given": Treated(documents, 0, 0, None),
        "relabelled": acted(documents, scores, "relabel"),
        "softened": acted(documents, scores, "soften"),
    }
    asked = scores.finding.to_ask
    for share in mistakes:
        reviewed = documents.assign(label=decided(given, true, asked, scores, share, seed))
        known = np.isin(np.arange(len(given)), asked)
        after = label_scores.score(reviewed, given, known, settings, seed, of_texts)
        found[f"auto, {share:.0%} mistakes"] = acted(reviewed, after, "auto")
    right = documents.assign(label=decided(given, true, asked, scores, 0, seed))
    return found | {
        "review alone": Treated(right, 0, 0, None),
        "true": Treated(documents.assign(label=true), 0, 0, None),
    }


def acted(documents: pd.DataFrame, scores: label_scores.LabelScores, action: str) -> Treated:
    """Return ``documents`` after an action of ``label_noise``."""
    every = np.ones(len(documents), bool)
    issues = label_scores.issues(documents, every, scores, tables.label_names())
    result = actions.act(documents, issues, action)
    changed = int((result["label"] != documents["label"]).sum())
    softened = int((result["other_share"] > 0).sum()) if "other_share" in result else 0
    return Treated(result, changed, softened, scores.finding.lower if action == "auto" else None)


def decided(
    before: pd.Series, true: lq.Ints, asked: lq.Ints, scores: label_scores.LabelScores,
    mistakes: float, seed: int,
) -> lq.Ints:  # fmt: skip
    """Return the labels ``before`` (n,) after a reviewer decided the ``asked`` ones."""
    given = before.to_numpy()
    suggested = scores.classes[scores.second]
    wrong = np.where(true == given, suggested, given)
    errs = np.random.default_rng(seed).random(len(given)) < mistakes
    labels: lq.Ints = given.copy()
    labels[asked] = np.where(errs, wrong, true)[asked]
    return labels


# ---- a quick model


def of_vectors(train: pd.DataFrame, test: pd.DataFrame) -> float:
    """Return the test accuracy of logistic regression on the vectors of the encoder of label_noise."""
    fit, held_out = (vectors(tuple(tables.full_text(each))) for each in (train, test))
    share = train["other_share"].to_numpy() if "other_share" in train else np.zeros(len(train))
    weight, labels = train["weight"].to_numpy(), train["label"].to_numpy()
    targets = np.zeros((len(train), len(tables.label_names())))
    targets[np.arange(len(train)), labels] = weight * (1 - share)
    if "other_label" in train:
        targets[np.arange(len(train)), train["other_label"]] += weight * share
    rows, classes = np.nonzero(targets)
    model = LogisticRegression(C=label_models.STRENGTH, max_iter=200)
    model.fit(fit[rows], classes, sample_weight=targets[rows, classes])
    return float((model.predict(held_out) == test["label"]).mean())


@cache
def vectors(texts: tuple[str, ...]) -> Any:
    """Return the texts' vectors, (texts, size)."""
    folder = encoder.recorded_folder(encoder.ENCODER)
    return encoder.vectors(list(texts), folder, label_models.MAX_LENGTH, precision.bf16_is_fast())


# ---- the table


def caption(of: Noise, train: int, test: int, seeds: Sequence[int], settings: LabelNoise) -> str:
    """Return what the table is about."""
    share = f" {of.share:.0%}" if of.share else ""
    return (f"{tables.dataset_name()}, {of.kind}{share}, prior {settings.prior}, {SAMPLE} labels reviewed: {train:,} "
            f"training and {test:,} test documents, {len(seeds)} seed(s)")  # fmt: skip


def row(
    arm: str,
    rows: dict[str, list[tuple[Treated, dict[str, float]]]],
    true: lq.Ints,
    models: Sequence[str],
) -> tuple[str, ...]:
    """Return a line of the table: means over the seeds."""
    found = [treated for treated, _ in rows[arm]]
    bounds = [treated.lower for treated in found if treated.lower is not None]
    return (
        arm,
        f"{np.mean([treated.changed for treated in found]):.0f}",
        f"{np.mean([treated.softened for treated in found]):.0f}",
        f"{np.mean(bounds):.2f}" if bounds else "",
        f"{np.mean([(treated.documents['label'] != true).sum() for treated in found]):.0f}",
        *(gap_closed(arm, rows, model) for model in models),
    )


def gap_closed(
    arm: str, rows: dict[str, list[tuple[Treated, dict[str, float]]]], model: str
) -> str:
    """Return a model's accuracy and the share of the gap from given to true labels that is closed."""
    of = {name: [accuracy[model] for _, accuracy in runs] for name, runs in rows.items()}
    mean = {name: float(np.mean(values)) for name, values in of.items()}
    gap = mean["true"] - mean["given"] if {"true", "given"} <= mean.keys() else 0
    closed = f" ({(mean[arm] - mean['given']) / gap:.0%})" if gap > 0.005 else ""
    return f"{spread(of[arm])}{closed}"


if __name__ == "__main__":
    console.run(main)
