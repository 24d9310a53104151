"""Inference speed: tools.predict compared with a plain loop, and int8 with fp32.

    python -m benchmarks.inference_speed                      (the test set of data/clean, 10,000 documents)
    python -m benchmarks.inference_speed --data test.csv      (no header: class from 1, title, text)
    python -m benchmarks.inference_speed --documents 1000 --rounds 1     (quick)

The plain loop has the model as transformers loads it, and batches as they come, each padded to its
longest document. The documents are those of the data, in random order, over and over until there
are enough. All is taken in turns, so that a machine that slows down slows both sides, after a
warm-up; medians count. Latency is one document at a time on one thread, from its text to its scores.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForSequenceClassification

from cleantune import console
from cleantune.data import tables
from cleantune.data.text_repair import repair
from cleantune.models import classifier, encoder
from cleantune.models.classifier import Classifier
from tools import predict, record

WARM_UP = 10  # documents or batches


def main() -> None:
    """Measure and print three tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, default=tables.FINETUNED)
    parser.add_argument("--data", type=Path, help="CSV of AG News' form instead of data/clean")
    parser.add_argument("--documents", type=int, default=10_000, help="(default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="documents of an unsorted batch")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--singles", type=int, default=300, help="documents asked one by one")
    record.add_option(parser)
    options = parser.parse_args()
    kept = record.Record(options.keep)
    texts, labels = read(options.data)
    os.environ["OMP_NUM_THREADS"] = "1"  # of ONNX Runtime; PyTorch has read it by now
    fp32, int8 = predict.load(options.model, False), predict.load(options.model, True)
    order = np.random.default_rng(0).permutation(len(texts))
    shuffled = [texts[i] for i in np.resize(order, options.documents)]
    batches(fp32, fp32.encode(shuffled), options.batch, options.rounds, kept)
    latency(fp32, int8, shuffled[: options.singles], kept)
    accuracy(fp32, int8, texts, labels, kept)


def read(data: Path | None) -> tuple[list[str], np.ndarray]:
    """Return texts and labels of the test set, repaired as in training."""
    if data is None:
        table = tables.read_table(tables.CLEAN / "test.parquet", tables.TEXT_COLUMNS)
    else:
        columns = ["label", "title", "text"]
        table = pd.read_csv(data, header=None, names=columns, keep_default_na=False)
        texts = table[["title", "text"]].map(repair, ag_news_artifacts=True)
        table = table.assign(**texts, label=table["label"] - 1)
    return tables.full_text(table), table["label"].to_numpy()


def batches(
    model: Classifier, tokens: list[list[int]], size: int, rounds: int, kept: record.Record
) -> None:
    """Time all documents, sorted by length and in batches of ``size`` as they come."""
    lengths = np.array([len(t) for t in tokens])
    fixed = [np.arange(i, min(i + size, len(tokens))) for i in range(0, len(tokens), size)]
    formed = list(classifier.batches(lengths.tolist()))
    plain = encoder.load_model(AutoModelForSequenceClassification, model.folder)
    plain.to(model.model.device).eval()

    def as_they_come(built: Any, groups: list[np.ndarray]) -> None:
        with torch.inference_mode():
            for rows in groups:
                built(**model.pad([tokens[i] for i in rows])).logits.float().cpu()

    ways: dict[str, tuple[list[np.ndarray], Callable[[], object]]] = {
        f"plain loop, {size} a batch": (fixed, lambda: as_they_come(plain, fixed)),
        "the same, our model": (fixed, lambda: as_they_come(model.model, fixed)),
        "and sorted by length": (formed, lambda: model.logits(tokens)),
    }
    for built in (plain, model.model):
        as_they_come(built, fixed[:WARM_UP])
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (_, run) in ways.items():
            seconds[name].append(timed(run))
    middle = {name: median(taken) for name, taken in seconds.items()}
    slowest = max(middle.values())
    kept.table(f"{len(tokens):,} documents, {lengths.mean():.1f} tokens (median of {rounds})",
                  ("batches", "seconds", "documents/s", "padding", ""), (
        (name, f"{taken:.1f}", f"{len(tokens) / taken:.0f}",
         f"{sum(len(rows) * lengths[rows].max() for rows in ways[name][0]) / lengths.sum():.2f}",
         f"{slowest / taken:.2f}x") for name, taken in middle.items()
    ))  # fmt: skip
    kept.say(f"threads: {torch.get_num_threads()}")


def latency(fp32: Classifier, int8: predict.Model, texts: list[str], kept: record.Record) -> None:
    """Time one document at a time, on one thread of the processor."""
    torch.set_num_threads(1)
    fp32.model.to("cpu")
    ways: dict[str, predict.Model] = {"fp32, PyTorch": fp32, "int8, ONNX Runtime": int8}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    warm_up = texts[:WARM_UP]
    for text in warm_up + texts:
        for name, model in ways.items():
            seconds[name].append(timed(lambda m=model, t=text: m.logits(m.encode([t]))))  # type: ignore[misc]
    middle = {name: median(taken[len(warm_up) :]) for name, taken in seconds.items()}
    slowest = max(middle.values())
    kept.table(f"One document, one thread (median of {len(texts):,})", ("", "ms", ""), (
        (name, f"{1000 * taken:.1f}", f"{slowest / taken:.2f}x") for name, taken in middle.items()
    ))  # fmt: skip


def accuracy(
    fp32: Classifier, int8: predict.Model, texts: list[str], labels: np.ndarray, kept: record.Record
) -> None:
    """Print the accuracy of both, and the loss by int8."""
    predicted = {name: model.logits(model.encode(texts)).argmax(axis=1)
                 for name, model in (("fp32", fp32), ("int8", int8))}  # fmt: skip
    right = {name: float((classes == labels).mean()) for name, classes in predicted.items()}
    kept.table(f"Test set, {len(texts):,} documents", ("", "accuracy"),
                  ((name, f"{share:.4f}") for name, share in right.items()))  # fmt: skip
    kept.say(f"int8 loses {100 * (right['fp32'] - right['int8']):.2f} points; "
                f"{(predicted['fp32'] == predicted['int8']).mean():.2%} of predictions agree")  # fmt: skip


def timed(run: Callable[[], object]) -> float:
    """Return the seconds that ``run`` takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    console.run(main)
