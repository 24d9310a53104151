"""How much of a flagged label's weight belongs to the suggested class, by what a person decided of others.

n is the number of documents whose labels are checked. P(error) ranks labels well, and is too high or too
low where the models know the task less than their probabilities say. Its logit is therefore scaled and
shifted until it fits the decisions (logistic regression, as Platt 1999 calibrates a classifier), with
priors that keep a few decisions from saying too much: the mean over the posterior, not the best fit.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import expit, log_expit, logit

from cleantune.labels.confident_learning import Floats, Mask
from cleantune.labels.reviewed_sample import Decisions

# Prior standard deviations, in log-odds: of the shift, and of the scale, which is positive
SHIFT, SCALE = 2.0, 1.0
SHIFTS, SCALES = np.meshgrid(np.linspace(-6, 6, 61), np.linspace(0, 3, 31), indexing="ij")
LEAST = 1e-4  # P(error), before taking its logit
POINTS = 200  # at which the curve is computed; between them it is interpolated


class SoftLabels(NamedTuple):
    """The training target of each of n documents: a part of it is the suggested class."""

    share: Floats
    """(n,) of the suggested class; the given one has the rest."""
    weight: Floats
    """(n,) of the document: less than 1 by the probability that a third class is the right one."""


def soften(wrong: Floats, flagged: Mask, decisions: Decisions) -> SoftLabels:
    """Return soft labels for the ``flagged`` (n,) documents that nobody decided.

    The others keep theirs, and so do all where no suggested label was accepted. ``wrong`` (n,) is P(error)
    before any review.
    """
    share, weight = np.zeros(len(wrong)), np.ones(len(wrong))
    decided, rest = flagged & decisions.reviewed, flagged & ~decisions.reviewed
    if not decisions.accepted[decided].any() or not rest.any():
        return SoftLabels(share, weight)
    odds = logit(np.clip(wrong, LEAST, 1 - LEAST))
    is_wrong = ~decisions.kept[decided]
    at = SHIFTS[..., None] + SCALES[..., None] * odds[decided]
    likelihood = np.where(is_wrong, log_expit(at), log_expit(-at)).sum(axis=-1)
    posterior = likelihood - (SHIFTS / SHIFT) ** 2 / 2 - (SCALES / SCALE) ** 2 / 2
    posterior = np.exp(posterior - posterior.max())
    posterior /= posterior.sum()
    grid = np.linspace(odds[rest].min(), odds[rest].max(), POINTS)
    curve = [float((posterior * expit(SHIFTS + SCALES * x)).sum()) for x in grid]
    error = np.interp(odds[rest], grid, curve)
    suggested = error * decisions.accepted[decided].sum() / is_wrong.sum()
    weight[rest] = 1 - error + suggested
    share[rest] = suggested / weight[rest]
    return SoftLabels(share.round(6), weight.round(6))
