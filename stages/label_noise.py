"""Estimate the label noise, flag labels that are probably wrong, write the page to review them.

Run: ``python -m stages.label_noise`` (or ``dvc repro label_noise``).

Out-of-fold predictions of the label models, with near-duplicates kept in one fold, give each label a
quality and estimate the noise rate (cleantune/labels/confident_learning.py). Flagged are as many labels
as the noise rate implies, and at least those that the predictions contradict;
reports/label_review.html shows them, first a random sample: what a person decides of it shows how many
of the others are wrong. Labels change only by ``label_noise.action``. Classes with fewer distinct
documents than ``label_noise.folds`` are not checked and stay as they are.
"""

from typing import Any

import numpy as np
import pandas as pd

from cleantune import console, files
from cleantune.data import tables
from cleantune.labels import (
    actions,
    corrections,
    issue_types,
    label_models,
    label_report,
    label_scores,
    nearest,
)
from cleantune.labels import confident_learning as lq
from cleantune.labels.label_scores import LabelScores
from cleantune.labels.review_page import neighbours, page, reasons
from cleantune.labels.review_page.content import FlaggedLabels
from cleantune.params.read import read_params
from cleantune.params.sections import Params
from cleantune.training import checkpoints

PARAMS = ("seed", "label_noise")
TRAIN = tables.CLEAN / "train.parquet"
MOST_SHOWN = 5_000  # flagged labels on the page, before it is full; issues.parquet has all


def main() -> None:
    """Read the clean training documents, score their labels, write the training set."""
    params = read_params(PARAMS)
    settings = params.label_noise
    console.title("label_noise", "find labels that are probably wrong")
    train = tables.read_table(TRAIN)
    names, dataset = tables.label_names(), tables.dataset_name()
    raw = tables.read_table(tables.RAW / "train.parquet", tables.TEXT_COLUMNS)
    reviewed = corrections.read_corrections(corrections.CORRECTIONS, raw, names, dataset)
    console.say(f"read {len(train):,} documents from {TRAIN}, {len(reviewed):,} reviewed labels")

    # ---- score the labels, but those of classes that the label models could not learn
    enough = lq.enough_groups(train["label"].to_numpy(), train["group"], settings.folds)
    rare = [names[label] for label in sorted(set(train["label"][~enough]))]
    if train["label"][enough].nunique() < 2 <= train["label"].nunique():
        enough = np.zeros_like(enough)  # there is no other class that a label could be of
    checked, unchecked = train[enough], train["label"][~enough].value_counts().sort_index()
    if rare:
        label_report.say_unchecked(rare, settings.folds, bool(len(checked)))
    known = train["id"].isin(reviewed["id"]).to_numpy()  # reviewed labels are taken as true
    scores = None
    if len(checked):
        before = corrections.undo(checked, reviewed)["label"]
        scores = label_scores.score(checked, before, known[enough], settings, params.seed)
    issues = label_scores.issues(train, enough, scores, names)

    # ---- act on the flagged labels
    action = actions.allowed_action(scores, settings.action, TRAIN)
    result = actions.act(train, issues, action)
    actions.raise_if_class_lost(train, result, action, names, TRAIN)

    # ---- other issues that cleanlab finds
    issue_table = pd.DataFrame()
    if scores:
        issue_table = issue_types.find_issue_types(
            scores.given, scores.probabilities, scores.vectors, params.seed
        )

    # ---- write
    more: dict[str, Any] = {}
    if len(unchecked):
        more["unchecked"] = {names[label]: int(n) for label, n in unchecked.items()}
    if scores and isinstance(scores.vectors, nearest.Indexed):
        more["neighbours_recall"] = round(scores.vectors.recall, 4)
        console.say(f"nearest documents by an index: {scores.vectors.recall:.1%} of the true ones "
                    f"are found (of {nearest.SAMPLE} documents)")  # fmt: skip
    if action != settings.action:
        more["requested_action"] = settings.action
    summary = label_report.summarize(
        scores, train, result, issue_table, names,
        model=settings.model, action=action, reviewed=int(known.sum()), **more,
    )  # fmt: skip
    with files.atomic_folder(tables.LABELS) as folder:
        columns = tables.with_soft_labels((*tables.TEXT_COLUMNS, "group", "weight"), result)
        columns = tables.with_metadata(columns, result)
        tables.write_table(folder / "train.parquet", result, columns)
        metadata = train[[*tables.with_metadata((), train)]]
        listed = ("id", "given", "suggested", "quality", "flagged", "fold",
                  *(f"p_{name}" for name in names), *metadata)  # fmt: skip
        order = np.lexsort((train["id"], issues["rank"]))  # the lowest label quality first
        table = issues.join(metadata).iloc[order]
        tables.write_table(folder / "issues.parquet", table, listed)
        table = issue_table.assign(id=checked["id"].to_numpy())
        if "nearest" in table:
            table["nearest"] = np.flatnonzero(enough)[table["nearest"]]
        order = np.lexsort((checked["id"], issues["rank"][enough]))
        listed = ("id", *(column for column in table if column != "id"))
        tables.write_table(folder / "issue_types.parquet", table.iloc[order], listed)
        files.write_json(folder / "summary.json", summary)

    # ---- the page to review flagged labels
    flagged = flagged_labels(scores, issue_table, checked, names, params)
    advice = label_report.review_advice(summary["review"])
    page.write_page(page.PAGE, dataset, names, checked, raw, flagged, reviewed,
                    [names[label] for label in unchecked.index], advice)  # fmt: skip
    checkpoints.Checkpoints("label_noise", "").discard()  # folds of the fine-tuned label model
    if scores:
        label_report.report(scores, issue_table, names, scores.kappa >= actions.MIN_KAPPA)
    for sentence in (*advice, label_report.outcome(summary)):
        console.say(sentence)
    console.outputs(tables.LABELS, page.PAGE)


def flagged_labels(
    scores: LabelScores | None,
    issue_table: pd.DataFrame,
    checked: pd.DataFrame,
    names: list[str],
    params: Params,
) -> FlaggedLabels:
    """Return what the page shows of the flagged labels, with the most probable other label of each."""
    if scores is None:
        none = np.zeros(0, np.int64)
        return FlaggedLabels(none, none, np.zeros(0), np.zeros((0, len(names))),
                                  none.reshape(0, 0), np.zeros((0, 0)))  # fmt: skip
    rows = np.flatnonzero(scores.flagged)
    rows = rows[np.argsort(scores.rank[rows], kind="stable")]
    # first what is left to decide of the random sample
    rows = np.concatenate([asked := scores.finding.to_ask, rows[~np.isin(rows, asked)]])
    flagged, rows = len(rows), rows[:MOST_SHOWN]
    texts, suggested = tables.full_text(checked), scores.classes[scores.second]
    near = (neighbours.by_words(texts, rows) if scores.vectors is None
            else neighbours.by_vectors(scores.vectors, rows))  # fmt: skip
    models = label_models.NAMES[params.label_noise.model]
    why = zip(
        reasons.of_predictions(models, scores.classes[scores.predicted], rows, names),
        reasons.of_words(texts, checked["label"].to_numpy(), scores.flagged, rows, suggested, names,
                         params.seed),
        issue_types.in_words(issue_table, rows, checked["id"].to_list()), strict=True,
    )  # fmt: skip
    return FlaggedLabels(
        rows, suggested[rows], scores.quality[rows], scores.spread(scores.calibrated, len(names))[rows],
        *near, [[sentence for part in parts for sentence in part] for parts in why], flagged,
    )  # fmt: skip


if __name__ == "__main__":
    console.run(main)
