"""Confidence intervals and paired tests for test sets that contain copies of documents.

The nominal level of every interval is 95 %; its coverage is 92 to 98 %, as measured by
``python -m studies.interval_coverage``. Where no interval reaches that, the result is None. A value's variance is that of its influence function (the infinitesimal jackknife: Jaeckel
1972; Efron and Tibshirani 1993, chapter 21), summed over each group of copies, which are
not independent (Obuchowski 1997 does so for the AUC).

Arrays are as in ``cleantune.evaluation.metrics``; ``predicted`` holds classes, (n,), and ``groups`` a
number for each document, (n,), equal for copies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import beta, binom, binomtest, norm, rankdata, t

from cleantune.evaluation import metrics

Interval = list[float] | None
Z = float(norm.ppf(0.975))
MIN_DOCUMENTS = 10  # copies count once; see `intervals` and `paired_difference`
MAX_SCALE = 1024.0  # greatest multiple of the bins' gaps that is tried
ECE_TAILS = (0.03, 0.02)
"""Of the lower and the upper end, 5 % together. For a calibrated model only the lower one can miss: its
true ECE is 0, the end of the range."""
POWER = 0.8  # probability of finding a difference
RESAMPLES = 1000  # of the bins' accuracies, for each trial value of the ECE


@dataclass(frozen=True)
class Estimate:
    """A value, its influence function (n,), which sums to 0, and a lower bound of its variance."""

    value: float
    influence: np.ndarray
    least: float = 0.0


def intervals(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, bins: int,
    groups: np.ndarray,
) -> dict[str, Interval]:  # fmt: skip
    """Return the interval of each headline metric.

    Proportions: Wilson (1927), with the effective number of documents. ROC-AUC: DeLong's variance
    (1988), on the log-odds scale, with Student's t and Satterthwaite's degrees of freedom (1946).
    NLL and Brier score: Hall (1992), corrected for skewness. Those of macro averages are None where a class has fewer than ``MIN_DOCUMENTS`` documents.
    """
    here = np.bincount(labels, minlength=probabilities.shape[1]) > 0
    rarest = min(_size(groups[labels == k]) for k in np.flatnonzero(here))
    losses = {"nll": metrics.losses(labels, probabilities),
              "brier": metrics.squared_errors(labels, probabilities)}  # fmt: skip
    result: dict[str, Interval] = {"accuracy": share(predicted == labels, groups)}
    for name, estimate in shares(labels, predicted, here / here.sum(), groups).items():
        result[f"macro_{name}"] = _averaged(estimate, groups) if rarest >= MIN_DOCUMENTS else None
    area = _area(labels, probabilities, groups)
    result["roc_auc_ovr"] = _log_odds(area, groups) if rarest >= MIN_DOCUMENTS else None
    result |= {name: _hall(values, groups) for name, values in losses.items()}
    return result | {"ece": _ece(labels, probabilities, predicted, bins, groups)}


def share(right: np.ndarray, groups: np.ndarray) -> Interval:
    """Return the interval of the share of true values in ``right``, bool (n,)."""
    return _wilson(float(right.mean()), _size(groups)) if len(right) else None


def of_class(
    labels: np.ndarray, predicted: np.ndarray, k: int, groups: np.ndarray
) -> dict[str, Interval]:
    """Return the intervals of precision, recall and F1 of class ``k``; None where undefined.

    That of F1 is None where it has fewer than ``MIN_DOCUMENTS`` documents.
    """
    own, chosen = labels == k, predicted == k
    weights = (np.arange(max(labels.max(), predicted.max(), k) + 1) == k).astype(float)
    f1 = shares(labels, predicted, weights, groups)["f1"]
    return {
        "precision": share(own[chosen], groups[chosen]),
        "recall": share(chosen[own], groups[own]),
        "f1": _averaged(f1, groups) if _size(groups[own]) >= MIN_DOCUMENTS else None,
    }


def shares(
    labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray, groups: np.ndarray
) -> dict[str, Estimate]:
    """Return precision, recall and F1, averaged over classes by ``weights`` (classes,).

    A class that is always or never right has no variance in the sample; the lower bound is the
    variance with half a document more of each kind.
    """
    right, classes = (labels == predicted).astype(float), range(len(weights))
    hits = np.bincount(labels, right, len(weights))
    true, chosen = (np.bincount(x, minlength=len(weights)) for x in (labels, predicted))
    of_true, of_chosen = (np.array([_size(groups[x == k]) for k in classes])
                          for x in (labels, predicted))  # fmt: skip

    def averaged(counts: np.ndarray, sizes: np.ndarray, *parts: np.ndarray) -> Estimate:
        """Average ``hits / counts``; ``parts`` hold the classes in whose counts a document is."""
        each = hits / np.maximum(counts, 1e-9)
        # Bessel's correction: the mean is of the same documents.
        known = np.maximum(sizes - 1, 0.5)
        scale = weights * len(right) / np.maximum(counts, 1) * np.sqrt(sizes / known)
        influence = sum(scale[k] * (right - each[k]) / len(parts) for k in parts)
        smoothed = (each * sizes + 0.5) / (sizes + 1)
        missing = smoothed * (1 - smoothed) / (sizes + 1) - each * (1 - each) / known
        least = float((weights**2 * np.maximum(missing, 0)).sum())
        return Estimate(float((weights * each).sum()), np.asarray(influence), least)

    return {
        "precision": averaged(chosen, of_chosen, predicted),
        "recall": averaged(true, of_true, labels),
        "f1": averaged((true + chosen) / 2, (of_true + of_chosen) / 2, labels, predicted),
    }


def _size(groups: np.ndarray) -> float:
    """Return the effective number of independent documents (Kish 1965)."""
    counts = np.unique(groups, return_counts=True)[1].astype(float)
    return float(counts.sum() ** 2 / (counts**2).sum()) if len(counts) else 0.0


def _sums(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the sum over each group of ``values`` (n,), scaled to keep their mean."""
    totals = np.bincount(np.unique(groups, return_inverse=True)[1], values)
    return totals * len(totals) / len(values)


