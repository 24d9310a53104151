"""Changed copies of training documents: words swapped and left out, or replaced by like ones.

Made after the split, of the documents that finetune learns from and of no others. What a copy says
follows from ``seed``, the document's text and id, and the copy's number. ``augment.method: cutoff``
makes no copies: see ``cleantune.augmentation.token_cutoff``.
"""

import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoModelForMaskedLM

from cleantune import console
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.models import encoder
from cleantune.params.sections import Augment

WORD = re.compile(r"\b[^\W\d_]\w+\b(?!['’]\w)")  # of two letters at least; "don" of "don't" is none
NEAREST = 5  # neighbours among which a synonym is drawn
GUESSES = 10  # of the masked-language model, among which a word is drawn
BATCH = 16  # texts guessed at once: scores for each token and each word of the vocabulary are large

Change = Callable[[Sequence[str], Sequence[np.random.Generator]], list[str]]
"""Maps texts, and a generator for each, to as many changed texts."""


def with_copies(
    table: pd.DataFrame, options: Augment, seed: int, folder: Path, tokenizer: Any, max_length: int
) -> pd.DataFrame:
    """Return ``table`` (id, title, text, ...) followed by ``options.copies`` copies of each row.

    A copy's id is the document's with ``corpus.COPY`` and a number; label and weight are the
    document's, whose title and text stand changed, together, in ``text``. The base model in
    ``folder`` says which words are alike. Without a method that copies, ``table`` comes back.
    Raises ``UserError`` when ``masked`` is asked for and the base model cannot guess words.
    """
    if options.method in ("none", "cutoff"):
        return table
    texts = tables.full_text(table)
    change = _change(options, texts, folder, tokenizer, max_length)
    parts = [table]
    for number in range(1, options.copies + 1):
        # By id, not by place: a document that another step drops leaves the others' copies alone.
        draws = [np.random.default_rng([seed, number, zlib.crc32(i.encode())]) for i in table["id"]]
        changed = change(texts, draws)
        same = sum(a == b for a, b in zip(texts, changed, strict=True))
        console.say(f"copy {number} of {len(table):,} training documents by {options.method}"
                    + (f"; {same:,} unchanged" if same else ""))  # fmt: skip
        ids = table["id"] + f"{tables.COPY}{number}"
        parts.append(table.assign(id=ids, title="", text=changed))
    return pd.concat(parts, ignore_index=True)


def _change(
    options: Augment, texts: Sequence[str], folder: Path, tokenizer: Any, max_length: int
) -> Change:
    """Return what ``options.method`` does to texts."""
    if options.method == "swap":
        return lambda given, draws: [
            swap(text, options.share, rng) for text, rng in zip(given, draws, strict=True)
        ]
    if options.method == "synonyms":
        encoder.load_silently()
        model = encoder.load_model(AutoModel, folder)
        vectors = model.get_input_embeddings().weight.detach().numpy()
        near = neighbours(texts, whole_words(tokenizer), vectors)
        return lambda given, draws: [
            replace(text, near, options.share, rng) for text, rng in zip(given, draws, strict=True)
        ]
    return Guesser(folder, tokenizer, options.share, max_length)


# ---- swap


def swap(text: str, share: float, rng: np.random.Generator) -> str:
    """Return ``text`` with pairs of words swapped, then each word left out by chance.

    Random swap and random deletion of EDA (Wei and Zou 2019, arXiv 1901.11196): as many pairs as
    ``share`` of the words, one at least; then every word goes with probability ``share``.
    """
    words = text.split()
    if len(words) < 2:
        return text
    for _ in range(_count(len(words), share)):
        i, j = rng.choice(len(words), 2, replace=False)
        words[i], words[j] = words[j], words[i]
    dice = rng.random(len(words))
    return " ".join(w for w, d in zip(words, dice, strict=True) if d >= share) or words[0]


# ---- synonyms


def whole_words(tokenizer: Any) -> dict[str, int]:
    """Return the words that are a single token, and that token's number."""
    pieces: list[str] = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    opened = any(piece[:1] in ("Ġ", "▁") for piece in pieces)  # how byte-level BPE and
    words = {}  # SentencePiece mark a piece that opens a word; WordPiece marks the others by ##
    for number, piece in enumerate(pieces):
        if opened and piece[:1] in ("Ġ", "▁"):
            piece = tokenizer.convert_tokens_to_string([piece]).strip()
        elif opened:
            continue
        if WORD.fullmatch(piece):
            words[piece] = number
    return words


def neighbours(
    texts: Sequence[str], tokens: dict[str, int], vectors: NDArray[np.float32]
) -> dict[str, list[str]]:
    """Return the ``NEAREST`` words to each word of ``texts``, nearest first, by cosine.

    ``tokens`` maps words to rows of ``vectors`` (tokens, width), the encoder's input embeddings:
    pretrained, they know more of a word than a small corpus could teach, and words that it lacks.
    All in lower case; stop words neither have neighbours nor are any. Replacement by nearest
    embeddings: Wang and Yang 2015 (D15-1306).
    """
    # Late: it takes a second, and only synonyms need it.
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    words = sorted(word for word in tokens.keys() - ENGLISH_STOP_WORDS if word.islower())
    if len(words) < 2:
        return {}
    seen = {word for text in texts for word in WORD.findall(text.lower())}
    asked = np.array([i for i, word in enumerate(words) if word in seen], np.int64)
    unit = vectors[[tokens[word] for word in words]]
    unit = unit - unit.mean(axis=0)  # what all share says nothing of one
    unit /= np.linalg.norm(unit, axis=1, keepdims=True).clip(1e-12)
    count = min(NEAREST, len(words) - 1)
    found = {}
    for rows in np.split(asked, range(1000, len(asked), 1000)):
        likeness = unit[rows] @ unit.T
        likeness[np.arange(len(rows)), rows] = -np.inf  # a word is no neighbour of itself
        nearest = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(likeness, nearest, 1), axis=1, kind="stable")
        for row, others in zip(rows, np.take_along_axis(nearest, order, 1), strict=True):
            found[words[row]] = [words[other] for other in others]
    return found


