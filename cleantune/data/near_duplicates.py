"""Near-duplicate texts by MinHash and locality-sensitive hashing (datasketch), verified.

A text is its set of word 3-shingles (of characters where a script does not separate words, see
``words``); two texts are near-duplicates when the Jaccard similarity of
their sets reaches a threshold. MinHash LSH (Broder 1997; Leskovec, Rajaraman and Ullman, Mining
of Massive Datasets, chapter 3) proposes pairs, and only those whose true similarity reaches the
threshold count: there are no false positives, and of the pairs right at the threshold one in 200 may be
missed, of the more similar ones fewer.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from cleantune import console
from cleantune.data.words import words

SHINGLE = 3  # words
PERMUTATIONS = 128
MISSED = 0.005  # share of the pairs right at the threshold that may not be proposed


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


def sketches(shingles: Shingles) -> list[MinHash]:
    """Return the MinHash of each text."""
    batches = ((h & np.uint64(0xFFFFFFFF)).tolist() for h in shingles)
    made = MinHash.generator(batches, num_perm=PERMUTATIONS, hashfunc=int)
    return list(console.track(made, "sketching texts", len(shingles)))


class Similar:
    """An index of texts to look up similar ones."""

    def __init__(self, shingles: Shingles, threshold: float) -> None:
        self._shingles = shingles
        self._sketches = sketches(shingles)
        self._threshold = threshold

    def nearest(
        self, queries: Sequence[int], known: Sequence[int], what: str = "comparing train with test"
    ) -> dict[int, tuple[int, float]]:
        """Return for each of ``queries`` that has a near-duplicate in ``known`` the most similar.

        Of equally similar ones the first. Texts are named by their position; ``what`` is on the bar.
        """
        index = self._index()
        for i in known:
            index.insert(i, self._sketches[i], check_duplication=False)
        nearest = {}
        for i in console.track(queries, what, len(queries)):
            near = [(self._shingles.jaccard(i, j), -j) for j in index.query(self._sketches[i])]
            if near and max(near)[0] >= self._threshold:
                similarity, j = max(near)
                nearest[i] = (-j, similarity)
        return nearest

    def groups(self, members: Sequence[int]) -> dict[int, int]:
        """Return for each of ``members`` the first of its group.

        Near-duplicates of near-duplicates are in one group (connected components).
        """
        index = self._index()
        parent = {i: i for i in members}

        def first(i: int) -> int:
            while parent[i] != i:
                parent[i] = parent[parent[i]]
                i = parent[i]
            return i

        for i in console.track(members, "grouping near-duplicates", len(members)):
            for j in sorted(index.query(self._sketches[i])):
                a, b = first(i), first(j)
                # Nothing is gained by comparing two that are in one group already.
                if a != b and self._shingles.jaccard(i, j) >= self._threshold:
                    parent[max(a, b)] = min(a, b)
            index.insert(i, self._sketches[i], check_duplication=False)
        return {i: first(i) for i in members}

    def _index(self) -> MinHashLSH:
        # datasketch's own choice of bands minds pairs proposed in vain as much as pairs missed.
        return MinHashLSH(num_perm=PERMUTATIONS, params=bands(self._threshold))


def drop_copies(
    texts: Sequence[str], labels: Sequence[int], certain: Sequence[bool], members: Sequence[int]
) -> tuple[dict[int, tuple[str, int]], list[list[int]]]:
    """Choose one of those that are the same text, whatever their case.

    Texts are named by their position; ``members`` are those to look at. Where the labels of the
    copies differ, the label most of them have is right, or that of those which are ``certain``;
    the first copy that has it stays. Without a majority none does.
    Returns for each text to drop the reason and the text it repeats, and the sets of copies that
    had more than one label.
    """
    copies: dict[str, list[int]] = defaultdict(list)
    for i in members:
        copies[texts[i].casefold()].append(i)
    dropped: dict[int, tuple[str, int]] = {}
    several = [rows for rows in copies.values() if len(rows) > 1]
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
