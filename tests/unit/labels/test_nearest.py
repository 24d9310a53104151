"""The index of the nearest documents: nearly all that exact search finds, and always the same."""

import faiss
import numpy as np
import pytest

from cleantune.labels import label_models, nearest
from cleantune.labels.review_page import neighbours

N = 1_500


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    made = rng.normal(size=(30, 16))[rng.integers(0, 30, N)] + 0.5 * rng.normal(size=(N, 16))
    made[7] = made[3]  # a copy
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def indexed(vectors, monkeypatch):
    monkeypatch.setattr(nearest, "CLUSTER", 50)
    return nearest.Indexed(vectors)


def test_nearly_all_of_the_exact_neighbours_are_found_and_the_recall_says_so(vectors, indexed):
    exact, _ = neighbours.by_vectors(vectors, np.arange(N), nearest.KEPT)
    found = np.mean(
        [len(np.intersect1d(a, b)) for a, b in zip(exact, indexed.positions, strict=True)]
    )
    assert 0.9 < indexed.recall <= 1
    assert found / nearest.KEPT == pytest.approx(indexed.recall, abs=0.02)


def test_no_document_is_its_own_neighbour_and_the_nearest_come_first(vectors, indexed):
    assert not (indexed.positions == np.arange(N)[:, None]).any()
    assert indexed.positions[7, 0] == 3
    cosine = np.einsum("nd,nkd->nk", vectors, vectors[indexed.positions])
    assert indexed.similarity == pytest.approx(np.clip(cosine, 0, 1), abs=1e-5)
    assert (np.diff(indexed.similarity, axis=1) <= 0).all()


def test_the_number_of_threads_changes_nothing(vectors, indexed):
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1 if threads > 1 else 2)
    try:
        again = nearest.Indexed(vectors)
    finally:
        faiss.omp_set_num_threads(threads)
    assert np.array_equal(again.positions, indexed.positions)
    assert np.array_equal(again.similarity, indexed.similarity)


def test_the_label_model_predicts_as_the_exact_one(vectors, monkeypatch):
    monkeypatch.setattr(nearest, "PROBED", 3)  # all clusters: the same neighbours
    indexed = nearest.Indexed(vectors)
    assert indexed.recall == pytest.approx(1, abs=0.001)
    fold = np.random.default_rng(1).integers(0, 5, N)
    targets = np.eye(3)[np.random.default_rng(2).integers(0, 3, N)]
    fit, held_out = np.flatnonzero(fold != 2), np.flatnonzero(fold == 2)
    found = label_models.indexed_label_model(indexed, fold)(fit, held_out, targets)
    exact = label_models.neighbour_label_model(vectors)(fit, held_out, targets)
    assert found == pytest.approx(exact, abs=1e-4)


def test_without_neighbours_in_other_folds_all_classes_are_as_likely(vectors):
    indexed = nearest.Indexed(vectors)
    fold = np.zeros(N, np.int64)
    targets = np.eye(3)[np.arange(N) % 3]
    found = label_models.indexed_label_model(indexed, fold)(fold[:0], np.arange(5), targets)
    assert found == pytest.approx(np.full((5, 3), 1 / 3))
