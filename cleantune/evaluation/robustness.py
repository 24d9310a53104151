"""Robustness to perturbed texts (typos, case, punctuation, truncation) and to label noise."""

import string
from dataclasses import replace
from typing import Any

import numpy as np

from cleantune import console, files
from cleantune.data import tables, words
from cleantune.evaluation import confidence_intervals
from cleantune.evaluation.predictions import Split, read_baseline
from cleantune.models.classifier import Classifier

_ADJACENT = (
    "qwsz vghn xdfv ersfcx wsdr rtgdvc tyfhbv yugjnb uojk uikhmn ijlom opk njk bhjm ipkl ol wa "
    "etdf awedxz ryfg yihj cfgb qase zsdc tugh asx"
)
NEIGHBOURS = dict(zip(string.ascii_lowercase, _ADJACENT.split(), strict=True))
"""Adjacent letters on a QWERTY keyboard."""
SPACED = str.maketrans(string.punctuation, " " * len(string.punctuation))


def typos(text: str, rng: np.random.Generator, share: float = 0.05) -> str:
    """Swap, drop, double or mistype ``share`` of the letters, one error per letter."""
    out: list[str] = []
    errors = rng.random(len(text)) < share
    kinds = rng.integers(4, size=len(text))
    picks = rng.random(len(text))
    for i, letter in enumerate(text):
        near = NEIGHBOURS.get(letter.lower())
        if not (errors[i] and near):
            out.append(letter)
        elif kinds[i] == 0 and out:
            out.insert(-1, letter)
        elif kinds[i] == 1:
            out += [letter, letter]
        elif kinds[i] == 2:
            out.append(near[int(picks[i] * len(near))])
    return "".join(out)


def without_punctuation(text: str) -> str:
    """Replace every punctuation mark by a space."""
    return " ".join(text.translate(SPACED).split())


def first_half(text: str) -> str:
    """Keep the first half of the words, at least one."""
    return words.first(text, max(1, words.count(text) // 2))


def perturbed(texts: list[str], seed: int) -> dict[str, list[str]]:
    """Return the texts under each perturbation; the typos are drawn from ``seed``."""
    rng = np.random.default_rng(seed)
    return {
        "typos in 5 % of letters": [typos(text, rng) for text in texts],
        "lower case": [text.lower() for text in texts],
        "upper case": [text.upper() for text in texts],
        "no punctuation": [without_punctuation(text) for text in texts],
        "first half of the words": [first_half(text) for text in texts],
        "first ten words": [words.first(text, 10) for text in texts],
    }


def measure_robustness(
    model: Classifier, test: Split, texts: list[str], count: int, seed: int
) -> dict[str, Any]:
    """Return the accuracy on a sample of test texts, original and perturbed, with 95 % intervals.

    Texts that give the same tokens, such as another case for an uncased model, are predicted once.
    """
    count = min(count, len(texts))
    rows = np.sort(np.random.default_rng(seed).permutation(len(texts))[:count])
    originals = [texts[i] for i in rows]
    versions = {"original": originals} | perturbed(originals, seed)
    tokens = {k: [tuple(ids) for ids in model.encode(version)] for k, version in versions.items()}
    known = dict(zip(tokens["original"], test.predicted[rows], strict=True))
    new = list(dict.fromkeys(t for version in tokens.values() for t in version if t not in known))
    with console.Bar("predicting perturbed texts", len(new)) as bar:
        logits = model.logits(new, bar.advance)
    predicted = replace(test, logits=logits).predicted
    known |= dict(zip(new, predicted, strict=True))
    accuracy, intervals = {}, {}
    for name, version in tokens.items():
        right = np.array([known[t] for t in version]) == test.labels[rows]
        accuracy[name] = float(right.mean())
        intervals[name] = confidence_intervals.share(right, test.groups[rows])
    return {"n": count, "accuracy": accuracy, "intervals": intervals}


def measure_flipped(validation: Split, test: Split) -> dict[str, float]:
    """Return tfidf's accuracy by share of training labels flipped, for the shares that baselines ran.

    By argmax: no threshold is fitted for the models trained on flipped labels.
    """
    path = tables.BASELINES / tables.FLIPPED
    if not path.is_file():
        return {}
    accuracy = {"0": float(read_baseline("tfidf", validation, test)[1].right.mean())}
    for share, table in tables.read_table(path).groupby("share"):
        if list(table["id"]) != list(test.table["id"]):
            raise files.damaged(path, "its ids are not those of test")
        accuracy[f"{share:g}"] = float((table["predicted"].to_numpy() == test.labels).mean())
    return accuracy
