"""The label models that ``label_noise.model`` names.

They fit on soft targets, so that the same code runs on given and on cleaned labels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from cleantune.labels import confident_learning as lq
from cleantune.labels.confident_learning import Features, Floats, Ints, View
from cleantune.models import encoder
from cleantune.params.sections import LabelNoise

MAX_LENGTH = 128  # tokens of a document that the encoder reads


def look(
    texts: list[str],
    labels: lq.Ints,
    fold: lq.Ints,
    settings: LabelNoise,
    seed: int,
    vectors: Any = None,
) -> tuple[list[lq.View], Any]:
    """Return the views that ``label_noise.model`` names, and the documents' vectors if it has any.

    ``labels`` and ``fold``, both (n,), are those of ``confident_learning``. ``vectors`` (n, size) are
    computed where they are not given, by the encoder that ``stages.fetch_models`` recorded.
    """
    views: list[lq.View] = []
    if settings.model == "tfidf":
        return [tfidf_view(texts)], None
    if settings.model == "finetuned":
        # Its imports take seconds, and no other label model needs them.
        from cleantune.labels import fine_tuned_label_model

        folder = encoder.recorded_folder(encoder.ENCODER)
        found = fine_tuned_label_model.probabilities(
            texts, labels, fold, folder, settings, seed, MAX_LENGTH
        )
        views.append(fixed_view(found))
    if vectors is None:
        from cleantune.models import precision  # late: PyTorch takes seconds

        folder = encoder.recorded_folder(encoder.ENCODER)
        vectors = encoder.vectors(texts, folder, MAX_LENGTH, precision.bf16_is_fast())
    views += vector_views(vectors)
    if settings.model in ("ensemble", "finetuned"):
        views.append(tfidf_view(texts))
    return views, vectors


NEIGHBOURS = 50


def linear_view(features: Features, strength: float) -> View:
    """Return logistic regression on ``features`` (n, size), L2 penalty of inverse ``strength``."""

    def judge(fit: Ints, held_out: Ints, targets: Floats) -> Floats:
        # a document stands once for each class that holds over 3 % of it, so weighted
        rows, classes = np.nonzero(targets[fit] > 0.03 * targets[fit].sum(axis=1, keepdims=True))
        model = LogisticRegression(C=strength, max_iter=200)
        model.fit(features[fit][rows], classes, sample_weight=targets[fit][rows, classes])
        found = np.zeros((len(held_out), targets.shape[1]))
        found[:, model.classes_] = model.predict_proba(features[held_out])
        return found

    return judge


def neighbour_view(vectors: NDArray[Any], neighbours: int = NEIGHBOURS, block: int = 1024) -> View:
    """Return the mean target of the nearest documents by cosine of unit ``vectors`` (n, size).

    Held-out rows are taken ``block`` at a time, so that memory grows linearly with n.
    """

    def judge(fit: Ints, held_out: Ints, targets: Floats) -> Floats:
        k = min(neighbours, len(fit))
        known, known_targets = vectors[fit].T, targets[fit]
        found = np.empty((len(held_out), targets.shape[1]))
        for start in range(0, len(held_out), block):
            similarity = vectors[held_out[start : start + block]] @ known
            near = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
            weight = np.exp(np.take_along_axis(similarity, near, axis=1).astype(np.float64))
            votes = np.einsum("rk,rkc->rc", weight, known_targets[near])
            votes += 0.02 * weight.sum(axis=1, keepdims=True)  # no class is ruled out
            found[start : start + block] = votes / votes.sum(axis=1, keepdims=True)
        return found

    return judge


def tfidf_view(texts: Sequence[str]) -> View:
    """Return logistic regression on TF-IDF of words and pairs of words."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    return linear_view(vectorizer.fit_transform(texts), 1.0)


def vector_views(vectors: NDArray[Any]) -> list[View]:
    """Return a linear and a neighbour view of frozen embeddings, unit rows (n, size)."""
    return [linear_view(vectors, 10.0), neighbour_view(vectors)]


def fixed_view(probabilities: Floats) -> View:
    """Return what was found once, (n, c), out of the same folds: too dear to fit again each round."""

    def judge(fit: Ints, held_out: Ints, targets: Floats) -> Floats:  # noqa: ARG001 - a View
        return probabilities[held_out]

    return judge
