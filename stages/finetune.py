"""Fine-tune the pretrained model as a classifier; keep the epoch with the best validation macro-F1.

    python -m stages.finetune

transformers' Trainer on DeepSpeed ZeRO, on every GPU there is, or in ``processes: N`` processes on
a CPU. ``batch_size`` is the global batch size: the number of processes changes the run time but not
the result, except for the activations that dropout zeroes. An interrupted run resumes from its last
checkpoint under ``.checkpoints/`` when started again. With ``study.seeds`` a further model is
trained for each seed, into a folder beside the weights.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate.state import AcceleratorState
from transformers import AutoModelForSequenceClassification, set_seed
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from cleantune import console, files
from cleantune.augmentation import token_cutoff
from cleantune.data import tables
from cleantune.distributed import connection, launcher, ranks
from cleantune.evaluation import metrics, plot_tables, result_warnings
from cleantune.models import encoder, long_documents, precision
from cleantune.params.read import read_params
from cleantune.params.sections import Params
from cleantune.training import (
    acceleration,
    batches,
    checkpoints,
    deepspeed_config,
    fingerprint,
    lora,
    memory,
    optimizers,
    training_arguments,
    training_logs,
)
from cleantune.training.trainer import ZeroTrainer

PARAMS = ("seed", "lr", "epochs", "batch_size", "max_length", "long_documents", "max_chunks",
         "zero_stage", "precision", "kernels", "processes", "finetune", "augment", "study")  # fmt: skip
# Excluded from the fingerprint: no effect on the weights (the actual world size is included).
NOT_FINGERPRINTED: dict[str, Any] = {
    "study": True,
    "processes": True,
    "finetune": {"tensorboard", "profiler", "checkpoint_steps"},
}
FINISHED = "finished"  # in a run's folder of checkpoints: the trained model
PREDICTED = "validation_predicted.json"  # beside it: what that model predicts
TRAIN, VALIDATION = tables.TOKENS / "train.parquet", tables.TOKENS / "validation.parquet"


def main() -> None:
    """Fine-tune, in all processes."""
    params = read_params(PARAMS)
    if not launcher.launch("stages.finetune", params.processes):
        return
    connection.prepare(params.seed, params.finetune.deterministic)
    console.title("finetune", "fine-tune the classifier; keep the best epoch")
    others = [seed for seed in params.study.seeds if seed != params.seed]
    runs = {seed: train_one(params, seed) for seed in (params.seed, *others)}
    found = []
    if ranks.rank() == 0:
        found = weaknesses(runs[params.seed].folder)
        guard = runs[params.seed].full_disk_error("the trained model")
        with guard, files.atomic_folder(tables.FINETUNED) as out:
            shutil.copytree(runs[params.seed].folder / FINISHED, out, dirs_exist_ok=True)
            for seed in others:
                shutil.copytree(runs[seed].folder / FINISHED, out / "seeds" / str(seed))
    for run in runs.values():
        run.discard()
    console.outputs(tables.FINETUNED)
    for line in found:
        console.warn(line)


def train_one(params: Params, seed: int) -> checkpoints.Checkpoints:
    """Train with ``seed``; return the run's checkpoints, with the model's folder, ``FINISHED``, beside.

    A finished run of an interrupted series of seeds is not repeated.
    """
    params = params.model_copy(update={"seed": seed})

    # ---- data
    chunk_length = params.max_length if params.long_documents == "chunks" else None
    train = batches.TokenDataset(tables.read_table(TRAIN), chunk_length)
    validation = batches.TokenDataset(tables.read_table(VALIDATION), chunk_length)
    options = params.finetune
    if chunk_length and options.micro_batch_size is None:
        most = batches.micro_batch(np.concatenate([train.lengths, validation.lengths]))
        options = options.model_copy(update={"micro_batch_size": most})
    if params.finetune.class_weights == "balanced":
        train.balance()
    names = tables.label_names()
    folder = encoder.pretrained_folder()
    config = encoder.load_config(folder)
    bf16 = precision.use_bf16(params.precision)
    size = memory.size_of(config, params.finetune, bf16)
    stage, why = memory.zero_stage(params.zero_stage, size, params.finetune.offload)
    run = fingerprint.of_run(
        params.model_dump(exclude=NOT_FINGERPRINTED) | {"zero_stage": stage, "bf16": bf16},
        [
            TRAIN,
            VALIDATION,
            tables.SOURCE,
            tables.TEXT_STEPS,
            encoder.PRETRAINED,
            deepspeed_config.CONFIG,
        ],
    )
    unfinished = checkpoints.Checkpoints("finetune", run)
    finished = unfinished.folder / FINISHED
    if ranks.gather(finished.is_dir())[0]:
        return unfinished
    set_seed(seed)
    AcceleratorState._reset_state()  # else accelerate refuses DeepSpeed for a second seed

    # ---- tokenizer
    tokenizer = encoder.load_tokenizer(folder)
    tokenizer.model_max_length = params.max_length

    # ---- model (after the arguments, because ZeRO-3 partitions it while loading)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}
    padding_id = encoder.set_padding(config, tokenizer)
    optimizers.set_dropout(config, params.finetune.dropout)
    optimizers.refuse_l1_at_zero_3(stage, params.finetune)
    args = training_arguments.build(
        unfinished.folder, options, seed=seed, lr=params.lr, epochs=params.epochs,
        batch_size=params.batch_size, zero_stage=stage,
    )  # fmt: skip
    base = {
        "kind": AutoModelForSequenceClassification,
        "folder": folder,
        "config": config,
        "ignore_mismatched_sizes": True,
    }  # a head for other classes is replaced
    model = encoder.load_model(**base)
    acceleration.speed_up(model, bf16, params.kernels)
    optimizers.freeze(model, params.finetune.freeze_embeddings, params.finetune.freeze_layers)
    optimizers.refuse_r_drop_without_dropout(model, params.finetune)
    model = lora.adapt(model, params.finetune.lora, encoder.base_model())
    if params.finetune.lora and bf16:
        lora.freeze_in_bf16(model)
    trainable, frozen, *_ = memory.size(model)
    console.say(
        f"{len(train):,} training and {len(validation):,} validation documents, {len(names)} classes\n"
        f"{trainable:,} of {trainable + frozen:,} parameters trainable\n"
        f"{ranks.world_size()} process(es), {'bf16' if bf16 else 'fp32'}, ZeRO-{stage}: {why}"
        + (f"\nseed {seed}" if params.study.seeds else "")
    )

    # ---- train
    trainer = ZeroTrainer(
        model, args, train, validation, padding_id=padding_id, batch_size=params.batch_size,
        validation_metrics=metrics.accuracy_and_f1, checkpoints=unfinished, options=params.finetune,
    )  # fmt: skip
    for line in result_warnings.few_steps(trainer.steps_per_epoch, params.epochs, len(names)):
        console.say(f"note: {line}")
    if params.augment.method == "cutoff":
        trainer.collators[0] = token_cutoff.Cutoff(
            trainer.collators[0], tokenizer, seed, params.augment.share
        )
    trainer.fit()

    # ---- save
    if ranks.rank() == 0:
        with unfinished.full_disk_error("the trained model"), files.atomic_folder(finished) as out:
            files.write_json(unfinished.folder / PREDICTED, trainer.best_predicted)
            if params.finetune.lora:
                unset_hf_deepspeed_config()  # else this process would wait for others to load a part
                whole = lora.merged(encoder.load_model(**base), trainer.best_folder)
                whole.save_pretrained(out)
                shutil.copytree(trainer.best_folder, out / lora.ADAPTER)
            else:
                shutil.copytree(trainer.best_folder, out, dirs_exist_ok=True)
            tokenizer.save_pretrained(out)
            files.write_text(out / "history.csv", training_logs.as_csv(trainer.history))
            selection = {"macro_f1": round(trainer.best["macro_f1"], 6)}
            files.write_json(out / "validation.json", selection)  # DVC compares experiments by it
            files.write_json(out / "summary.json", summary(trainer, names, train, params))
    console.say(f"best epoch: {trainer.best['epoch']}, macro-F1 {trainer.best['macro_f1']:.4f}")
    trainer.raise_if_stopped()
    return unfinished


def summary(
    trainer: ZeroTrainer, names: list[str], train: batches.TokenDataset, params: Params
) -> dict[str, Any]:
    """Return a summary of the run; ``clean`` and ``long_documents`` are what inference does to texts."""
    documents = tables.originals(pd.Series(train.ids, dtype=str)).to_numpy()
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


def weaknesses(run: Path) -> list[str]:
    """Return where the model in ``run``'s folder is bad on validation, a sentence each."""
    names = tables.label_names()
    of_run = files.read_json(run / FINISHED / "summary.json")
    history = plot_tables.read_history(run / FINISHED / "history.csv")
    predicted = np.array(files.read_json(run / PREDICTED), dtype=int)
    labels = tables.read_table(VALIDATION, ("label",))["label"].to_numpy()
    counts = metrics.confusion(labels, predicted, len(names))
    bad = result_warnings.of_predictions(names, counts, "validation")
    return [
        *bad,
        *result_warnings.too_short(history, len(names), bool(bad)),
        *result_warnings.few_documents(of_run["training_documents"]),
        *result_warnings.of_tokens(tables.token_counts(), "train"),
    ]


if __name__ == "__main__":
    console.run(main)
