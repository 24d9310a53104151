"""What each action makes of the labels; the stage's own tests see to what is flagged and proven."""

import pandas as pd
import pytest

from cleantune.labels import actions

TRAIN = pd.DataFrame({"id": [*"abcd"], "label": [0, 0, 1, 1]}, index=[3, 5, 7, 9])
# of b a review proved an error; d is likely wrong, which no review has shown
ISSUES = pd.DataFrame({"likely": [False, False, False, True], "quality": [0.9, 0.6, 0.9, 0.2], "best": [0, 1, 1, 0],
                       "corrected": [0, 2, 1, 1], "other_label": 0, "other_share": 0.0}, index=TRAIN.index)  # fmt: skip


@pytest.mark.parametrize(
    ("action", "labels"),
    [("keep", [0, 0, 1, 1]), ("auto", [0, 2, 1, 1]), ("relabel", [0, 0, 1, 0]), ("drop", [0, 0, 1])],
)  # fmt: skip
def test_an_action_changes_the_labels_it_says(action, labels):
    result = actions.act(TRAIN, ISSUES, action)
    assert result["label"].to_list() == labels
    assert result["id"].to_list() == [*"abcd"][: len(labels)]
    assert (result["weight"] == 1).all()


def test_auto_makes_labels_soft_where_the_review_shows_it_and_no_others():
    soft = ISSUES.assign(
        other_label=[1, 1, 0, 0], other_share=[0.0, 0.0, 0.2, 0.6], soft_weight=[1, 1, 1, 0.9]
    )
    result = actions.act(TRAIN, soft, "auto")
    assert result["label"].to_list() == [0, 2, 1, 1]
    assert result["other_share"].to_list() == [0.0, 0.0, 0.2, 0.6]
    assert result["weight"].to_list() == [1, 1, 1, 0.9]
    assert "other_share" not in actions.act(TRAIN, ISSUES, "auto")
    assert "other_share" not in actions.act(TRAIN, soft, "keep")
