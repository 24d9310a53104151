"""What a run of fine-tuning leaves in its folder of checkpoints: the trained model, and its predictions."""

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from cleantune import files
from cleantune.data import tables
from cleantune.distributed import ranks
from cleantune.models import encoder, long_documents
from cleantune.params.sections import Params
from cleantune.training import lora, training_logs
from cleantune.training.batches import TokenDataset
from cleantune.training.trainer import ZeroTrainer

FINISHED = "finished"
"""The folder of the trained model."""
PREDICTED = "validation_predicted.json"
"""What that model predicts of validation."""


def save(
    trainer: ZeroTrainer, tokenizer: Any, params: Params, load_base: Callable[[], Any]
) -> None:
    """Write the best epoch's model with tokenizer, history and summary, and its predictions; on rank 0.

    All processes must call this: models are no longer loaded for ZeRO-3 from here on.
    Adapters are merged into the model that ``load_base`` returns.
    Raises ``UserError`` when the disk is full.
    """
    unset_hf_deepspeed_config()  # type: ignore[no-untyped-call]
    if ranks.rank() > 0:
        return
    run = trainer.checkpoints
    whole = run.full_disk_error("the trained model")
    with whole, files.atomic_folder(run.folder / FINISHED) as out:
        files.write_json(run.folder / PREDICTED, trainer.best_predicted)
        if trainer.options.lora:
            lora.save_merged(load_base(), trainer.best_folder, out)
        else:
            shutil.copytree(trainer.best_folder, out, dirs_exist_ok=True)
        tokenizer.save_pretrained(out)
        files.write_text(out / "history.csv", training_logs.as_csv(trainer.history))
        selection = {"macro_f1": round(trainer.best["macro_f1"], 6)}
        files.write_json(out / "validation.json", selection)  # DVC compares experiments by it
        files.write_json(out / "summary.json", _summary(trainer, params))


def _summary(trainer: ZeroTrainer, params: Params) -> dict[str, Any]:
    """Return a summary of the run; ``clean`` and ``long_documents`` are what inference does to texts."""
    names, train = tables.label_names(), trainer.train_dataset
    assert isinstance(train, TokenDataset)
    documents = tables.originals(train.ids.to_pandas()).to_numpy()
    counts = np.bincount(train.labels[documents], minlength=len(names))
    return {
        "base_model": encoder.base_model(),
        "best_epoch": trainer.best["epoch"],
        "epochs": round(trainer.history[-1]["epoch"]),
        "steps": trainer.history[-1]["step"],
        "validation": {name: trainer.best[name] for name in ("accuracy", "macro_f1", "loss")},
        "clean": files.read_json(tables.TEXT_STEPS),
        **long_documents.record(params.long_documents, params.max_chunks),
        "training_documents": {name: int(n) for name, n in zip(names, counts, strict=True)},
    }
