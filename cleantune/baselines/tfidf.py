"""Logistic regression on TF-IDF of words, pairs of words, and the letters within words."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion, make_union

from cleantune.data.words import TERM
from cleantune.evaluation import metrics

LETTERS = (2, 5)
TOLERANCE = 0.01  # of the solver; looser than its default, which takes longer


def vectorizer() -> FeatureUnion:
    """Return what turns texts into features; it learns the terms and their rarity from train."""
    words = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=TERM, dtype=np.float32
    )
    letters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=LETTERS, min_df=2, sublinear_tf=True, dtype=np.float32
    )
    return make_union(words, letters)


def fit(inputs: csr_matrix, labels: np.ndarray, c: float, seed: int) -> OneVsRestClassifier:
    """Fit one logistic regression for each class against the others; ``labels`` (documents,).

    liblinear's dual coordinate descent (Hsieh et al. 2008; Yu et al. 2011) visits documents in an
    order drawn from ``seed``.
    """
    one = LogisticRegression(
        C=c, solver="liblinear", dual=True, tol=TOLERANCE, max_iter=200, random_state=seed
    )
    return OneVsRestClassifier(one).fit(inputs, labels)


def log_probabilities(model: OneVsRestClassifier, inputs: csr_matrix, classes: int) -> np.ndarray:
    """Return log-probabilities, (documents, classes); a class without documents is never chosen."""
    scores = np.full((inputs.shape[0], classes), np.log(metrics.TINY))
    scores[:, model.classes_] = np.log(np.maximum(model.predict_proba(inputs), metrics.TINY))
    return scores


def flipped(
    labels: Sequence[int] | np.ndarray, share: float, classes: int, seed: int
) -> np.ndarray:
    """Return a copy of ``labels`` in which ``share`` of them, drawn at random, is another class."""
    rng = np.random.default_rng(seed)
    result = np.array(labels)
    rows = rng.permutation(len(result))[: round(share * len(result))]
    result[rows] = (result[rows] + rng.integers(1, classes, len(rows))) % classes
    return result
