"""What the tokenizer made of a split, and when that calls for another model or another way of reading."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cleantune.data.words import words
from cleantune.models.long_documents import Reading

MULTILINGUAL = "xlm-roberta"  # an entry of `models` in params.yaml
MANY_UNKNOWN = 0.05  # share of the tokens
MANY_PER_CHARACTER = 1.5  # tokens; English has .25, Chinese in a multilingual model about .7
# In MiniLM's vocabulary English has 1.2 to 1.6, other languages of Europe 1.9 to 2.4, Turkish 3.1, Arabic, Greek, Hebrew
# and Russian 4.3 to 5.5: single letters.
MANY_PER_WORD = 2.5
COUNTED_WORDS = 5_000  # documents
MANY_CUT = 0.2  # share of the documents


@dataclass(frozen=True)
class TokenCounts:
    """Of one split: tokens are those that the model reads, special ones included."""

    tokens: int
    unknown_tokens: int
    characters: int
    """Without blanks, of the whole documents."""
    words: int
    """Of the first ``COUNTED_WORDS`` documents, as are ``word_tokens``, without special ones."""
    word_tokens: int
    lengths: np.ndarray
    """Tokens of each whole document, (documents,)."""
    reading: Reading

    @property
    def fertility(self) -> float:
        """Return the tokens per word, special ones left out (Rust et al. 2021, arXiv 2012.15613)."""
        return self.word_tokens / max(self.words, 1)

    def sums(self) -> dict[str, int]:
        """Return what can be added to that of other documents."""
        names = ("tokens", "unknown_tokens", "characters", "words", "word_tokens")
        return {name: getattr(self, name) for name in names}

    def unread(self, reading: Reading) -> np.ndarray:
        """Return how many tokens of each document are not read, (documents,)."""
        return np.array([reading.unread(int(n)) for n in self.lengths], dtype=np.int64)

    @property
    def truncated(self) -> int:
        """Documents of which a part is not read."""
        return int((self.unread(self.reading) > 0).sum())

    def unread_share(self, reading: Reading) -> float:
        """Return the share of all tokens of all documents that is not read."""
        return float(self.unread(reading).sum() / max(self.lengths.sum(), 1))

    def summary(self) -> dict[str, Any]:
        """Return what data/tokens/summary.json records."""
        return {
            "documents": len(self.lengths),
            "tokens": self.tokens,
            "unknown_tokens": self.unknown_tokens,
            "truncated": self.truncated,
            "unread_share": round(self.unread_share(self.reading), 6),
            "fertility": round(self.fertility, 2),
        }


def count(
    texts: Sequence[str],
    tokens: Sequence[Sequence[int]],
    lengths: Sequence[int],
    unknown_id: int | None,
    reading: Reading,
    counted: int = COUNTED_WORDS,
) -> TokenCounts:
    """Return the counts of documents; ``lengths`` are those of the whole documents in tokens.

    Words are counted in the first ``counted`` ones.
    """
    unknown = 0 if unknown_id is None else sum(list(ids).count(unknown_id) for ids in tokens)
    characters = sum(len("".join(text.split())) for text in texts)
    special = reading.before + reading.after
    of_words = sum(n - special for n in lengths[:counted])
    of_texts = sum(len(words(text)) for text in texts[:counted])
    return TokenCounts(sum(map(len, tokens)), unknown, characters, of_texts, of_words,
                       np.array(lengths, np.int64), reading)  # fmt: skip


def joined(parts: Sequence[TokenCounts]) -> TokenCounts:
    """Return the counts of several sequences of documents as of one."""
    return of_sums(
        [part.sums() for part in parts],
        np.concatenate([p.lengths for p in parts]),
        parts[0].reading,
    )


def of_sums(parts: Sequence[dict[str, int]], lengths: np.ndarray, reading: Reading) -> TokenCounts:
    """Return the same by the ``sums`` of each and the whole ``lengths`` of all documents."""
    added = {name: sum(part[name] for part in parts) for name in parts[0]}
    return TokenCounts(**added, lengths=lengths, reading=reading)


def warnings(counts: TokenCounts, model: str, limit: int | None) -> list[str]:
    """Return a sentence or more for each reason to change a parameter.

    ``model`` is the base model's name, ``limit`` what it can read at once, None where nothing limits it.
    """
    result = []
    command = f"dvc exp run -S model={MULTILINGUAL} -S label_noise.encoder={MULTILINGUAL}"
    unknown = counts.unknown_tokens / max(counts.tokens, 1)
    each = int(counts.lengths.sum()) / max(counts.characters, 1)
    if unknown > MANY_UNKNOWN:
        result.append(
            f"{unknown:.0%} of the training tokens are unknown to the tokenizer of {model}: it does not know "
            f"the script of these texts. A multilingual model reads them: {command}"
        )
    elif each > MANY_PER_CHARACTER:
        result.append(
            f"The tokenizer of {model} makes {each:.1f} tokens of each character: it was not made for the "
            f"script of these texts, reads them byte by byte, and max_length is soon reached. A multilingual "
            f"model reads more of them: {command}"
        )
    elif counts.fertility > MANY_PER_WORD:
        result.append(
            f"The tokenizer of {model} makes {counts.fertility:.1f} tokens of each word; in a language that it was "
            f"made for it makes fewer than two. Most likely the model has not learned this language. A "
            f"multilingual model reads these texts better: {command}"
        )
    cut = counts.truncated / max(len(counts.lengths), 1)
    if cut > MANY_CUT:
        result.append(_unread(counts, cut, limit))
    return result


def _unread(counts: TokenCounts, cut: float, limit: int | None) -> str:
    """Say how much is not read, and what each parameter would leave unread."""
    now = counts.reading
    longer = min(limit or 4 * now.max_length, 4 * now.max_length)
    changes = {}
    if longer > now.max_length:
        changes[f"max_length={longer}"] = replace(now, max_length=longer)
    if now.method == "chunks":
        changes[f"max_chunks={4 * now.max_chunks}"] = replace(now, max_chunks=4 * now.max_chunks)
    else:
        changes["long_documents=chunks"] = replace(now, method="chunks")
    others = [f"-S {change} leaves {counts.unread_share(reading):.0%} unread"
              for change, reading in changes.items()]  # fmt: skip
    if now.method == "head":
        others.append("-S long_documents=head_tail reads beginning and end")
    return (
        f"{cut:.0%} of the training documents are too long to be read whole: "
        f"{counts.unread_share(now):.0%} of all tokens are not read. {'; '.join(others)} "
        "(docs/models.md#long-documents)"
    )
