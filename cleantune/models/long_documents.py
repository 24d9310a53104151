"""What is read of a document that has more tokens than the model reads at once: ``long_documents``.

- ``head``: its beginning.
- ``head_tail``: the first quarter and the last three quarters of what fits (Sun et al. 2019, "How to
  Fine-Tune BERT for Text Classification?", arXiv 1905.05583: 128 and 382 of 510 tokens).
- ``chunks``: all of it, divided into chunks of equal length, each with special tokens of its own. The
  logits of a document are the mean of those of its chunks, in training and in use.

A document is stored as one sequence of token ids, its chunks one after the other; ``divide`` finds
them again. Training, evaluation and tools.predict all go through this module.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from cleantune import files
from cleantune.params.sections import LongDocuments

SUMMARY = "summary.json"  # of a fine-tuned model
KEY = "long_documents"
METHODS: tuple[LongDocuments, ...] = get_args(LongDocuments)


@dataclass(frozen=True)
class Reading:
    """How many tokens of a document a model reads, and which ones."""

    method: LongDocuments
    max_length: int
    """Tokens that the model reads at once, special ones included."""
    max_chunks: int = 1
    before: int = 0
    """Special tokens that the tokenizer puts before a text."""
    after: int = 0

    @property
    def chunk_length(self) -> int | None:
        """The most tokens of a chunk; None where documents are not divided."""
        return self.max_length if self.method == "chunks" else None

    @property
    def limit(self) -> int:
        """The most tokens that are read of a document, special ones included."""
        return self.max_length * (self.max_chunks if self.method == "chunks" else 1)

    @property
    def _room(self) -> int:
        return self.max_length - self.before - self.after

    @property
    def _first(self) -> int:
        """Tokens from the start of a document that ``head_tail`` reads."""
        return -(-self._room // 4)

    def unread(self, length: int) -> int:
        """Return how many tokens of a document of ``length`` tokens, special ones included, are not read."""
        chunks = self.max_chunks if self.method == "chunks" else 1
        return max(0, length - self.before - self.after - self._room * chunks)

    def positions(self, length: int) -> list[list[int]]:
        """Return the positions, in the ``length`` tokens of a whole document, that each chunk has.

        Special tokens are part of every chunk. But for ``chunks`` there is one.
        """
        if length <= self.max_length:
            return [list(range(length))]
        body = range(self.before, length - self.after)
        if self.method == "head":
            parts = [[*body[: self._room]]]
        elif self.method == "head_tail":
            last = self._room - self._first
            parts = [[*body[: self._first], *body[len(body) - last :]]]
        else:
            body = body[: self._room * self.max_chunks]
            count = -(-len(body) // self._room)
            ends = _ends(len(body), count)
            parts = [[*body[a:b]] for a, b in zip([0, *ends], ends, strict=False)]
        start, end = range(self.before), range(length - self.after, length)
        return [[*start, *part, *end] for part in parts]

    def select(self, tokens: Sequence[int]) -> list[int]:
        """Return what is read of a whole document, given with its special tokens."""
        return [tokens[i] for chunk in self.positions(len(tokens)) for i in chunk]

    def describe(self) -> str:
        """Return what is read of a document that is too long."""
        if self.method == "head_tail":
            first = self.before + self._first
            return f"the first {first} and the last {self.max_length - first} tokens"
        return f"the first {self.limit} tokens"


def reading(
    method: LongDocuments,
    max_length: int,
    max_chunks: int,
    encode: Callable[[str, bool], Sequence[int]],
) -> Reading:
    """Return how documents are read with a tokenizer.

    ``encode`` returns the token ids of a text, with special tokens where the second argument is true.
    """
    whole, bare = list(encode("a", True)), list(encode("a", False))
    before = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    return Reading(method, max_length, max_chunks, before, len(whole) - before - len(bare))


def record(method: LongDocuments, max_chunks: int) -> dict[str, Any]:
    """Return what a model's summary says of it."""
    return {KEY: {"method": method, "max_chunks": max_chunks}}


def recorded(folder: Path) -> tuple[LongDocuments, int]:
    """Return method and ``max_chunks`` that a model was trained with; a folder from elsewhere reads the head.

    Raises ``UserError`` when the summary has something else.
    """
    path = folder / SUMMARY
    content = files.read_json(path).get(KEY) if path.is_file() else None
    if content is None:
        return "head", 1
    if content.get("method") not in METHODS or content.get("max_chunks", 0) < 1:
        raise files.damaged(path, f"{KEY}: {content}")
    return content["method"], int(content["max_chunks"])


def divide(tokens: Any, chunk_length: int | None) -> list[Any]:
    """Return the chunks of a document as it is stored; the whole where ``chunk_length`` is None.

    ``tokens`` is a list, array or tensor of token ids.
    """
    count = max(1, -(-len(tokens) // chunk_length)) if chunk_length else 1
    if count == 1:
        return [tokens]
    ends = _ends(len(tokens), count)
    return [tokens[a:b] for a, b in zip([0, *ends], ends, strict=False)]


def mean(logits: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Return the mean logits of each document, (documents, classes), from those of its chunks.

    ``logits`` (chunks, classes) has the chunks of the first document first; ``counts`` says how many
    each document has.
    """
    if len(logits) == len(counts):  # a chunk each
        return logits
    ends = np.cumsum(counts)
    return np.stack([part.mean(axis=0) for part in np.split(logits, ends[:-1])])


def _ends(length: int, count: int) -> list[int]:
    """Return where ``count`` parts of ``length`` end whose sizes differ by one at most."""
    return [length * (i + 1) // count for i in range(count)]
