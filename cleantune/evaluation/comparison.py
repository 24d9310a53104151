"""Comparisons on the same documents: models of several seeds, their ensemble, and the baselines."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cleantune.evaluation import confidence_intervals, metrics
from cleantune.evaluation.predictions import Split, fit_decision, predict, read_baseline
from cleantune.evaluation.threshold import Decision
from cleantune.models import classifier, weights

Decisions = list[tuple[Decision, Sequence[Path]]]
"""Decisions, each with the files of the weights it was fitted for."""


def measure_seeds(
    rule: Decision, validation: Split, test: Split, seed: int, folder: Path, bins: int
) -> tuple[dict[str, Any], Decisions]:
    """Return the test metrics of the model of each seed, their mean and standard deviation.

    ``validation`` and ``test`` are of the main model, trained with ``seed``; the models of
    `study.seeds` are in its ``folder``. With several seeds: the sample standard deviation (n - 1),
    and the metrics of their ``ensemble``, by mean probabilities (deep ensembles, arXiv 1612.01474).
    Temperature and threshold are fitted by ``rule`` for each model and for the ensemble; the second
    result holds these decisions.
    """
    splits = {str(seed): (validation, test)}
    decisions: Decisions = [(test.decision, weights.of(folder))]
    for path in classifier.further_seeds(folder):
        other = classifier.load(path)
        splits[path.name] = fit_decision(rule, predict(other, "validation", validation.table, path.name),
                                         predict(other, "test", test.table, path.name))  # fmt: skip
        decisions.append((splits[path.name][1].decision, weights.of(path)))
    each = {name: of_test.headline(bins) for name, (_, of_test) in splits.items()}
    columns = {name: [values[name] for values in each.values()] for name in each[str(seed)]}
    result: dict[str, Any] = {"seeds": each,
                              "mean": {k: float(np.mean(v)) for k, v in columns.items()}}  # fmt: skip
    if len(each) > 1:
        result["standard_deviation"] = {k: float(np.std(v, ddof=1)) for k, v in columns.items()}
        on_validation, on_test = fit_decision(rule, *(
            replace(same[0], logits=metrics.mean_logits([split.logits for split in same]))
            for same in zip(*splits.values(), strict=True)
        ))  # fmt: skip
        decisions.append((on_test.decision, [path for _, of_one in decisions for path in of_one]))
        result["ensemble"] = on_test.headline(bins)
        result["ensemble_intervals"] = on_test.intervals(bins)
        result["ensemble_on_validation"] = on_validation.headline(bins)
    return result, decisions


def compare_with_constant(test: Split, label: int) -> dict[str, Any]:
    """Return accuracy and macro-F1 of always predicting ``label``, and the model's paired comparison with it."""
    constant = np.full_like(test.labels, label)
    scores = metrics.accuracy_and_f1(np.eye(len(test.names))[constant], test.labels)
    return (
        scores
        | {"model_ahead_by": confidence_intervals.paired_difference(
            test.labels, test.predicted, constant, test.groups)}
        | confidence_intervals.mcnemar(test.right, constant == test.labels, test.groups)
    )  # fmt: skip


def compare(
    rule: Decision, names: Sequence[str], validation: Split, test: Split, bins: int
) -> dict[str, dict[str, Any]]:
    """Return the metrics of each baseline in ``names`` and the paired comparison of the model with it.

    Its temperature and threshold are fitted by ``rule`` on validation, as the model's are. ``holm_p`` is
    McNemar's p, corrected for the number of baselines.
    """
    result = {}
    texts = int(test.groups.max()) + 1
    for name in names:
        _, baseline = fit_decision(rule, *read_baseline(name, validation, test))
        tested = confidence_intervals.mcnemar(test.right, baseline.right, test.groups)
        apart = tested["only_model_right"] + tested["only_baseline_right"]
        result[name] = (
            baseline.headline(bins)
            | {"temperature": baseline.decision.temperature, "threshold": baseline.decision.threshold}
            | {"model_ahead_by": confidence_intervals.paired_difference(
                test.labels, test.predicted, baseline.predicted, test.groups)}
            | tested
            | {"detectable_difference": confidence_intervals.detectable_difference(texts, apart)}
        )  # fmt: skip
    corrected = confidence_intervals.holm([b["mcnemar_p"] for b in result.values()])
    return {name: b | {"holm_p": p} for (name, b), p in zip(result.items(), corrected, strict=True)}
