"""The share of wrong labels, and the probability that each label is wrong.

n, c, ``labels`` and probabilities are those of ``cleantune.labels.confident_learning``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, softmax
from scipy.stats import binom, false_discovery_control
from threadpoolctl import threadpool_limits

from cleantune.labels.confident_learning import FLOOR, SHARPNESS, Floats, Ints, Mask, match_prior

TEMPERATURES = np.geomspace(0.25, 10, 24)  # of predictions, in which the best is looked for
RATES = 0.75 * np.linspace(0, 1, 81) ** 2  # of wrong labels; fine where they are few


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
