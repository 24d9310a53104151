"""A class-conditional n-gram language model; it predicts the class of highest likelihood.

Interpolated Kneser-Ney smoothing (Kneser and Ney 1995; Chen and Goodman 1999, section 4.1.6), one
absolute discount per order, the lowest order interpolated with the uniform distribution. Written
with NumPy, as the one kept Python library (NLTK) counts continuations anew for every query.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cleantune.evaluation import metrics

Words = Sequence[Sequence[str]]
UNKNOWN, START = 0, 1  # word ids; the others follow
RARE = 2  # words in fewer documents than this are <unknown>, so that <unknown> has a probability


class NgramClassifier:
    """P(class | text) from P(text | class), order 1 to 3, and the classes' shares."""

    def __init__(self, order: int) -> None:
        self.order = order

    def fit(self, documents: Words, labels: np.ndarray, classes: int) -> "NgramClassifier":
        """Count; ``labels`` has shape (documents,). A class without words is never chosen."""
        seen = Counter(word for words in documents for word in dict.fromkeys(words))
        known = sorted(word for word, count in seen.items() if count >= RARE)
        self.vocabulary = {word: i for i, word in enumerate(known, start=START + 1)}
        windows, owner = self._windows(documents)
        size = len(self.vocabulary) + START + 1
        of = labels[owner]
        self.models = [
            KneserNey(windows[of == k], size) if (of == k).any() else None for k in range(classes)
        ]
        self.log_prior = np.log(np.bincount(labels, minlength=classes).clip(1e-9) / len(labels))
        return self

    def log_probabilities(self, documents: Words) -> np.ndarray:
        """Return log P(text, class), float64 of shape (documents, classes), all finite."""
        windows, owner = self._windows(documents)
        scores = np.zeros((len(documents), len(self.models))) + self.log_prior
        for k, model in enumerate(self.models):
            if model is not None and len(windows):
                each = np.log(model.probability(windows))
                scores[:, k] += np.bincount(owner, weights=each, minlength=len(documents))
        return metrics.put_last(scores, np.array([model is not None for model in self.models]))

    def _windows(self, documents: Words) -> tuple[np.ndarray, np.ndarray]:
        """Return every word with the words before it, (words, order), and its document."""
        starts = [START] * (self.order - 1)
        ids = [
            np.array(starts + [self.vocabulary.get(word, UNKNOWN) for word in words])
            for words in documents
        ]
        parts = [
            np.lib.stride_tricks.sliding_window_view(row, self.order)
            for row in ids
            if len(row) >= self.order
        ]
        empty = np.zeros((0, self.order), dtype=np.int64)
        owner = np.repeat(np.arange(len(documents)), [max(0, len(r) - len(starts)) for r in ids])
        return np.concatenate([empty, *parts]), owner


class KneserNey:
    """P(word | words before) from one set of n-grams."""

    def __init__(self, windows: np.ndarray, size: int) -> None:
        """Count ``windows``, word ids below ``size`` of shape (n-grams, order)."""
        self.size = size
        self.levels: list[_Level] = []  # from the shortest history to the longest
        keys, counts = np.unique(self._key(windows), return_counts=True)
        for order in range(windows.shape[1], 0, -1):
            self.levels.insert(0, _Level(keys, counts, size))
            # A lower order counts in how many histories a word occurs, not how often.
            keys, counts = np.unique(keys % size ** (order - 1), return_counts=True)

    def probability(self, windows: np.ndarray) -> np.ndarray:
        """Return P(last word | the ones before) of each row; never 0, 1 in sum over all words."""
        result = np.full(len(windows), 1 / self.size)
        for order, level in enumerate(self.levels, start=1):
            result = level.interpolate(self._key(windows[:, -order:]), result)
        return result

    def _key(self, windows: np.ndarray) -> np.ndarray:
        """Write each row as one number to the base ``size``."""
        key = np.zeros(len(windows), dtype=np.int64)
        for column in windows.T:
            key = key * self.size + column
        return key


class _Level:
    """The counts of one order."""

    def __init__(self, keys: np.ndarray, counts: np.ndarray, size: int) -> None:
        self.size, self.keys, self.counts = size, keys, counts
        once, twice = (counts == 1).sum(), (counts == 2).sum()
        # The discount n1 / (n1 + 2 n2); where no count is 1 or 2 (a tiny corpus), half of one.
        self.discount = once / (once + 2 * twice) if once and twice else 0.5
        self.histories, first = np.unique(keys // size, return_index=True)
        self.totals = np.add.reduceat(counts, first) if len(keys) else counts
        self.kinds = np.diff(np.append(first, len(keys)))  # distinct words after each history

    def interpolate(self, keys: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """Return this order's probabilities, given the next lower order's."""
        if not len(self.keys):
            return lower
        at = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        count = np.where(self.keys[at] == keys, self.counts[at], 0)
        history = keys // self.size
        at = np.searchsorted(self.histories, history).clip(max=len(self.histories) - 1)
        known = self.histories[at] == history
        mixed = np.maximum(count - self.discount, 0) + self.discount * self.kinds[at] * lower
        return np.where(known, mixed / self.totals[at], lower)