def _variance(estimate: Estimate, groups: np.ndarray) -> float:
    each = _sums(estimate.influence, groups)
    return float((each**2).sum() / len(each) / max(len(each) - 1, 0.5)) + estimate.least


def _averaged(estimate: Estimate, groups: np.ndarray) -> Interval:
    edge = 0.5 / len(groups)
    inside = min(max(estimate.value, edge), 1 - edge)
    return _wilson(estimate.value, inside * (1 - inside) / _variance(estimate, groups))


def _wilson(p: float, n: float) -> Interval:
    centre, half = p + Z**2 / (2 * n), Z * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return [float((centre - half) / (1 + Z**2 / n)), float((centre + half) / (1 + Z**2 / n))]


def _area(labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray) -> Estimate:
    """Return the mean ROC-AUC of the classes that occur, one against the rest."""
    n = len(labels)
    value, influence = 0.0, np.zeros(n)
    here = [k for k in range(probabilities.shape[1]) if 0 < (labels == k).sum() < n]
    for k in here:
        own, scores = labels == k, probabilities[:, k]
        below = np.zeros(n)  # share of the other class that a document is ranked correctly against
        rank = rankdata(scores)
        for side, sign in ((own, 1), (~own, -1)):
            other = (rank[side] - rankdata(scores[side])) / (~side).sum()
            below[side] = other if sign == 1 else 1 - other
        area = below[own].mean()
        for side in (own, ~own):
            size = _size(groups[side])
            spread = np.sqrt(size / max(size - 1, 0.5)) * n / side.sum()
            influence[side] += (below[side] - area) * spread / len(here)
        value += area / len(here)
    return Estimate(value, influence)


def _log_odds(estimate: Estimate, groups: np.ndarray) -> Interval:
    p, variance = estimate.value, _variance(estimate, groups)
    if not 0 < p < 1 or variance == 0:
        return None
    each = _sums(estimate.influence, groups)
    kurtosis = len(each) * (each**4).sum() / (each**2).sum() ** 2
    freedom = 2 * len(each) / max(kurtosis - 1, 1e-9)
    half = t.ppf(0.975, max(freedom, 1)) * np.sqrt(variance) / (p * (1 - p))
    return [float(1 / (1 + np.exp(-(np.log(p / (1 - p)) + side * half)))) for side in (-1, 1)]


def _hall(losses: np.ndarray, groups: np.ndarray) -> Interval:
    mean = losses.mean()
    each = _sums(losses - mean, groups)
    n = len(each)
    deviation = each.std(ddof=1) if n > 2 else 0
    if deviation < 1e-9:
        return None
    skewness = (each**3).mean() / deviation**3
    if abs(skewness) < 1e-6:
        skewness = 1e-6  # the limit is Student's own interval
    at = t.ppf([0.975, 0.025], n - 1) / np.sqrt(n)
    moved = 3 / skewness * (np.cbrt(1 + skewness * (at - skewness / (6 * n))) - 1)
    return [max(float(mean - deviation * x), 0.0) for x in moved]


