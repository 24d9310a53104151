"""The share of wrong labels, and the probability that each label is wrong.

n, c, ``labels`` and probabilities are those of ``cleantune.labels.confident_learning``.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, logit, softmax
from scipy.stats import binom, false_discovery_control
from threadpoolctl import threadpool_limits

from cleantune.labels.confident_learning import FLOOR, SHARPNESS, Floats, Ints, Mask, match_prior

TEMPERATURES = np.geomspace(0.25, 10, 24)  # grid of the maximum-likelihood fit
RATES = 0.75 * np.linspace(0, 1, 81) ** 2  # grid of noise rates, finer where they are low


def posterior(probabilities: Floats, labels: Ints, iterations: int = 50) -> Floats:
    """Return the probability of each true class given text and label (n, c).

    EM over the transition matrix from true to given labels (Dawid and Skene 1979, for one
    annotator, with the model as prior). Column ``labels[i]`` of row i is the label's quality.
    """
    c = probabilities.shape[1]
    given = np.eye(c)[labels]
    transition = np.full((c, c), 0.2 / c) + 0.8 * np.eye(c)
    for _ in range(iterations):
        result = probabilities * transition[:, labels].T
        result /= result.sum(axis=1, keepdims=True)
        transition = result.T @ given + 1e-3
        transition /= transition.sum(axis=1, keepdims=True)
    return result


def cohen_kappa(probabilities: Floats, labels: Ints) -> float:
    """Return Cohen's kappa between the most probable class and the given label."""
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

    The larger of ``symmetric_rate`` and ``asymmetric_rate``, which see different kinds of errors. In
    the first round no document's own label leaks into its prediction; the models of the last are
    more accurate: the estimate is the first round's, bounded above by that of the last. The interval
    covers both, over resampled documents. It does not include the error of the models, and label
    errors in ambiguous documents do not show: with few documents or poor models it is a lower bound.
    """
    weights: Any = np.ones((resamples + 1, len(labels)), np.uint8)  # the sample itself first
    rng = np.random.default_rng(0)
    for row in weights[1:]:
        row[:] = rng.poisson(1, len(labels))
    rates, bounds = [], []
    for probabilities in (rounds[0], rounds[-1]):
        asymmetric, bound = asymmetric_rate(probabilities, labels, weights)
        rates.append(np.maximum(symmetric_rate(probabilities, labels, weights), asymmetric))
        bounds.append(max(float(np.quantile(rates[-1][1:], 0.975)), bound))
    estimate = min(float(rates[0][0]), float(np.quantile(rates[-1][1:], 0.975)))
    lower = min(float(np.quantile(each[1:], 0.025)) for each in rates)
    return NoiseRate(estimate, min(lower, estimate), max(*bounds, estimate))


def symmetric_rate(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Return the rate of errors to any other class by maximum likelihood (b,), for weights (b, n).

    A model's own errors vanish where its predictions are confident, label errors do not. Rate and
    temperature of the predictions are fitted jointly (robust logistic regression, Copas 1988,
    https://doi.org/10.1111/j.2517-6161.1988.tb01723.x; the lapse rate of Wichmann and Hill 2001,
    https://doi.org/10.3758/BF03194544), so that overconfident predictions do not count as label errors.
    """
    c = probabilities.shape[1]
    logits = np.log(np.clip(probabilities, FLOOR, 1.0))
    log_likelihood = np.zeros((len(weights), len(TEMPERATURES) * len(RATES)))
    with threadpool_limits(1, user_api="blas"):  # the same sums on any machine
        for start in range(0, len(labels), 512):  # bounds memory
            rows = slice(start, start + 512)
            own = np.arange(len(labels[rows])), labels[rows]
            right = np.stack([softmax(logits[rows] / t, axis=1)[own] for t in TEMPERATURES], axis=1)
            given = (1 - RATES) * right[..., None] + RATES * (1 - right[..., None]) / (c - 1)
            log_likelihood += weights[:, rows].astype(float) @ np.log(given + FLOOR**2).reshape(
                len(given), -1
            )
    best: Floats = RATES[log_likelihood.argmax(axis=1) % len(RATES)]
    return best


