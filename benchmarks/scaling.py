"""Time and memory of the stages as documents grow: download to tokenize_text, the trainer's token store.

    python -m benchmarks.scaling --documents 100000,300000,1000000   (after `dvc repro pretrain`)
    python -m benchmarks.scaling --documents 3000,10000 --stages download,clean   (quick)

The corpora are made from the documents of data/raw by benchmarks.synthetic_corpus, written as a CSV, and
each stage runs by its own command in a process of its own, in a copy of this project in a temporary
folder. Memory is the most that a stage's processes held together (what they share counted once: PSS),
seconds are those of the whole process. ``label_noise`` runs with its model on TF-IDF. ``token store`` is what
the trainer needs to start with data/tokens; ``nothing to do`` is a `dvc repro tokenize_text` after everything
was committed to DVC's cache.

Growth is the slope on log-log axes between the sizes next to each other: 1 is linear.
"""

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from ruamel.yaml import YAML

from benchmarks import synthetic_corpus
from benchmarks.training_scaling import numbers
from cleantune import console
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.params.overrides import with_overrides
from stages import label_noise
from tools import record

TEST_SHARE = 0.02
TRAIN, TEST = Path("made/train.csv"), Path("made/test.csv")
STAGES = ("download", "clean", "fetch_models", "label_noise", "pretrain", "tokenize_text")
COMMITTED = ("--force", *STAGES)
STORE = """
from cleantune.training import batches
from stages import finetune
train = batches.TokenDataset.read(finetune.TRAIN)
batches.plan(train.lengths, 32, 0, 0)
"""


class Cost(NamedTuple):
    """The cost of one process and those that it started."""

    seconds: float
    memory: int
    """Bytes, at most."""


