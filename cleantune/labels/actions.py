"""What ``label_noise.action`` does to the training set."""

import numpy as np
import pandas as pd

from cleantune import console
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.labels.label_scores import LabelScores

MIN_KAPPA = 0.37  # Cohen's kappa; random and entirely wrong labels stay below it (tested)


def act(train: pd.DataFrame, issues: pd.DataFrame, action: str) -> pd.DataFrame:
    """Return the training set: only ``drop`` removes rows, and only those that are ``likely`` wrong.

    ``issues`` has a row for each of ``train``: ``cleantune.labels.label_scores``.
    """
    likely = issues["likely"].to_numpy(bool)
    result = train.assign(weight=issues["quality"] if action == "weight" else 1.0)
    if action == "drop":
        return result[~likely]
    if action == "relabel":
        result["label"] = np.where(likely, issues["best"], train["label"])
    if action == "soften":
        result["other_label"] = issues["suggested"].to_numpy()
        result["other_share"] = np.where(issues["flagged"], 1 - issues["quality"], 0)
    if action == "auto":
        result["label"] = issues["corrected"].to_numpy()
        if (issues["other_share"] > 0).any():
            result["weight"] = issues["soft_weight"].to_numpy()
            for column in tables.SOFT_LABELS:
                result[column] = issues[column].to_numpy()
    return result


def allowed_action(scores: LabelScores | None, action: str, train: object) -> str:
    """Return ``action``, or ``keep``, with a warning, where it would do more harm than good.

    Models cannot detect wrong labels where labels and texts are hardly related; the person whose decisions
    ``auto`` follows can. ``train`` is the path of the documents, for the warning.
    """
    if scores is None or scores.kappa >= MIN_KAPPA:
        return action
    unsure = "" if action in ("keep", "auto") else (
        f". Nothing is changed: label_noise.action: {action} would be arbitrary. Check `columns` and "
        "`labels` of the dataset in params.yaml"
    )  # fmt: skip
    console.warn(
        f"the labels in {train} are hardly related to the texts, or there are too few texts: "
        "out-of-fold predictions agree with the labels little better than chance "
        f"(Cohen's kappa {scores.kappa:.2f}), so the flagged labels are unreliable{unsure}"
    )
    return "keep" if unsure else action


def raise_if_class_lost(
    train: pd.DataFrame, result: pd.DataFrame, action: str, names: list[str], path: object
) -> None:
    """Raise ``UserError``, before anything is written, where a class would have no document left."""
    missing = set(train["label"]) - set(result["label"])
    if missing:
        raise UserError(
            f"label_noise.action: {action} would leave no document of class "
            f"{', '.join(names[label] for label in sorted(missing))} in {path}. Check `columns` and "
            "`labels` of the dataset in params.yaml; to see the flagged labels without acting on "
            "them: -S label_noise.action=keep."
        )
