"""What a reviewed sample shows: bounds cover, correct labels stay, no class loses more than was proven."""

import numpy as np
import pytest
from scipy.stats import binom

from cleantune.labels import reviewed_sample as rs

N = 400
IDS = [f"train-{i}" for i in range(N)]
RANK = np.arange(N) / N
ALL = np.ones(N, bool)


def reviewed(wrong, rows, other=None):
    """Decisions about ``rows``: the suggested label where ``wrong``, a third where ``other``."""
    done = np.zeros(N, bool)
    done[rows] = True
    other = np.zeros(N, bool) if other is None else other
    return rs.Decisions(done & wrong & ~other, done & ~wrong & ~other, done & other)


def find(wrong, rows, labels=None, other=None, flagged=ALL, seed=0):
    labels = np.zeros(N, int) if labels is None else labels
    return rs.find(IDS, labels, RANK, flagged, reviewed(wrong, rows, other), seed)


# ---- the sample


def test_the_sample_is_random_and_the_same_whatever_else_is_there():
    sample = rs.draw(IDS, ALL, 0)
    assert len(set(sample)) == rs.SAMPLE
    assert sample.tolist() == rs.draw(IDS, ALL, 0).tolist() != rs.draw(IDS, ALL, 1).tolist()
    without = ALL.copy()
    without[sample[:3]] = False
    assert rs.draw(IDS, without, 0)[: rs.SAMPLE - 3].tolist() == sample[3:].tolist()
    drawn = np.bincount(np.concatenate([rs.draw(IDS, ALL, seed) for seed in range(100)]))
    assert drawn.std() == pytest.approx(np.sqrt(100 * 0.075 * 0.925), rel=0.2), "all alike"
    few = np.arange(N) < 5
    assert sorted(rs.draw(IDS, few, 0)) == [0, 1, 2, 3, 4]
    assert not len(rs.draw(IDS, ~ALL, 0))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8, 0.95])
def test_the_lower_bound_exceeds_the_share_in_at_most_a_twentieth_of_samples(share):
    counts = np.arange(31)
    over = np.array([rs.lower_bound(int(k), 30 - int(k)) > share for k in counts])
    assert binom.pmf(counts, 30, share) @ over <= 0.05
    assert rs.lower_bound(0, 30) == rs.lower_bound(0, 0) == 0


# ---- what is changed


@pytest.mark.parametrize("missing", [1, 15, 30])
def test_nothing_is_changed_before_the_whole_sample_is_decided(missing):
    sample = rs.draw(IDS, ALL, 0)
    found = find(ALL, sample[missing:])
    assert found.to_ask.tolist() == sample[:missing].tolist()
    assert found.decided == 30 - missing
    assert not found.change.any()
    assert found.lower is found.errors_left is None
    assert not found.stop


def test_correct_labels_stay():
    for seed in range(20):
        found = find(~ALL, rs.draw(IDS, ALL, seed), seed=seed)
        assert not found.change.any()
        assert found.lower == 0


def test_where_all_were_wrong_all_others_are_changed_and_decided_labels_stay():
    sample = rs.draw(IDS, ALL, 0)
    found = find(ALL, sample)
    assert found.change.sum() == N - 30
    assert not found.change[sample].any()
    assert found.lower == pytest.approx(0.05 ** (1 / 30))
    labels_not_flagged = RANK >= 0.5
    assert not find(ALL, np.arange(N), flagged=~labels_not_flagged).change.any()
    half = find(ALL, rs.draw(IDS, ~labels_not_flagged, 0), flagged=~labels_not_flagged)
    assert not half.change[labels_not_flagged].any()


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4, 0.45, 0.5])
@pytest.mark.parametrize("errs", [0, 0.1])
def test_labels_more_often_right_than_wrong_are_hardly_ever_made_worse(share, errs):
    """Several heads of the ranking are tried, and yet few labels are lost on average."""
    net, acted = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        wrong = rng.random(N) < share
        slips = rng.random(N) < errs
        change = find(wrong ^ slips, rs.draw(IDS, ALL, seed), seed=seed).change
        net.append(int(change @ np.where(wrong, 1, -1)))
        acted.append(change.any())
    assert np.mean(net) >= -0.01 * N
    assert np.mean(acted) <= (0.04 if share <= 0.25 else 0.4)


def test_only_the_head_is_changed_where_the_tail_is_right():
    wrong = RANK < 0.5
    heads = [find(wrong, rs.draw(IDS, ALL, seed), seed=seed).change for seed in range(30)]
    assert np.mean([change[RANK >= 0.75].mean() for change in heads]) < 0.2
    assert np.mean([change[RANK < 0.5].mean() for change in heads]) > 0.6


def test_no_class_loses_more_than_its_share_of_proven_errors():
    labels = np.arange(N) % 4
    wrong = (labels != 3) & (np.arange(N) % 5 != 0)
    for seed in range(20):
        sample = rs.draw(IDS, ALL, seed)
        found = find(wrong, sample, labels, seed=seed)
        assert not found.change[labels == 3].any(), "no error of it was proven"
        if found.lower != rs.lower_bound(found.accepted, found.kept):
            continue  # a head alone is proven
        for label in range(3):
            of_class = sample[labels[sample] == label]
            left = (labels == label).sum() - len(of_class)
            assert found.change[labels == label].sum() <= wrong[of_class].mean() * left


def test_third_labels_are_no_evidence_for_the_suggested_ones():
    found = find(ALL, rs.draw(IDS, ALL, 0), other=ALL)
    assert not found.change.any()
    assert found.accepted == found.kept == 0
    assert found.errors_left is not None
    assert found.errors_left[0] == N - 30, "wrong they are"


def test_what_was_reviewed_by_rank_and_skipped_there_is_left_alone():
    sample = rs.draw(IDS, ALL, 0)
    by_rank = np.setdiff1d(np.arange(100), [7, 8])
    found = find(ALL, np.union1d(sample, by_rank))
    assert not found.change[:100].any()
    assert found.change[100:].sum() == 300 - (sample >= 100).sum()
    assert found.accepted == (sample >= 100).sum(), "the sample's other labels stand for the rest"
    # one decision far down is no review by rank
    assert find(ALL, [*sample, 399]).change[:100].any()


# ---- how many errors are left, and when to stop


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7])
@pytest.mark.parametrize("by_rank", [0, 150])
def test_the_interval_of_errors_left_covers(share, by_rank):
    covered = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        # the share of errors falls with the rank, by half around its mean
        wrong = rng.random(N) < share * (1.4 - 0.8 * RANK)
        rows = np.union1d(rs.draw(IDS, ALL, seed), np.arange(by_rank)).astype(int)
        found = find(wrong, rows, seed=seed)
        assert found.errors_left is not None
        estimate, low, high = found.errors_left
        assert 0 <= low <= estimate <= high <= found.rest == N - len(rows)
        covered.append(low <= wrong.sum() - wrong[rows].sum() <= high)
    assert np.mean(covered) >= 0.9


def test_the_review_can_stop_when_the_last_by_rank_were_right():
    sample = rs.draw(IDS, ALL, 0)
    wrong = RANK < 0.5
    assert not find(wrong, np.union1d(sample, np.arange(80))).stop
    found = find(wrong, np.union1d(sample, np.arange(250)))
    assert found.stop
    assert not found.change.any()
    assert find(wrong, np.arange(N)).stop, "nothing is left"
    assert not find(wrong, [], flagged=~ALL).stop
