"""Measure the coverage of each reported confidence interval by simulation.

    python -m studies.interval_coverage                                  (a quarter of an hour on two cores)
    python -m studies.interval_coverage --simulations 200 --sizes 100,500 --classes 4     (quick)

Documents have normal scores with a mean of their own for each class, so that the exact probability
of each class is known; the value covered is that of a million documents (an ECE of 0 where the
probabilities are the exact ones). Four kinds of test sets, each with its own seed: ``calibrated``
(equal classes, exact probabilities), ``overconfident`` (logits doubled), ``rare`` (the last class
a tenth as frequent as the first, calibrated) and ``copies`` (overconfident; one text in 20 occurs
five times). Printed is, for each interval, the share of simulations in which it covers: the lowest
and the highest of the four kinds; a dash where fewer than half of the simulations have an interval.
"""

import argparse
import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed

from cleantune import console
from cleantune.errors import UserError
from cleantune.evaluation import confidence_intervals, metrics
from studies.arguments import names, numbers
from tools import record

BINS = 15
POPULATION = 1_000_000
DISTANCE = {2: 1.8, 4: 2.5, 20: 3.0}  # of the classes' means: accuracies of .90, .90, .85
PART = 50  # simulations with one random generator, the same whatever the number of cores
Values = dict[str, float]


@dataclass(frozen=True)
class Kind:
    """A distribution of test sets."""

    sharpness: float = 1.0
    """What the exact log-probabilities are multiplied by."""
    rarest: float = 1.0
    """Share of the last class in that of the first."""
    copied: float = 0.0
    """Share of the texts that occur five times."""


KINDS = {
    "calibrated": Kind(), "overconfident": Kind(sharpness=2), "rare": Kind(rarest=0.1),
    "copies": Kind(sharpness=2, copied=0.05),
}  # fmt: skip


@dataclass(frozen=True)
class Test:
    """A test set, with the probabilities (n, classes) of a model and the classes of a baseline."""

    labels: np.ndarray
    probabilities: np.ndarray
    baseline: np.ndarray
    groups: np.ndarray


def drawn(rng: np.random.Generator, kind: Kind, n: int, classes: int) -> Test:
    """Draw a test set of ``n`` documents."""
    prior = np.geomspace(1, kind.rarest, classes)
    prior /= prior.sum()
    labels = rng.choice(classes, n, p=prior)
    scores = rng.standard_normal((n, classes))
    scores[np.arange(n), labels] += DISTANCE[classes]
    noisy = scores + 0.5 * rng.standard_normal((n, classes))
    exact, baseline = (DISTANCE[classes] * s + np.log(prior) for s in (scores, noisy))
    times = np.where(rng.random(n) < kind.copied, 5, 1)
    rows = np.repeat(np.arange(n), times)[:n]
    return Test(labels[rows], metrics.softmax(kind.sharpness * exact)[rows],
                baseline.argmax(axis=1)[rows], rows)  # fmt: skip


def values(test: Test) -> Values:
    """Return the value of everything that gets an interval."""
    predicted, classes = test.probabilities.argmax(axis=1), test.probabilities.shape[1]
    result = metrics.headline(test.labels, test.probabilities, predicted, BINS)
    each = metrics.precision_recall_f1(metrics.confusion(test.labels, predicted, classes))
    result |= {f"one class: {name}": float(value[-1])
              for name, value in zip(("precision", "recall", "f1"), each, strict=True)}  # fmt: skip
    baseline = metrics.confusion(test.labels, test.baseline, classes)
    right = float((test.baseline == test.labels).mean())
    f1 = float(metrics.precision_recall_f1(baseline)[2].mean())
    return result | {"difference: accuracy": result["accuracy"] - right,
                     "difference: macro_f1": result["macro_f1"] - f1}  # fmt: skip


