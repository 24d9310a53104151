"""Corpora with label noise of several kinds, for studies.label_detection.

``majority`` and ``annotator-1`` to ``-3`` are human labels, of the documents of ``--human``
only. ``human-0`` and ``human-1`` have the size of the published comparison: the majority's labels
on one half of these documents, and others up to ``--documents``, whose labels are sampled from a
model of the majority's errors fitted on the *other* half, so that it is not evaluated on its
training data. ``uniform`` and ``pair`` change one label in five, ``none`` changes none.
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegressionCV

from cleantune.data import tables
from cleantune.data.text_repair import repair
from cleantune.labels import confident_learning as lq
from cleantune.labels.label_models import MAX_LENGTH
from cleantune.models import encoder, precision
from cleantune.params.read import read_params

NAMES = ("human-0", "human-1", "majority", "uniform", "pair", "none",
         "annotator-1", "annotator-2", "annotator-3")  # fmt: skip
PAIRS = np.array([2, 0, 3, 2])  # World and Business and Sci/Tech mistaken for one another


class Corpus(NamedTuple):
    """The human-labelled documents first, then others of train, then test."""

    texts: list[str]
    labels: lq.Ints
    people: lq.Ints
    """(human documents, 4): the majority, then each annotator."""
    vectors: Any
    train: int
    """Documents that are not test."""


def read(train: Path, test: Path, human: Path, documents: int, keep: Path | None) -> Corpus:
    """Read and repair all three, take out of train what human has, encode.

    With ``keep``, a folder, the vectors of these very texts are taken from there or left there.
    """
    columns = ["label", "title", "description"]
    people = pd.read_csv(human, keep_default_na=False)
    others, tests = (pd.read_csv(p, header=None, names=columns, keep_default_na=False)
                     for p in (train, test))  # fmt: skip
    words = ["title", "description"]
    known = people[words].assign(known=True).drop_duplicates(words)
    others = others.drop_duplicates(words).merge(known, on=words, how="left")
    others = others[others["known"].isna()].sample(documents, random_state=0)
    table = pd.concat([people, others, tests], ignore_index=True)
    repaired = table[words].map(repair, ag_news_artifacts=True)
    text = tables.full_text(repaired.rename(columns={"description": "text"}))
    votes = people[[f"annotator_{i}" for i in (1, 2, 3)]].to_numpy()
    counts = np.stack([(votes == label).sum(1) for label in range(4)], axis=1)
    majority = np.where(counts.max(1) > 1, counts.argmax(1), votes[:, 0])
    labels = np.concatenate([people["label"], others["label"] - 1, tests["label"] - 1])
    kept = keep and keep / f"{hashlib.sha256(chr(0).join(text).encode()).hexdigest()[:16]}.npy"
    if kept and kept.is_file():
        vectors = np.load(kept)
    else:
        params = read_params(["models", "label_noise"])
        folder = encoder.find(params.label_noise.encoder, params.models)
        vectors = encoder.vectors(text, folder, MAX_LENGTH, precision.bf16_is_fast())
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, vectors)
    return Corpus(text, labels, np.column_stack([majority, votes]), vectors, len(text) - len(tests))


def make(noise: str, data: Corpus, documents: int) -> tuple[lq.Ints, lq.Ints, lq.Ints]:
    """Return which documents, their given and their true labels."""
    people = len(data.people)
    kind, _, number = noise.partition("-")
    if kind in ("majority", "annotator"):
        return np.arange(people), data.people[:, int(number or 0)], data.labels[:people]
    if kind == "human":
        half = np.random.default_rng(1).permutation(people) % 2
        own, other = (np.flatnonzero((half == int(number)) == yes) for yes in (True, False))
        drawn = np.arange(people, people + documents - len(own))
        rows = np.concatenate([own, drawn])
        simulated = draw(data, other, drawn, np.random.default_rng(10 + int(number)))
        return rows, np.concatenate([data.people[own, 0], simulated]), data.labels[rows]
    rng = np.random.default_rng(5)
    rows = np.arange(documents)
    true, changed = data.labels[rows], rng.random(documents) < (0 if kind == "none" else 0.2)
    other = (true + rng.integers(1, 4, documents)) % 4 if kind == "uniform" else PAIRS[true]
    return rows, np.where(changed, other, true), true


def draw(data: Corpus, fit: lq.Ints, rows: lq.Ints, rng: np.random.Generator) -> lq.Ints:
    """Draw a label for ``rows`` as the majority gave them to ``fit``, by true class and text."""
    result = data.labels[rows].copy()
    for label in range(4):
        known, new = fit[data.labels[fit] == label], np.flatnonzero(data.labels[rows] == label)
        given = data.people[known, 0]
        known = known[np.bincount(given, minlength=4)[given] >= 5]
        if len(np.unique(data.people[known, 0])) < 2:  # too few errors
            continue
        model = LogisticRegressionCV(Cs=[0.1, 1, 10], cv=5, scoring="neg_log_loss", max_iter=500)
        model.fit(data.vectors[known], data.people[known, 0])
        shares = model.predict_proba(data.vectors[rows[new]]).cumsum(axis=1)
        result[new] = model.classes_[(shares > rng.random((len(new), 1))).argmax(axis=1)]
    return result
