"""How far each label can be trusted: probabilities from models that did not see it, and what follows.

In all of this module n is the number of documents and c the number of classes that occur among
them; ``labels`` are int (n,) from 0 to c - 1, logits and probabilities float64 (n, c).

The method is confident learning's (Northcutt et al. 2021, https://arxiv.org/abs/1911.00068), out
of fold, with what people's errors need beyond it: several unlike models, a known class prior, one
round of training on cleaned labels, and a noise rate that does not assume that errors depend on
the class alone.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, softmax
from scipy.stats import binom, false_discovery_control
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from cleantune.errors import UserError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Features = Any
"""A dense or sparse matrix, (n, size)."""
View = Callable[[Ints, Ints, Floats], Floats]
"""Fits on some rows and judges others: (rows to fit, k rows to judge, targets (n, c)) -> (k, c)."""

NEIGHBOURS = 50
SHARPNESS = 2.0  # a model fit on noisy labels is under-confident about the true class
FLOOR = 1e-6  # of a probability before its logarithm
TEMPERATURES = np.geomspace(0.25, 10, 24)  # of predictions, in which the best is looked for
RATES = 0.75 * np.linspace(0, 1, 81) ** 2  # of wrong labels; fine where they are few
BALANCED = (
    0.13  # classes no further than this on the way from equal sizes to a single class are equal
)


# ---- views: they fit on soft targets, so that the same code runs on given and on cleaned labels


def linear_view(features: Features, strength: float) -> View:
    """Return logistic regression on ``features`` (n, size), L2 penalty of inverse ``strength``."""

    def judge(fit: Ints, held_out: Ints, targets: Floats) -> Floats:
        # a document stands once for each class that holds over 3 % of it, so weighted
        rows, classes = np.nonzero(targets[fit] > 0.03 * targets[fit].sum(axis=1, keepdims=True))
        model = LogisticRegression(C=strength, max_iter=200)
        model.fit(features[fit][rows], classes, sample_weight=targets[fit][rows, classes])
        found = np.zeros((len(held_out), targets.shape[1]))
        found[:, model.classes_] = model.predict_proba(features[held_out])
        return found

    return judge


def neighbour_view(vectors: NDArray[Any], neighbours: int = NEIGHBOURS, block: int = 1024) -> View:
    """Return the mean target of the nearest documents by cosine of unit ``vectors`` (n, size).

    Held-out rows are taken ``block`` at a time, so that memory grows linearly with n.
    """

    def judge(fit: Ints, held_out: Ints, targets: Floats) -> Floats:
        k = min(neighbours, len(fit))
        known, known_targets = vectors[fit].T, targets[fit]
        found = np.empty((len(held_out), targets.shape[1]))
        for start in range(0, len(held_out), block):
            similarity = vectors[held_out[start : start + block]] @ known
            near = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
            weight = np.exp(np.take_along_axis(similarity, near, axis=1).astype(np.float64))
            votes = np.einsum("rk,rkc->rc", weight, known_targets[near])
            votes += 0.02 * weight.sum(axis=1, keepdims=True)  # no class is ruled out
            found[start : start + block] = votes / votes.sum(axis=1, keepdims=True)
        return found

    return judge


def tfidf_view(texts: Sequence[str]) -> View:
    """Return logistic regression on TF-IDF of words and pairs of words."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    return linear_view(vectorizer.fit_transform(texts), 1.0)


def vector_views(vectors: NDArray[Any]) -> list[View]:
    """Return a linear and a neighbour view of frozen embeddings, unit rows (n, size)."""
    return [linear_view(vectors, 10.0), neighbour_view(vectors)]


def fixed_view(probabilities: Floats) -> View:
    """Return what was found once, (n, c), out of the same folds: too dear to fit again each round."""

    def judge(fit: Ints, held_out: Ints, targets: Floats) -> Floats:  # noqa: ARG001 - a View
        return probabilities[held_out]

    return judge


# ---- probabilities of the true class


