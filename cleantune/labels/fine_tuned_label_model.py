"""Out-of-fold predictions of the encoder, fine-tuned once for each fold.

It uses the project's own trainer, in one process, on a GPU if there is one. The predictions for each
finished fold are kept in ``.checkpoints/label_noise/``; an interrupted run continues with the next.
"""

import gc
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from accelerate.state import AcceleratorState
from numpy.typing import NDArray
from safetensors import SafetensorError
from scipy.special import softmax
from transformers import AutoModelForSequenceClassification, set_seed

from cleantune import console, files
from cleantune.distributed import connection
from cleantune.errors import UserError
from cleantune.models import encoder, precision
from cleantune.params.sections import LabelNoise
from cleantune.training import (
    acceleration,
    batches,
    checkpoints,
    deepspeed_config,
    fingerprint,
    training_arguments,
)
from cleantune.training.trainer import ZeroTrainer

STAGE = "label_noise"  # its folder under .checkpoints keeps the finished folds
# no checkpoints within a fold
OPTIONS = training_arguments.PLAIN.model_copy(update={"checkpoint_steps": 2**30})


class FoldTrainer(ZeroTrainer):
    """Trains on all folds but one, and predicts the held-out fold after each epoch.

    All epochs are averaged; none is selected by its agreement with labels that may be wrong. Early
    epochs have not memorised single label errors yet, late ones are more accurate.
    """

    memory_params: ClassVar = {"batch": "label_noise.batch_size"}
    instability_hint = "Lower label_noise.lr"

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.epoch_logits: list[NDArray[np.float32]] = []

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Keep the logits of the held-out fold, (documents, classes)."""
        self.epoch_logits.append(self.predict_all())
        return {}

    def _save_checkpoint(self, *_: Any) -> None:
        """Stop on request; an unfinished fold is not worth keeping."""
        self.stop.raise_if_stopped("stopped; the same command goes on with this fold")


def probabilities(
    texts: Sequence[str],
    labels: NDArray[np.int64],
    fold: NDArray[np.int64],
    folder: Path,
    settings: LabelNoise,
    seed: int,
    max_length: int,
) -> NDArray[np.float64]:
    """Return the probability of each class by a model fine-tuned on the other folds, (n, classes).

    ``labels`` (n,) count from 0, ``fold`` (n,) is each document's fold, ``folder`` holds the base
    model. The logits of all epochs are averaged.
    Raises ``UserError`` when the base model cannot be loaded or the loss is not finite.
    """
    connection.prepare(seed)
    tokenizer = encoder.load_tokenizer(folder)
    inputs = json.dumps([list(texts), labels.tolist(), fold.tolist(), seed, max_length])
    params = {name: getattr(settings, name) for name in ("epochs", "lr", "batch_size")}
    params["data"] = hashlib.sha256(inputs.encode()).hexdigest()
    run = fingerprint.of_run(params, [folder, deepspeed_config.CONFIG])
    unfinished = checkpoints.Checkpoints(STAGE, run)
    with _loading(folder):
        config = encoder.load_config(folder)
    limit = encoder.position_limit(config)
    cut = min(max_length, limit or max_length)
    tokens = tokenizer(list(texts), truncation=True, max_length=cut)["input_ids"]
    result = np.empty((len(labels), int(labels.max()) + 1))
    for number in np.unique(fold):
        kept = unfinished.folder / f"fold-{number}.npy"
        held_out = np.flatnonzero(fold == number)
        if not kept.is_file():
            train = np.flatnonzero(fold != number)
            data = [_dataset(tokens, labels, rows) for rows in (train, held_out)]
            console.say(f"fold {number}: {len(train):,} training documents")
            trainer = _trainer(data, folder, tokenizer, result.shape[1], settings,
                             seed + int(number), unfinished)  # fmt: skip
            trainer.fit()
            guard = unfinished.full_disk_error("the predictions for a fold")
            with guard, files.atomic_file(kept) as part, part.open("wb") as out:
                np.save(out, np.mean(trainer.epoch_logits, axis=0))
            trainer.raise_if_stopped()
            del trainer
            gc.collect()  # DeepSpeed's engine is in reference cycles, which would keep its memory
        result[held_out] = np.load(kept)
    return np.asarray(softmax(result, axis=1), np.float64)


@contextmanager
def _loading(folder: Path) -> Iterator[None]:
    """Turn what transformers raises for a model it cannot load into a ``UserError``."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder} cannot be loaded as a text classifier: {error}") from None


def _dataset(
    tokens: list[list[int]], labels: NDArray[np.int64], rows: NDArray[np.int64]
) -> batches.TokenDataset:
    return batches.TokenDataset(
        pd.DataFrame({"id": [str(i) for i in rows], "input_ids": [tokens[i] for i in rows],
                      "label": labels[rows], "weight": 1.0})
    )  # fmt: skip


def _trainer(
    data: list[batches.TokenDataset],
    folder: Path,
    tokenizer: Any,
    classes: int,
    settings: LabelNoise,
    seed: int,
    unfinished: checkpoints.Checkpoints,
) -> FoldTrainer:
    """Return the trainer that fits ``data[0]`` and predicts ``data[1]``, with a fresh head."""
    # accelerate keeps the plugin of the first DeepSpeed run in a process; transformers resets it so, too
    AcceleratorState._reset_state()
    args = training_arguments.build(
        unfinished.folder, OPTIONS, seed=seed, lr=settings.lr, epochs=settings.epochs,
        batch_size=settings.batch_size, zero_stage=0,  # nothing to partition in one process
    )  # fmt: skip
    set_seed(seed)
    with _loading(folder):
        config = encoder.load_config(folder, num_labels=classes)
        padding_id = encoder.set_padding(config, tokenizer)
        model = encoder.load_model(
            AutoModelForSequenceClassification, folder, config=config, ignore_mismatched_sizes=True
        )
    acceleration.speed_up(model, precision.bf16_is_fast())
    return FoldTrainer(model, args, *data, padding_id=padding_id, batch_size=settings.batch_size,
                validation_metrics=lambda *_: {}, checkpoints=unfinished, options=OPTIONS)  # fmt: skip
