"""The contenders of benchmarks.training_speed: this project, and what a person would run instead."""

import functools
import json
import math
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_linear_schedule_with_warmup,
)

from cleantune.data import tables
from cleantune.evaluation import metrics
from cleantune.models import classifier, encoder, first_token
from cleantune.models.precision import bf16_is_fast, use_bf16
from cleantune.params.sections import Params
from cleantune.training import (
    acceleration,
    batches,
    checkpoints,
    memory,
    optimizers,
    training_arguments,
)
from cleantune.training.trainer import ZeroTrainer
from stages import finetune

FROZEN = 2
WIDTH = 128
ATTENTION_INPUTS = ("query", "key", "value", "[qkv]_lin", "(query|key|value)_proj", "in_proj", "Wqkv",
                    "c_attn")  # fmt: skip
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Pace(TrainerCallback):
    """Times each round, and waits for the parent before the next."""

    def __init__(self, steps: int, seen: dict[str, int]) -> None:
        self._steps = steps
        self._seen = seen
        self._real = 0
        self._done = 0
        self._start = 0.0

    def wait(self) -> None:
        """Wait for the parent."""
        if not sys.stdin.readline():
            sys.exit(1)  # the benchmark has ended
        self._start = clock()

    def step(self) -> None:
        """Count a step; at the end of a round, report and wait."""
        self._done += 1
        if self._done % self._steps == 0:
            say({"seconds": clock() - self._start, "real": self._seen["real"] - self._real})
            self._real = self._seen["real"]
            self.wait()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Wait for the first round."""
        say_ready()
        self.wait()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Count."""
        self.step()


@dataclass(frozen=True)
class Task:
    """What every contender is given."""

    params: Params
    train: batches.TokenDataset
    validation: batches.TokenDataset
    steps: int
    pace: Pace
    seen: dict[str, int]  # computed so far: documents, ``real`` tokens, and with padding


def work(name: str, params: Params, steps: int, rounds: int) -> None:
    """Train as one contender, a round at a time, and report."""
    train, validation = (
        batches.TokenDataset(tables.read_table(path))
        for path in (finetune.TRAIN, finetune.VALIDATION)
    )
    seen = {"documents": 0, "real": 0, "padded": 0}
    task = Task(params, train, validation, steps * rounds, Pace(steps, seen), seen)
    trained = TRAIN[name](task)
    memory_used = peak_memory()
    say(
        {
            **seen,
            "operations": operations(trained, seen["documents"] / seen["real"]),
            "memory": memory_used,
            "accuracy": accuracy(trained, validation),
        }
    )