def fold_numbers(labels: Ints, groups: Any, folds: int, seed: int) -> Ints:
    """Return the fold of each document (n,); those that share a value in ``groups`` (n,) share it.

    Raises ``UserError`` for a single class, or a class with fewer groups than ``folds``.
    """
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    counts = [len(np.unique(group[labels == label])) for label in np.unique(labels)]
    if len(counts) < 2:
        raise UserError(
            "All training documents have the same label: there is nothing to compare it with. "
            "Check `columns` and `labels` of the dataset in params.yaml."
        )
    if min(counts) < folds:
        fewer = f"Lower it to {min(counts)}, add" if min(counts) > 1 else "Add"
        raise UserError(
            f"The smallest class has {min(counts)} distinct training documents, too few for "
            f"label_noise.folds: {folds}. {fewer} documents of that class, or leave the class out of "
            "the data."
        )
    fold = np.zeros(len(labels), np.int64)
    splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(splits.split(labels, labels, group)):
        fold[held_out] = number
    return fold


def class_prior(labels: Ints, prior: str) -> Floats:
    """Return the share of each class among true labels (c,): ``uniform``, as ``given``, or ``auto``.

    ``auto`` is uniform where the given labels nearly are, else as given.
    """
    given = np.bincount(labels) / len(labels)
    uniform = np.full(len(given), 1 / len(given))
    way = (
        np.abs(given - uniform).sum() / 2 / (1 - 1 / len(given))
    )  # total variation over its maximum
    return uniform if prior == "uniform" or (prior == "auto" and way < BALANCED) else given


def match_prior(logits: Floats, prior: Floats, iterations: int = 500) -> Floats:
    """Return probabilities whose mean is ``prior``, by adding one bias a class to ``logits``.

    People take some classes for others more often than the reverse, and a model learns it from
    them; where the true shares are known, this undoes it (Saerens et al. 2002,
    https://doi.org/10.1162/089976602753284446, run towards a known prior).
    """
    bias = np.zeros(logits.shape[1])
    for _ in range(iterations):
        step = 0.5 * np.log(softmax(logits + bias, axis=1).mean(axis=0) / prior)
        bias -= step
        if np.abs(step).max() < 1e-7:
            break
    result: Floats = softmax(logits + bias, axis=1)
    return result


def true_label_probabilities(
    views: Sequence[View],
    labels: Ints,
    prior: Floats,
    fold: Ints,
    trusted: Mask | None = None,
    rounds: int = 2,
    advance: Callable[[], None] = lambda: None,
) -> list[Floats]:
    """Return, round by round, the probability of each class being the true one (n, c).

    It comes from models blind to the document. The first round fits on the given labels, later ones
    on the probabilities of the one before; labels of ``trusted`` rows (n,) stay as given. A trace of
    a document's own label comes back to it that way, through its neighbours.
    ``fold`` comes from ``fold_numbers``. ``advance`` is called rounds x views x folds times.
    """
    given = np.eye(len(prior))[labels]
    found: list[Floats] = []
    trusted = np.zeros(len(labels), bool) if trusted is None else trusted
    for _ in range(rounds):
        targets = np.where(trusted[:, None], given, found[-1] if found else given)
        targets = targets * (prior * len(labels) / np.maximum(targets.sum(axis=0), FLOOR))
        logits = []
        for view in views:
            held = np.empty_like(given)
            for number in np.unique(fold):
                rows = np.flatnonzero(fold == number)
                # one thread: the matrices are small, and sums come out the same on any machine
                with threadpool_limits(1, user_api="blas"):
                    held[rows] = view(np.flatnonzero(fold != number), rows, targets)
                advance()
            logits.append(np.log(np.clip(held, FLOOR, 1.0)))
        found.append(match_prior(SHARPNESS * fuse(logits), prior))
    return found


def over_rounds(found: Sequence[Floats], prior: Floats) -> Floats:
    """Return what several rounds say together: the geometric mean of their probabilities (n, c).

    The later ones know people's errors better, the first has no trace of a document's own label.
    """
    return match_prior(np.mean([np.log(np.clip(p, FLOOR, 1.0)) for p in found], axis=0), prior)


def fuse(logits: Sequence[Floats]) -> Floats:
    """Return the mean of several views' logits, each brought to one spread first.

    Word counts give flat probabilities and embeddings steep ones, for no better reason.
    """
    centred = [view - view.mean(axis=1, keepdims=True) for view in logits]
    mean: Floats = 1.5 * np.mean([v / max(float(v.std()), FLOOR) for v in centred], axis=0)
    return mean


# ---- what follows for the given labels


