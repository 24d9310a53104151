"""Texts as they come in from elsewhere: mistyped, shouted, unpunctuated, cut off."""

import string

import numpy as np

_BESIDE = (
    "qwsz vghn xdfv ersfcx wsdr rtgdvc tyfhbv yugjnb uojk uikhmn ijlom opk njk bhjm ipkl ol wa "
    "etdf awedxz ryfg yihj cfgb qase zsdc tugh asx"
)
NEIGHBOURS = dict(zip(string.ascii_lowercase, _BESIDE.split(), strict=True))
"""Letters beside each one on a QWERTY keyboard."""
SPACED = str.maketrans(string.punctuation, " " * len(string.punctuation))


def typos(text: str, rng: np.random.Generator, share: float = 0.05) -> str:
    """Swap, drop, double or mistype ``share`` of the letters, one such slip per letter."""
    out: list[str] = []
    slips = rng.random(len(text)) < share
    kinds = rng.integers(4, size=len(text))
    picks = rng.random(len(text))
    for i, letter in enumerate(text):
        near = NEIGHBOURS.get(letter.lower())
        if not (slips[i] and near):
            out.append(letter)
        elif kinds[i] == 0 and out:
            out.insert(-1, letter)
        elif kinds[i] == 1:
            out += [letter, letter]
        elif kinds[i] == 2:
            out.append(near[int(picks[i] * len(near))])
    return "".join(out)


def without_punctuation(text: str) -> str:
    """Put a space for every punctuation mark."""
    return " ".join(text.translate(SPACED).split())


def first_half(text: str) -> str:
    """Keep the first half of the words, at least one."""
    words = text.split()
    return " ".join(words[: max(1, len(words) // 2)])


def perturbed(texts: list[str], seed: int) -> dict[str, list[str]]:
    """Return the texts in each disguise; the typos are drawn from ``seed``."""
    rng = np.random.default_rng(seed)
    return {
        "typos in 5 % of letters": [typos(text, rng) for text in texts],
        "lower case": [text.lower() for text in texts],
        "upper case": [text.upper() for text in texts],
        "no punctuation": [without_punctuation(text) for text in texts],
        "first half of the words": [first_half(text) for text in texts],
        "first ten words": [" ".join(text.split()[:10]) for text in texts],
    }
