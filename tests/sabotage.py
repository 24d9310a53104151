"""What a test does to a stage's process from inside, before the stage starts.

Each function hooks into a moment that cannot be hit from outside: just after a checkpoint, at a
certain step, with the disk full. What runs from there on is the project's own code.
"""

import errno
import os
import signal
from typing import Any

import torch

from stages.common import checkpoints, training


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
    step = training.Engine.training_step

    def signalled(self: Any, *args: Any) -> torch.Tensor:
        if self.state.global_step + 1 == int(os.environ["AT"]):
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))
        return step(self, *args)

    setattr(training.Engine, "training_step", signalled)  # noqa: B010 - mypy allows no other assignment to a method


def disk_full_after_two_checkpoints() -> None:
    """Fail as a full disk does in the middle of the third checkpoint."""
    save = training.Engine._save_rng_state

    def full(self: Any, folder: str) -> None:
        if len(self.checkpoints.steps()) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", folder)
        save(self, folder)

    setattr(training.Engine, "_save_rng_state", full)  # noqa: B010 - mypy allows no other assignment to a method


def poison_step_6() -> None:
    """Let step 6 compute not a number."""
    loss = training.Engine.compute_loss

    def poisoned(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        value = loss(self, *args, **kwargs)
        return value * float("nan") if self.state.global_step + 1 == 6 else value

    setattr(training.Engine, "compute_loss", poisoned)  # noqa: B010 - mypy allows no other assignment to a method


def out_of_memory() -> None:
    """Run out of memory for real in the first step: ask for more than any machine has."""

    def greedy(*_: Any, **__: Any) -> torch.Tensor:
        return torch.empty(2**50)

    setattr(training.Engine, "compute_loss", greedy)  # noqa: B010