def replace(text: str, near: dict[str, list[str]], share: float, rng: np.random.Generator) -> str:
    """Return ``text`` with a share of its words, of those in ``near``, replaced by a neighbour."""
    spans = [match.span() for match in WORD.finditer(text)]
    known = [(a, b) for a, b in spans if text[a:b].lower() in near]
    chosen = rng.permutation(len(known))[: _count(len(spans), share)]
    new = {known[i]: str(rng.choice(near[text[slice(*known[i])].lower()])) for i in chosen}
    return _put(text, new)


# ---- masked


def masked_language_model(folder: Path, tokenizer: Any) -> Any:
    """Return the model in ``folder`` with its head for guessing words, in evaluation mode.

    Raises ``UserError`` when the checkpoint has no such head, or its tokenizer no mask.
    """
    encoder.load_silently()
    try:
        model, loading = encoder.load_model(AutoModelForMaskedLM, folder, output_loading_info=True)
        lacking = bool(loading["missing_keys"]) or tokenizer.mask_token_id is None
    except ValueError:  # an architecture that guesses no masked words
        lacking = True
    if lacking:
        raise UserError(
            f"augment.method: masked needs a model that guesses words, and {encoder.base_model()} has "
            "no head for that.\nWays out: pretrain.epochs: 1 or more trains one; -S model=bert brings one; "
            "augment.method: synonyms or swap needs none."
        )
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


class Guesser:
    """Replaces words by what a masked-language model takes for likely in their place.

    Contextual augmentation (Kobayashi 2018, arXiv 1805.06201; Wu et al. 2019, arXiv 1812.06705)
    with the base model's own head: a share of a text's words is masked at once, and each is drawn
    from the ``GUESSES`` likeliest whole words, in proportion, never the one that stood there. Words
    of several tokens, and those beyond ``max_length`` tokens, stay.
    """

    def __init__(self, folder: Path, tokenizer: Any, share: float, max_length: int) -> None:
        self._model = masked_language_model(folder, tokenizer)
        self._tokenizer = tokenizer
        self._share = share
        self._max_length = max_length
        self._words = {number: word for word, number in whole_words(tokenizer).items()}
        self._others = torch.ones(self._model.config.vocab_size, dtype=torch.bool)
        self._others[list(self._words)] = False

    def __call__(self, texts: Sequence[str], draws: Sequence[np.random.Generator]) -> list[str]:
        """Return each text with words replaced."""
        result = list(texts)
        order = np.argsort([-len(text) for text in texts], kind="stable")
        with console.Bar("words guessed in texts", len(texts)) as bar:
            for rows in np.split(order, range(BATCH, len(order), BATCH)):
                changed = self._batch([texts[i] for i in rows], [draws[i] for i in rows])
                for i, text in zip(rows, changed, strict=True):
                    result[i] = text
                bar.advance(len(rows))
        return result

    @torch.inference_mode()
    def _batch(self, texts: list[str], draws: list[np.random.Generator]) -> list[str]:
        batch = self._tokenizer(
            texts, truncation=True, max_length=self._max_length, padding=True,
            return_offsets_mapping=True, return_tensors="pt",
        )  # fmt: skip
        ids, places = batch["input_ids"], batch["offset_mapping"].tolist()
        hidden: list[list[tuple[int, tuple[int, int]]]] = []
        for text, rng, spots in zip(texts, draws, places, strict=True):
            spans = {match.span() for match in WORD.finditer(text)}
            # Byte-level tokens begin with the space before them.
            trimmed = [(a + (text[a:b][:1] == " "), b) for a, b in spots]
            whole = [(at, span) for at, span in enumerate(trimmed) if span in spans]
            chosen = rng.permutation(len(whole))[: _count(len(spans), self._share)]
            hidden.append([whole[i] for i in chosen])
        original = ids.clone()
        for row, spots in enumerate(hidden):
            ids[row, [at for at, _ in spots]] = self._tokenizer.mask_token_id
        device = self._model.device
        logits = self._model(
            input_ids=ids.to(device), attention_mask=batch["attention_mask"].to(device)
        ).logits
        changed = []
        for row, (text, rng, spots) in enumerate(zip(texts, draws, hidden, strict=True)):
            new = {}
            for at, span in spots:
                scores = logits[row, at].float().cpu().masked_fill(self._others, -torch.inf)
                scores[original[row, at]] = -torch.inf
                best = scores.topk(min(GUESSES, len(self._words) - 1))
                odds = best.values.double().softmax(0).numpy()
                new[span] = self._words[int(rng.choice(best.indices.numpy(), p=odds))]
            changed.append(_put(text, new))
        return changed


# ---- what the methods share


def _count(words: int, share: float) -> int:
    """Return how many of a text's words are changed: one at least."""
    return max(1, round(words * share))


def _put(text: str, new: dict[tuple[int, int], str]) -> str:
    """Return ``text`` with other words at some spans, each in the case of what stood there."""
    for (start, end), word in sorted(new.items(), reverse=True):
        old = text[start:end]
        like = word.upper() if old.isupper() else word.capitalize() if old.istitle() else word
        text = text[:start] + like + text[end:]
    return text