def posterior(probabilities: Floats, labels: Ints, iterations: int = 50) -> Floats:
    """Return the probability of each true class given text and label (n, c).

    EM over the transition matrix from true to given labels (Dawid and Skene 1979, for one
    annotator, with the model as prior). Column ``labels[i]`` of row i is the label's quality.
    """
    c = probabilities.shape[1]
    given = np.eye(c)[labels]
    transition = np.full((c, c), 0.2 / c) + 0.8 * np.eye(c)
    for _ in range(iterations):
        found = probabilities * transition[:, labels].T
        found /= found.sum(axis=1, keepdims=True)
        transition = found.T @ given + 1e-3
        transition /= transition.sum(axis=1, keepdims=True)
    return found


def agreement(probabilities: Floats, labels: Ints) -> float:
    """Return how far the likeliest class agrees with the given label beyond chance: Cohen's kappa."""
    best = probabilities.argmax(axis=1)
    c = probabilities.shape[1]
    chance = float(np.bincount(best, minlength=c) @ np.bincount(labels, minlength=c))
    chance /= len(labels) ** 2
    return (float((best == labels).mean()) - chance) / max(1 - chance, FLOOR)


class NoiseRate(NamedTuple):
    """Share of wrong labels: the estimate and its 95 % interval from resampled documents."""

    estimate: float
    lower: float
    upper: float


def noise_rate(rounds: Sequence[Floats], labels: Ints, resamples: int = 200) -> NoiseRate:
    """Estimate the share of wrong labels from the probabilities of all ``rounds``, each (n, c).

    The larger of what ``anywhere`` and ``one_way`` find, errors of two kinds. The first round is
    blind to a document's own label; the last, which is not quite, knows the task better: the
    estimate is the first's, but no more than the last leaves possible. The interval is of both, from
    resampled documents. It cannot say how well the models know the task, and errors in documents
    that are doubtful anyway are no part of it: with few documents or poor models, read it as a floor.
    """
    weights = np.ones((resamples + 1, len(labels)))  # the sample itself first
    weights[1:] = np.random.default_rng(0).poisson(1, (resamples, len(labels)))
    found, most = [], []
    for probabilities in (rounds[0], rounds[-1]):
        flow, possible = one_way(probabilities, labels, weights)
        found.append(np.maximum(anywhere(probabilities, labels, weights), flow))
        most.append(max(float(np.quantile(found[-1][1:], 0.975)), possible))
    estimate = min(float(found[0][0]), float(np.quantile(found[-1][1:], 0.975)))
    lower = min(float(np.quantile(each[1:], 0.025)) for each in found)
    return NoiseRate(estimate, min(lower, estimate), max(*most, estimate))


