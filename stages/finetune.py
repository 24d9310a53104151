"""Fine-tune the pretrained model as a classifier; keep the epoch with the best validation macro-F1.

    python -m stages.finetune

transformers' Trainer on DeepSpeed ZeRO, on every GPU there is, or in ``processes: N`` processes on
a CPU. ``batch_size`` is the global batch size: the number of processes changes the run time but not
the result, except for the activations that dropout zeroes. An interrupted run resumes from its last
checkpoint under ``.checkpoints/`` when started again. With ``study.seeds`` a further model is
trained for each seed, into a folder beside the weights.
"""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.state import AcceleratorState
from transformers import set_seed

from cleantune import console, files
from cleantune.augmentation import token_cutoff
from cleantune.data import tables
from cleantune.distributed import connection, launcher, ranks
from cleantune.evaluation import metrics, plot_tables, result_warnings
from cleantune.models import encoder, precision
from cleantune.params.read import read_params
from cleantune.params.sections import Params
from cleantune.training import (
    batches,
    checkpoints,
    deepspeed_config,
    fingerprint,
    finished_run,
    memory,
    optimizers,
    trainable_classifier,
    training_arguments,
)
from cleantune.training.finished_run import FINISHED, PREDICTED
from cleantune.training.trainer import ZeroTrainer

PARAMS = ("seed", "lr", "epochs", "batch_size", "max_length", "long_documents", "max_chunks",
         "zero_stage", "precision", "kernels", "processes", "finetune", "augment", "study")  # fmt: skip
# Excluded from the fingerprint: no effect on the weights (the actual world size is included).
NOT_FINGERPRINTED: dict[str, Any] = {
    "study": True,
    "processes": True,
    "finetune": {"tensorboard", "profiler", "checkpoint_steps"},
}
TRAIN, VALIDATION = tables.TOKENS / "train.parquet", tables.TOKENS / "validation.parquet"
INPUTS = (TRAIN, VALIDATION, tables.SOURCE, tables.TEXT_STEPS, encoder.PRETRAINED,
          deepspeed_config.CONFIG)  # fmt: skip


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
    """Train with ``seed``; return the run's checkpoints, with the trained model beside.

    A finished run of an interrupted series of seeds is not repeated.
    """
    params = params.model_copy(update={"seed": seed})

    # ---- data
    chunk_length = params.max_length if params.long_documents == "chunks" else None
    train = batches.TokenDataset.read(TRAIN, chunk_length)
    validation = batches.TokenDataset.read(VALIDATION, chunk_length)
    options = params.finetune
    if chunk_length and options.micro_batch_size is None:
        most = batches.micro_batch(np.concatenate([train.lengths, validation.lengths]))
        options = options.model_copy(update={"micro_batch_size": most})
    if options.class_weights == "balanced":
        train.balance()
    names, folder = tables.label_names(), encoder.pretrained_folder()
    config = encoder.load_config(folder)
    bf16 = precision.use_bf16(params.precision)
    size = memory.size_of(config, options, bf16)
    stage, why = memory.zero_stage(params.zero_stage, size, options.offload)
    decides = params.model_dump(exclude=NOT_FINGERPRINTED) | {"zero_stage": stage, "bf16": bf16}
    unfinished = checkpoints.Checkpoints("finetune", fingerprint.of_run(decides, INPUTS))
    if ranks.gather((unfinished.folder / FINISHED).is_dir())[0]:
        return unfinished
    set_seed(seed)
    AcceleratorState._reset_state()  # else accelerate refuses DeepSpeed for a second seed

    # ---- tokenizer
    tokenizer = encoder.load_tokenizer(folder)
    tokenizer.model_max_length = params.max_length

    # ---- model (after the arguments, because ZeRO-3 partitions it while loading)
    memory.give_back_freed(stage)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}
    padding_id = encoder.set_padding(config, tokenizer)
    optimizers.set_dropout(config, options.dropout)
    optimizers.refuse_l1_at_zero_3(stage, options)
    args = training_arguments.build(
        unfinished.folder, options, seed=seed, lr=params.lr, epochs=params.epochs,
        batch_size=params.batch_size, zero_stage=stage,
    )  # fmt: skip
    model = trainable_classifier.load(folder, config, options, bf16, params.kernels)
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
    notes = result_warnings.few_steps(trainer.steps_per_epoch, params.epochs, len(names))
    if encoder.is_decoder(config.model_type):
        notes += result_warnings.decoder_rate(params.lr, bool(options.lora))
    for line in notes:
        console.say(f"note: {line}")
    if params.augment.method == "cutoff":
        plain = trainer.collators[0]
        trainer.collators[0] = token_cutoff.Cutoff(plain, tokenizer, seed, params.augment.share)
    trainer.fit()

    # ---- save
    load_base = partial(trainable_classifier.load_mapped, folder, config)
    finished_run.save(trainer, tokenizer, params, load_base)
    console.say(f"best epoch: {trainer.best['epoch']}, macro-F1 {trainer.best['macro_f1']:.4f}")
    trainer.raise_if_stopped()
    return unfinished


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
