"""Nearest documents by cosine similarity of TF-IDF or of any embedding."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from cleantune.labels.nearest import Indexed
from cleantune.labels.review_page.content import Floats, Positions

CHUNK = 256  # rows compared at a time
SIMILARITIES = CHUNK * 200_000  # of these with all documents, at most: bounds memory


def by_words(texts: Sequence[str], rows: Positions, count: int = 5) -> tuple[Positions, Floats]:
    """Return the ``count`` nearest of ``texts`` for each position in ``rows``, by TF-IDF cosine.

    Returns positions and cosines, both (rows, count) or fewer columns when there are fewer other
    texts; the nearest first. A text is not its own neighbour.
    """
    vectorizer = TfidfVectorizer(sublinear_tf=True, dtype=np.float32, analyzer=_words)
    return by_vectors(vectorizer.fit_transform(texts), rows, count)


def by_vectors(vectors: Any, rows: Positions, count: int = 5) -> tuple[Positions, Floats]:
    """Return the same as ``by_words`` by the cosine of ``vectors``, (documents, size), dense or sparse.

    Of many documents with an index, as far as that found any; a position of -1 is none.
    """
    if isinstance(vectors, Indexed):
        near = vectors.positions[rows, :count].astype(np.int64)
        return near, vectors.similarity[rows, :count].astype(np.float64)
    unit = normalize(vectors)
    count = min(count, unit.shape[0] - 1)
    positions = np.zeros((len(rows), max(count, 0)), dtype=np.int64)
    similarity = np.zeros(positions.shape)
    if count < 1:
        return positions, similarity
    chunk = max(1, min(CHUNK, SIMILARITIES // unit.shape[0]))
    for start in range(0, len(rows), chunk):
        part = rows[start : start + chunk]
        cosines = unit[part] @ unit.T
        cosines = np.asarray(cosines.todense() if hasattr(cosines, "todense") else cosines)
        cosines = cosines.astype(np.float64)
        cosines[np.arange(len(part)), part] = -np.inf
        near = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        best = np.take_along_axis(cosines, near, axis=1)
        near = np.take_along_axis(near, np.lexsort((near, -best), axis=1), axis=1)
        positions[start : start + len(part)] = near
        similarity[start : start + len(part)] = np.take_along_axis(cosines, near, axis=1)
    return positions, np.clip(similarity, 0, 1)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
