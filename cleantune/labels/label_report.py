"""What label_noise records of a run in summary.json, and prints."""

from typing import Any

import numpy as np
import pandas as pd

from cleantune import console
from cleantune.data import class_tables
from cleantune.labels import issue_types, noise_rate
from cleantune.labels.label_scores import RELABEL_THRESHOLD, LabelScores
from cleantune.labels.reviewed_sample import Finding

# Labels that predictions contradict, for each that is estimated to be wrong.
MOST_CONTRADICTED = 2.0


def say_unchecked(rare: list[str], folds: int, others: bool) -> None:
    """Name the classes whose labels are not checked; ``others`` tells whether any label is."""
    console.say(
        "not checked for label errors and left as they are, for they have fewer distinct documents "
        f"than label_noise.folds: {folds}: {class_tables.listed(rare)}"
        + ("" if others else "\nno label is checked: fewer than two other classes are left")
    )


def summarize(
    scores: LabelScores | None,
    train: pd.DataFrame,
    result: pd.DataFrame,
    issue_table: pd.DataFrame,
    names: list[str],
    *,
    model: str,
    action: str,
    reviewed: int,
    **more: Any,
) -> dict[str, Any]:
    """Return the summary, ``more`` at its end. What was not estimated is None."""
    prior, matrix, counts = {}, {}, {"flagged": 0, "likely": 0}
    rate: dict[str, float | None] = dict.fromkeys(
        ("noise_rate", "noise_rate_from", "noise_rate_to")
    )
    if scores:
        present = [names[i] for i in scores.classes]
        prior = dict(zip(present, scores.prior.round(4).tolist(), strict=True))
        rows = noise_rate.transition_matrix(scores.calibrated, scores.given).round(3).tolist()
        matrix = {n: dict(zip(present, row, strict=True)) for n, row in zip(present, rows, strict=True)}  # fmt: skip
        rate = {name: round(value, 4) for name, value in zip(rate, scores.rate, strict=True)}
        counts = {"flagged": int(scores.flagged.sum()), "likely": int(scores.likely.sum())}
    precision = scores.precision if scores and models_know_task(scores) else None
    softened = {}
    if "other_share" in result:
        softened["labels_softened"] = int((result["other_share"] > 0).sum())
    return {
        "documents": len(train),
        "flagged": counts["flagged"],
        **rate,
        "flagged_p_error_over_half": counts["likely"],
        "expected_precision": None if precision is None else round(precision, 4),
        "prior": prior,
        "model": model,
        "action": action,
        "documents_out": len(result),
        "documents_dropped": len(train) - len(result),
        **softened,
        "labels_changed": int((result["label"] != train["label"].loc[result.index]).sum()),
        "reviewed": reviewed,
        "review": review_summary(scores.finding) if scores else {},
        "issue_types": issue_types.counts(issue_table),
        "transition": matrix,  # true class: given label: share
        **more,
    }


def report(
    scores: LabelScores, issue_table: pd.DataFrame, names: list[str], reliable: bool
) -> None:
    """Print the flagged labels, the other issues and, where predictions are ``reliable``, the noise rate."""
    present = [names[i] for i in scores.classes]
    flagged = scores.flagged
    show(present, scores.given[flagged], scores.second[flagged], np.bincount(scores.given))
    issue_types.show(issue_table)
    if not reliable:
        return
    rate = scores.rate
    shares = [f"{name} {share:.0%}" for name, share in zip(present, scores.prior, strict=True)]
    console.say(f"estimated noise rate: {rate.estimate:.1%} (95 % interval {rate.lower:.1%} to "
                f"{rate.upper:.1%}), for the class prior {class_tables.listed(shares)}; errors in ambiguous documents do not show")  # fmt: skip
    if scores.precision is None:
        return
    about = f"flagged labels: {flagged.sum():,}; "
    if models_know_task(scores):
        console.say(f"{about}{scores.likely.sum():,} of them with P(error) > {RELABEL_THRESHOLD}; "
                    f"mean P(error) {scores.precision:.0%} (a model's estimate, not verified)")  # fmt: skip
    else:
        console.say(f"{about}cannot tell how many of them are wrong: out-of-fold predictions contradict "
                    f"{1 - scores.agreement:.0%} of the labels, most of them by errors of the models")  # fmt: skip