def intervals(test: Test) -> dict[str, confidence_intervals.Interval]:
    """Return all intervals of a test set."""
    predicted, last = test.probabilities.argmax(axis=1), test.probabilities.shape[1] - 1
    result = confidence_intervals.intervals(
        test.labels, test.probabilities, predicted, BINS, test.groups
    )
    one = confidence_intervals.of_class(test.labels, predicted, last, test.groups)
    difference = confidence_intervals.paired_difference(
        test.labels, predicted, test.baseline, test.groups
    )
    return (result | {f"one class: {name}": ends for name, ends in one.items()}
            | {f"difference: {name}": ends for name, ends in difference.items()})  # fmt: skip


@functools.cache
def truth(kind: Kind, classes: int) -> Values:
    """Return the values of a large test set without copies, an ECE of 0 if calibrated."""
    rng = np.random.default_rng(classes)
    single = Kind(kind.sharpness, kind.rarest)
    parts = [values(drawn(rng, single, POPULATION // 10, classes)) for _ in range(10)]
    mean = {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}
    return mean | ({"ece": 0.0} if kind.sharpness == 1 else {})


def covered(
    kind: Kind, n: int, classes: int, true: Values, simulations: int, seed: int
) -> dict[str, list[bool]]:
    """Return for each interval whether it covers, in each simulation that has it."""
    rng = np.random.default_rng([seed, n, classes])
    hits = defaultdict(list)
    for _ in range(simulations):
        for name, ends in intervals(drawn(rng, kind, n, classes)).items():
            if ends is not None:
                hits[name].append(ends[0] <= true[name] <= ends[1])
    return dict(hits)


def coverage(kind: Kind, n: int, classes: int, simulations: int, jobs: int) -> dict[str, float]:
    """Return the share that covers, NaN where fewer than half of the simulations have an interval."""
    true = truth(kind, classes)
    parts = Parallel(n_jobs=jobs)(
        delayed(covered)(kind, n, classes, true, min(PART, simulations - at), at)
        for at in range(0, simulations, PART)
    )
    hits = {name: [hit for part in parts for hit in part.get(name, [])] for name in true}
    return {name: float(np.mean(hit)) if 2 * len(hit) >= simulations else np.nan
            for name, hit in hits.items()}  # fmt: skip


def spans(columns: dict[str, list[dict[str, float]]]) -> list[list[str]]:
    """Return a row for each interval; ``columns`` hold the coverage by kind of test set."""
    rows = []
    for name in next(iter(columns.values()))[0]:
        cells = []
        for kinds in columns.values():
            shares = [100 * kind[name] for kind in kinds if not np.isnan(kind[name])]
            cells.append(f"{min(shares):.1f}–{max(shares):.1f}" if shares else "–")
        rows.append([name, *cells])
    return rows


def main() -> None:
    """Simulate each kind of test set in each size, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=numbers, default=[100, 500, 5000])
    parser.add_argument("--classes", type=numbers, default=list(DISTANCE))
    parser.add_argument("--kinds", type=names, default=list(KINDS))
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    record.add_option(parser)
    options = parser.parse_args()
    kept = record.Record(options.keep)
    _check("kinds", options.kinds, list(KINDS))
    _check("classes", options.classes, list(DISTANCE))
    for n in options.sizes:
        columns = {}
        for classes in options.classes:
            by_kind = [coverage(KINDS[kind], n, classes, options.simulations, options.jobs)
                       for kind in options.kinds]  # fmt: skip
            columns[f"{classes} classes"] = by_kind
            for kind, of in zip(options.kinds, by_kind, strict=True):
                each = ", ".join(f"{name} {100 * share:.1f}" for name, share in of.items())
                console.say(f"{n:,} documents, {classes} classes, {kind}: {each}")
        kept.table(
            f"Coverage in %, {n:,} documents, {options.simulations:,} simulations of each kind",
            ("interval", *columns),
            spans(columns),
        )


def _check(option: str, given: Sequence[object], known: Sequence[object]) -> None:
    if wrong := [str(value) for value in given if value not in known]:
        raise UserError(f"--{option}: {', '.join(wrong)}; known: {', '.join(map(str, known))}.")


if __name__ == "__main__":
    console.run(main)
