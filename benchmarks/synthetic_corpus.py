"""Corpora of any size, made from the documents of data/raw: text that no two documents share.

A document of class c is a walk through the documents of that class: each word is followed by one that
follows it somewhere among them, so that words and pairs of words are as frequent as there. So that the
vocabulary grows with the corpus, as in real ones, 3 % of the words are new ones, of Zipf's distribution.
Every twentieth document is a near-duplicate, the one before it with one word replaced, every hundredth a
copy of it; a twentieth of the labels is wrong.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

NEW_WORDS, WRONG_LABELS = 0.03, 0.05
NEAR_DUPLICATE, COPY = 20, 100  # every so many documents
BLOCK = 50_000  # documents made at a time: bounds memory


def write_csv(path: Path, source: pd.DataFrame, documents: int, words: int, seed: int) -> None:
    """Write ``documents`` of ``words`` words each with the columns ``label`` and ``text``."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("label", "text"))
        for block, start in enumerate(range(0, documents, BLOCK)):
            rng = np.random.default_rng([seed, block])
            writer.writerows(_block(source, min(BLOCK, documents - start), words, rng))


def _block(
    source: pd.DataFrame, count: int, words: int, rng: np.random.Generator
) -> Iterator[tuple[int, str]]:
    labels = np.sort(source["label"].unique())
    true = rng.choice(labels, count)
    tokens = np.empty((count, words), dtype=object)
    for label in labels:
        own = np.flatnonzero(true == label)
        tokens[own] = _walks(source[source["label"] == label], len(own), words, rng)
    new = np.nonzero(rng.random(tokens.shape) < NEW_WORDS)
    ranks = np.exp(rng.random(len(new[0])) * np.log(3e6)).astype(int)
    tokens[new] = [f"x{rank}" for rank in ranks]
    for i in range(1, count):
        if i % NEAR_DUPLICATE == 0 or i % COPY == 1:
            tokens[i], true[i] = tokens[i - 1], true[i - 1]
        if i % NEAR_DUPLICATE == 0:
            tokens[i, rng.integers(words)] = "replaced"
    given = np.where(rng.random(count) < WRONG_LABELS, rng.choice(labels, count), true)
    for label, row in zip(given.tolist(), tokens, strict=True):
        yield label, " ".join(row)


def _walks(
    source: pd.DataFrame, count: int, words: int, rng: np.random.Generator
) -> NDArray[np.object_]:
    """Return ``count`` walks (count, words) through the words of the documents of one class."""
    spoken = [*" ".join(source["text"]).split()]
    vocabulary, word = np.unique(np.array(spoken, dtype=object), return_inverse=True)
    order = np.argsort(word, kind="stable")  # the positions of each word, one after another
    first = np.searchsorted(word[order], np.arange(len(vocabulary)))
    times = np.bincount(word)
    position = rng.integers(len(word), size=count)
    walk = np.empty((count, words), dtype=np.int64)
    for step in range(words):
        walk[:, step] = word[position]
        anywhere = order[
            first[word[position]] + (rng.random(count) * times[word[position]]).astype(int)
        ]
        position = (anywhere + 1) % len(word)
    result: NDArray[np.object_] = vocabulary[walk]
    return result