def asymmetric_rate(probabilities: Floats, labels: Ints, weights: Floats) -> tuple[Floats, float]:
    """Return the rate of errors from one class to another (b,), for weights (b, n), and its bound.

    Predictions that match the class prior confuse two classes about equally in both directions, so
    an excess in one direction comes from the annotators. Pairs of classes count whose excess is
    significant (binomial test, false discovery rate 5 %). Of errors that keep the class shares, the
    share that shows is the accuracy of the predictions. Errors that move the shares off the prior
    are learnt by the models, and half of them is assumed to show. The bound counts all pairs, less
    what is expected by chance.
    """
    n, c = probabilities.shape
    prior = probabilities.mean(axis=0)
    # nearly one-hot, so that match_prior matches the number of predictions of each class
    sharp = 10 * np.log(np.clip(probabilities, FLOOR, 1.0))
    best = match_prior(sharp, prior).argmax(axis=1)
    flows = np.stack([np.bincount(best * c + labels, w, c * c).reshape(c, c) for w in weights])
    i, j = np.triu_indices(c, 1)
    forward, backward = flows[:, i, j], flows[:, j, i]
    errors, difference = forward[0] + backward[0], np.abs(forward[0] - backward[0])
    p = np.minimum(2 * binom.sf((errors + difference) / 2 - 1, errors, 0.5), 1)
    pairs = false_discovery_control(p) < 0.05
    seen = (np.sign(forward[0] - backward[0]) * (forward - backward))[:, pairs]
    shares = np.clip(seen, 0, None).sum(axis=1) / weights.sum(axis=1)
    moved = float(np.abs(np.bincount(labels, minlength=c) / n - prior).sum()) / 2
    agreed = float((best == labels).mean())
    half = np.minimum(shares, moved)
    rate: Floats = (shares - half) / np.maximum(agreed + shares - half, FLOOR) + 2 * half
    # mean and variance of the absolute difference of two directions that are equally likely
    middle = np.floor(errors / 2) + 1
    mean = 2 * middle * binom.pmf(middle, errors, 0.5)
    excess = difference.sum() - mean.sum() + 1.645 * np.sqrt((errors - mean**2).sum())
    return rate, max(float(rate[0]), float(excess) / (n * agreed + max(float(excess), 0)))


def error_probability(quality: Floats, rate: float, sharpness: float = SHARPNESS) -> Floats:
    """Return the probability that each label is wrong (n,), their mean being ``rate``.

    It is 1 - quality on the log-odds scale, divided by ``sharpness`` and shifted: sharpened
    probabilities rank better, but are overconfident.
    """
    odds = logit(np.clip(1 - quality, FLOOR, 1 - FLOOR)) / sharpness
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(odds + middle).mean() < rate else (low, middle)
    result: Floats = expit(odds + (low + high) / 2)
    return result


def calibrated(posterior: Floats, labels: Ints, wrong: Floats) -> Floats:
    """Return the calibrated probability of each true class given text and label (n, c).

    The given label has 1 - ``wrong`` (n,), of ``error_probability``; the other classes share the
    rest in proportion to ``posterior`` (n, c).
    """
    given = np.eye(posterior.shape[1])[labels]
    others = np.clip(posterior * (1 - given), FLOOR**2, None) * (1 - given)
    others /= others.sum(axis=1, keepdims=True)
    result: Floats = given * (1 - wrong)[:, None] + others * wrong[:, None]
    return result


def transition_matrix(calibrated: Floats, labels: Ints) -> Floats:
    """Return how often each true class (row) is given each label (column), (c, c), rows sum to 1."""
    joint = calibrated.T @ np.eye(calibrated.shape[1])[labels]
    result: Floats = joint / joint.sum(axis=1, keepdims=True)
    return result


def flagged_labels(
    quality: Floats, wrong: Floats, precision: float | None = None, at_least: int = 0
) -> Mask:
    """Return which labels (n,) are flagged: those of lowest ``quality``.

    As many as ``wrong`` sums to, and ``at_least`` so many; or, with ``precision``, the most for
    which the expected share of errors is at least that.
    """
    order = np.argsort(quality, kind="stable")
    if precision is None:
        count = max(round(float(wrong.sum())), at_least)
    else:
        enough = np.cumsum(wrong[order]) >= precision * np.arange(1, len(order) + 1)
        count = int(np.flatnonzero(enough)[-1]) + 1 if enough.any() else 0
    flagged = np.zeros(len(order), bool)
    flagged[order[:count]] = True
    return flagged
