"""Soft labels after a review: as wrong as labels prove to be, and nothing is softened without proof."""

import numpy as np
import pytest
from scipy.special import expit, logit

from cleantune.labels import soft_labels
from cleantune.labels.reviewed_sample import Decisions

N = 600
ERROR = np.linspace(0.05, 0.95, N)
ALL = np.ones(N, bool)
NONE = np.zeros(N, bool)


def decided(wrong, rows, other=NONE):
    """The decisions of a reviewer who makes no mistakes about ``rows``."""
    done = np.isin(np.arange(N), rows)
    return Decisions(done & wrong & ~other, done & ~wrong, done & wrong & other)


@pytest.mark.parametrize("shift", [-3, 0, 1])
def test_as_much_weight_moves_as_labels_are_wrong_whatever_the_models_believe(shift):
    """P(error) may be far too high or too low: 30 decisions put it right, on average."""
    found, there = [], []
    for seed in range(15):
        rng = np.random.default_rng(seed)
        wrong = rng.random(N) < expit(logit(ERROR) + shift)
        rows = rng.choice(N, 30, replace=False)
        soft = soft_labels.soften(ERROR, ALL, decided(wrong, rows))
        found.append(soft.share.mean())
        there.append(np.delete(wrong, rows).mean())
        assert (soft.weight == 1).all(), "no third class was ever right"
        assert (np.diff(np.delete(soft.share, rows)) >= 0).all(), (
            "the more doubtful, the more moves"
        )
    assert np.mean(found) == pytest.approx(np.mean(there), abs=0.05)


def test_only_flagged_labels_that_nobody_decided_become_soft():
    wrong = ERROR > 0.5
    flagged, rows = ERROR > 0.3, np.arange(0, N, 15)
    soft = soft_labels.soften(ERROR, flagged, decided(wrong, rows))
    rest = flagged & ~np.isin(np.arange(N), rows)
    assert (soft.share[rest] > 0).all()
    assert (soft.share[~rest] == 0).all()
    assert (soft.weight[~rest] == 1).all()


def test_nothing_becomes_soft_where_no_suggested_label_was_accepted():
    rows = np.arange(0, N, 20)
    for decisions in (
        decided(NONE, []),
        decided(NONE, rows),
        decided(ALL, rows, other=ALL),
        decided(ALL, np.arange(N)),
    ):
        soft = soft_labels.soften(ERROR, ALL, decisions)
        assert (soft.share == 0).all()
        assert (soft.weight == 1).all()


def test_what_a_third_class_may_be_right_for_counts_less():
    rows = np.arange(0, N, 15)
    other = np.arange(N) % 2 == 1  # of the wrong labels, half should have a third class
    soft = soft_labels.soften(ERROR, ALL, decided(ALL, rows, other))
    rest = ~np.isin(np.arange(N), rows)
    suggested, third = soft.share * soft.weight, 1 - soft.weight
    assert suggested[rest] == pytest.approx(third[rest], abs=1e-5)
    assert (soft.share[rest] > 0.9).mean() > 0.5, "what is left of the given label is small"


def test_the_result_does_not_depend_on_the_order_of_documents():
    order = np.random.default_rng(0).permutation(N)
    decisions = decided(ERROR > 0.6, np.arange(0, N, 15))
    there = soft_labels.soften(ERROR, ALL, decisions)
    here = soft_labels.soften(ERROR[order], ALL, Decisions(*(each[order] for each in decisions)))
    assert (here.share == there.share[order]).all()
