"""Detection of label errors and its effect on accuracy, compared with cleanlab's defaults.

    python -m studies.label_detection --train CSV --test CSV --human CSV [--noises human-0 uniform]
        [--models tfidf encoder ensemble finetuned] [--priors given uniform]

``--train`` and ``--test`` have AG News' form (no header: class from 1, title, text); ``--human``
has the header title,description,label,annotator_1,annotator_2,annotator_3, labels from 0, of
documents that are also in ``--train``.

The kinds of noise are explained in studies/noisy_labels.py. ``finetuned`` is not run by default: it
needs a GPU. ``--priors`` are values of ``label_noise.prior``. Training and review use the labels
flagged by the last of ``--models`` with the last of ``--priors``.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cleanlab.count import estimate_joint
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from cleantune import console
from cleantune.data.near_duplicates import Shingles, Similar
from cleantune.labels import confident_learning as lq
from cleantune.labels import label_models, noise_rate
from cleantune.labels.label_scores import RELABEL_THRESHOLD, ROUNDS
from cleantune.params.read import read_params
from studies import noisy_labels
from tools import record

MODELS = ("tfidf", "encoder", "ensemble")
PRIORS = ("given", "uniform", "auto")
METRICS = ("AUROC", "AP", "P@100", "P@500", "P@1000", "F1", "prec", "recall", "rate")
REVIEWED = (0.01, 0.02, 0.05, 0.10, 0.20)


class Detection(NamedTuple):
    """A detector's results for n documents."""

    score: lq.Floats
    flagged: lq.Mask
    rate: float
    probabilities: lq.Floats