def models_know_task(scores: LabelScores) -> bool:
    """Return whether label errors explain most of the labels that out-of-fold predictions contradict.

    Elsewhere most of these are errors of the models, and P(error) is no estimate of the precision.
    """
    return 1 - scores.agreement <= MOST_CONTRADICTED * scores.rate.estimate


def review_summary(finding: Finding) -> dict[str, Any]:
    """Return what summary.json has of the reviewed sample; None is what too few decisions show."""
    left = finding.errors_left or (None, None, None)
    ends = ("errors_left", "errors_left_from", "errors_left_to")
    return {
        "sample": finding.sample,
        "decided": finding.decided,
        "accepted": finding.accepted,
        "kept": finding.kept,
        "lower_bound": None if finding.lower is None else round(finding.lower, 4),
        "proven": int(finding.change.sum()),
        "rest": finding.rest,
        **{name: None if n is None else round(n) for name, n in zip(ends, left, strict=True)},
        "stop": finding.stop,
    }


def review_advice(review: dict[str, Any]) -> list[str]:
    """Return sentences on what to review next and what was found, from ``review_summary``."""
    if not review or not review["sample"]:
        return []
    to_ask = review["sample"] - review["decided"]
    if to_ask:
        of = "left of" if review["decided"] else "of"
        return [
            f"Decide the labels at the top of the list first: {to_ask} {of} a random sample of {review['sample']} "
            "flagged labels, which shows how many of the others are wrong."
        ]
    advice = []
    if review["lower_bound"] is not None:
        bound = f"95 % lower bound {review['lower_bound']:.0%}"
        shows = "no other is changed" if review["rest"] else "no other is left to change"
        if review["proven"]:
            shows = (
                f"for {review['proven']:,} others the suggested label is more often right than the given one "
                f"({bound}), and label_noise.action: auto changes them"
            )
        elif review["rest"] and review["lower_bound"] <= 0.5:
            shows = f"too few to change any other ({bound})"
        advice.append(
            f"Of the random sample, without what was reviewed by rank, {review['accepted']} suggested labels were "
            f"accepted and {review['kept']} given ones kept: {shows}."
        )
    left, low, high = (
        review[name] for name in ("errors_left", "errors_left_from", "errors_left_to")
    )
    if review["rest"]:
        advice.append(
            f"Of the {review['rest']:,} flagged labels that nobody reviewed, about {left:,} are wrong "
            f"(95 % interval {low:,} to {high:,}) as they came; errors that are not flagged are not counted."
        )
    else:
        advice.append("All labels that were flagged before the review are reviewed.")
    if review["stop"] and review["rest"]:
        advice.append("So few errors are left among the flagged labels that the review can stop.")
    return advice


def outcome(summary: dict[str, Any]) -> str:
    """Return a sentence on what was done with the flagged labels."""
    softened = summary.get("labels_softened", 0)
    done = {
        "keep": "nothing changed",
        "auto": f"{summary['labels_changed']:,} labels changed, {softened:,} made soft",
        "soften": f"{softened:,} labels made soft",
        "drop": f"{summary['documents_dropped']:,} documents dropped",
        "relabel": f"{summary['labels_changed']:,} labels changed",
        "weight": "no label changed; documents are weighted by label quality",
    }[summary["action"]]
    to_review = f"; flagged labels to review: {summary['flagged']:,} (make review)"
    return f"action {summary['action']}: {done}" + (to_review if summary["flagged"] else "")


def show(names: list[str], given: Any, other: Any, sizes: Any) -> None:
    """Print the number of flagged labels of each class, by suggested label."""
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (given, other), 1)
    caption = "flagged labels by given and suggested label"
    columns = ["given", "documents", *(f"→ {name}" for name in names)]
    rows = [[name, int(sizes[i]), *map(int, counts[i])] for i, name in enumerate(names)]
    if class_tables.fits(columns, rows):
        console.table(caption, columns, rows)
    else:
        pair = ("given", "suggested", "flagged", "documents given")
        class_tables.print_pairs(caption, pair, names, counts, sizes)