def main() -> None:
    """Measure every stage at every size; print a table and the growth."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--documents", type=numbers, default=[30_000, 100_000])
    parser.add_argument("--words", type=int, default=45, help="of a document")
    parser.add_argument("--stages", type=lambda text: text.split(","), default=[*MEASURED],
                        help=f"of {','.join(MEASURED)}; what they need runs too")  # fmt: skip
    record.add_option(parser)
    options = parser.parse_args()
    unknown = sorted({*options.stages} - {*MEASURED})
    if unknown:
        raise UserError(f"--stages {unknown[0]}: the names are {', '.join(MEASURED)}.")
    kept = record.Record(options.keep)
    costs: dict[str, list[Cost]] = {stage: [] for stage in options.stages}
    last = max([*MEASURED].index(stage) for stage in options.stages)
    for size in options.documents:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            furnish(folder, size, options.words)
            for stage, run in [*MEASURED.items()][: last + 1]:
                if stage not in options.stages and stage not in ("download", "clean"):
                    continue
                cost = run(folder)
                if stage in costs:
                    costs[stage].append(cost)
                console.say(f"{size:,} documents, {stage}: {cost.seconds:.1f} s, "
                            f"{cost.memory / 1e9:.2f} GB")  # fmt: skip
    report(options.documents, costs, options.words, kept)


def furnish(folder: Path, documents: int, words: int) -> None:
    """Copy what git tracks into ``folder``; write the corpus there and name it in params.yaml."""
    tracked = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True)
    for path in map(Path, filter(None, tracked.stdout.split("\0"))):
        if path.is_file() and path.parts[0] not in ("tests", "docs"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / path)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    (folder / TRAIN).parent.mkdir()
    source = tables.read_table(tables.RAW / "train.parquet")
    synthetic_corpus.write_csv(folder / TRAIN, source, documents, words, 0)
    synthetic_corpus.write_csv(folder / TEST, source, math.ceil(TEST_SHARE * documents), words, 1)
    yaml = YAML(typ="safe")
    params = yaml.load((folder / "params.yaml").read_text(encoding="utf-8"))
    made = {"hub": None, "format": "csv", "header": True, "test_share": 0.2, "licence": "CC0-1.0",
            "files": {"train": {"path": str(TRAIN), "sha256": None},
                      "test": {"path": str(TEST), "sha256": None}},
            "columns": {"label": "label", "title": None, "text": "text"},
            "labels": {}}  # fmt: skip
    change(folder, params, {"dataset": "made", "datasets": {**params["datasets"], "made": made}})


def change(folder: Path, params: dict[str, Any], changes: dict[str, Any]) -> None:
    """Write params.yaml with some values changed."""
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(with_overrides(params, changes), file)


# ---- what is measured --------------------------------------------------------------------------


def of_stage(stage: str) -> Callable[[Path], Cost]:
    """Return what measures a stage by its own command."""
    return lambda folder: measure([sys.executable, "-m", f"stages.{stage}"], folder)


def label_noise_on_words(folder: Path) -> Cost:
    """Measure stages.label_noise with the label model on TF-IDF."""
    params = YAML(typ="safe").load((folder / "params.yaml").read_text(encoding="utf-8"))
    change(folder, params, {"label_noise.model": "tfidf"})
    measure([sys.executable, "-m", "stages.fetch_models"], folder)
    return of_stage("label_noise")(folder)


def tokenize_text(folder: Path) -> Cost:
    """Measure stages.tokenize_text; where the labels were not checked, on the clean documents."""
    for stage in ("fetch_models", "pretrain"):
        if not (folder / tables.LABELS).is_dir():
            labels = tables.read_table(folder / label_noise.TRAIN).assign(weight=1.0)
            columns = (*tables.TEXT_COLUMNS, "group", "weight")
            tables.write_table(folder / tables.LABELS / "train.parquet", labels, columns)
        measure([sys.executable, "-m", f"stages.{stage}"], folder)
    return of_stage("tokenize_text")(folder)


def token_store(folder: Path) -> Cost:
    """Measure what the trainer takes to open the tokens, beside its imports."""
    cost = measure([sys.executable, "-c", STORE], folder)
    imports = measure([sys.executable, "-c", STORE[: STORE.index("train =")]], folder)
    return Cost(cost.seconds - imports.seconds, max(cost.memory - imports.memory, 1))


def nothing_to_do(folder: Path) -> Cost:
    """Measure `dvc repro` of what has run before."""
    measure([sys.executable, "-m", "dvc", "commit", *COMMITTED], folder)
    command = [sys.executable, "-m", "dvc", "repro", "tokenize_text"]
    measure(command, folder)
    return measure(command, folder)


MEASURED: dict[str, Callable[[Path], Cost]] = {
    "download": of_stage("download"),
    "clean": of_stage("clean"),
    "label_noise": label_noise_on_words,
    "tokenize_text": tokenize_text,
    "token store": token_store,
    "nothing to do": nothing_to_do,
}


def measure(command: Sequence[str], folder: Path) -> Cost:
    """Run a command in a folder; return its seconds and the peak memory of its processes together."""
    with tempfile.TemporaryFile("w+") as output:
        begin = time.monotonic()
        process = psutil.Popen(command, cwd=folder, stdout=output, stderr=output,
                               env=os.environ | {"PYTHONPATH": str(folder)})  # fmt: skip
        peak = 0
        while process.poll() is None:
            peak = max(peak, memory_now(process))
            time.sleep(0.05)
        seconds = time.monotonic() - begin
        if process.returncode:
            output.seek(0)
            raise UserError(f"{' '.join(command[1:])} failed:\n{output.read()[-2000:]}")
    return Cost(seconds, peak)


def memory_now(process: psutil.Process) -> int:
    """Return the bytes that a process and its children hold, shared pages counted once."""
    total = 0
    for each in (process, *children(process)):
        try:
            total += each.memory_full_info().pss
        except psutil.Error:  # it has ended
            continue
    return total


def children(process: psutil.Process) -> list[psutil.Process]:
    """Return the processes that a process has started, and these in turn."""
    try:
        found: list[psutil.Process] = process.children(recursive=True)
    except psutil.Error:
        return []
    return found


# ---- what it says ------------------------------------------------------------------------------


def report(
    sizes: Sequence[int], costs: dict[str, list[Cost]], words: int, kept: record.Record
) -> None:
    """Print and keep seconds and memory of each stage at each size, and how they grow."""
    rows = []
    for stage, several in costs.items():
        before: tuple[int, Cost] | None = None
        for size, cost in zip(sizes, several, strict=True):
            slopes = ["", ""]
            if before:
                few, least = before
                slopes = [
                    f"{math.log(now / then) / math.log(size / few):.2f}"
                    for now, then in zip(cost, least, strict=True)
                ]
            rows.append((stage, size, f"{cost.seconds:.1f}", f"{cost.memory / 1e9:.2f}", *slopes))
            before = size, cost
    kept.table(
        f"Documents of {words} words, {len(os.sched_getaffinity(0))} cores",
        ("stage", "documents", "seconds", "GB", "seconds^", "memory^"),
        rows,
    )


if __name__ == "__main__":
    console.run(main)
