"""Token cutoff: mask a random share of each document's tokens from attention, in training."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from cleantune.training import batches


class Cutoff:
    """Cuts a share of the tokens in the batches of ``collate``, others in each epoch.

    Token cutoff (Shen et al. 2020, arXiv 2009.13818), by the attention mask: no token attends to
    one that is cut, and the rest keep their positions. Special tokens are kept, and so are the last token
    (which GPT-2 classifies by) and at least one other. The cut depends on the seed, the epoch and
    the document only, not on the process.
    """

    def __init__(
        self,
        collate: Callable[[list[batches.Document]], dict[str, Any]],
        tokenizer: Any,
        seed: int,
        share: float,
    ) -> None:
        self._collate = collate
        self._special = torch.tensor(tokenizer.all_special_ids)
        self._seed = seed
        self._share = share

    def __call__(self, documents: list[batches.Document]) -> dict[str, Any]:
        """Return a padded batch whose ``attention_mask`` (documents, tokens) is 0 where cut, too."""
        batch = self._collate(documents)
        special = torch.isin(batch["input_ids"], self._special)
        counts = batch.get("chunks", [1] * len(documents))
        owners = [(at, chunk) for at, count in enumerate(counts) for chunk in range(count)]
        for i, (at, chunk) in enumerate(owners):
            row, _, epoch = documents[at]
            real = torch.nonzero(batch["attention_mask"][i])[:-1, 0]
            free = real[~special[i, real]]
            count = min(max(1, round(len(free) * self._share)), len(free) - 1)
            if count > 0:
                draw = [self._seed, epoch + 1, row, *([chunk] if chunk else [])]
                rng = np.random.default_rng(draw)
                cut = free[torch.from_numpy(rng.permutation(len(free))[:count])]
                batch["attention_mask"][i, cut] = 0
        return batch
