"""studies.interval_coverage: its test sets, its table, and that the intervals cover."""

import numpy as np
import pytest
from scipy import stats

from cleantune.evaluation import confidence_intervals
from studies import interval_coverage


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["calibrated", "copies"])
def test_each_interval_covers_as_often_as_it_says(kind, monkeypatch):
    simulations = 120
    monkeypatch.setattr(interval_coverage, "POPULATION", 200_000)
    monkeypatch.setattr(confidence_intervals, "RESAMPLES", 300)
    found = interval_coverage.coverage(interval_coverage.KINDS[kind], 500, 4, simulations, jobs=1)
    fewest, most = stats.binom.ppf([0.001, 0.999], simulations, [0.92, 0.98]) / simulations
    assert len(found) == 13
    for name, share in found.items():
        assert fewest <= share <= most, f"{name} covers in {share:.0%}"


def test_the_table_of_coverage_spans_the_kinds_and_leaves_out_what_has_no_interval():
    columns = {"100 / 2": [{"accuracy": 0.9512, "macro_f1": np.nan}, {"accuracy": 0.94, "macro_f1": np.nan}],
               "500 / 2": [{"accuracy": 0.95, "macro_f1": np.nan}, {"accuracy": 0.96, "macro_f1": 0.97}]}  # fmt: skip
    assert interval_coverage.spans(columns) == [
        ["accuracy", "94.0–95.1", "95.0–96.0"], ["macro_f1", "–", "97.0–97.0"]
    ]  # fmt: skip


def test_copies_of_a_simulated_text_are_one_group_and_the_truth_has_none():
    rng = np.random.default_rng(0)
    test = interval_coverage.drawn(rng, interval_coverage.KINDS["copies"], 500, 4)
    for group in np.unique(test.groups):
        same = test.groups == group
        assert same.sum() in (1, 5) or group == test.groups[-1]
        assert len(np.unique(test.probabilities[same], axis=0)) == 1
    assert len(test.labels) == 500 > len(np.unique(test.groups))
