"""Scaling of fine-tuning: cost by number of documents, document length and number of processes.

    python -m benchmarks.training_scaling                                    (after `dvc repro tokenize_text`)
    python -m benchmarks.training_scaling --documents 1000,30000 --repeats 1   (quick)

One of the three grows, the other two stay at the (lower) middle of their list, processes at the
smallest. Documents are those of data/tokens again and again, each repeated or cut to the wanted
number of tokens; ``batch_size`` of params.yaml is the global batch throughout. Measured, in
processes of their own for every setting and repeat, settings taking turns, medians given:

- data: seconds to read all documents, plan the batches of one epoch and collate every one of them;
- a step: seconds of one optimizer step by the stage's own trainer, the median of ``--steps`` after
  one of warm-up. No epoch is trained to its end, and none is extrapolated to: an epoch has
  documents / batch_size steps, so its time is linear in documents where a step does not depend on them;
- memory: the most that a process has held (on a GPU, that its tensors have), until the trainer has
  trained, evaluated a batch of validation documents and saved its weights. Processes of one setting
  share pages of libraries, which count in each.

Other jobs on the machine make seconds longer. ``--clock processor`` counts those in which a processor
worked for us (of all threads of the slowest process) instead: what to compare on a machine that is shared.

Growth is the slope on log-log axes: 1 is linear, 0 does not grow. Small numbers of documents hide it
behind what any number costs, so the slope between the two largest is given too.
"""

import argparse
import contextlib
import itertools
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from transformers import TrainerCallback

from benchmarks.contenders import clock, peak_memory, stage_trainer
from cleantune import console, files
from cleantune.data import tables
from cleantune.distributed import connection, ranks
from cleantune.errors import UserError
from cleantune.models import encoder
from cleantune.params.read import read_params
from cleantune.params.sections import Params
from cleantune.training import batches, checkpoints
from stages import finetune
from tools import record

LINEAR = 1.05  # a slope up to here counts as linear: what is measured scatters
COLUMNS = ("id", "input_ids", "label", "length", "weight")
CLOCKS = {"wall": clock, "processor": time.process_time}
PICTURES = (".png", ".svg", ".pdf")


class Setting(NamedTuple):
    """The setting of one measurement."""

    documents: int
    length: int
    processes: int


class Cost(NamedTuple):
    """The cost of one run."""

    data: float  # seconds, of the slowest process
    step: float  # seconds, as well
    memory: int  # bytes, of the process with the most


