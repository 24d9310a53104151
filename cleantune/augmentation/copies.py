"""Augmentation by changed copies of training documents: words swapped, deleted or replaced.

Made after the split, of training documents only. The text of a copy depends on ``seed``, the
document's text and id, and the copy's number. ``augment.method: cutoff``
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

WORD = re.compile(r"\b[^\W\d_]\w+\b(?!['’]\w)")  # at least two letters; not "don" of "don't"
NEAREST = 5  # neighbours from which a synonym is drawn
TOP_K = 10  # predictions of the masked language model from which a word is drawn
BATCH = 16  # texts per pass: logits of each token over the vocabulary are large

Change = Callable[[Sequence[str], Sequence[np.random.Generator]], list[str]]
"""Maps texts, and a generator for each, to as many changed texts."""


def with_copies(
    table: pd.DataFrame, options: Augment, seed: int, folder: Path, tokenizer: Any, max_length: int
) -> pd.DataFrame:
    """Return ``table`` (id, title, text, ...) followed by ``options.copies`` copies of each row.

    A copy's id is the document's with ``corpus.COPY`` and a number; label and weight are the
    document's; its changed title and text are joined in ``text``. Similar words come from the base
    model in ``folder``. Returns ``table`` for methods that make no copies.
    Raises ``UserError`` when ``masked`` is set and the base model has no masked-language head.
    """
    if options.method in ("none", "cutoff"):
        return table
    texts = tables.full_text(table)
    change = _change(options, texts, folder, tokenizer, max_length)
    parts = [table]
    for number in range(1, options.copies + 1):
        # Seeded by id, not position: dropping a document does not change the copies of others.
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
    """Return the transformation of ``options.method``."""
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
    return MaskedWordReplacer(folder, tokenizer, options.share, max_length)


# ---- swap


def swap(text: str, share: float, rng: np.random.Generator) -> str:
    """Return ``text`` with random pairs of words swapped, then words deleted at random.

    Random swap and random deletion of EDA (Wei and Zou 2019, arXiv 1901.11196): as many pairs as
    ``share`` of the words, at least one; then every word is deleted with probability ``share``.
    """
    words = text.split()
    if len(words) < 2:
        return text
    for _ in range(_count(len(words), share)):
        i, j = rng.choice(len(words), 2, replace=False)
        words[i], words[j] = words[j], words[i]
    draws = rng.random(len(words))
    return " ".join(w for w, d in zip(words, draws, strict=True) if d >= share) or words[0]


# ---- synonyms


def whole_words(tokenizer: Any) -> dict[str, int]:
    """Return the words that are a single token, with the token id."""
    pieces: list[str] = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    # Byte-level BPE and SentencePiece mark the first piece of a word, WordPiece the others by ##.
    marks_start = any(piece[:1] in ("Ġ", "▁") for piece in pieces)
    words = {}
    for token_id, piece in enumerate(pieces):
        if marks_start and piece[:1] in ("Ġ", "▁"):
            piece = tokenizer.convert_tokens_to_string([piece]).strip()
        elif marks_start:
            continue
        if WORD.fullmatch(piece):
            words[piece] = token_id
    return words


def neighbours(
    texts: Sequence[str], tokens: dict[str, int], vectors: NDArray[np.float32]
) -> dict[str, list[str]]:
    """Return the ``NEAREST`` words to each word of ``texts``, nearest first, by cosine.

    ``tokens`` maps words to rows of ``vectors`` (tokens, width), the encoder's input embeddings:
    pretrained, they are better than embeddings trained on a small corpus, and cover more words.
    All in lower case; stop words are excluded. Replacement by nearest
    embeddings: Wang and Yang 2015 (D15-1306).
    """
    # Imported here: it takes a second, and only synonyms need it.
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    words = sorted(word for word in tokens.keys() - ENGLISH_STOP_WORDS if word.islower())
    if len(words) < 2:
        return {}
    seen = {word for text in texts for word in WORD.findall(text.lower())}
    rows_of_text = np.array([i for i, word in enumerate(words) if word in seen], np.int64)
    unit = vectors[[tokens[word] for word in words]]
    unit = unit - unit.mean(axis=0)  # remove the component that all words share
    unit /= np.linalg.norm(unit, axis=1, keepdims=True).clip(1e-12)
    count = min(NEAREST, len(words) - 1)
    result = {}
    for rows in np.split(rows_of_text, range(1000, len(rows_of_text), 1000)):
        similarity = unit[rows] @ unit.T
        similarity[np.arange(len(rows)), rows] = -np.inf  # exclude the word itself
        nearest = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(similarity, nearest, 1), axis=1, kind="stable")
        for row, others in zip(rows, np.take_along_axis(nearest, order, 1), strict=True):
            result[words[row]] = [words[other] for other in others]
    return result


def replace(text: str, near: dict[str, list[str]], share: float, rng: np.random.Generator) -> str:
    """Return ``text`` with a share of its words, of those in ``near``, replaced by a neighbour."""
    spans = [match.span() for match in WORD.finditer(text)]
    known = [(a, b) for a, b in spans if text[a:b].lower() in near]
    chosen = rng.permutation(len(known))[: _count(len(spans), share)]
    new = {known[i]: str(rng.choice(near[text[slice(*known[i])].lower()])) for i in chosen}
    return _put(text, new)


# ---- masked


def masked_language_model(folder: Path, tokenizer: Any) -> Any:
    """Return the model in ``folder`` with its masked-language head, in evaluation mode.

    Raises ``UserError`` when the checkpoint has no such head, or its tokenizer no mask token.
    """
    encoder.load_silently()
    try:
        model, loading = encoder.load_model(AutoModelForMaskedLM, folder, output_loading_info=True)
        missing = bool(loading["missing_keys"]) or tokenizer.mask_token_id is None
    except ValueError:  # an architecture without masked-language head
        missing = True
    if missing:
        raise UserError(
            f"augment.method: masked needs a masked language model, and {encoder.base_model()} has "
            "no masked-language head.\nEither train one with pretrain.epochs: 1 or more, use -S model=bert, "
            "or set augment.method to synonyms or swap."
        )
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


class MaskedWordReplacer:
    """Replaces words by predictions of a masked language model.

    Contextual augmentation (Kobayashi 2018, arXiv 1805.06201; Wu et al. 2019, arXiv 1812.06705)
    with the base model's own head: a share of a text's words is masked at once, and each is drawn
    from the ``TOP_K`` most probable whole words, in proportion, never the original one. Words of
    several tokens, and those beyond ``max_length`` tokens, are kept.
    """

    def __init__(self, folder: Path, tokenizer: Any, share: float, max_length: int) -> None:
        self._model = masked_language_model(folder, tokenizer)
        self._tokenizer = tokenizer
        self._share = share
        self._max_length = max_length
        self._words = {token_id: word for word, token_id in whole_words(tokenizer).items()}
        self._others = torch.ones(self._model.config.vocab_size, dtype=torch.bool)
        self._others[list(self._words)] = False

    def __call__(self, texts: Sequence[str], draws: Sequence[np.random.Generator]) -> list[str]:
        """Return each text with words replaced."""
        result = list(texts)
        order = np.argsort([-len(text) for text in texts], kind="stable")
        with console.Bar("masked words replaced", len(texts)) as bar:
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
        ids, offsets = batch["input_ids"], batch["offset_mapping"].tolist()
        masked: list[list[tuple[int, tuple[int, int]]]] = []
        for text, rng, spots in zip(texts, draws, offsets, strict=True):
            spans = {match.span() for match in WORD.finditer(text)}
            # Byte-level tokens begin with the space before them.
            trimmed = [(a + (text[a:b][:1] == " "), b) for a, b in spots]
            whole = [(at, span) for at, span in enumerate(trimmed) if span in spans]
            chosen = rng.permutation(len(whole))[: _count(len(spans), self._share)]
            masked.append([whole[i] for i in chosen])
        original = ids.clone()
        for row, spots in enumerate(masked):
            ids[row, [at for at, _ in spots]] = self._tokenizer.mask_token_id
        device = self._model.device
        logits = self._model(
            input_ids=ids.to(device), attention_mask=batch["attention_mask"].to(device)
        ).logits
        changed = []
        for row, (text, rng, spots) in enumerate(zip(texts, draws, masked, strict=True)):
            new = {}
            for at, span in spots:
                scores = logits[row, at].float().cpu().masked_fill(self._others, -torch.inf)
                scores[original[row, at]] = -torch.inf
                top = scores.topk(min(TOP_K, len(self._words) - 1))
                odds = top.values.double().softmax(0).numpy()
                new[span] = self._words[int(rng.choice(top.indices.numpy(), p=odds))]
            changed.append(_put(text, new))
        return changed


# ---- what the methods share


def _count(words: int, share: float) -> int:
    """Return how many of a text's words are changed: at least one."""
    return max(1, round(words * share))


def _put(text: str, new: dict[tuple[int, int], str]) -> str:
    """Return ``text`` with other words at some spans, each in the case of the original word."""
    for (start, end), word in sorted(new.items(), reverse=True):
        old = text[start:end]
        like = word.upper() if old.isupper() else word.capitalize() if old.istitle() else word
        text = text[:start] + like + text[end:]
    return text