def _ece(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, bins: int, groups: np.ndarray
) -> Interval:  # fmt: skip
    """Return the interval of the ECE, by inverting a test (Carpenter 1999).

    The ECE is biased upwards, and resampling adds the bias again. So the bins' gaps between
    confidence and accuracy are scaled: the interval holds the true ECEs that give, in at least
    ``ECE_TAILS`` of the resamples, one as high and one as low as observed. At a scale of 0 that is
    the calibration test by resampled labels of Bröcker and Smith (2007).
    """
    confidence = probabilities[np.arange(len(labels)), predicted]
    share, mean_confidence, accuracy = metrics.reliability(labels, probabilities, predicted, bins)
    at = metrics.bin_of(confidence, bins)
    filled = np.flatnonzero(share)
    share, mean_confidence, accuracy = share[filled], mean_confidence[filled], accuracy[filled]
    sizes = np.array([_size(groups[at == b]) for b in filled])
    observed = (share * np.abs(mean_confidence - accuracy)).sum()
    # Two documents more of each kind (Agresti-Coull): a bin without errors may still make some.
    gap = mean_confidence - (accuracy * sizes + 2) / (sizes + 4)
    total = max(1, round(sizes.sum()))
    seen = np.random.default_rng(0).multinomial(total, sizes / sizes.sum(), size=RESAMPLES)
    worth = share / sizes  # of one document of a bin

    def truth(scale: float) -> tuple[np.ndarray, float]:
        accurate = np.clip(mean_confidence - scale * gap, 0, 1)
        return accurate, float((share * np.abs(mean_confidence - accurate)).sum())

    def extreme(scale: float) -> tuple[float, float]:
        hits = np.random.default_rng(1).binomial(seen, truth(scale)[0])
        drawn = (worth * np.abs(seen * mean_confidence - hits)).sum(axis=1)
        return float((drawn >= observed - 1e-12).mean()), float((drawn <= observed + 1e-12).mean())

    # The smallest scale that reaches the observed ECE, and the largest that does not exceed it.
    ends = []
    for side in (0, 1):

        def fits(scale: float, side: int = side) -> bool:
            return extreme(scale)[side] >= ECE_TAILS[side]

        low, high = 0.0, 1.0
        while fits(high) == (side == 1) and high < MAX_SCALE:
            low, high = high, 2 * high
        if side == 0 and fits(0):
            low = high = 0.0
        while high - low > 0.005 * (1 + low):
            middle = (low + high) / 2
            low, high = (low, middle) if fits(middle) == (side == 0) else (middle, high)
        ends.append(truth((low + high) / 2)[1])
    return ends


def mcnemar(right_a: np.ndarray, right_b: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Compare two models text by text: exact two-sided McNemar test (1947).

    Takes bool arrays, whether each model is right. Returns on how many texts only A and only B is
    right, and the p-value, 1 when the models never disagree. Copies are one text; where their
    labels differ, the model right on more of them counts.
    """
    net = np.bincount(np.unique(groups, return_inverse=True)[1], right_a.astype(int) - right_b)
    only_a, only_b = int((net > 0).sum()), int((net < 0).sum())
    both = only_a + only_b
    p = float(binomtest(only_a, both).pvalue) if both else 1.0
    return {"only_model_right": only_a, "only_baseline_right": only_b, "mcnemar_p": p}


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number (Holm 1979): none below a level errs with that probability."""
    order = np.argsort(p_values)
    multiplied = np.sort(p_values) * np.arange(len(p_values), 0, -1)
    result = np.empty(len(p_values))
    result[order] = np.minimum(np.maximum.accumulate(multiplied), 1)
    return [float(p) for p in result]


def detectable_difference(texts: int, disagreements: int) -> float | None:
    """Return the smallest true difference in accuracy that McNemar's test at 5 % finds with ``POWER``.

    Exact, given on how many of the ``texts`` one model alone is right (``disagreements``). None where no
    outcome would be significant.
    """
    needed = int(binom.isf(0.025, disagreements, 0.5)) + 1  # of them for one model
    if needed > disagreements:
        return None
    share = float(beta.ppf(POWER, needed, disagreements - needed + 1))
    return (2 * share - 1) * disagreements / texts


def paired_difference(
    labels: np.ndarray, a: np.ndarray, b: np.ndarray, groups: np.ndarray
) -> dict[str, Interval]:
    """Return the intervals of the differences in accuracy and macro-F1, A minus B.

    ``a`` and ``b`` are the classes that each predicts, (n,). None where fewer than
    ``MIN_DOCUMENTS`` texts are classified correctly by only one of them.
    """
    here = np.bincount(labels, minlength=int(max(labels.max(), a.max(), b.max())) + 1) > 0
    rarest = min(_size(groups[labels == k]) for k in np.flatnonzero(here))
    net = (a == labels).astype(float) - (b == labels)
    if _size(groups[net != 0]) < MIN_DOCUMENTS:
        return {"accuracy": None, "macro_f1": None}
    f1, theirs = (shares(labels, x, here / here.sum(), groups)["f1"] for x in (a, b))
    macro = Estimate(f1.value - theirs.value, f1.influence - theirs.influence)
    accuracy = Estimate(float(net.mean()), net - net.mean())
    return {"accuracy": _normal(accuracy, groups),
            "macro_f1": _normal(macro, groups) if rarest >= MIN_DOCUMENTS else None}  # fmt: skip


def _normal(estimate: Estimate, groups: np.ndarray) -> Interval:
    half = Z * np.sqrt(_variance(estimate, groups))
    return [float(estimate.value - half), float(estimate.value + half)]