def anywhere(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Return the rate of errors to any other class by maximum likelihood (b,), for weights (b, n).

    A model's own errors vanish where its predictions are sure, such label errors do not. Rate and
    temperature of the predictions are fitted together (robust logistic regression, Copas 1988,
    https://doi.org/10.1111/j.2517-6161.1988.tb01723.x; the lapse rate of Wichmann and Hill 2001,
    https://doi.org/10.3758/BF03194544), so that predictions too sure of themselves are no errors.
    """
    c = probabilities.shape[1]
    logits = np.log(np.clip(probabilities, FLOOR, 1.0))
    likelihood = np.zeros((len(weights), len(TEMPERATURES) * len(RATES)))
    with threadpool_limits(1, user_api="blas"):  # the same sums on any machine
        for start in range(0, len(labels), 512):  # bounds memory
            rows = slice(start, start + 512)
            own = np.arange(len(labels[rows])), labels[rows]
            right = np.stack([softmax(logits[rows] / t, axis=1)[own] for t in TEMPERATURES], axis=1)
            given = (1 - RATES) * right[..., None] + RATES * (1 - right[..., None]) / (c - 1)
            likelihood += weights[:, rows] @ np.log(given + FLOOR**2).reshape(len(given), -1)
    best: Floats = RATES[likelihood.argmax(axis=1) % len(RATES)]
    return best


def one_way(probabilities: Floats, labels: Ints, weights: Floats) -> tuple[Floats, float]:
    """Return the rate of errors from one class to another (b,), for weights (b, n), and at most.

    Decisions that take each class as often as it occurs err about as often from one class to
    another as back, so a flow in one direction is the annotators'. Pairs of classes count in which
    it is more than chance (binomial test, a false discovery rate of 5 %). Of errors that leave the
    classes' shares as they are, the decisions show the documents that they get right, as large a
    part as of those with correct labels. Errors that move the shares off the prior, models learn,
    and half of them is taken to show. The most there may be counts all pairs, less what chance
    alone gives.
    """
    n, c = probabilities.shape
    prior = probabilities.mean(axis=0)
    # so sharp that it counts decisions
    sharp = 10 * np.log(np.clip(probabilities, FLOOR, 1.0))
    best = match_prior(sharp, prior).argmax(axis=1)
    flows = np.stack([np.bincount(best * c + labels, w, c * c).reshape(c, c) for w in weights])
    i, j = np.triu_indices(c, 1)
    there, back = flows[:, i, j], flows[:, j, i]
    errors, ahead = there[0] + back[0], np.abs(there[0] - back[0])
    p = np.minimum(2 * binom.sf((errors + ahead) / 2 - 1, errors, 0.5), 1)
    pairs = false_discovery_control(p) < 0.05
    seen = (np.sign(there[0] - back[0]) * (there - back))[:, pairs]
    shares = np.clip(seen, 0, None).sum(axis=1) / weights.sum(axis=1)
    moved = float(np.abs(np.bincount(labels, minlength=c) / n - prior).sum()) / 2
    agreed = float((best == labels).mean())
    half = np.minimum(shares, moved)
    rate: Floats = (shares - half) / np.maximum(agreed + shares - half, FLOOR) + 2 * half
    # mean and variance of the absolute difference of two directions that are equally likely
    middle = np.floor(errors / 2) + 1
    mean = 2 * middle * binom.pmf(middle, errors, 0.5)
    excess = ahead.sum() - mean.sum() + 1.645 * np.sqrt((errors - mean**2).sum())
    return rate, max(float(rate[0]), float(excess) / (n * agreed + max(float(excess), 0)))


def error_probability(quality: Floats, rate: float, sharpness: float = SHARPNESS) -> Floats:
    """Return the probability that each label is wrong (n,), their mean being ``rate``.

    It is 1 - quality on the log-odds scale, divided by ``sharpness`` and shifted: what sharpened
    probabilities gain in ranking makes them too sure of themselves.
    """
    odds = logit(np.clip(1 - quality, FLOOR, 1 - FLOOR)) / sharpness
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(odds + middle).mean() < rate else (low, middle)
    result: Floats = expit(odds + (low + high) / 2)
    return result


def calibrated(posterior: Floats, labels: Ints, wrong: Floats) -> Floats:
    """Return the probability of each class being the true one, given text and label (n, c).

    The given label has 1 - ``wrong`` (n,), of ``error_probability``; what a wrong one should have
    been follows ``posterior`` (n, c).
    """
    given = np.eye(posterior.shape[1])[labels]
    others = np.clip(posterior * (1 - given), FLOOR**2, None) * (1 - given)
    others /= others.sum(axis=1, keepdims=True)
    result: Floats = given * (1 - wrong)[:, None] + others * wrong[:, None]
    return result


def transition(calibrated: Floats, labels: Ints) -> Floats:
    """Return how often each true class (row) is given each label (column), (c, c), rows sum to 1."""
    joint = calibrated.T @ np.eye(calibrated.shape[1])[labels]
    result: Floats = joint / joint.sum(axis=1, keepdims=True)
    return result


def suspects(
    quality: Floats, wrong: Floats, precision: float | None = None, at_least: int = 0
) -> Mask:
    """Return which labels (n,) are flagged: the ones of lowest ``quality``.

    As many as there are errors by ``wrong``, and ``at_least`` so many; or, with ``precision``, the
    longest head of the ranking of which at least this share is expected to be wrong.
    """
    order = np.argsort(quality, kind="stable")
    if precision is None:
        count = max(round(float(wrong.sum())), at_least)
    else:
        enough = np.cumsum(wrong[order]) >= precision * np.arange(1, len(order) + 1)
        count = int(np.flatnonzero(enough)[-1]) + 1 if enough.any() else 0
    found = np.zeros(len(order), bool)
    found[order[:count]] = True
    return found
