"""Token cutoff: in training, hide a random share of each document's tokens from the model."""

from typing import Any

import numpy as np
import torch

from stages.common import batches


class Cutoff:
    """Collates documents with a share of their tokens cut off, others in each epoch.

    Token cutoff (Shen et al. 2020, arXiv 2009.13818), by the attention mask: no token attends to
    one that is cut, and the rest keep their positions. Special tokens stay, and one other at
    least. What is cut follows from the seed, the epoch and the document, whoever computes it.
    """

    def __init__(
        self, dataset: batches.TokenDataset, tokenizer: Any, seed: int, share: float
    ) -> None:
        self._dataset = dataset
        self._pad = batches.Collator(dataset, tokenizer.pad_token_id)
        self._special = torch.tensor(tokenizer.all_special_ids)
        self._seed = seed
        self._share = share

    def __call__(self, documents: list[batches.Document]) -> dict[str, Any]:
        """Return a padded batch whose ``attention_mask`` (documents, tokens) is 0 where cut, too."""
        batch = self._pad(documents)
        for i, (row, _, epoch) in enumerate(documents):
            ids = self._dataset.input_ids[row]
            free = torch.nonzero(~torch.isin(ids, self._special))[:, 0]
            count = min(max(1, round(len(free) * self._share)), len(free) - 1)
            if count > 0:
                rng = np.random.default_rng([self._seed, epoch + 1, row])
                cut = free[torch.from_numpy(rng.permutation(len(free))[:count])]
                batch["attention_mask"][i, cut] = 0
        return batch