def main() -> None:
    """Print a table for every noise: detection, training on the result, review."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name in ("--train", "--test", "--human"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument(
        "--noises", nargs="+", choices=noisy_labels.NAMES, default=noisy_labels.NAMES
    )
    parser.add_argument("--models", nargs="+", default=MODELS, choices=(*MODELS, "finetuned"))
    parser.add_argument("--priors", nargs="+", default=["given"], choices=PRIORS)
    parser.add_argument("--vectors", type=Path, help="folder that keeps the texts' vectors")
    record.add_option(parser)
    arguments = parser.parse_args()
    kept = record.Record(arguments.keep)
    data = noisy_labels.read(arguments.train, arguments.test, arguments.human, arguments.documents,
                       arguments.vectors)  # fmt: skip
    for noise in arguments.noises:
        rows, given, true = noisy_labels.make(noise, data, arguments.documents)
        wrong = given != true
        about = f"{noise}, {len(rows):,} documents, {wrong.mean():.1%} of the labels wrong"
        cells = []
        # the others' labels are sampled like the human ones
        real = rows < len(data.people)
        for name, detection in detectors(
            data, rows, given, true, arguments.models, arguments.priors
        ):
            cells.append((name, *metrics(detection, wrong)))
            console.say(" ".join(cells[-1]))
            if 0 < real.sum() < len(rows) and noise.startswith("human"):
                part = detection._replace(score=detection.score[real], flagged=detection.flagged[real],
                                          rate=float("nan"))  # of all documents # fmt: skip
                on_real = f"{name}, the {real.sum():,} with human labels"
                cells.append((on_real, *metrics(part, wrong[real])))
        kept.table(f"Detection: {about}", ("detector", *METRICS), cells)
        own = np.arange(len(rows)), given
        quality = noise_rate.posterior(detection.probabilities, given)[own]
        expected = noise_rate.error_probability(quality, detection.rate)
        for stated in (0.7, 0.8, 0.9):
            flagged = noise_rate.flagged_labels(quality, expected, stated)
            kept.say(f"label_noise.precision {stated}: {flagged.sum():,} flagged, "
                  f"{wrong[flagged].mean() if flagged.any() else 0:.3f} of them wrong")  # fmt: skip
        # training and review use the last detector
        likely = detection.flagged & (expected > RELABEL_THRESHOLD)
        caption = (f"Training: {about}; {detection.flagged.sum():,} flagged, {likely.sum():,} with "
                   f"P(error) > {RELABEL_THRESHOLD}")  # fmt: skip
        kept.table(caption, *training_effect(data, rows, given, true, detection, likely))


# ---- detection


def tfidf(texts: list[str]) -> csr_matrix:
    """Return TF-IDF of word unigrams and bigrams, (texts, terms)."""
    return TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True).fit_transform(texts)


def detectors(
    data: noisy_labels.Corpus,
    rows: lq.Ints,
    given: lq.Ints,
    true: lq.Ints,
    models: Sequence[str],
    priors: Sequence[str],
) -> Iterator[tuple[str, Detection]]:
    """Yield each detector's name and results, ours last, in the order of ``models`` and ``priors``.

    Before ours comes the ensemble trained on the ``true`` labels: an upper bound, not a detector.
    """
    texts, vectors = [data.texts[i] for i in rows], data.vectors[rows]
    own, features = (np.arange(len(rows)), given), tfidf(texts)

    folds = StratifiedKFold(5, shuffle=True, random_state=0)

    def out_of_fold(x: Any, strength: float, balance: str | None) -> Any:
        model = LogisticRegression(C=strength, class_weight=balance, max_iter=200)
        return cross_val_predict(model, x, given, cv=folds, method="predict_proba")

    plain = out_of_fold(features, 1.0, None)
    joint = estimate_joint(given, plain)
    yield "cleanlab, TF-IDF", Detection(-get_label_quality_scores(given, plain),
                                    find_label_issues(given, plain), 1 - float(np.trace(joint)), plain)  # fmt: skip
    mean = (out_of_fold(features, 1.0, "balanced") + out_of_fold(vectors, 10.0, "balanced")) / 2
    differs = mean.argmax(axis=1) != given
    yield "TF-IDF + encoder, prediction differs", Detection(1 - mean[own], differs,
                                                      float(differs.mean()), mean)  # fmt: skip
    groups = Similar(Shingles(texts), 0.8).groups(range(len(texts)))
    fold = lq.fold_numbers(given, [groups[i] for i in range(len(texts))], 5, 0)
    params = read_params(["label_noise"])

    def models_of(name: str) -> list[lq.LabelModel]:
        settings = params.label_noise.model_copy(update={"model": name})
        return label_models.build(texts, given, fold, settings, 0, vectors)[0]

    prior = lq.class_prior(true, priors[-1])
    ceiling = lq.true_label_probabilities(models_of("ensemble"), true, prior, fold, rounds=1)[0]
    yield (
        "(ensemble trained on the true labels)",
        Detection(
            1 - ceiling[own],
            ceiling.argmax(axis=1) != given,
            1 - float(ceiling[own].mean()),
            ceiling,
        ),
    )
    for name, prior_name in itertools.product(models, priors):
        ensemble = models_of(name)
        prior = lq.class_prior(given, prior_name)
        rounds = lq.true_label_probabilities(ensemble, given, prior, fold, rounds=ROUNDS)
        probabilities = lq.average_rounds(rounds, prior)
        quality = noise_rate.posterior(probabilities, given)[own]
        rate = noise_rate.noise_rate(rounds, given).estimate
        expected = noise_rate.error_probability(quality, rate)
        contradicted = int((probabilities.argmax(axis=1) != given).sum())
        flagged = noise_rate.flagged_labels(quality, expected, at_least=contradicted)
        yield (
            f"ours, {name}, prior {prior_name}",
            Detection(1 - quality, flagged, rate, probabilities),
        )


def metrics(detection: Detection, wrong: lq.Mask) -> list[str]:
    """Return a detector's ``METRICS``, a dash for those that need wrong labels where there are none."""
    if not wrong.any():
        return ["–"] * (len(METRICS) - 1) + [f"{detection.rate:.3f}"]
    order = np.argsort(-detection.score, kind="stable")
    heads = [wrong[order[:k]].mean() for k in (100, 500, 1000)]
    right = (detection.flagged & wrong).sum()
    numbers = [roc_auc_score(wrong, detection.score), average_precision_score(wrong, detection.score), *heads,
               f1_score(wrong, detection.flagged), right / max(detection.flagged.sum(), 1),
               right / wrong.sum(), detection.rate]  # fmt: skip
    return [f"{number:.3f}" for number in numbers]


