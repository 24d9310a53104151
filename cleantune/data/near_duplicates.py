"""Near-duplicate texts by MinHash and locality-sensitive hashing, verified.

A text is its set of word 3-shingles (of characters where a script does not separate words, see
``words``); two texts are near-duplicates when the Jaccard similarity of
their sets reaches a threshold. MinHash LSH (Broder 1997; Leskovec, Rajaraman and Ullman, Mining
of Massive Datasets, chapter 3) proposes pairs, and only those whose true similarity reaches the
threshold count: there are no false positives, and of the pairs right at the threshold one in 200 may be
missed, of the more similar ones fewer.

Signatures are datasketch's, computed for all texts in arrays: as objects they take 10 times the memory.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from datasketch import MinHash
from numpy.typing import NDArray

from cleantune import console
from cleantune.data.words import words

SHINGLE = 3  # words
PERMUTATIONS = 128
MISSED = 0.005  # share of the pairs right at the threshold that may not be proposed

Hashes = NDArray[np.uint64]
Positions = NDArray[np.int64]


class Shingles:
    """The shingle sets of texts, each a sorted array of 64-bit hashes, in one flat array."""

    def __init__(self, texts: Sequence[str]) -> None:
        # Of the word itself, not numbered as words appear: which pairs are proposed must not depend
        # on the other texts and their order.
        known: dict[str, int] = {}
        flat: list[int] = []
        ends = np.zeros(len(texts) + 1, dtype=np.int64)
        for i, text in enumerate(texts):
            for word in words(text):
                if word not in known:
                    digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
                    known[word] = int.from_bytes(digest, "little")
                flat.append(known[word])
            ends[i + 1] = len(flat)
        self.hashes, self.ends = _shingled(np.array(flat, dtype=np.uint64), ends)

    @classmethod
    def joined(cls, parts: Sequence["Shingles"]) -> "Shingles":
        """Return the shingle sets of several sequences of texts as those of one."""
        whole = cls([])
        whole.hashes = np.concatenate([whole.hashes, *(part.hashes for part in parts)])
        sizes = np.concatenate([np.diff(part.ends) for part in (whole, *parts)])
        whole.ends = np.concatenate([[0], np.cumsum(sizes)])
        return whole

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, i: int) -> NDArray[np.uint64]:
        own: NDArray[np.uint64] = self.hashes[self.ends[i] : self.ends[i + 1]]
        return own

    def __iter__(self) -> Iterator[NDArray[np.uint64]]:
        return (self[i] for i in range(len(self)))

    def jaccard(self, i: int, j: int) -> float:
        """Return the true Jaccard similarity of two texts' sets; 0 when both are empty."""
        a, b = self[i], self[j]
        both = np.concatenate([a, b])
        both.sort()
        common = int((both[1:] == both[:-1]).sum())
        return common / max(len(both) - common, 1)


