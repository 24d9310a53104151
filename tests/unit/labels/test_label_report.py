"""What a person reads of a review: what to decide next, what was shown, when to stop."""

import pytest

from cleantune.labels import label_report

DECIDED = {"sample": 30, "decided": 30, "accepted": 20, "kept": 5, "lower_bound": 0.62, "proven": 40,
           "rest": 100, "errors_left": 66, "errors_left_from": 47, "errors_left_to": 83,
           "stop": False}  # fmt: skip


def advice(**changes: object) -> list[str]:
    return label_report.review_advice(DECIDED | changes)


def test_nothing_is_advised_where_nothing_is_flagged():
    assert label_report.review_advice({}) == advice(sample=0) == []


@pytest.mark.parametrize(("decided", "left"), [(0, "30 of a"), (29, "1 left of a")])
def test_until_the_sample_is_decided_only_it_is_asked_for(decided, left):
    (line,) = advice(decided=decided)
    assert f"top of the list first: {left} random sample of 30 flagged labels" in line


def test_what_is_proven_is_said_with_the_action_that_changes_it():
    shown, rest = advice()
    assert "20 suggested labels were accepted and 5 given ones kept: for 40 others" in shown
    assert "95 % lower bound 62%), and label_noise.action: auto changes them." in shown
    assert "about 66 are wrong (95 % interval 47 to 83)" in rest


def test_where_nothing_is_proven_nothing_is_said_of_others():
    shown, _ = advice(proven=0, lower_bound=0.3)
    assert shown.endswith("too few to change any other (95 % lower bound 30%).")
    shown, _ = advice(proven=0)  # a class's share of few labels may be none of them
    assert shown.endswith("no other is changed.")


def test_the_review_stops_by_an_estimate_or_because_all_is_reviewed():
    *_, last = advice(stop=True)
    assert "the review can stop" in last
    shown, last = advice(proven=0, rest=0, stop=True)
    assert shown.endswith("no other is left to change.")
    assert last == "All labels that were flagged before the review are reviewed."
