"""Pretraining on blocks of text: masked tokens are predicted, or by a decoder the next ones; the trainer."""

import math
import string
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cleantune.training import batches
from cleantune.training.trainer import ZeroTrainer

IGNORED = -100  # the label of tokens outside the loss, as in torch


def pack(
    tokens: list[list[int]], block_length: int, masked_share: float | None
) -> batches.TokenDataset:
    """Join documents and cut them into blocks; the last block may be shorter.

    The weight of a block in the loss is its number of predicted tokens: the masked ones, or with None for
    ``masked_share`` all that follow another one. So every predicted token counts the same however blocks
    are distributed. A block without any is left out.
    """
    stream = [token for document in tokens for token in document]
    blocks = [stream[i : i + block_length] for i in range(0, len(stream), block_length)]
    if masked_share is None:
        blocks = [block for block in blocks if len(block) > 1]
    weights = [
        len(block) - 1 if masked_share is None else masked_count(len(block), masked_share)
        for block in blocks
    ]
    return batches.TokenDataset(
        pd.DataFrame(
            {
                "id": [f"block-{i}" for i in range(len(blocks))],
                "input_ids": blocks,
                "label": 0,
                "weight": [float(weight) for weight in weights],
            }
        )
    )


def ended(tokens: list[list[int]], end: int | None) -> list[list[int]]:
    """Return the documents, each with the ``end`` token, which some decoders' tokenizers leave out."""
    return [ids if end is None or ids[-1:] == [end] else [*ids, end] for ids in tokens]


def masked_count(length: int, masked_share: float) -> int:
    """Return how many tokens of a block are masked: at least one."""
    return max(1, round(length * masked_share))


def continuing(pieces: list[str]) -> list[bool]:
    """Return for each piece of a vocabulary whether it continues the word of the previous piece.

    WordPiece marks such pieces (##). Byte-level BPE (Ġ) and SentencePiece (▁) mark those that begin
    a word; there punctuation begins one, too. A vocabulary without marks has whole words only.
    """
    counts = {mark: sum(piece.startswith(mark) for piece in pieces) for mark in ("##", "Ġ", "▁")}
    mark = max(counts, key=lambda mark: counts[mark])
    if not counts[mark]:
        return [False] * len(pieces)
    if mark == "##":
        return [piece.startswith(mark) for piece in pieces]
    begins = (mark, "Ċ", *string.punctuation)
    return [not piece.startswith(begins) for piece in pieces]


