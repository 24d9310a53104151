"""Time and memory of label-error detection by corpus size, and the cost of a fine-tuned model.

    python -m benchmarks.label_detection_cost                                    (after `dvc repro pretrain`)
    python -m benchmarks.label_detection_cost --documents 300,600 --finetuned 0  (quick)

stages.label_noise runs on samples of data/clean in a temporary folder, in a process of its own:

- with the `label_noise.model` of params.yaml on each of --documents: seconds and peak memory
  of the process;
- with ``finetuned`` on --finetuned documents, compared with stages.finetune on the documents of all
  folds but one, with the same options: its seconds over ``label_noise.folds`` times those of the
  fine-tuning. Both include starting a process; the former includes the other label models.

Growth is the slope on log-log axes, as in benchmarks.training_scaling.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.training_scaling import LINEAR, growth, numbers
from cleantune import console
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.labels import corrections
from cleantune.params.read import read_params
from cleantune.params.sections import LabelNoise
from cleantune.training import training_arguments
from stages import label_noise
from studies.stage_runs import CODE, furnish, run
from tools import record

VALIDATION = tables.CLEAN / "validation.parquet"
RAW = tables.RAW / "train.parquet"
GIGABYTE = 1e9


def main() -> None:
    """Measure the stage on samples of the clean documents; print a table and the growth of the cost."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--documents", type=numbers, default=[6_000, 12_000, 24_000])
    parser.add_argument("--finetuned", type=int, default=2_000, help="documents; 0: skip")
    record.add_option(parser)
    options = parser.parse_args()
    kept = record.Record(options.keep)
    settings = read_params(label_noise.PARAMS).label_noise
    train = tables.read_table(label_noise.TRAIN)
    if max(*options.documents, options.finetuned) > len(train):
        raise UserError(f"--documents, --finetuned: {label_noise.TRAIN} has {len(train):,}.")

    costs = []
    for size in options.documents:
        costs.append(cost(train.sample(size, random_state=0).sort_index(), {}))
        console.say(f"{size:,} documents: {costs[-1][0]:.0f} s")
    kept.table(
        f"Cost of stages.label_noise, model {settings.model}",
        ("documents", "seconds", "GB"),
        ((f"{n:,}", f"{seconds:.0f}", f"{memory / GIGABYTE:.2f}")
         for n, (seconds, memory) in zip(options.documents, costs, strict=True)),
    )  # fmt: skip
    for (few, before), (many, after) in itertools.pairwise(
        zip(options.documents, costs, strict=True)
    ):
        slopes = [growth((few, many), pair) for pair in zip(before, after, strict=True)]
        kept.say(f"{few:,} to {many:,} documents: seconds^{slopes[0]:.2f}, memory^{slopes[1]:.2f}, "
                    f"no more than linear {'holds' if slopes[1] <= LINEAR else 'DOES NOT HOLD'}")  # fmt: skip
    if options.finetuned:
        compare_finetuned(
            train.sample(options.finetuned, random_state=0).sort_index(), settings, kept
        )


def cost(train: pd.DataFrame, changes: dict[str, Any]) -> tuple[float, int]:
    """Return the seconds and the bytes that the stage takes for these documents."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        furnish(folder, changes, [RAW, corrections.CORRECTIONS])
        tables.write_table(folder / label_noise.TRAIN, train, (*tables.TEXT_COLUMNS, "group"))
        run("fetch_models", folder)
        begin = time.perf_counter()
        memory = peak_memory("label_noise", folder)
        return time.perf_counter() - begin, memory


def peak_memory(stage: str, folder: Path) -> int:
    """Run a stage in a folder; return the peak resident memory of its process, in bytes (Linux)."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", f"stages.{stage}"], cwd=folder, stdout=output, stderr=output,
            env=os.environ | {"PYTHONPATH": str(CODE)},
        )  # fmt: skip
        peak = 0
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            held = [line for line in status.splitlines() if line.startswith("VmHWM")]
            peak = max(peak, *(1024 * int(line.split()[1]) for line in held), 0)
            time.sleep(0.1)
        if process.returncode:
            output.seek(0)
            raise UserError(f"stages.{stage} failed in the benchmark:\n{output.read()[-2000:]}")
    return peak


def compare_finetuned(train: pd.DataFrame, settings: LabelNoise, kept: record.Record) -> None:
    """Compare the fine-tuned label model with as many fine-tunings as it has folds."""
    total, _ = cost(train, {"label_noise.model": "finetuned"})
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        furnish(
            folder,
            {"epochs": settings.epochs, "lr": settings.lr, "batch_size": settings.batch_size,
             "finetune.freeze_embeddings": training_arguments.PLAIN.freeze_embeddings},
        )  # fmt: skip
        held_out = pd.Series(range(len(train)), train.index) % settings.folds == 0
        columns = (*tables.TEXT_COLUMNS, "group")
        fitted = train[~held_out].assign(weight=1.0)
        tables.write_table(folder / tables.LABELS / "train.parquet", fitted, (*columns, "weight"))
        for split in ("validation", "test"):
            path = folder / tables.CLEAN / f"{split}.parquet"
            tables.write_table(path, train[held_out], columns)
        run("tokenize_text", folder)
        begin = time.perf_counter()
        run("finetune", folder)
        once = time.perf_counter() - begin
    kept.say(
        f"finetuned on {len(train):,} documents: {total:.0f} s; fine-tuning on {len(fitted):,}: "
        f"{once:.0f} s; {settings.folds} times that: {total / (settings.folds * once):.2f}"
    )


if __name__ == "__main__":
    console.run(main)
