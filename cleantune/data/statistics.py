"""Statistics of a corpus: classes, lengths, vocabulary, distinctive words."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer

from cleantune.data import tables, words

QUANTILES = (0.05, 0.5, 0.95, 0.99, 1.0)
# "LONDON (Reuters) - Shares", "AP - The", "WASHINGTON -- The": who wrote it, or where.
_DATELINE = re.compile(r"^(?:[^()]{0,60}\(([^()]{2,30})\)|([A-Z][\w.]{1,20}))\s+--?\s")
_CONTRACTION = re.compile(r"\b\w*n['’]t\b|(?<=\w)['’](?:s|d|m|ve|ll|re)\b", re.IGNORECASE)
_IN_TITLE = re.compile(r"\(([A-Z][\w. ]{1,30})\)$")  # "Oil prices soar (AFP)"


def lengths(counts: Iterable[int]) -> dict[str, float]:
    """Return mean and quantiles of lengths."""
    values = np.fromiter(counts, dtype=float)
    quantiles = np.quantile(values, QUANTILES)
    named = {f"p{q * 100:g}": float(v) for q, v in zip(QUANTILES, quantiles, strict=True)}
    return {"mean": float(values.mean()), **named}


def length_shares(by_class: dict[str, list[int]], bins: int = 24) -> dict[str, Any]:
    """Return how the lengths of each class spread: the bins' middles, and its share in each.

    Each holds as many whole lengths as the others, or the line would be jagged; there are at most
    ``bins``, up to the length that 995 of 1000 documents do not exceed. What is longer counts into
    the last.
    """
    every = np.concatenate([np.array(counts) for counts in by_class.values()])
    top = max(int(np.quantile(every, 0.995, method="higher")), 1)
    width = top // bins + 1
    edges = np.arange(top // width + 2) * width
    return {
        "middles": ((edges[1:] + edges[:-1] - 1) / 2).tolist(),
        "shares": {
            name: (np.histogram(np.minimum(counts, top), edges)[0] / len(counts)).tolist()
            for name, counts in by_class.items()
        },
    }


def vocabulary(texts: Sequence[str]) -> dict[str, Any]:
    """Return the number of tokens and types, and the counts of rare words."""
    counts = Counter(word for text in texts for word in words.words(text))
    running = sum(counts.values())
    ranked = sorted(counts.values(), reverse=True)
    share = np.cumsum(ranked) / max(running, 1)
    return {
        "running_words": running,
        "different_words": len(counts),
        "only_once": sum(count == 1 for count in ranked),
        "words_that_make_up_90_percent": int(np.searchsorted(share, 0.9)) + 1 if ranked else 0,
    }


def phrases_by_class(
    texts: Sequence[str], labels: NDArray[np.int64], classes: Sequence[str], top: int = 8
) -> dict[str, dict[str, Any]]:
    """Return of each class the most frequent phrases and those that set it apart.

    Phrases are one or two words, or two characters where a script does not separate words; English
    stop words are left out. They are counted once a document; the frequent
    ones come with the share of the class's documents that have them. What sets a class apart is
    ranked by log-odds against the other classes with an informative Dirichlet prior, divided by its
    deviation (Monroe, Colaresi and Quinn 2008, equations 16, 20 and 22).
    """
    counter = CountVectorizer(
        tokenizer=_spoken, token_pattern=None, lowercase=False, ngram_range=(1, 2), binary=True,
        stop_words="english", min_df=max(2, len(texts) // 5000), max_features=50_000,
    )  # fmt: skip
    try:
        table = counter.fit_transform(texts)
    except ValueError:  # scikit-learn's error where no phrase occurs twice
        return {name: {"frequent": {}, "distinctive": []} for name in classes}
    told = np.array([not words.is_character(name) for name in counter.get_feature_names_out()])
    table = table[:, told]
    names = np.array([words.joined(name) for name in counter.get_feature_names_out()[told]], object)
    whole = np.asarray(table.sum(axis=0)).ravel().astype(float)
    prior = whole / whole.sum() * 1000  # pseudo-counts, as many as a thousand phrases
    result: dict[str, dict[str, Any]] = {}
    for label, name in enumerate(classes):
        own = labels == label
        if not own.any():
            result[name] = {"frequent": {}, "distinctive": []}
            continue
        counts = np.asarray(table[own].sum(axis=0)).ravel()
        most = [i for i in np.argsort(-counts, kind="stable")[:top] if counts[i]]
        inside = counts + prior
        outside = whole + 2 * prior - inside
        odds = np.log(inside / (inside.sum() - inside)) - np.log(
            outside / (outside.sum() - outside)
        )
        z = odds / np.sqrt(1 / inside + 1 / outside)
        result[name] = {
            "frequent": {str(names[i]): float(counts[i] / own.sum()) for i in most},
            "distinctive": names[np.argsort(-z, kind="stable")[:top]].tolist(),
        }
    return result


def _spoken(text: str) -> list[str]:
    """Return the words without contractions, and without single letters, such as the u of u.s."""
    all_words = words.words(_CONTRACTION.sub(" ", text))
    return [word for word in all_words if len(word) > 1 or not word.isascii()]


def agencies(table: pd.DataFrame, top: int = 10) -> list[tuple[str, dict[int, int]]]:
    """Return the commonest names in datelines and at the ends of titles, with counts by label."""
    counts: dict[str, Counter[int]] = {}
    for title, text, label in zip(table["title"], table["text"], table["label"], strict=True):
        dateline, in_title = _DATELINE.match(text), _IN_TITLE.search(title)
        name = (dateline and (dateline[1] or dateline[2])) or (in_title and in_title[1])
        if name:
            counts.setdefault(name, Counter())[label] += 1
    ranked = sorted(counts.items(), key=lambda item: (-item[1].total(), item[0]))
    return [(name, dict(sorted(by_label.items()))) for name, by_label in ranked[:top]]


def explore(
    table: pd.DataFrame, classes: Sequence[str], tokens: pd.DataFrame | None = None
) -> dict[str, Any]:
    """Describe the documents of a table with title, text and label.

    ``tokens`` has the label and the length of each in the model's tokens, if those are known.
    """
    texts = tables.full_text(table)
    labels = table["label"].to_numpy()
    counts = np.bincount(labels, minlength=len(classes))
    by_class = {name: [t for t, at in zip(texts, labels, strict=True) if at == i]
                for i, name in enumerate(classes)}  # fmt: skip
    counted = {
        name: [words.count(text) for text in texts] for name, texts in by_class.items() if texts
    }
    in_tokens = {}
    if tokens is not None:
        in_tokens = {classes[at]: of.tolist() for at, of in tokens.groupby("label")["length"]}
    return {
        "documents": len(table),
        "classes": {name: int(count) for name, count in zip(classes, counts, strict=True)},
        "length_in_words": {name: lengths(words_of) for name, words_of in counted.items()},
        "length_in_tokens": None if tokens is None else lengths(tokens["length"]),
        "length_shares": {unit: length_shares(of)
                          for unit, of in (("words", counted), ("tokens", in_tokens)) if of},
        "vocabulary": vocabulary(texts),
        "phrases": phrases_by_class(texts, labels, classes),
        "agencies": [
            {"name": name, "by_class": {classes[label]: count for label, count in counts.items()}}
            for name, counts in agencies(table)
        ],
        "examples": {name: texts[len(texts) // 2][:300] for name, texts in by_class.items() if texts},
    }  # fmt: skip


def explore_learned_from(splits: dict[str, pd.DataFrame], names: list[str]) -> dict[str, Any]:
    """Describe the documents of train and validation: see `cleantune.data.statistics`."""
    learned = ("train", "validation")
    tokens = pd.concat([
        tables.read_table(tables.TOKENS / f"{split}.parquet", ("id", "label", "length"))
        for split in learned
    ])  # fmt: skip
    together = pd.concat([splits[split] for split in learned], ignore_index=True)
    return explore(together, names, tokens[tables.originals(tokens["id"])])