class Masker:
    """Collates blocks and masks tokens: others in each epoch, the same in any number of processes.

    As in BERT (arXiv 1810.04805): of the masked tokens 80 % are replaced by the mask token, 10 % by a
    random token, 10 % stay. With ``whole_words`` all pieces of a word are masked, up to the same
    number of tokens.
    """

    def __init__(
        self,
        dataset: batches.TokenDataset,
        tokenizer: Any,
        seed: int,
        masked_share: float,
        whole_words: bool,
    ) -> None:
        self._dataset = dataset
        self._mask = tokenizer.mask_token_id
        self._special = np.array(tokenizer.all_special_ids)
        self._vocabulary = len(tokenizer)
        pieces = tokenizer.convert_ids_to_tokens(range(self._vocabulary))
        self._continues = np.array(continuing(pieces)) & whole_words
        self._seed = seed
        self._share = masked_share
        self._pad = batches.Collator(dataset, tokenizer.pad_token_id)

    def __call__(self, documents: list[batches.Document]) -> dict[str, Any]:
        """Return a padded batch whose ``labels`` (blocks, tokens) are ``IGNORED`` where not masked."""
        batch = self._pad(documents)
        labels = torch.full_like(batch["input_ids"], IGNORED)
        for i, (row, _, epoch) in enumerate(documents):
            ids = self._dataset.input_ids[row].numpy()
            rng = np.random.default_rng([self._seed, epoch + 1, row])
            masked = self._choose(ids, rng)
            labels[i, masked] = torch.from_numpy(ids[masked])
            draw = rng.random(len(masked))
            replaced = np.where(draw < 0.8, self._mask, ids[masked])
            random = rng.integers(0, self._vocabulary, len(masked))
            replaced = np.where((draw >= 0.8) & (draw < 0.9), random, replaced)
            batch["input_ids"][i, masked] = torch.from_numpy(replaced)
        return {**batch, "labels": labels}

    def _choose(self, ids: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the positions to mask."""
        count = masked_count(len(ids), self._share)
        words = np.cumsum(~self._continues[ids])  # pieces of a word have the same number
        allowed = np.flatnonzero(~np.isin(ids, self._special))
        if not len(allowed):
            return np.arange(min(1, len(ids)))
        order = rng.permutation(np.unique(words[allowed]))
        rank = np.empty(words.max() + 1, np.int64)
        rank[order] = np.arange(len(order))
        chosen: NDArray[np.int64] = allowed[np.argsort(rank[words[allowed]], kind="stable")][:count]
        return chosen


class NextTokens:
    """Collates blocks; the label of each token is the one that follows it."""

    def __init__(self, dataset: batches.TokenDataset, padding_id: int) -> None:
        self._dataset = dataset
        self._pad = batches.Collator(dataset, padding_id)

    def __call__(self, documents: list[batches.Document]) -> dict[str, Any]:
        """Return a padded batch whose ``labels`` (blocks, tokens) are ``IGNORED`` where nothing follows."""
        batch = self._pad(documents)
        labels = torch.full_like(batch["input_ids"], IGNORED)
        for i, (row, *_) in enumerate(documents):
            ids = self._dataset.input_ids[row]
            labels[i, : len(ids) - 1] = ids[1:]
        return {**batch, "labels": labels}


@contextmanager
def predicted_only(model: Any, labels: torch.Tensor) -> Iterator[None]:
    """Apply the output layer to tokens with labels only: logits become (predicted, vocabulary).

    One token in seven is masked, and that layer is half of the computation of a small model.
    """

    def choose(_layer: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        (states,) = inputs
        return (states[labels != IGNORED],) if states.shape[:-1] == labels.shape else None

    hook = model.get_output_embeddings().register_forward_pre_hook(choose)
    try:
        yield
    finally:
        hook.remove()


def mean_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return each block's mean cross-entropy, (blocks,), from logits (predicted, vocabulary)."""
    predicted = labels != IGNORED
    losses = torch.nn.functional.cross_entropy(logits.float(), labels[predicted], reduction="none")
    block = predicted.nonzero()[:, 0]
    sums = torch.zeros(len(labels), device=logits.device).index_add(0, block, losses)
    return sums / predicted.sum(1).clamp(min=1)


class LanguageModelTrainer(ZeroTrainer):
    """Train to predict the tokens that the collator labels."""

    evaluates_first = True
    memory_params: ClassVar = {
        "batch": "pretrain.batch_size",
        "length": "pretrain.block_length",
        "zero": "zero_stage",
    }
    instability_hint = "Lower pretrain.lr or set precision: fp32"

    def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> torch.Tensor:
        """Return this micro-batch's part of the mean loss over the step's predicted tokens."""
        losses = mean_losses(self.logits(model, inputs), inputs["labels"])
        loss: torch.Tensor = (losses * inputs["weights"]).sum()
        return loss

    def logits(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """Return the logits of every predicted token: (predicted, vocabulary)."""
        with predicted_only(self.model, inputs["labels"]):
            result = super().logits(model, inputs)
        return result if result.dim() == 2 else result[inputs["labels"] != IGNORED]

    def kept_values(self, logits: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """Return the mean loss of each block, (blocks, 1): all logits would not fit in memory."""
        return mean_losses(logits, inputs["labels"])[:, None]

    def validate(self) -> dict[str, float]:
        """Return the loss and the perplexity over all predicted tokens, each counted once."""
        loss = float(np.average(self.predict_all()[:, 0], weights=self.validation.weights))
        return {"loss": loss, "perplexity": math.exp(min(loss, 700))}

    def selection_metric(self, measured: dict[str, float]) -> float:
        """Return the metric that selects the best epoch; more is better."""
        return -measured["loss"]
