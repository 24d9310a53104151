"""How far each label can be trusted: probabilities from models that did not see it.

In this module and in those beside it n is the number of documents and c the number of classes that occur among
them; ``labels`` are int (n,) from 0 to c - 1, logits and probabilities float64 (n, c).

The method is confident learning's (Northcutt et al. 2021, https://arxiv.org/abs/1911.00068), out
of fold, with what people's errors need beyond it: several unlike models, a known class prior, one
round of training on cleaned labels, and a noise rate that does not assume that errors depend on
the class alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
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

SHARPNESS = 2.0  # a model fit on noisy labels is under-confident about the true class
FLOOR = 1e-6  # of a probability before its logarithm
BALANCED = (
    0.13  # classes no further than this on the way from equal sizes to a single class are equal
)


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