def _shingled(
    flat: NDArray[np.uint64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the sorted, distinct shingle hashes of each text and where each text's end."""
    lengths = np.diff(ends)
    text = np.repeat(np.arange(len(lengths)), lengths)
    position = np.arange(len(flat)) - np.repeat(ends[:-1], lengths)
    left = np.repeat(lengths, lengths) - position
    mixed = _mix(flat + np.uint64(1))
    for step in range(1, SHINGLE):
        following = np.zeros_like(flat)  # 0 past the end: a shorter text is one shorter shingle
        inside = left > step
        following[inside] = flat[np.nonzero(inside)[0] + step] + np.uint64(1)
        mixed = _mix(mixed ^ following)
    starts = (left >= SHINGLE) | (position == 0)
    text, mixed = text[starts], mixed[starts]
    order = np.lexsort((mixed, text))
    text, mixed = text[order], mixed[order]
    first = np.ones(len(text), dtype=bool)
    first[1:] = (text[1:] != text[:-1]) | (mixed[1:] != mixed[:-1])
    counts = np.bincount(text[first], minlength=len(lengths))
    return mixed[first], np.concatenate([[0], np.cumsum(counts)])


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit numbers: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed


def bands(threshold: float) -> tuple[int, int]:
    """Return the number of bands and of rows in each: the longest that miss few enough.

    A pair of similarity ``s`` is proposed with probability ``1 - (1 - s^rows)^bands``.
    """
    return max(
        (
            (PERMUTATIONS // rows, rows)
            for rows in range(1, PERMUTATIONS // 2 + 1)
            if (1 - threshold**rows) ** (PERMUTATIONS // rows) <= MISSED
        ),
        key=lambda pair: pair[1],
        default=(PERMUTATIONS, 1),
    )


def signatures(shingles: Shingles) -> NDArray[np.uint32]:
    """Return the MinHash signature of each text, (texts, PERMUTATIONS), as datasketch computes it.

    Of a text without shingles all values are the greatest there is.
    """
    empty = MinHash(PERMUTATIONS, scheme="affine32")
    multipliers, increments = empty.permutations
    result = np.tile(empty.hashvalues, (len(shingles), 1))
    mixed = _mix32(shingles.hashes.astype(np.uint32))
    for i in range(len(shingles)):
        own = mixed[shingles.ends[i] : shingles.ends[i + 1], None]
        if len(own):
            result[i] = (own * multipliers + increments).min(axis=0)
    return result


def band_keys(shingles: Shingles, threshold: float) -> Hashes:
    """Return a hash of each band of each text's signature, (texts, bands).

    Two texts are proposed as near-duplicates where they have the hash of a band in common.
    """
    count, rows = bands(threshold)
    keys = np.zeros((len(shingles), count), dtype=np.uint64)
    banded = signatures(shingles)[:, : count * rows].reshape(len(shingles), count, rows)
    for row in range(rows):
        keys = _mix(keys ^ banded[:, :, row])
    return keys


def _mix32(x: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Scramble 32-bit numbers: the finaliser of MurmurHash3, which datasketch applies first."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    mixed: NDArray[np.uint32] = x ^ (x >> np.uint32(16))
    return mixed


class Similar:
    """An index of texts to look up similar ones; ``keys`` are their ``band_keys``, if there are any yet."""

    def __init__(self, shingles: Shingles, threshold: float, keys: Hashes | None = None) -> None:
        self._shingles = shingles
        self._threshold = threshold
        self._keys = band_keys(shingles, threshold) if keys is None else keys

    def nearest(
        self, queries: Sequence[int], known: Sequence[int], what: str = "comparing train with test"
    ) -> dict[int, tuple[int, float]]:
        """Return for each of ``queries`` that has a near-duplicate in ``known`` the most similar.

        Of equally similar ones the first. Texts are named by their position; ``what`` is on the bar.
        """
        every, others = np.asarray(queries, np.int64), np.asarray(known, np.int64)
        shared = np.zeros(len(every), bool)
        for band in self._keys.T:
            shared |= np.isin(band[every], band[others])
        nearest = {}
        for i, proposed in self._proposed(every, every[shared], others, what):
            near = [(self._shingles.jaccard(i, j), -j) for j in proposed]
            if max(near)[0] >= self._threshold:
                similarity, j = max(near)
                nearest[i] = (-j, similarity)
        return nearest

    def groups(self, members: Sequence[int]) -> dict[int, int]:
        """Return for each of ``members`` the first of its group.

        Near-duplicates of near-duplicates are in one group (connected components).
        """
        every = np.asarray(members, np.int64)
        shared = np.zeros(len(every), bool)
        for band in self._keys.T:
            order = np.argsort(band[every])
            same = np.flatnonzero(np.diff(band[every[order]]) == 0)
            shared[order[same]] = shared[order[same + 1]] = True
        parent = {i: i for i in every.tolist()}

        def first(i: int) -> int:
            while parent[i] != i:
                parent[i] = parent[parent[i]]
                i = parent[i]
            return i

        some = every[shared]
        for i, proposed in self._proposed(every, some, some, "grouping near-duplicates"):
            for j in proposed:
                a, b = first(i), first(j)
                # Nothing is gained by comparing two that are in one group already.
                if j < i and a != b and self._shingles.jaccard(i, j) >= self._threshold:
                    parent[max(a, b)] = min(a, b)
        return {i: first(i) for i in parent}

    def _proposed(
        self, every: Positions, queries: Positions, known: Positions, what: str
    ) -> Iterator[tuple[int, list[int]]]:
        """Yield each of ``queries`` and those of ``known`` that have a band in common with it, in order.

        A bar counts ``every`` one, of which ``queries`` are those that have any.
        """
        bands_of = []
        for band in self._keys.T:
            order = known[np.argsort(band[known], kind="stable")]
            sides = [
                np.searchsorted(band[order], band[queries], side) for side in ("left", "right")
            ]
            bands_of.append((order, *sides))
        with console.Bar(what, len(every)) as bar:
            bar.advance(len(every) - len(queries))
            for n, i in enumerate(queries.tolist()):
                near = [order[low[n] : high[n]] for order, low, high in bands_of]
                yield i, np.unique(np.concatenate(near)).tolist()
                bar.advance()


def same_text(text: str) -> bytes:
    """Return 16 bytes that two texts have in common if they are the same, whatever their case."""
    return hashlib.blake2b(text.casefold().encode(), digest_size=16).digest()


def drop_copies(
    texts: NDArray[np.bytes_],
    labels: Sequence[int],
    certain: Sequence[bool],
    members: Sequence[int],
) -> tuple[dict[int, tuple[str, int]], list[list[int]]]:
    """Choose one of those that are the same text: ``texts`` (n,) are their values of ``same_text``.

    Texts are named by their position; ``members`` are those to look at. Where the labels of the
    copies differ, the label most of them have is right, or that of those which are ``certain``;
    the first copy that has it stays. Without a majority none does.
    Returns for each text to drop the reason and the text it repeats, and the sets of copies that
    had more than one label.
    """
    every = np.asarray(members, np.int64)
    every = every[np.argsort(texts[every], kind="stable")]
    new = np.flatnonzero(texts[every[1:]] != texts[every[:-1]]) + 1
    bounds = np.concatenate([[0], new, [len(every)]])
    starts = np.flatnonzero(np.diff(bounds) > 1)
    several = sorted(every[bounds[s] : bounds[s + 1]].tolist() for s in starts)
    dropped: dict[int, tuple[str, int]] = {}
    for rows in several:
        voters = [i for i in rows if certain[i]] or rows
        (label, votes), *others = Counter(labels[i] for i in voters).most_common(2)
        if others and others[0][1] == votes:
            dropped |= dict.fromkeys(rows, ("conflicting_labels", rows[0]))
            continue
        kept = next(i for i in voters if labels[i] == label)
        for i in rows:
            if i != kept:
                dropped[i] = ("duplicate" if labels[i] == label else "other_label", kept)
    return dropped, [rows for rows in several if len({labels[i] for i in rows}) > 1]
