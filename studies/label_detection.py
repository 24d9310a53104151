"""How well wrong labels are found, and what that is worth, against cleanlab as it comes.

    python -m studies.label_detection --train CSV --test CSV --human CSV [--noises human-0 uniform]
        [--models tfidf encoder ensemble finetuned] [--priors given uniform]

``--train`` and ``--test`` have AG News' form (no header: class from 1, title, text); ``--human``
has the header title,description,label,annotator_1,annotator_2,annotator_3, labels from 0, of
documents that also stand in ``--train``.

The kinds of noise are explained in studies/noisy_labels.py. ``finetuned`` is left out unless asked for:
it is for a GPU. ``--priors`` are values of ``label_noise.prior``. Training and review use what the
last of ``--models`` finds with the last of ``--priors``.
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
from cleantune.params.read import read_params
from stages.label_noise import LIKELY, ROUNDS
from studies import noisy_labels

MODELS = ("tfidf", "encoder", "ensemble")
PRIORS = ("given", "uniform", "auto")
FIGURES = ("AUROC", "AP", "P@100", "P@500", "P@1000", "F1", "prec", "recall", "rate")
REVIEWED = (0.01, 0.02, 0.05, 0.10, 0.20)


class Found(NamedTuple):
    """What a detector says of n documents."""

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
    arguments = parser.parse_args()
    data = noisy_labels.read(arguments.train, arguments.test, arguments.human, arguments.documents,
                       arguments.vectors)  # fmt: skip
    for noise in arguments.noises:
        rows, given, true = noisy_labels.make(noise, data, arguments.documents)
        wrong = given != true
        print(f"\n== {noise}: {len(rows):,} documents, {wrong.mean():.1%} of the labels wrong")
        print(f"{'detector':40}" + "".join(f"{name:>7}" for name in FIGURES))
        real = rows < len(data.people)  # whose labels people gave; the others' are drawn like them
        for name, found in detectors(data, rows, given, true, arguments.models, arguments.priors):
            print(f"{name:40}{figures(found, wrong)}", flush=True)
            if 0 < real.sum() < len(rows) and noise.startswith("human"):
                part = found._replace(score=found.score[real], flagged=found.flagged[real],
                                      rate=float("nan"))  # of all documents # fmt: skip
                print(
                    f"{f'  on the {real.sum():,} labelled by people':40}{figures(part, wrong[real])}"
                )
        own = np.arange(len(rows)), given
        quality = noise_rate.posterior(found.probabilities, given)[own]
        expected = noise_rate.error_probability(quality, found.rate)
        for stated in (0.7, 0.8, 0.9):
            flagged = noise_rate.suspects(quality, expected, stated)
            print(f"label_noise.precision {stated}: {flagged.sum():,} suspects, "
                  f"{wrong[flagged].mean() if flagged.any() else 0:.3f} of them wrong")  # fmt: skip
        # the last detector found: its verdict is what training and review work with
        worth(data, rows, given, true, found, found.flagged & (expected > LIKELY))


# ---- finding


def tfidf(texts: list[str]) -> csr_matrix:
    """Return TF-IDF of words and pairs, (texts, terms)."""
    return TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True).fit_transform(texts)


def detectors(
    data: noisy_labels.Corpus,
    rows: lq.Ints,
    given: lq.Ints,
    true: lq.Ints,
    models: Sequence[str],
    priors: Sequence[str],
) -> Iterator[tuple[str, Found]]:
    """Yield each detector's name and findings, ours in the order of ``models`` and ``priors``, last.

    Before ours stands what its views find when they learn from ``true``: no detector but a ceiling.
    """
    texts, vectors = [data.texts[i] for i in rows], data.vectors[rows]
    own, features = (np.arange(len(rows)), given), tfidf(texts)

    folds = StratifiedKFold(5, shuffle=True, random_state=0)

    def crossed(x: Any, strength: float, balance: str | None) -> Any:
        model = LogisticRegression(C=strength, class_weight=balance, max_iter=200)
        return cross_val_predict(model, x, given, cv=folds, method="predict_proba")

    plain = crossed(features, 1.0, None)
    joint = estimate_joint(given, plain)
    yield "cleanlab, TF-IDF", Found(-get_label_quality_scores(given, plain),
                                    find_label_issues(given, plain), 1 - float(np.trace(joint)), plain)  # fmt: skip
    mean = (crossed(features, 1.0, "balanced") + crossed(vectors, 10.0, "balanced")) / 2
    differs = mean.argmax(axis=1) != given
    yield "TF-IDF + encoder, prediction differs", Found(1 - mean[own], differs,
                                                      float(differs.mean()), mean)  # fmt: skip
    groups = Similar(Shingles(texts), 0.8).groups(range(len(texts)))
    fold = lq.fold_numbers(given, [groups[i] for i in range(len(texts))], 5, 0)
    params = read_params(["label_noise"])

    def views_of(name: str) -> list[lq.View]:
        settings = params.label_noise.model_copy(update={"model": name})
        return label_models.look(texts, given, fold, settings, 0, vectors)[0]

    prior = lq.class_prior(true, priors[-1])
    ceiling = lq.true_label_probabilities(views_of("ensemble"), true, prior, fold, rounds=1)[0]
    yield (
        "(ensemble that learnt the true labels)",
        Found(
            1 - ceiling[own],
            ceiling.argmax(axis=1) != given,
            1 - float(ceiling[own].mean()),
            ceiling,
        ),
    )
    for name, prior_name in itertools.product(models, priors):
        views = views_of(name)
        prior = lq.class_prior(given, prior_name)
        rounds = lq.true_label_probabilities(views, given, prior, fold, rounds=ROUNDS)
        found = lq.over_rounds(rounds, prior)
        quality = noise_rate.posterior(found, given)[own]
        rate = noise_rate.noise_rate(rounds, given).estimate
        expected = noise_rate.error_probability(quality, rate)
        contradicted = int((found.argmax(axis=1) != given).sum())
        flagged = noise_rate.suspects(quality, expected, at_least=contradicted)
        yield f"ours, {name}, prior {prior_name}", Found(1 - quality, flagged, rate, found)


def figures(found: Found, wrong: lq.Mask) -> str:
    """Return one row of the table."""
    if not wrong.any():
        return f"flagged {found.flagged.mean():.1%}, estimated rate {found.rate:.3f}"
    order = np.argsort(-found.score, kind="stable")
    heads = [wrong[order[:k]].mean() for k in (100, 500, 1000)]
    right = (found.flagged & wrong).sum()
    numbers = [roc_auc_score(wrong, found.score), average_precision_score(wrong, found.score), *heads,
               f1_score(wrong, found.flagged), right / max(found.flagged.sum(), 1),
               right / wrong.sum(), found.rate]  # fmt: skip
    return "".join(f"{number:7.3f}" for number in numbers)


# ---- what it is worth


def worth(
    data: noisy_labels.Corpus,
    rows: lq.Ints,
    given: lq.Ints,
    true: lq.Ints,
    found: Found,
    likely: lq.Mask,
) -> None:
    """Print test accuracy after each action and after review, with two kinds of classifier.

    ``likely`` (n,) are the suspects likelier wrong than right, on which the stage acts.
    """
    test = np.arange(data.train, len(data.texts))
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    lexical = vectorizer.fit_transform([data.texts[i] for i in rows])
    judged = vectorizer.transform([data.texts[i] for i in test])
    heads = {"encoder": (data.vectors[rows], data.vectors[test], 10.0), "TF-IDF": (lexical, judged, 1.0)}  # fmt: skip
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(len(rows))
    order = np.argsort(-found.score, kind="stable")
    every, kept = np.ones(len(rows), bool), ~likely
    at_random = ~np.isin(np.arange(len(rows)), rng.permutation(len(rows))[: likely.sum()])
    looks = found.probabilities.argmax(axis=1)
    best = np.where(likely, looks, given)
    trust = found.probabilities[np.arange(len(rows)), given]
    arms: dict[str, tuple[lq.Ints, lq.Mask, Any]] = {
        "noisy": (given, every, None), "true": (true, every, None), "dropped": (given, kept, None),
        "relabelled": (best, every, None), "weighted": (given, every, trust),
        "dropped at random": (given, at_random, None),
        "all suspects dropped": (given, ~found.flagged, None),
        "all suspects relabelled": (np.where(found.flagged, looks, given), every, None)}  # fmt: skip
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
    print(f"{found.flagged.sum():,} suspects, {likely.sum():,} likelier wrong than right")
    print(f"{'trained on':40}" + "".join(f"{name:>10} gap" for name in table))
    for arm in arms:
        cells = (recovered(accuracy[arm], accuracy) for accuracy in table.values())
        print(f"{arm:40}" + "".join(cells), flush=True)


def accuracies(
    arms: dict[str, Any], x: Any, judged: Any, strength: float, truth: lq.Ints
) -> dict[str, float]:
    """Return the test accuracy of logistic regression trained on each arm."""
    result = {}
    for arm, (labels, keep, weight) in arms.items():
        model = LogisticRegression(C=strength, max_iter=200)
        model.fit(x[keep], labels[keep], sample_weight=None if weight is None else weight[keep])
        result[arm] = float((model.predict(judged) == truth).mean())
    return result


def recovered(accuracy: float, table: dict[str, float]) -> str:
    """Return an accuracy and which share of the gap from noisy to true it makes good."""
    gap = table["true"] - table["noisy"]
    return f"{accuracy:10.4f}" + (
        f" {(accuracy - table['noisy']) / gap:3.0%}" if gap > 0.005 else "   -"
    )


if __name__ == "__main__":
    console.run(main)