def with_trainer(task: Task, width: int | None, bf16: bool) -> Any:
    """Train with transformers' Trainer as it comes, padding to ``width`` or the longest document."""
    params = task.params
    # Of QUIET, what does more than keep Trainer quiet.
    more = ("accelerator_config", "dataloader_pin_memory", "logging_nan_inf_filter")
    arguments = TrainingArguments(
        output_dir=tempfile.gettempdir(),
        max_steps=task.steps,
        per_device_train_batch_size=params.batch_size,
        learning_rate=params.lr,
        warmup_steps=params.finetune.warmup,
        bf16=bf16 and bf16_is_fast(),
        use_cpu=DEVICE == "cpu",
        **{k: v for k, v in training_arguments.QUIET.items() if k not in more},
    )

    def collate(documents: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return batch_of([d["input_ids"] for d in documents], [d["label"] for d in documents], width)

    plain_trainer = Trainer(
        counted(model(), task.seen), arguments, train_dataset=task.train, data_collator=collate
    )
    plain_trainer.add_callback(task.pace)
    plain_trainer.train()
    return plain_trainer.model


def with_loop(task: Task) -> Any:
    """Train in a loop of plain PyTorch on the batches and the model that ours trains on."""
    params, train = task.params, task.train
    built = counted(model().to(DEVICE), task.seen)
    acceleration.speed_up(built, use_bf16(params.precision))
    optimizers.freeze(built, params.finetune.freeze_embeddings, params.finetune.freeze_layers)
    built.train()
    optimizer = optimizers.build(built, params.lr, params.finetune)
    schedule = get_linear_schedule_with_warmup(  # type: ignore[no-untyped-call]
        optimizer, int(params.finetune.warmup * task.steps), task.steps
    )
    task.pace.on_train_begin()
    for rows in batches.plan(train.lengths, params.batch_size, params.seed, 0)[: task.steps]:
        batch = batch_of([train.input_ids[i] for i in rows], train.labels[rows], None)
        batch = {key: value.to(DEVICE) for key, value in batch.items()}
        labels = batch.pop("labels")
        loss = torch.nn.functional.cross_entropy(built(**batch).logits.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call] # torch's
        torch.nn.utils.clip_grad_norm_(built.parameters(), params.finetune.max_gradient_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        loss.item()
        task.pace.step()
    return built


def ours(task: Task, **changes: Any) -> Any:
    """Train with the stage's own trainer, and ``changes`` in `finetune` of params.yaml."""
    changed = task.params.finetune.model_copy(update=changes)
    params = task.params.model_copy(update={"finetune": changed})
    with tempfile.TemporaryDirectory() as folder:
        unfinished = checkpoints.Checkpoints("benchmark", Path(folder).name)
        trainer = stage_trainer(params, task.train, task.validation, task.steps, unfinished)
        counted(trainer.model, task.seen)
        trainer.add_callback(task.pace)
        trainer.fit()
        unfinished.discard()
    return trainer.model


TRAIN: dict[str, Callable[[Task], Any]] = {
    "defaults": functools.partial(with_trainer, width=WIDTH, bf16=False),
    "trainer": functools.partial(with_trainer, width=None, bf16=True),
    "loop": with_loop,
    "ours": ours,
    "whole": functools.partial(ours, freeze_embeddings=False),
    "frozen": functools.partial(ours, freeze_layers=FROZEN),
    "free": ours,
}


def operations(trained: torch.nn.Module, documents: float) -> float:
    """Return the operations of the layers' weights for each real token, ``documents`` to a token."""
    once = {  # computed for one token of a document
        id(parameter)
        for layer in trained.modules()
        if isinstance(layer, first_token.FirstTokenLayer)
        for name, parameter in layer.named_parameters()
        if not name.startswith(("attention.self.key.", "attention.self.value."))
    }
    depths, layers = optimizers.depths(trained), optimizers.count_layers(trained)
    learning = [depths[n] for n, p in trained.named_parameters() if p.requires_grad]
    lowest = min(learning, default=0)  # what it reads needs no gradient
    reads = re.compile(rf"\.{lowest - 1}\.(.+\.)?({'|'.join(ATTENTION_INPUTS)})\.")
    # ZeRO-3 keeps the true shape there.
    shapes = {p: getattr(p, "ds_shape", p.shape) for p in trained.parameters()}
    return sum(
        math.prod(shapes[p])
        * (2 + 2 * p.requires_grad + 2 * (p.requires_grad and not reads.search(n)))
        * (documents if id(p) in once else 1)
        for n, p in trained.named_parameters()
        if len(shapes[p]) == 2 and 0 < depths[n] <= layers
    )


def model() -> Any:
    """Return a fresh classifier."""
    torch.manual_seed(0)
    return encoder.load_model(
        AutoModelForSequenceClassification, encoder.pretrained_folder(),
        num_labels=len(tables.label_names()),
    )  # fmt: skip


def counted(built: Any, seen: dict[str, int]) -> Any:
    """Return ``built``, which from now on adds the tokens it trains on to ``seen``."""

    def count(module: Any, _arguments: Any, batch: dict[str, Any]) -> None:
        if module.training:
            seen["documents"] += len(batch["input_ids"])
            seen["padded"] += batch["input_ids"].numel()
            seen["real"] += int(batch["attention_mask"].sum())

    built.register_forward_pre_hook(count, with_kwargs=True)
    return built


def stage_trainer(
    params: Params,
    train: batches.TokenDataset,
    validation: batches.TokenDataset,
    steps: int,
    unfinished: checkpoints.Checkpoints,
) -> ZeroTrainer:
    """Return the engine of stages.finetune, to stop after ``steps``, without checkpoints.

    Dropout, LoRA and the like are the model's own, whatever params.yaml says.
    """
    config = encoder.load_config(encoder.pretrained_folder())
    size = memory.size_of(config, params.finetune)
    stage, _ = memory.zero_stage(params.zero_stage, size, params.finetune.offload)
    arguments = training_arguments.build(
        unfinished.folder, params.finetune, seed=params.seed, lr=params.lr, epochs=params.epochs,
        batch_size=params.batch_size, zero_stage=stage,
    )  # fmt: skip
    arguments.max_steps = steps
    built = model()
    acceleration.speed_up(built, use_bf16(params.precision))
    optimizers.freeze(built, params.finetune.freeze_embeddings, params.finetune.freeze_layers)
    return ZeroTrainer(
        built, arguments, train, validation, padding_id=built.config.pad_token_id or 0,
        batch_size=params.batch_size,
        validation_metrics=metrics.accuracy_and_f1, checkpoints=unfinished,
        options=params.finetune.model_copy(update={"checkpoint_steps": steps + 1}),
    )  # fmt: skip


def peak_memory() -> int:
    """Return the most bytes that this process has held; on a GPU, that its tensors have."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def batch_of(ids: list[Any], labels: Any, width: int | None) -> dict[str, Any]:
    """Return one batch, padded to its longest document or to ``width`` tokens."""
    lengths = torch.tensor([len(document) for document in ids])
    padded = torch.nn.utils.rnn.pad_sequence(ids, True, 0)
    if width:
        padded = torch.nn.functional.pad(padded, (0, width - padded.shape[1]))
    mask = (torch.arange(padded.shape[1]) < lengths[:, None]).long()
    return {
        "input_ids": padded,
        "attention_mask": mask,
        "labels": torch.as_tensor(np.asarray(labels)),
    }


def accuracy(trained: Any, validation: Any) -> float:
    """Return the share of validation documents that a model gets right."""
    trained.eval()
    right = 0
    for rows in classifier.batches(validation.lengths):
        batch = batch_of([validation.input_ids[i] for i in rows], validation.labels[rows], None)
        labels = batch.pop("labels")
        with torch.inference_mode():
            logits = trained(**{key: value.to(DEVICE) for key, value in batch.items()}).logits
        right += int((logits.argmax(1).cpu() == labels).sum())
    return right / len(validation)


def clock() -> float:
    """Return seconds, with nothing left running on the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def say(value: Any) -> None:
    """Tell the parent."""
    sys.__stdout__.write(json.dumps(value) + "\n")  # type: ignore[union-attr] # it is open
    sys.__stdout__.flush()  # type: ignore[union-attr]


def say_ready() -> None:
    """Tell the parent that the first round can begin."""
    sys.__stdout__.write("ready\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]
