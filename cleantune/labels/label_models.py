"""The label models that ``label_noise.model`` names.

They fit on soft targets, so that the same code runs on given and on cleaned labels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from cleantune.data.words import LONG_TERM
from cleantune.labels import confident_learning as lq
from cleantune.labels import nearest
from cleantune.labels.confident_learning import Features, Floats, Ints, LabelModel
from cleantune.models import encoder
from cleantune.params.sections import LabelNoise

NAMES = {
    "tfidf": ("TF-IDF",),
    "encoder": ("embeddings", "neighbours"),
    "ensemble": ("embeddings", "neighbours", "TF-IDF"),
    "finetuned": ("fine-tuned", "embeddings", "neighbours", "TF-IDF"),
}
"""What ``build`` returns for each value of ``label_noise.model``, in this order, in a word."""
MAX_LENGTH = 128  # tokens of a document that the encoder reads


def build(
    texts: list[str],
    labels: lq.Ints,
    fold: lq.Ints,
    settings: LabelNoise,
    seed: int,
    vectors: Any = None,
) -> tuple[list[lq.LabelModel], Any]:
    """Return the models that ``label_noise.model`` names, and the documents' embeddings if any.

    ``labels`` and ``fold``, both (n,), are those of ``confident_learning``. ``vectors`` (n, size) are
    computed where they are not given, by the encoder that ``stages.fetch_models`` recorded.
    """
    models: list[lq.LabelModel] = []
    if settings.model == "tfidf":
        return [tfidf_label_model(texts)], None
    if settings.model == "finetuned":
        # Its imports take seconds, and no other label model needs them.
        from cleantune.labels import fine_tuned_label_model

        folder = encoder.recorded_folder(encoder.ENCODER)
        probabilities = fine_tuned_label_model.probabilities(
            texts, labels, fold, folder, settings, seed, MAX_LENGTH
        )
        models.append(precomputed_label_model(probabilities))
    if vectors is None:
        from cleantune.models import precision  # late: PyTorch takes seconds

        folder = encoder.recorded_folder(encoder.ENCODER)
        vectors = encoder.vectors(texts, folder, MAX_LENGTH, precision.bf16_is_fast())
    if len(vectors) > nearest.EXACT:
        vectors = nearest.Indexed(vectors)
        models += [
            linear_label_model(vectors.vectors, STRENGTH),
            indexed_label_model(vectors, fold),
        ]
    else:
        models += embedding_label_models(vectors)
    if settings.model in ("ensemble", "finetuned"):
        models.append(tfidf_label_model(texts))
    return models, vectors


NEIGHBOURS = 50
VOTES = 2**22  # of neighbours for classes, at a time: bounds memory
STRENGTH = 10.0  # inverse, of the L2 penalty of logistic regression on vectors


def linear_label_model(features: Features, strength: float) -> LabelModel:
    """Return logistic regression on ``features`` (n, size), L2 penalty of inverse ``strength``."""

    def predict(fit: Ints, held_out: Ints, targets: Floats) -> Floats:
        # one row for each class with over 3 % of a document's target, weighted by it
        rows, classes = np.nonzero(targets[fit] > 0.03 * targets[fit].sum(axis=1, keepdims=True))
        model = LogisticRegression(C=strength, max_iter=200)
        model.fit(features[fit[rows]], classes, sample_weight=targets[fit][rows, classes])
        probabilities = np.zeros((len(held_out), targets.shape[1]))
        probabilities[:, model.classes_] = model.predict_proba(features[held_out])
        return probabilities

    return predict


def neighbour_label_model(
    vectors: NDArray[Any], neighbours: int = NEIGHBOURS, block: int = 1024
) -> LabelModel:
    """Return the mean target of the nearest documents by cosine of unit ``vectors`` (n, size).

    Held-out rows are taken ``block`` at a time, so that memory grows linearly with n.
    """

    def predict(fit: Ints, held_out: Ints, targets: Floats) -> Floats:
        k = min(neighbours, len(fit))
        known, known_targets = vectors[fit].T, targets[fit]
        probabilities = np.empty((len(held_out), targets.shape[1]))
        for start in range(0, len(held_out), block):
            similarity = vectors[held_out[start : start + block]] @ known
            near = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
            weight = np.exp(np.take_along_axis(similarity, near, axis=1).astype(np.float64))
            probabilities[start : start + block] = _shares(weight, known_targets[near])
        return probabilities

    return predict


def _shares(weight: Floats, targets: Floats) -> Floats:
    """Return the mean of ``targets`` (rows, k, c) by ``weight`` (rows, k), none of them 0."""
    votes = np.einsum("rk,rkc->rc", weight, targets)
    votes += 0.02 * weight.sum(axis=1, keepdims=True)  # no class gets probability 0
    result: Floats = votes / votes.sum(axis=1, keepdims=True)
    return result


def indexed_label_model(
    indexed: nearest.Indexed, fold: Ints, neighbours: int = NEIGHBOURS
) -> LabelModel:
    """Return the same as ``neighbour_label_model`` from an index: of many documents, and nearly the same.

    Of the neighbours in the index the nearest ``neighbours`` in other folds than the document's
    own count, which are those that are fitted on.
    """

    def predict(fit: Ints, held_out: Ints, targets: Floats) -> Floats:  # noqa: ARG001 - by the folds
        probabilities = np.empty((len(held_out), targets.shape[1]))
        block = max(64, VOTES // (nearest.KEPT * targets.shape[1]))
        for start in range(0, len(held_out), block):
            rows = held_out[start : start + block]
            near = indexed.positions[rows]
            use = (near >= 0) & (fold[near] != fold[rows, None])
            use &= np.cumsum(use, axis=1) <= neighbours
            use[alone := ~use.any(axis=1)] = True  # what these say is not used
            weight = np.where(use, np.exp(indexed.similarity[rows].astype(np.float64)), 0)
            shares = _shares(weight, targets[near])
            shares[alone] = 1 / targets.shape[1]
            probabilities[start : start + block] = shares
        return probabilities

    return predict


def tfidf_label_model(texts: Sequence[str]) -> LabelModel:
    """Return logistic regression on TF-IDF of word unigrams and bigrams.

    Of characters where a script does not separate words: see ``cleantune.data.words``.
    """
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=LONG_TERM
    )
    return linear_label_model(vectorizer.fit_transform(texts), 1.0)


def embedding_label_models(vectors: NDArray[Any]) -> list[LabelModel]:
    """Return logistic regression and nearest neighbours on frozen embeddings, unit rows (n, size)."""
    return [linear_label_model(vectors, STRENGTH), neighbour_label_model(vectors)]


def precomputed_label_model(probabilities: Floats) -> LabelModel:
    """Return given out-of-fold ``probabilities`` (n, c): too expensive to fit again each round."""

    def predict(fit: Ints, held_out: Ints, targets: Floats) -> Floats:  # noqa: ARG001 - a LabelModel
        return probabilities[held_out]

    return predict
