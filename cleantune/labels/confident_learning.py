"""Out-of-fold probabilities of the true label of each document: confident learning.

In this package n is the number of documents and c the number of classes that occur among
them; ``labels`` are int (n,) from 0 to c - 1, logits and probabilities float64 (n, c).

Confident learning (Northcutt et al. 2021, https://arxiv.org/abs/1911.00068), extended for the
errors that human annotators make: an ensemble of different label models, a known class prior, one
round of training on cleaned labels, and a noise rate that does not assume that errors depend on
the class alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
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
LabelModel = Callable[[Ints, Ints, Floats], Floats]
"""Fits on some rows, predicts others: (rows to fit, k held-out rows, targets (n, c)) -> (k, c)."""

SHARPNESS = 2.0  # a model fit on noisy labels is under-confident about the true class
FLOOR = 1e-6  # least probability, before taking logarithms
BALANCED = 0.13  # greatest imbalance, 0 (equal sizes) to 1 (a single class), taken as balanced


def enough_groups(labels: Ints, groups: Any, folds: int) -> Mask:
    """Return which documents (n,) are of a class with at least as many ``groups`` (n,) as ``folds``."""
    table = pd.DataFrame({"label": np.asarray(labels), "group": np.asarray(groups)})
    counts = table.groupby("label")["group"].transform("nunique")
    enough: Mask = (counts >= folds).to_numpy(bool)
    return enough


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
    # total variation distance, relative to its maximum
    imbalance = np.abs(given - uniform).sum() / 2 / (1 - 1 / len(given))
    return uniform if prior == "uniform" or (prior == "auto" and imbalance < BALANCED) else given


def match_prior(logits: Floats, prior: Floats, iterations: int = 500) -> Floats:
    """Return probabilities whose mean is ``prior``, by adding one bias a class to ``logits``.

    Annotators confuse some classes with others more often than the reverse, and models learn it
    from their labels; where the true shares are known, this corrects it (Saerens et al. 2002,
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
    label_models: Sequence[LabelModel],
    labels: Ints,
    prior: Floats,
    fold: Ints,
    trusted: Mask | None = None,
    rounds: int = 2,
    advance: Callable[[], None] = lambda: None,
) -> list[Floats]:
    """Return, round by round, the probability of each class being the true one (n, c).

    The predictions are out-of-fold. The first round fits on the given labels, later ones on the
    probabilities of the round before; labels of ``trusted`` rows (n,) stay as given. In later rounds
    a document's own label leaks a little into its prediction, through its neighbours.
    ``fold`` comes from ``fold_numbers``. ``advance`` is called rounds x models x folds times.
    """
    given = np.eye(len(prior))[labels]
    probabilities: list[Floats] = []
    trusted = np.zeros(len(labels), bool) if trusted is None else trusted
    for _ in range(rounds):
        targets = np.where(trusted[:, None], given, probabilities[-1] if probabilities else given)
        targets = targets * (prior * len(labels) / np.maximum(targets.sum(axis=0), FLOOR))
        logits = []
        for label_model in label_models:
            held = np.empty_like(given)
            for number in np.unique(fold):
                rows = np.flatnonzero(fold == number)
                # one thread: the matrices are small, and sums are the same on any machine
                with threadpool_limits(1, user_api="blas"):
                    held[rows] = label_model(np.flatnonzero(fold != number), rows, targets)
                advance()
            logits.append(np.log(np.clip(held, FLOOR, 1.0)))
        probabilities.append(match_prior(SHARPNESS * fuse(logits), prior))
    return probabilities


def average_rounds(rounds: Sequence[Floats], prior: Floats) -> Floats:
    """Return the geometric mean of the probabilities of several rounds (n, c).

    Later rounds detect human errors better; in the first no document's own label leaks.
    """
    return match_prior(np.mean([np.log(np.clip(p, FLOOR, 1.0)) for p in rounds], axis=0), prior)


def fuse(logits: Sequence[Floats]) -> Floats:
    """Return the mean logits of several label models, each scaled to the same spread first.

    Models on TF-IDF features are less confident than models on embeddings, but not less accurate.
    """
    centred = [each - each.mean(axis=1, keepdims=True) for each in logits]
    mean: Floats = 1.5 * np.mean([each / max(float(each.std()), FLOOR) for each in centred], axis=0)
    return mean
