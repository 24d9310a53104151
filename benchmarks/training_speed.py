"""Training speed of stages.finetune compared with common alternatives.

    python -m benchmarks.training_speed                        (after `dvc repro tokenize_text`)
    python -m benchmarks.training_speed --steps 3 --rounds 3   (quick)

Every contender trains the same model on as many documents of data/tokens with the same global
batch, learning rate and schedule, each in a process of its own. They take turns, a round of a few
steps each, so that a machine that slows down slows all of them; the first round is warm-up and the
median of the others counts. ``arithmetic`` is the rate of useful work (six operations for each
weight of a layer and each real token that it computes, two where the layer is frozen, four for
queries, keys and values of the lowest layer that learns) over what the machine's own matrix product
reaches between the rounds of the same run. ``padding`` is the tokens computed for each real one,
``accuracy`` is on the validation documents after the last round. Some batches hold longer documents
than others, so a round's rate is taken in real tokens a second; ``docs/s`` is that rate for
documents of mean length.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.contenders import DEVICE, FROZEN, clock, work
from cleantune import console
from cleantune.data import tables
from cleantune.distributed import connection
from cleantune.errors import UserError
from cleantune.models import encoder
from cleantune.models.precision import bf16_is_fast
from cleantune.params.read import read_params
from cleantune.training import batches
from stages import finetune
from tools import record

CONTENDERS = {
    "defaults": "HF script",  # run_classification.py unless told: Trainer, fp32, pad to 128
    "trainer": "Trainer, bf16",  # each batch padded to its longest document
    "loop": "PyTorch loop",  # on our batches, model and optimizer: what DeepSpeed costs
    "ours": "ours",  # as stages.finetune
    "whole": "embeddings learn",  # the same without `finetune.freeze_embeddings`
    "frozen": f"{FROZEN} layers frozen",  # the same with `finetune.freeze_layers`
}
if torch.cuda.is_available():
    CONTENDERS["free"] = "not deterministic"  # the same without `finetune.deterministic`
ENDED = "The contender {!r} ended early; its message is above."


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=6, help="optimizer steps a round")
    parser.add_argument("--rounds", type=int, default=6, help="rounds, the first is warm-up")
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    record.add_option(parser)
    options = parser.parse_args()
    kept = record.Record(options.keep)
    params = read_params(finetune.PARAMS)
    if options.worker in ("ours", "whole", "frozen", "free"):
        # The others run as they would without us: in a process group Trainer would wrap its model.
        connection.prepare(params.seed, deterministic=options.worker != "free")
    if options.worker:
        # The stage's output is discarded: the parent reads this process's standard output.
        encoder.load_silently()
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            work(options.worker, params, options.steps, options.rounds)
        return
    train = batches.TokenDataset(tables.read_table(finetune.TRAIN))
    documents, mean_length = len(train), float(np.mean(train.lengths))
    if options.rounds < 2 or options.steps * options.rounds * params.batch_size >= documents:
        raise UserError(
            f"--steps {options.steps} --rounds {options.rounds}: two rounds or more, and fewer than the "
            f"{documents // params.batch_size} steps of an epoch in total."
        )

    # As many threads for all: torch's own number counts cores that this process may not use.
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

    # ---- in turns
    workers = {name: start(name, options.steps, options.rounds) for name in CONTENDERS}
    paces: dict[str, list[float]] = {name: [] for name in CONTENDERS}  # real tokens a second
    rates: list[float] = []
    with console.Bar("measuring", options.rounds * len(workers)) as bar:
        for _ in range(options.rounds):
            rates.append(matrix_rate())
            for name, worker in workers.items():
                told = ask(name, worker)
                paces[name].append(told["real"] / told["seconds"])
                bar.advance()

    # ---- the table
    peak = statistics.median(rates)
    results = []
    for name, worker in workers.items():
        rate = statistics.median(paces[name][1:])
        seen = ask(name, worker)
        results.append({
            "contender": CONTENDERS[name],
            "documents_per_second": rate / mean_length,
            "padding": seen["padded"] / seen["real"],
            "arithmetic": seen["operations"] * rate / peak,
            "peak_memory_gb": seen["memory"] / 1e9,
            "accuracy": seen["accuracy"],
        })  # fmt: skip
        worker.wait()
    ours = results[list(CONTENDERS).index("ours")]["documents_per_second"]
    rows = [(r["contender"], f"{r['documents_per_second']:.1f}", f"{ours / r['documents_per_second']:.2f}x",
             f"{r['padding']:.3f}", f"{100 * r['arithmetic']:.0f} %", f"{r['peak_memory_gb']:.2f}",
             f"{r['accuracy']:.3f}") for r in results]  # fmt: skip
    kept.table(
        f"{options.rounds - 1} rounds of {options.steps} steps of {params.batch_size} documents",
        ("", "docs/s", "ours is", "padding", "arithmetic", "GB", "accuracy"),
        rows,
    )
    kept.say(f"matrix product: {peak / 1e9:.0f} GFLOP/s; threads: {torch.get_num_threads()}")


def start(name: str, steps: int, rounds: int) -> Any:
    """Start a contender's process and wait until it is ready."""
    command = [sys.executable, "-m", "benchmarks.training_speed", "--worker", name,
               f"--steps={steps}", f"--rounds={rounds}"]  # fmt: skip
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert worker.stdout
    while (line := worker.stdout.readline()) != "ready\n":
        if not line:
            raise UserError(ENDED.format(name))
    return worker


def ask(name: str, worker: Any) -> Any:
    """Let a worker do its next round, or its report after the last; return its answer."""
    with contextlib.suppress(BrokenPipeError):
        worker.stdin.write("go\n")
        worker.stdin.flush()
    answer = worker.stdout.readline()
    if not answer:
        raise UserError(ENDED.format(name))
    return json.loads(answer)


def matrix_rate() -> float:
    """Return the operations a second of a square matrix product in the precision we train in."""
    size, times = (8192, 20) if DEVICE == "cuda" else (2048, 5)  # a small one leaves a GPU idle
    precision = torch.bfloat16 if bf16_is_fast() else torch.float32
    left = torch.randn(size, size, dtype=precision, device=DEVICE)
    left @ left
    begin = clock()
    for _ in range(times):
        left @ left
    return times * 2 * size**3 / (clock() - begin)


if __name__ == "__main__":
    console.run(main)