# ---- effect on training


def training_effect(
    data: noisy_labels.Corpus,
    rows: lq.Ints,
    given: lq.Ints,
    true: lq.Ints,
    detection: Detection,
    likely: lq.Mask,
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return a table of test accuracy after each action and after review: its columns and rows.

    In brackets the share of the gap from noisy to true labels that is closed.

    ``likely`` (n,) are the flagged labels with P(error) > 0.5, on which the stage acts.
    """
    test = np.arange(data.train, len(data.texts))
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    lexical = vectorizer.fit_transform([data.texts[i] for i in rows])
    lexical_test = vectorizer.transform([data.texts[i] for i in test])
    heads = {"encoder": (data.vectors[rows], data.vectors[test], 10.0), "TF-IDF": (lexical, lexical_test, 1.0)}  # fmt: skip
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(len(rows))
    order = np.argsort(-detection.score, kind="stable")
    every, kept = np.ones(len(rows), bool), ~likely
    at_random = ~np.isin(np.arange(len(rows)), rng.permutation(len(rows))[: likely.sum()])
    predicted = detection.probabilities.argmax(axis=1)
    best = np.where(likely, predicted, given)
    quality = detection.probabilities[np.arange(len(rows)), given]
    arms: dict[str, tuple[lq.Ints, lq.Mask, Any]] = {
        "noisy": (given, every, None), "true": (true, every, None), "dropped": (given, kept, None),
        "relabelled": (best, every, None), "weighted": (given, every, quality),
        "dropped at random": (given, at_random, None),
        "all flagged dropped": (given, ~detection.flagged, None),
        "all flagged relabelled": (np.where(detection.flagged, predicted, given), every, None)}  # fmt: skip
    for share in REVIEWED:
        for name, by, others, left in (("ours, rest relabelled", order, best, every),
                                       ("ours, rest dropped", order, given, kept),
                                       ("ours, rest kept", order, given, every),
                                       ("random, rest kept", shuffled, given, every)):  # fmt: skip
            seen = np.isin(np.arange(len(rows)), by[: round(share * len(rows))])
            arms[f"{share:.0%} reviewed, {name}"] = (
                np.where(seen, true, others),
                seen | left,
                None,
            )
    table = {name: accuracies(arms, *head, data.labels[test]) for name, head in heads.items()}
    rows_of_table = [
        (arm, *(recovered(accuracy[arm], accuracy) for accuracy in table.values())) for arm in arms
    ]
    return ("trained on", *table), rows_of_table


def accuracies(
    arms: dict[str, Any], x: Any, x_test: Any, strength: float, truth: lq.Ints
) -> dict[str, float]:
    """Return the test accuracy of logistic regression trained on each arm."""
    result = {}
    for arm, (labels, keep, weight) in arms.items():
        model = LogisticRegression(C=strength, max_iter=200)
        model.fit(x[keep], labels[keep], sample_weight=None if weight is None else weight[keep])
        result[arm] = float((model.predict(x_test) == truth).mean())
    return result


def recovered(accuracy: float, table: dict[str, float]) -> str:
    """Return an accuracy and the share of the gap from noisy to true labels that it closes."""
    gap = table["true"] - table["noisy"]
    closed = f" ({(accuracy - table['noisy']) / gap:.0%})" if gap > 0.005 else ""
    return f"{accuracy:.4f}{closed}"


if __name__ == "__main__":
    console.run(main)
