"""Validation during training: predictions for every document once, and early stopping."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cleantune.distributed import ranks
from cleantune.training import batches


def predict_all(
    model: Any,
    data: batches.TokenDataset,
    collate: Callable[[list[batches.Document]], dict[str, Any]],
    batch_size: int,
    predict: Callable[[Any, dict[str, Any]], torch.Tensor],
) -> NDArray[np.float32]:
    """Return what ``predict`` returns for each document of ``data``, in their order.

    ``predict`` gets the model and a batch, and returns (documents of the batch, values). The
    processes share the batches. All run equally many forward passes, because ZeRO-3 gathers weights
    in all of them at once; surplus results are discarded.
    """
    model.eval()
    processes = ranks.world_size()
    todo = batches.in_order_of_length(data.lengths, batch_size)
    own: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
    for i in range(ranks.rank(), -(-len(todo) // processes) * processes, processes):
        rows = todo[min(i, len(todo) - 1)]
        with torch.no_grad():
            values = predict(model, collate([(int(row), 0.0, -1) for row in rows]))
        if i < len(todo):
            own.append((rows, values.cpu().numpy()))
    gathered = [pair for part in ranks.gather(own) for pair in part]
    result = np.empty((len(data), gathered[0][1].shape[1]), np.float32)
    for rows, values in gathered:
        result[rows] = values
    return result


def epochs_without_improvement(
    history: Sequence[Mapping[str, float]], best_epoch: int, epoch: int
) -> int:
    """Return for how many epochs neither the selection metric nor the validation loss has improved.

    With few documents the loss falls long before macro-F1 rises. ``history`` has
    an entry for each step, with a ``validation_loss`` at the end of each epoch.
    """
    losses = [step["validation_loss"] for step in history if "validation_loss" in step]
    lowest_loss = 1 + int(np.argmin(np.nan_to_num(losses, nan=np.inf)))
    return epoch - max(best_epoch, lowest_loss)
