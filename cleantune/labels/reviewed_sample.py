"""What a person's decisions about a random sample of the flagged labels show about the other ones.

n is the number of documents whose labels are checked. No estimate of the label models can tell whether
flagged labels are wrong on data where the models do not know the task; thirty decisions can. The sample
is drawn from all flagged labels, before any review, so that what is true of it is true of them.

The decisions are for the suggested label, for the given one, or for a third. Changing labels to the
suggested ones makes more of them right where there are more of the first than of the second kind: of the
decisions for either, the share of the first is bounded from below (exact binomial interval, Clopper and
Pearson 1934, https://doi.org/10.1093/biomet/26.4.404).
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from cleantune.labels.confident_learning import Floats, Ints, Mask

SAMPLE = 30  # flagged labels that a person decides before `auto` changes any other
CONFIDENCE = 0.95
LAST = 30  # decisions by rank from which the share of errors in what comes after them is bounded
WORTHWHILE = 0.2  # share of wrong labels below which it is time to stop reviewing


class Decisions(NamedTuple):
    """What a person decided of n labels; False in all three where nobody did."""

    accepted: Mask
    """(n,) the suggested label."""
    kept: Mask
    """(n,) the label as it was."""
    other: Mask
    """(n,) a third one."""

    @property
    def reviewed(self) -> Mask:
        """Which labels were decided, (n,)."""
        reviewed: Mask = self.accepted | self.kept | self.other
        return reviewed


class Finding(NamedTuple):
    """What the decisions show; the bound and the errors left are None as long as there are too few."""

    to_ask: Ints
    """Positions of the undecided labels of the sample, in random order."""
    sample: int
    decided: int
    """Labels of the sample that a person decided; the next three are of those that represent the rest."""
    accepted: int
    kept: int
    lower: float | None
    """Of the decisions for the suggested or the given label in the best ranked part of the rest whose bound is
    over one half, else in all of it: the least share for the suggested one."""
    change: Mask
    """(n,) the labels of that part that may be changed to the suggested ones."""
    rest: int
    """Flagged labels that nobody decided."""
    errors_left: tuple[float, float, float] | None
    """Wrong labels among the rest, if none of it is changed: estimate and 95 % interval."""
    stop: bool
    """The rest has so few errors that it is hardly worth reviewing."""


def draw(ids: Sequence[str], flagged: Mask, seed: int) -> Ints:
    """Return the positions of a random sample of ``SAMPLE`` of the ``flagged`` (n,), or of all if fewer.

    By a hash of seed and id: no other document changes a document's turn.
    """
    turn = {
        i: hashlib.sha256(f"{seed} {ids[i]}".encode()).digest()
        for i in np.flatnonzero(flagged).tolist()
    }
    return np.array(sorted(turn, key=turn.__getitem__)[:SAMPLE], np.int64)


def lower_bound(accepted: int, kept: int) -> float:
    """Return the share of accepted suggestions that is exceeded with ``CONFIDENCE``; 0 without any."""
    if not accepted:
        return 0.0
    one_sided = binomtest(accepted, accepted + kept, alternative="greater")
    return float(one_sided.proportion_ci(CONFIDENCE, method="exact").low)


def find(
    ids: Sequence[str], labels: Ints, rank: Floats, flagged: Mask, decisions: Decisions, seed: int
) -> Finding:
    """Return what the decisions show about the flagged labels that nobody decided.

    ``labels``, ``rank`` (the lowest is the most doubtful) and ``flagged``, each (n,), are those before
    any review. Nothing is changed before the whole sample is decided, nor in the part of the ranking
    that the person has reviewed; and no more labels of a class than in proportion to those of the
    sample that were of this class and wrong.
    """
    sample = draw(ids, flagged, seed)
    order = np.flatnonzero(flagged)[np.argsort(rank[flagged], kind="stable")]
    rest = int((~decisions.reviewed[order]).sum())
    undecided = sample[~decisions.reviewed[sample]]
    by_rank, beyond = np.split(order, [_reviewed_by_rank(order, sample, decisions.reviewed)])
    in_sample = beyond[np.isin(beyond, sample)]
    accepted, kept = decisions.accepted[in_sample], decisions.kept[in_sample]
    lower, change, left = None, np.zeros(len(labels), bool), None
    if len(in_sample) and not len(undecided):
        proven, lower = _proven_head(accepted, kept)
        head = beyond if proven == len(in_sample) else beyond[: _after(beyond, in_sample[:proven])]
        change = _capped(head, labels, in_sample[:proven], decisions)
    if len(sample) and not len(undecided):
        left = _wrong_among(rest, in_sample, by_rank, decisions)
    return Finding(
        undecided, len(sample), len(sample) - len(undecided), int(accepted.sum()), int(kept.sum()),
        lower, change, rest, left,
        stop=left is not None and left[2] <= WORTHWHILE * rest,
    )  # fmt: skip


def _reviewed_by_rank(order: Ints, sample: Ints, reviewed: Mask) -> int:
    """Return the length of the head of ``order`` of which, but for the sample, half was reviewed."""
    others = ~np.isin(order, sample)
    reviewed = reviewed[order] & others
    half = reviewed & (2 * np.cumsum(reviewed) >= np.cumsum(others))
    return int(np.flatnonzero(half)[-1]) + 1 if half.any() else 0


def _proven_head(accepted: Mask, kept: Mask) -> tuple[int, float]:
    """Return how many labels, ranked, are in the longest head whose bound is over one half, and the bound.

    If there is none, 0 and the bound of all.
    """
    pairs = zip(np.cumsum(accepted).tolist(), np.cumsum(kept).tolist(), strict=True)
    bounds = [lower_bound(*pair) for pair in pairs]
    proven = [count for count, bound in enumerate(bounds, 1) if bound > 0.5]
    return (proven[-1], bounds[proven[-1] - 1]) if proven else (0, bounds[-1])


def _after(order: Ints, head: Ints) -> int:
    """Return the length of ``order`` up to the last label of ``head``, which is in the same order."""
    return int(np.flatnonzero(order == head[-1])[0]) + 1 if len(head) else 0


def _capped(head: Ints, labels: Ints, in_sample: Ints, decisions: Decisions) -> Mask:
    """Return which labels (n,) to change: the first undecided ones of ``head``, of each class its share."""
    change = np.zeros(len(labels), bool)
    for label in np.unique(labels[in_sample]):
        of_class = in_sample[labels[in_sample] == label]
        undecided = head[(labels[head] == label) & ~decisions.reviewed[head]]
        change[undecided[: int(decisions.accepted[of_class].mean() * len(undecided))]] = True
    return change


def _wrong_among(
    rest: int, in_sample: Ints, by_rank: Ints, decisions: Decisions
) -> tuple[float, float, float]:
    """Return how many of the ``rest`` are wrong, and a 95 % interval, by the sample.

    The share of errors falls with the rank, so it is no higher than that of the last decisions by rank.
    """
    wrong = decisions.accepted | decisions.other
    low, share, high = _interval(wrong[in_sample])
    _, last, last_high = _interval(wrong[by_rank[decisions.reviewed[by_rank]][-LAST:]])
    share = min(share, last)
    return share * rest, min(low, share) * rest, min(high, last_high) * rest


def _interval(wrong: Mask) -> tuple[float, float, float]:
    """Return the lower end, the share and the upper end of ``wrong`` (k,); 0, 1 and 1 without any."""
    if not len(wrong):
        return 0.0, 1.0, 1.0
    count = int(wrong.sum())
    interval = binomtest(count, len(wrong)).proportion_ci(CONFIDENCE, method="exact")
    return float(interval.low), count / len(wrong), float(interval.high)
