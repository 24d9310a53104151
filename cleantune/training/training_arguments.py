"""Arguments of transformers' Trainer; saving, validation and logging are done by ``ZeroTrainer``."""

import math
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from cleantune.distributed import ranks
from cleantune.params.sections import Finetune
from cleantune.training import deepspeed_config

PLAIN = Finetune(
    optimizer="adamw", momentum=0.9, scheduler="linear", warmup=0.1, weight_decay=0.01, l1=0.0,
    dropout=None, class_weights="none", label_smoothing=0.0, r_drop=0.0,
    layer_lr_decay=1.0, freeze_embeddings=False, freeze_layers=0, lora=None,
    early_stopping_patience=1000, max_gradient_norm=1.0, micro_batch_size=None,
    checkpoint_steps=100, offload="none", gradient_checkpointing=False, deterministic=True,
    tensorboard=False, profiler=False,
)  # fmt: skip
"""Options of pretraining and label models, independent of ``finetune`` in params.yaml."""

QUIET: dict[str, Any] = {
    # ZeroTrainer writes, prints, logs and selects instead of Trainer.
    "save_strategy": "no",
    "eval_strategy": "no",
    "logging_strategy": "no",
    "report_to": [],
    "accelerator_config": {"use_configured_state": True},  # see distributed.prepare
    "disable_tqdm": True,
    "log_level": "error",
    "log_level_replica": "error",
    "remove_unused_columns": False,
    "dataloader_pin_memory": False,
    "logging_nan_inf_filter": False,
}
SCHEDULERS = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def build(
    folder: Path,
    options: Finetune,
    *,
    seed: int,
    lr: float,
    epochs: int,
    batch_size: int,
    zero_stage: int,
    eval_batch_size: int = 64,
) -> TrainingArguments:
    """Return Trainer's arguments for ``batch_size`` rows per step over all processes.

    ``eval_batch_size`` is the rows per process and evaluation step, unless ``options`` sets it. Other arguments
    keep transformers' defaults.
    """
    share = math.ceil(batch_size / ranks.world_size())
    micro = min(share, options.micro_batch_size or share)
    return TrainingArguments(
        output_dir=str(folder),
        seed=seed,
        num_train_epochs=epochs,
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=options.micro_batch_size or eval_batch_size,
        gradient_accumulation_steps=math.ceil(share / micro),
        learning_rate=lr,
        lr_scheduler_type=SCHEDULERS[options.scheduler],
        warmup_steps=options.warmup,
        # DeepSpeed's own clipping at ZeRO-0 forgets the norm: ZeroTrainer clips there.
        max_grad_norm=options.max_gradient_norm if zero_stage else 0.0,
        activation_checkpointing=options.gradient_checkpointing,
        deepspeed=deepspeed_config.config(zero_stage, options.offload),
        **QUIET,
    )
