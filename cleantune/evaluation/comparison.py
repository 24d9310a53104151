"""Comparisons on the same documents: models of several seeds, their ensemble, and the baselines."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cleantune.evaluation import confidence_intervals, metrics
from cleantune.evaluation.predictions import Split, decide, predict, read_baseline
from cleantune.evaluation.threshold import WEIGHTS, Decision
from cleantune.models import classifier

Decided = list[tuple[Decision, Sequence[Path]]]
"""Decisions, each with the weights it is of."""


def measure_seeds(
    rule: Decision, validation: Split, test: Split, seed: int, folder: Path, bins: int
) -> tuple[dict[str, Any], Decided]:
    """Return the test figures of the model of each seed, their mean and standard deviation.

    ``validation`` and ``test`` are of the main model, trained with ``seed``; those of `study.seeds`
    lie in its ``folder``. Where there are several: the deviation, of a sample (n - 1), and what
    their mean probabilities reach, ``together`` (deep ensembles, arXiv 1612.01474). Each model and
    all together follow ``rule`` by a choice of their own; the second result is what was chosen.
    """
    said = {str(seed): (validation, test)}
    decided: Decided = [(test.decided, [folder / WEIGHTS])]
    for path in classifier.further_seeds(folder):
        other = classifier.load(path)
        said[path.name] = decide(rule, predict(other, "validation", validation.table, path.name),
                                 predict(other, "test", test.table, path.name))  # fmt: skip
        decided.append((said[path.name][1].decided, [path / WEIGHTS]))
    each = {name: of_test.headline(bins) for name, (_, of_test) in said.items()}
    columns = {name: [figures[name] for figures in each.values()] for name in each[str(seed)]}
    found: dict[str, Any] = {"seeds": each,
                             "mean": {k: float(np.mean(v)) for k, v in columns.items()}}  # fmt: skip
    if len(each) > 1:
        found["standard_deviation"] = {k: float(np.std(v, ddof=1)) for k, v in columns.items()}
        on_validation, on_test = decide(rule, *(
            replace(splits[0], logits=metrics.mean_logits([split.logits for split in splits]))
            for splits in zip(*said.values(), strict=True)
        ))  # fmt: skip
        decided.append((on_test.decided, [path for _, weights in decided for path in weights]))
        found["together"] = on_test.headline(bins)
        found["together_intervals"] = on_test.intervals(bins)
        found["together_on_validation"] = on_validation.headline(bins)
    return found, decided


def compare(rule: Decision, name: str, validation: Split, test: Split, bins: int) -> dict[str, Any]:
    """Return a baseline's figures and how the model does against it on the same documents.

    Its temperature and threshold follow ``rule`` on validation, as those of the model do.
    """
    _, theirs = decide(rule, *read_baseline(name, validation, test))
    ahead = confidence_intervals.paired_difference(
        test.labels, test.predicted, theirs.predicted, test.groups
    )
    return (
        theirs.headline(bins)
        | {"temperature": theirs.decided.temperature, "threshold": theirs.decided.threshold}
        | {"model_ahead_by": ahead}
        | confidence_intervals.mcnemar(test.right, theirs.right, test.groups)
    )
