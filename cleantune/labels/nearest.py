"""The nearest documents by their vectors: exact for up to ``EXACT`` documents, else from an index.

The index is faiss's inverted file (Sivic and Zisserman 2003; Douze et al. 2024, arXiv 2401.08281): vectors
are clustered, and only the ``PROBED`` clusters nearest to a document are searched for its neighbours. Clusters
have about as many documents however many there are in all, so that the time grows about linearly. faiss
draws with a seed of its own and adds up in one order: the same vectors have the same neighbours, whatever
the number of threads.
"""

import faiss
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cleantune import console

EXACT = 50_000  # documents; comparing more with one another takes longer than an index
CLUSTER, PROBED = 500, 16  # documents in a cluster on average; clusters searched
TRAINING = 64  # documents for each cluster that the clusters are found by
KEPT = 80  # neighbours of each document: enough for those in other folds
BLOCK = 10_000  # documents looked up at a time
SAMPLE = 500  # documents whose exact neighbours tell the recall


class Indexed:
    """Unit vectors (n, size) of many documents, with the ``KEPT`` nearest others of each."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self.vectors = np.ascontiguousarray(vectors, np.float32)
        self.positions, self.similarity = self._search()
        """(n, KEPT) the nearest first; -1 and 0 where the index found no more."""
        self.recall = self._recall()
        """Share of the nearest ``KEPT`` that is among them, of a sample."""

    def __len__(self) -> int:
        return len(self.vectors)

    def _search(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        n, size = self.vectors.shape
        clusters = max(1, n // CLUSTER)
        quantizer = faiss.IndexFlatIP(size)
        index = faiss.IndexIVFFlat(quantizer, size, clusters, faiss.METRIC_INNER_PRODUCT)
        index.cp.max_points_per_centroid = TRAINING
        index.nprobe = PROBED
        positions = np.empty((n, KEPT), np.int32)
        similarity = np.empty((n, KEPT), np.float32)
        # one thread of BLAS: sums are the same on any machine; faiss has threads of its own
        with threadpool_limits(1, user_api="blas"):
            index.train(self.vectors)
            index.add(self.vectors)
            with console.Bar("documents whose neighbours are searched", n) as bar:
                for start in range(0, n, BLOCK):
                    rows = slice(start, start + BLOCK)
                    found = index.search(self.vectors[rows], KEPT + 1)
                    positions[rows], similarity[rows] = _without_self(start, *found)
                    bar.advance(len(self.vectors[rows]))
        return positions, similarity

    def _recall(self) -> float:
        drawn = np.random.default_rng(0).choice(len(self), min(SAMPLE, len(self)), replace=False)
        found = 0
        with threadpool_limits(1, user_api="blas"):
            for rows in np.array_split(drawn, 10):  # bounds memory
                similarity = self.vectors[rows] @ self.vectors.T
                similarity[np.arange(len(rows)), rows] = -1
                best = np.argpartition(-similarity, KEPT - 1, axis=1)[:, :KEPT]
                kept = self.positions[rows]
                found += sum(np.isin(*both).sum() for both in zip(best, kept, strict=True))
        return float(found / (KEPT * len(drawn)))


def _without_self(
    start: int, similarity: NDArray[np.float32], positions: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return neighbours (rows, k) of the rows from ``start`` on, given k + 1, without the rows themselves."""
    own = positions == start + np.arange(len(positions))[:, None]
    # where a document has more copies than neighbours were asked for, the last goes
    own[~own.any(axis=1), -1] = True
    order = np.argsort(own, axis=1, kind="stable")[:, :-1]
    positions = np.take_along_axis(positions, order, axis=1)
    similarity = np.take_along_axis(similarity, order, axis=1)
    return positions, np.where(positions < 0, 0, np.clip(similarity, 0, 1))
