"""Memory of fine-tuning by process: what is measured while loading, training and saving, beside the estimate.

    python -m benchmarks.memory                                   (8 GB of free memory, 10 minutes on two cores)
    python -m benchmarks.memory --models "decoder 0.5 B" --stages 3   (14 GB)

Every row is stages.finetune itself on a model of random weights, in processes of its own. Measured
is a process's private memory (on a GPU, its tensors' memory) beyond what it had before the model was
loaded, the most of all processes; pages of files that are mapped into memory are not among it, for
the system can drop them. ``whole`` is the model in fp32. ``estimate`` is what
cleantune.training.memory says, on which ``zero_stage: auto`` and the message of a run that is out of
memory rest; it is of training.
"""

import argparse
import contextlib
import multiprocessing
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks import random_project
from cleantune import console, files
from cleantune.distributed import connection, ranks
from cleantune.errors import UserError
from cleantune.params.read import read_params
from cleantune.training import trainable_classifier
from cleantune.training.trainer import ZeroTrainer
from stages import finetune
from tools import record

MODELS = ["BERT-base", "decoder 0.15 B"]
LORA = {"rank": 16, "alpha": 32}
PHASES = ("loading", "training", "saving")
RESULT = "memory-{}.json"
START: Any = multiprocessing.get_context("forkserver")  # the imports are paid for once
EVERY = 0.003  # seconds between two looks at a process's memory


def main() -> None:
    """Measure every setting; print a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", nargs="+", choices=random_project.SHAPES, default=MODELS)
    parser.add_argument("--stages", nargs="+", type=int, choices=range(4), default=[0, 1, 2, 3])
    parser.add_argument("--kinds", nargs="+", choices=("full", "lora"), default=["full", "lora"])
    parser.add_argument("--processes", nargs="+", type=int, default=[2])
    parser.add_argument("--documents", type=int, default=4, help="of a process and step")
    parser.add_argument("--tokens", type=int, default=64, help="of a document")
    parser.add_argument("--offload", choices=("none", "optimizer", "all"), default="none")
    record.add_option(parser)
    options = parser.parse_args()
    kept = record.Record(options.keep)
    START.set_forkserver_preload(["stages.finetune", "peft"])
    rows = []
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            for processes in options.processes:
                for kind in options.kinds:
                    for stage in options.stages:
                        rows.append(measure(Path(folder), name, kind, stage, processes, options))
                        console.say("  ".join(rows[-1]))
    kept.table(
        f"GB by process, {options.documents} documents of {options.tokens} tokens a step",
        ("model", "whole", "learns", "processes", "ZeRO", *PHASES, "estimate", "of measured"),
        rows,
    )


def measure(
    folder: Path, name: str, kind: str, stage: int, processes: int, options: argparse.Namespace
) -> tuple[str, ...]:
    """Return a row of the table."""
    batch = options.documents * processes
    random_project.write(
        folder, random_project.SHAPES[name], [options.tokens] * (3 * batch), batch,
        epochs=1, batch_size=batch, zero_stage=stage, max_length=options.tokens,
        finetune__offload=options.offload, finetune__freeze_embeddings=False,
        finetune__lora=LORA if kind == "lora" else None,
    )  # fmt: skip
    if not all(in_processes(folder, processes)):
        raise UserError(f"{name}, {kind}, ZeRO-{stage} failed; its message is above.")
    every = [files.read_json(folder / RESULT.format(rank)) for rank in range(processes)]
    most = {phase: max(one[phase] for one in every) for phase in PHASES}
    estimate, whole = every[0]["estimate"], every[0]["whole"]
    return (
        name, f"{whole / 1e9:.2f}", "all" if kind == "full" else "LoRA", str(processes), str(stage),
        *(f"{most[phase] / 1e9:.2f}" for phase in PHASES), f"{estimate / 1e9:.2f}",
        f"{100 * estimate / most['training']:.0f} %",
    )  # fmt: skip


def in_processes(folder: Path, count: int) -> list[bool]:
    """Run the stage in ``folder``, in ``count`` processes; return which of them ended well."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    threads = str(max(1, torch.get_num_threads() // count))
    world = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "OMP_NUM_THREADS": threads,
             "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
    every = [START.Process(target=work, args=(folder, world | {"RANK": str(i), "LOCAL_RANK": str(i)}))
             for i in range(count)]  # fmt: skip
    for one in every:
        one.start()
    for one in every:
        one.join()
    return [one.exitcode == 0 for one in every]


# ---- a worker ----------------------------------------------------------------------------------


class Meter:
    """Looks at this process's memory every few milliseconds, and keeps the most of each phase."""

    def __init__(self) -> None:
        self.most: dict[str, int] = {}
        self._phase = ""
        self._before = 0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def begin(self, phase: str) -> None:
        """Count what is held from now on to ``phase``; what was held before the first one is not counted."""
        if not self._phase:
            self._before = held()
            self._thread.start()
        self._note()
        self._phase = phase
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Count what is held within to ``phase``, then to the phase before."""
        before = self._phase
        self.begin(phase)
        yield
        self.begin(before)

    def end(self) -> None:
        """Stop."""
        self._note()
        self._ends.set()
        self._thread.join()

    def _note(self) -> None:
        if self._phase:
            now = held() - self._before
            self.most[self._phase] = max(self.most.get(self._phase, 0), now)

    def _look(self) -> None:
        while not self._ends.is_set():
            self._note()
            time.sleep(EVERY)


def held() -> int:
    """Return the bytes that this process has for itself; on a GPU, the most since the last reset."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return 1024 * sum(int(lines[name].split()[0]) for name in ("RssAnon", "RssShmem"))


def work(folder: Path, environment: dict[str, str]) -> None:
    """Run the stage in this process, as a launcher would have started it, and write down its memory."""
    os.environ.update(environment)
    os.chdir(folder)
    params = read_params(finetune.PARAMS)
    connection.prepare(params.seed)
    meter = Meter()
    found: dict[str, Any] = {}

    class Measured(ZeroTrainer):
        """Tells the meter what it does."""

        def fit(self) -> None:
            meter.begin("training")
            super().fit()
            found["estimate"] = self.memory_run().total()
            meter.begin("saving")

        def _keep_best(self) -> None:
            with meter.during("saving"):
                super()._keep_best()

    load: Callable[..., Any] = trainable_classifier.load

    def loaded(*arguments: Any) -> Any:
        warm_up()
        meter.begin("loading")
        model = load(*arguments)
        found["whole"] = 4 * sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters())
        return model

    setattr(finetune, "ZeroTrainer", Measured)  # noqa: B010 - mypy allows no assignment to these
    setattr(trainable_classifier, "load", loaded)  # noqa: B010
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        run = finetune.train_one(params, params.seed)
    meter.end()
    files.write_json(Path(RESULT.format(ranks.rank())), {**meter.most, **found})
    ranks.barrier()
    run.discard()


def warm_up() -> None:
    """Let the libraries allocate what they keep for themselves."""
    layer = torch.nn.Linear(64, 64)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    layer(torch.ones(64, 64)).sum().backward()
    optimizer.step()


if __name__ == "__main__":
    console.run(main)
