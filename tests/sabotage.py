"""What a test does to a stage's process from inside, before the stage starts.

Each function hooks into a moment that cannot be hit from outside: just after a checkpoint, at a
certain step, with the disk full. What runs from there on is the project's own code.
"""

import errno
import json
import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cleantune.distributed import connection
from cleantune.models import weights
from cleantune.training import checkpoints, trainer


def kill_after_checkpoint() -> None:
    """Die the moment the checkpoint of step ``AT`` stands."""
    seal = checkpoints.Checkpoints._seal

    def sealed(self: Any, part: Any, step: int) -> None:
        seal(self, part, step)
        if step == int(os.environ["AT"]):
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(checkpoints.Checkpoints, "_seal", sealed)  # noqa: B010 - mypy allows no other assignment to a method


def signal_at_step() -> None:
    """Receive ``SIGNAL`` while step ``AT`` is computed."""
    step = trainer.ZeroTrainer.training_step

    def signalled(self: Any, *args: Any) -> torch.Tensor:
        if self.state.global_step + 1 == int(os.environ["AT"]):
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))
        return step(self, *args)

    setattr(trainer.ZeroTrainer, "training_step", signalled)  # noqa: B010 - mypy allows no other assignment to a method


def slow_disk() -> None:
    """Need longer to make a checkpoint durable than a step waits for a process."""
    seal = checkpoints.Checkpoints._seal

    def slowly(*arguments: Any) -> None:
        time.sleep(9)
        seal(*arguments)

    setattr(checkpoints.Checkpoints, "_seal", slowly)  # noqa: B010 - mypy allows no other assignment to a method
    connection.STEP_LOST_AFTER = timedelta(seconds=5)


def disk_full_after_two_checkpoints() -> None:
    """Fail as a full disk does in the middle of the third checkpoint."""
    save = trainer.ZeroTrainer._save_rng_state

    def full(self: Any, folder: str) -> None:
        if len(self.checkpoints.steps()) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", folder)
        save(self, folder)

    setattr(trainer.ZeroTrainer, "_save_rng_state", full)  # noqa: B010 - mypy allows no other assignment to a method


def poison_step_6() -> None:
    """Let step 6 compute not a number."""
    loss = trainer.ZeroTrainer.compute_loss

    def poisoned(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        value = loss(self, *args, **kwargs)
        return value * float("nan") if self.state.global_step + 1 == 6 else value

    setattr(trainer.ZeroTrainer, "compute_loss", poisoned)  # noqa: B010 - mypy allows no other assignment to a method


def infinite_gradient_at_step_6() -> None:
    """Let step 6 compute a good loss and an infinite gradient."""
    loss = trainer.ZeroTrainer.compute_loss

    def steep(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        value = loss(self, *args, **kwargs)
        if self.state.global_step + 1 == 6:
            value.register_hook(lambda gradient: gradient * float("inf"))
        return value

    setattr(trainer.ZeroTrainer, "compute_loss", steep)  # noqa: B010 - mypy allows no other assignment to a method


def signal_one_after_the_exchange() -> None:
    """Tell one of two processes to stop just after step ``AT`` has told the other that nobody was."""
    agree = trainer.ZeroTrainer.synchronize_step

    def told(self: Any, *args: Any) -> float:
        loss = agree(self, *args)
        if self.state.global_step == int(os.environ["AT"]) and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGTERM)
        return loss

    setattr(trainer.ZeroTrainer, "synchronize_step", told)  # noqa: B010 - mypy allows no other assignment to a method


def out_of_memory() -> None:
    """Run out of memory for real in the first step: ask for more than any machine has."""

    def greedy(*_: Any, **__: Any) -> torch.Tensor:
        return torch.empty(2**50)

    setattr(trainer.ZeroTrainer, "compute_loss", greedy)  # noqa: B010


def note_passes() -> None:
    """Write down how many documents each micro-batch has, and how often each layer computed it."""
    loss, step = trainer.ZeroTrainer.compute_loss, trainer.ZeroTrainer.training_step
    noted: list[tuple[int, int]] = []

    def computed(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        noted.append((len(inputs["labels"]), 0))
        if len(noted) == 1:
            layers = self.model.bert.encoder.layer
            layers[0].intermediate.register_forward_pre_hook(passed)
        return loss(self, model, inputs, *args, **kwargs)

    def passed(*_: Any) -> None:
        noted[-1] = (noted[-1][0], noted[-1][1] + 1)

    def stepped(self: Any, *args: Any) -> torch.Tensor:
        value = step(self, *args)
        Path("passes.json").write_text(json.dumps(noted))
        return value

    setattr(trainer.ZeroTrainer, "compute_loss", computed)  # noqa: B010
    setattr(trainer.ZeroTrainer, "training_step", stepped)  # noqa: B010


def note_precisions() -> None:
    """Write down the types of the weights that learn and of those that do not."""
    loss = trainer.ZeroTrainer.compute_loss

    def noted(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        parts = {"learns": True, "frozen": False}
        # ZeRO-3 keeps a process's part of a weight there
        found = {name: sorted({str(getattr(p, "ds_tensor", p).dtype) for p in self.model.parameters()
                               if p.requires_grad is learns}) for name, learns in parts.items()}  # fmt: skip
        Path("precisions.json").write_text(json.dumps(found))
        return loss(self, *args, **kwargs)

    setattr(trainer.ZeroTrainer, "compute_loss", noted)  # noqa: B010


def small_shards() -> None:
    """Write weights in shards of 20 kB, as those of a large model are of 500 MB."""
    weights.SHARD = "20KB"


def note_folds() -> None:
    """Write down what each fine-tuned judge learnt from and judged, and what all said.

    With ``STOP_IN`` set, be told to stop in the first step of that fold, counted from 0.
    """
    from cleantune.labels import fine_tuned_label_model

    fit, judge = fine_tuned_label_model.FoldTrainer.fit, fine_tuned_label_model.probabilities

    def fitted(self: Any) -> None:
        past = json.loads(Path("folds.json").read_text()) if Path("folds.json").exists() else []
        past.append(
            [
                [int(i) for i in data.ids.to_pylist()]
                for data in (self.train_dataset, self.validation)
            ]
        )
        Path("folds.json").write_text(json.dumps(past))
        fit(self)

    def step(self: Any, *arguments: Any) -> torch.Tensor:
        if len(json.loads(Path("folds.json").read_text())) - 1 == int(
            os.environ.get("STOP_IN", -1)
        ):
            os.kill(os.getpid(), signal.SIGTERM)
        loss: torch.Tensor = super(fine_tuned_label_model.FoldTrainer, self).training_step(
            *arguments
        )
        return loss

    def judged(*arguments: Any) -> Any:
        result = judge(*arguments)
        np.save("said.npy", result)
        return result

    setattr(fine_tuned_label_model.FoldTrainer, "fit", fitted)  # noqa: B010
    setattr(fine_tuned_label_model.FoldTrainer, "training_step", step)  # noqa: B010
    setattr(fine_tuned_label_model, "probabilities", judged)  # noqa: B010
