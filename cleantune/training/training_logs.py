"""Logs of a training run: its history as CSV, TensorBoard, PyTorch's profiler.

TensorBoard and profiler write below ``.logs/``, which DVC does not track.
"""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from cleantune import console
from cleantune.distributed import ranks

ROOT = Path(".logs")
HISTORY_COLUMNS = ("step", "epoch", "learning_rate", "loss", "gradient_norm", "validation_loss",
                   "validation_accuracy", "validation_macro_f1")  # fmt: skip
PROFILED = {"skip_first": 2, "wait": 1, "warmup": 2, "active": 3, "repeat": 1}
"""Steps: the first ones allocate and compile; three are representative of the rest."""


def as_csv(history: list[dict[str, float]]) -> str:
    """Return the history as CSV: one row per step, validation metrics at the end of each epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HISTORY_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


class TensorBoard(TrainerCallback):
    """Writes each step's metrics, on rank 0. View with ``tensorboard --logdir``."""

    def __init__(self, folder: Path, latest: Callable[[], dict[str, float]]) -> None:
        self._folder = folder
        self._latest = latest
        self._writer: Any = None

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Open the log."""
        from torch.utils.tensorboard import SummaryWriter

        if ranks.rank() == 0:
            writer: Any = SummaryWriter
            self._writer = writer(str(self._folder))

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Write loss, learning rate and gradient norm."""
        self._write(("loss", "learning_rate", "gradient_norm", "epoch"))

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        """Write the validation metrics."""
        self._write([name for name in self._latest() if name.startswith("validation_")])

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Close the log and print its folder."""
        if self._writer:
            self._writer.close()
            console.say(f"curves: tensorboard --logdir {ROOT}")

    def _write(self, names: Any) -> None:
        row = self._latest()
        for name in names:
            if self._writer and name in row:
                self._writer.add_scalar(name, row[name], int(row["step"]))


class Profiler(TrainerCallback):
    """Profile a few steps of every process; the trace opens in Perfetto or TensorBoard."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._profile: Any = None

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start counting steps."""
        kinds = [torch.profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            kinds.append(torch.profiler.ProfilerActivity.CUDA)
        self._profile = torch.profiler.profile(
            activities=kinds,
            schedule=torch.profiler.schedule(**PROFILED),
            on_trace_ready=self._save,
        )
        self._profile.start()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Count a step."""
        self._profile.step()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Stop."""
        self._profile.stop()

    def _save(self, profile: Any) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        trace = self._folder / f"trace-{ranks.rank()}.json"
        profile.export_chrome_trace(str(trace))
        operations = sorted(profile.key_averages(), key=lambda o: -o.self_cpu_time_total)
        total = sum(o.self_cpu_time_total for o in operations)
        rows = [(o.key[:40], str(o.count), f"{o.self_cpu_time_total / 1e3:.0f}",
                 f"{100 * o.self_cpu_time_total / total:.0f} %") for o in operations[:10]]  # fmt: skip
        title = f"{PROFILED['active']} steps, processor time of operations"
        console.table(title, ("operation", "calls", "ms", "share"), rows)
        console.say(f"trace: {trace}")
