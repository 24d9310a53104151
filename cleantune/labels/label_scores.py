"""The quality of each label, which are flagged, and what else the label models give.

In this module n is the number of documents whose labels are checked and c that of their classes.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cleantune import console
from cleantune.data import tables
from cleantune.labels import confident_learning as lq
from cleantune.labels import label_models, noise_rate, reviewed_sample, soft_labels
from cleantune.params.sections import LabelNoise

ROUNDS = 2  # the second fits on the probabilities of the first
RELABEL_THRESHOLD = 0.5  # P(error) above which actions apply: below, they would do more harm
UNCHECKED_FOLD = -1


@dataclass(frozen=True)
class LabelScores:
    """Scores of n labels of c classes."""

    classes: lq.Ints
    """(c,) positions in the list of all classes."""
    given: lq.Ints
    """(n,) positions in ``classes``, as are ``best`` and ``second``."""
    fold: lq.Ints
    rank: lq.Floats
    """(n,) by which labels are listed, the lowest first; 1 for reviewed ones."""
    flagged: lq.Mask
    likely: lq.Mask
    """(n,) flagged, with P(error) over ``RELABEL_THRESHOLD``."""
    best: lq.Ints
    """(n,) the most probable class, which may be the given one."""
    second: lq.Ints
    """(n,) the most probable other class."""
    probabilities: lq.Floats
    """(n, c) out-of-fold, of being the true class by the text alone."""
    calibrated: lq.Floats
    """(n, c) the same given the label; the given one has 1 - P(error)."""
    prior: lq.Floats
    rate: noise_rate.NoiseRate
    precision: float | None
    """Expected, of the flagged labels; None without any."""
    kappa: float
    """Agreement of labels and predictions beyond chance."""
    agreement: float
    """Share of predictions that are the given label."""
    predicted: lq.Ints
    """The most probable class by each label model, out of fold in the first round, (models, n)."""
    vectors: Any
    """Embeddings (n, size), or None."""
    finding: reviewed_sample.Finding
    """What the reviewed labels show about the other flagged ones."""
    corrected: lq.Ints
    """The labels after the changes that the review proves, (n,)."""
    other: lq.Ints
    """The second class of soft labels, (n,)."""
    soft: soft_labels.SoftLabels
    """What the review shows of the flagged labels that are neither decided nor changed."""

    @property
    def quality(self) -> lq.Floats:
        """The probability that each label is right, (n,)."""
        quality: lq.Floats = self.calibrated[np.arange(len(self.given)), self.given]
        return quality

    def spread(self, values: lq.Floats, classes: int) -> lq.Floats:
        """Return ``values`` (n, c) with a column for each of all ``classes``, (n, classes)."""
        full = np.zeros((len(values), classes))
        full[:, self.classes] = values
        return full


class _Ranking(NamedTuple):
    """What the label models find of n labels."""

    rounds: list[lq.Floats]
    probabilities: lq.Floats
    posterior: lq.Floats
    rank: lq.Floats
    rate: noise_rate.NoiseRate
    wrong: lq.Floats
    flagged: lq.Mask
    second: lq.Ints


def score(
    documents: pd.DataFrame, before: pd.Series, known: lq.Mask, settings: LabelNoise, seed: int,
    vectors: Any = None,
) -> LabelScores:  # fmt: skip
    """Return the scores of the labels of ``documents``; those of ``known`` (n,) are taken as true.

    ``before`` (n,) are the labels before any review. What a review shows is judged by the ranking of these,
    by models that learned from these: so the sample that a person was asked for stays the same. ``vectors``
    (n, size) are computed where they are not given.
    Raises ``UserError`` for a single class, or a class with fewer groups than ``folds``.
    """
    # ---- the labels, and those before any review
    classes, given = np.unique(documents["label"].to_numpy(), return_inverse=True)
    unreviewed = before.where(before.isin(classes), documents["label"]).to_numpy()
    found = np.searchsorted(classes, unreviewed)
    # a review should move no document to another fold
    same = lq.enough_groups(found, documents["group"], settings.folds).all()
    fold = lq.fold_numbers(found if same else given, documents["group"], settings.folds, seed)
    models, vectors = label_models.build(
        tables.full_text(documents), given, fold, settings, seed, vectors
    )

    # ---- out-of-fold predictions and flagged labels
    predicted = np.full((len(models), len(given)), -1)
    noting = [_noting(model, of) for model, of in zip(models, predicted, strict=True)]
    prior = lq.class_prior(given, settings.prior)
    sets = [(noting, given, known), *([(models, found, None)] if known.any() else [])]
    with console.Bar("models fitted", len(sets) * ROUNDS * len(models) * settings.folds) as bar:
        now, *earlier = (
            _ranking(
                lq.true_label_probabilities(
                    of, labels, lq.class_prior(labels, settings.prior), fold, trusted, ROUNDS, bar.advance
                ),
                found, lq.class_prior(labels, settings.prior), settings.precision,
            )
            for of, labels, trusted in sets
        )  # fmt: skip
    first = earlier[0] if earlier else now

    # ---- what the reviewed labels show
    decisions = reviewed_sample.Decisions(
        known & (given == first.second), known & (given == found),
        known & (given != first.second) & (given != found),
    )  # fmt: skip
    ids = documents["id"].to_list()
    finding = reviewed_sample.find(ids, found, first.rank, first.flagged, decisions, seed)
    doubtful = first.flagged & ~finding.change & (finding.decided == finding.sample)
    soft = soft_labels.soften(first.wrong, doubtful, decisions)
    asked = np.isin(np.arange(len(given)), finding.to_ask)
    rank, wrong = np.where(known, 1, now.rank), np.where(known, 0, now.wrong)
    flagged = (now.flagged | asked) & ~known
    return LabelScores(
        classes, given, fold, rank, flagged, flagged & (wrong > RELABEL_THRESHOLD),
        now.probabilities.argmax(axis=1), now.second, now.probabilities,
        noise_rate.calibrated(now.posterior, given, wrong).round(6), prior, now.rate,
        float(wrong[flagged].mean()) if flagged.any() else None,
        # only in the first round does no document's own label leak into its prediction
        noise_rate.cohen_kappa(now.rounds[0], given),
        float((now.rounds[0].argmax(axis=1) == given).mean()), predicted, vectors, finding,
        np.where(finding.change, first.second, given), first.second, soft,
    )  # fmt: skip


def _ranking(
    rounds: list[lq.Floats], labels: lq.Ints, prior: lq.Floats, precision: float | None
) -> _Ranking:
    """Return noise rate, ranking and flagged ones of ``labels`` (n,) by ``rounds`` of probabilities (n, c)."""
    rounds = [each.round(6) for each in rounds]  # the last bits depend on the number of threads
    probabilities = lq.average_rounds(rounds, prior).round(6)
    posterior = noise_rate.posterior(probabilities, labels)
    rank = posterior[np.arange(len(labels)), labels].round(6)
    rate = noise_rate.noise_rate(rounds, labels)
    wrong = noise_rate.error_probability(rank, rate.estimate)
    # the noise rate may be too low: every label that the predictions contradict is flagged too
    contradicted = int((probabilities.argmax(axis=1) != labels).sum())
    flagged = noise_rate.flagged_labels(rank, wrong, precision, contradicted)
    others = np.where(np.eye(len(prior), dtype=bool)[labels], -1, probabilities)
    return _Ranking(
        rounds, probabilities, posterior, rank, rate, wrong, flagged, others.argmax(axis=1)
    )


def _noting(model: lq.LabelModel, predicted: lq.Ints) -> lq.LabelModel:
    """Return ``model``, which writes the classes that it first predicts into ``predicted`` (n,)."""

    def predict(fit: lq.Ints, held_out: lq.Ints, targets: lq.Floats) -> lq.Floats:
        probabilities = model(fit, held_out, targets)
        new = predicted[held_out] < 0
        predicted[held_out[new]] = probabilities[new].argmax(axis=1)
        return probabilities

    return predict


def issues(
    documents: pd.DataFrame, checked: lq.Mask, scores: LabelScores | None, names: list[str]
) -> pd.DataFrame:
    """Return a row for each of ``documents``: issues.parquet's, ``rank``, ``likely``, ``best``, ``corrected`` and soft labels.

    ``scores`` are those of the ``checked`` ones (m,). A label that is not checked counts as certain:
    quality 1, never flagged, in fold ``UNCHECKED_FOLD``. Classes are positions in ``names``.
    """
    rest = documents[~checked] if scores else documents
    label = rest["label"].to_numpy()
    parts = [_issues(rest, np.eye(len(names))[label], names, given=label, suggested=label, quality=1.0,
                     flagged=False, fold=UNCHECKED_FOLD, rank=1.0, likely=False, best=label,
                     corrected=label, other_label=label, other_share=0.0, soft_weight=1.0)]  # fmt: skip
    if scores:
        of, given = scores.classes, scores.classes[scores.given]
        parts.append(_issues(
            documents[checked], scores.spread(scores.calibrated, len(names)), names, given=given,
            suggested=np.where(scores.flagged, of[scores.second], given), quality=scores.quality,
            flagged=scores.flagged, fold=scores.fold, rank=scores.rank, likely=scores.likely,
            best=of[scores.best], corrected=of[scores.corrected], other_label=of[scores.other],
            other_share=scores.soft.share, soft_weight=scores.soft.weight,
        ))  # fmt: skip
    return pd.concat([part for part in parts if len(part)]).loc[documents.index]


def _issues(
    documents: pd.DataFrame, probabilities: lq.Floats, names: list[str], **columns: Any
) -> pd.DataFrame:
    shares = [f"p_{name}" for name in names]
    table = pd.DataFrame(probabilities, columns=shares, index=documents.index)
    return documents[["id"]].assign(**columns).join(table)