def main() -> None:
    """Measure every setting; print a table and the growth, and plot it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--documents", type=numbers, default=[1_000, 3_000, 10_000, 30_000])
    parser.add_argument("--lengths", type=numbers, default=[32, 64, 128, 256], help="in tokens")
    parser.add_argument("--processes", type=numbers, default=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=4, help="optimizer steps measured")
    parser.add_argument("--repeats", type=int, default=2, help="of every setting")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--plot", type=Path, default=Path("reports/scale.svg"))
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    record.add_option(parser)
    options = parser.parse_args()
    kept = record.Record(options.keep)
    params = read_params(finetune.PARAMS)
    if options.worker:
        work(params, options.worker, options.steps, CLOCKS[options.clock])
        return
    check(options, params)
    settings = grid(options.documents, options.lengths, options.processes)
    measured: dict[Setting, list[Cost]] = {setting: [] for setting in settings}
    with tempfile.TemporaryDirectory() as folder:
        for setting in settings:
            make(Path(folder) / f"{setting.documents}-{setting.length}.parquet", setting)
        with console.Bar("measuring", options.repeats * len(settings)) as bar:
            for _ in range(options.repeats):
                for setting in settings:
                    measured[setting].append(measure(setting, Path(folder), options))
                    bar.advance()
    costs = {setting: middle(several) for setting, several in measured.items()}
    how = f"{options.steps} steps, {options.repeats} repeat(s), {options.clock} seconds"
    report(costs, params.batch_size, how, kept)
    draw(costs, params.batch_size, options.plot)
    console.outputs(options.plot)


def numbers(text: str) -> list[int]:
    """Return what an option like ``1000,3000`` lists, smallest first."""
    found = sorted({int(part) for part in text.split(",")})
    if found[0] < 1:
        raise ValueError(text)
    return found


def check(options: argparse.Namespace, params: Params) -> None:
    """Raise ``UserError`` for what would fail after minutes of measuring."""
    least = (options.steps + 2) * params.batch_size
    longest = encoder.position_limit(encoder.load_config(encoder.pretrained_folder()))
    gpus = torch.cuda.device_count()
    if options.steps < 1 or options.repeats < 1:
        raise UserError("--steps and --repeats: a whole number >= 1.")
    if options.documents[0] < least:
        raise UserError(
            f"--documents {options.documents[0]}: {options.steps} steps of {params.batch_size} documents "
            f"and one of warm-up need at least {least}."
        )
    if options.lengths[0] < 3 or options.lengths[-1] > (longest or math.inf):
        raise UserError(f"--lengths: from 3 to the {longest} tokens that this model reads.")
    if 0 < gpus < options.processes[-1]:
        raise UserError(f"--processes {options.processes[-1]}: there are {gpus} GPUs here.")
    if options.plot.suffix not in PICTURES:
        raise UserError(f"--plot {options.plot}: the name must end in {', '.join(PICTURES)}.")


def grid(documents: list[int], lengths: list[int], processes: list[int]) -> list[Setting]:
    """Return the settings: one of the three grows, the others stay."""
    base = Setting(statistics.median_low(documents), statistics.median_low(lengths), processes[0])
    grown = [
        *(base._replace(documents=n) for n in documents),
        *(base._replace(length=n) for n in lengths),
        *(base._replace(processes=n) for n in processes),
    ]
    return list(dict.fromkeys(grown))


def make(path: Path, setting: Setting) -> None:
    """Write as many documents of that many tokens as a setting asks for."""
    table = tables.read_table(finetune.TRAIN, COLUMNS)
    rows = np.arange(setting.documents) % len(table)
    # First and last token frame a document; what stands between repeats, or is cut.
    ids = [np.concatenate([t[:1], np.resize(t[1:-1], setting.length - 2), t[-1:]])
           for t in table["input_ids"]]  # fmt: skip
    made = table.iloc[rows].assign(
        id=[f"train-{i}" for i in range(len(rows))],
        input_ids=pd.Series(ids, dtype=object).iloc[rows].to_numpy(),
        length=setting.length,
    )
    tables.write_table(path, made, COLUMNS)


def measure(setting: Setting, folder: Path, options: argparse.Namespace) -> Cost:
    """Return what a setting costs, measured once in processes of its own."""
    train = folder / f"{setting.documents}-{setting.length}.parquet"
    words = ["-m", "benchmarks.training_scaling", "--worker", str(train), f"--steps={options.steps}",
             f"--clock={options.clock}"]  # fmt: skip
    count = setting.processes
    if count > 1:
        words = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", *words]
    threads = {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // count))}
    done = subprocess.run([sys.executable, *words], env=os.environ | threads, capture_output=True,
                          text=True)  # fmt: skip
    if done.returncode:
        raise UserError(f"{setting} failed:\n{done.stderr[-2000:]}")
    return Cost(**files.read_json(train.with_suffix(".json")))


def middle(several: list[Cost]) -> Cost:
    """Return the medians of the repeats; of memory, the most."""
    return Cost(
        statistics.median(cost.data for cost in several),
        statistics.median(cost.step for cost in several),
        max(cost.memory for cost in several),
    )


# ---- a worker ----------------------------------------------------------------------------------


class Steps(TrainerCallback):
    """Takes the time of every step."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._ends: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self._ends = [self._now()]

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the end of a step."""
        self._ends.append(self._now())

    @property
    def seconds(self) -> float:
        """Return the median of all steps but the first."""
        return statistics.median(b - a for a, b in itertools.pairwise(self._ends[1:]))


def work(params: Params, path: Path, steps: int, now: Callable[[], float]) -> None:
    """Read, plan, collate, train ``steps`` steps and one of warm-up; write the cost beside ``path``."""
    connection.prepare(params.seed)
    begin = now()
    train = batches.TokenDataset(tables.read_table(path))
    reading = now() - begin
    # The validation set does not grow here: one batch is enough.
    some = batches.TokenDataset(tables.read_table(finetune.VALIDATION).head(params.batch_size))
    unfinished = checkpoints.Checkpoints("benchmark", f"{path.parent.name}-{path.stem}")
    trainer = stage_trainer(params, train, some, steps + 1, unfinished)
    times = Steps(now)
    trainer.add_callback(times)
    begin = now()
    for _ in trainer.get_train_dataloader():
        pass
    data = reading + now() - begin
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        trainer.fit()
    unfinished.discard()
    every = ranks.gather((data, times.seconds, peak_memory()))
    if ranks.rank() == 0:
        slowest = Cost(*(max(values) for values in zip(*every, strict=True)))
        files.write_json(path.with_suffix(".json"), slowest._asdict())


# ---- what it says ------------------------------------------------------------------------------


def growth(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return the slope of the straight line closest to costs over sizes, both as logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def swept(costs: dict[Setting, Cost], what: str) -> list[tuple[int, Cost]]:
    """Return the settings in which nothing but ``what`` differs from most, and their costs."""
    fields = [name for name in Setting._fields if name != what]
    kinds = [tuple(getattr(setting, name) for name in fields) for setting in costs]
    common = max(kinds, key=kinds.count)
    return sorted((getattr(s, what), cost) for (s, cost), kind in zip(costs.items(), kinds, strict=True)
                  if kind == common)  # fmt: skip


def report(costs: dict[Setting, Cost], batch_size: int, how: str, kept: record.Record) -> None:
    """Print and keep the table, and how time and memory grow."""
    kept.table(
        f"Cost of fine-tuning, {batch_size} documents a step, {how}",
        ("documents", "tokens", "processes", "data s", "a step s", "documents/s", "GB a process"),
        ((s.documents, s.length, s.processes, f"{c.data:.2f}", f"{c.step:.3f}",
          f"{batch_size / c.step:.1f}", f"{c.memory / 1e9:.2f}") for s, c in costs.items()),
    )  # fmt: skip
    kept.say(f"threads: {torch.get_num_threads()}, shared by the processes of a setting")
    sweep = swept(costs, "documents")
    if len(sweep) > 1:
        sizes = [n for n, _ in sweep]
        most = {"data": 1.0, "step": 0.0, "memory": 1.0}  # how each may grow for a linear whole
        for name, allowed in most.items():
            values = [getattr(cost, name) for _, cost in sweep]
            slope, last = growth(sizes, values), growth(sizes[-2:], values[-2:])
            holds = max(slope, last) <= allowed + LINEAR - 1
            kept.say(
                f"{name}: grows as documents^{slope:.2f}, between the last two ^{last:.2f}; "
                f"at most ^{allowed:.0f} {'holds' if holds else 'DOES NOT HOLD'}"
            )
        first, final = sweep[0], sweep[-1]
        more = (final[1].memory - first[1].memory) / (final[0] - first[0])
        kept.say(f"memory: {more / 1e3:.1f} kB more for each document more")
    sweep = swept(costs, "length")
    if len(sweep) > 1:
        slope = growth([n for n, _ in sweep], [cost.step for _, cost in sweep])
        kept.say(f"step: grows as tokens^{slope:.2f}")


def draw(costs: dict[Setting, Cost], batch_size: int, path: Path) -> None:
    """Draw three pictures side by side: over documents, over tokens, over processes."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    panels: Any = figure.subplots(1, 3)
    sweep = swept(costs, "documents")
    line(panels[0], sweep, "data", "data handling")
    line(panels[0], sweep, "step", "a step")
    sizes, seconds = [n for n, _ in sweep], sweep[0][1].data
    panels[0].plot(sizes, [seconds * n / sizes[0] for n in sizes], "k:", label="linear")
    line(panels[1], swept(costs, "length"), "step", "a step")
    sweep = swept(costs, "processes")
    panels[2].plot([n for n, _ in sweep], [batch_size / c.step for _, c in sweep], "o-",
                   label="documents/s")  # fmt: skip
    panels[2].plot([n for n, _ in sweep], [c.memory / 1e8 for _, c in sweep], "s--",
                   label="0.1 GB a process")  # fmt: skip
    for panel, name in zip(panels, ("documents", "tokens a document", "processes"), strict=True):
        panel.set_xlabel(name)
        panel.grid(alpha=0.3)
        panel.legend()
    for panel in panels[:2]:
        panel.set(xscale="log", yscale="log", ylabel="seconds")
    panels[2].set_ylim(bottom=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_file(path) as part:
        figure.savefig(part, format=path.suffix[1:], dpi=120)


def line(panel: Axes, sweep: list[tuple[int, Cost]], field: str, name: str) -> None:
    """Draw one cost over what grows."""
    panel.plot([n for n, _ in sweep], [getattr(cost, field) for _, cost in sweep], "o-", label=name)


if __name__ == "__main__":
    console.run(main)
