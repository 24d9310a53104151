"""Measure our fine-tuning beside what a person would run instead.

    python -m benchmarks.finetune                  (the documents of data/tokens, MiniLM)
    python -m benchmarks.finetune --steps 3 --rounds 3   (a quick look)

Every contender trains the same model on the same documents with the same global batch: rounds of a
few steps each, taken in turns so that a machine that slows down slows all of them; the median over
rounds counts, the first round of each is warm-up. ``share`` is the rate of useful arithmetic (six
operations a weight of a layer and real token) over what the machine's own matrix product reaches
in the same run.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from stages.common import batches, console, corpus, distributed, encoder, optimizers, training
from stages.common.params import read_params

READS = ("seed", "lr", "batch_size", "max_length", "finetune")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=6, help="optimizer steps a round")
    parser.add_argument("--rounds", type=int, default=6, help="rounds, the first is warm-up")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    params = read_params(READS)
    distributed.prepare(params.seed)

    # ---- the same documents for all
    data = batches.TokenDataset(corpus.read_table(corpus.TOKENS / "train.parquet"))
    rng = np.random.default_rng(params.seed)
    shuffled = [
        rng.choice(len(data), params.batch_size, replace=False) for _ in range(options.steps)
    ]
    grouped = batches.plan(data.lengths, params.batch_size, params.seed, 0)[: options.steps]

    # ---- the contenders
    contenders: dict[str, Callable[[], float]] = {}
    tokens: dict[str, tuple[int, int]] = {}
    cases: list[tuple[str, list[Any], int | None, bool, bool]] = [
        ("pad to max_length, fp32", shuffled, params.max_length, False, False),
        ("dynamic padding, fp32", shuffled, None, False, False),
        ("dynamic padding, bf16", shuffled, None, True, False),
        ("grouped, bf16, plain loop", grouped, None, True, False),
        ("ours: grouped, bf16, DeepSpeed", grouped, None, True, True),
    ]
    for name, rows, width, bf16, ours in cases:
        made = [collate(data, batch, width) for batch in rows]
        padded = sum(batch["input_ids"].numel() for batch in made)
        tokens[name] = (int(sum(data.lengths[batch].sum() for batch in rows)), padded)
        build = with_deepspeed if ours else plain
        contenders[name] = build(params, made, bf16 and distributed.bf16_is_fast())

    # ---- in turns
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    rates: list[float] = []
    with console.Bar("measuring", options.rounds * len(contenders)) as bar:
        for _ in range(options.rounds):
            rates.append(matrix_rate())
            for name, run in contenders.items():
                seconds[name].append(run())
                bar.advance()

    # ---- the table
    peak, weights = statistics.median(rates[1:]), layer_weights()
    results = []
    for name, times in seconds.items():
        middle = statistics.median(times[1:])
        real, padded = tokens[name]
        results.append({"contender": name, "documents_per_second": options.steps * params.batch_size / middle,
                        "padding": padded / real, "share": 6 * weights * real / middle / peak})  # fmt: skip
    if options.json:
        sys.stdout.write(json.dumps({"matrix_gflops": peak / 1e9, "results": results}) + "\n")
        return
    ours_rate = results[-1]["documents_per_second"]
    rows = [(r["contender"], f"{r['documents_per_second']:.1f}", f"{ours_rate / r['documents_per_second']:.2f}x",
             f"{r['padding']:.3f}", f"{100 * r['share']:.0f} %") for r in results]  # fmt: skip
    columns = ("", "documents/s", "ours is", "tokens a real one", "of the matrix product")
    console.table(
        f"Fine-tuning, {options.rounds - 1} rounds of {options.steps} steps", columns, rows
    )
    console.say(f"matrix product: {peak / 1e9:.0f} GFLOP/s; threads: {torch.get_num_threads()}")


def collate(data: batches.TokenDataset, rows: Any, width: int | None) -> dict[str, torch.Tensor]:
    """Return one batch, padded to its longest document or to ``width`` tokens."""
    batch = batches.Collator(data, 0)([(int(row), 1 / len(rows), 0) for row in rows])
    batch.pop("rows")
    if width:
        missing = width - batch["input_ids"].shape[1]
        for name in ("input_ids", "attention_mask"):
            batch[name] = torch.nn.functional.pad(batch[name], (0, missing))
    return batch


def model(bf16: bool) -> Any:
    """Return a fresh classifier."""
    built = AutoModelForSequenceClassification.from_pretrained(
        encoder.pretrained_folder(), num_labels=len(corpus.label_names())
    )
    if bf16:
        training.autocast_to_bf16(built)
    return built.to("cuda" if torch.cuda.is_available() else "cpu").train()


def plain(params: Any, made: list[dict[str, torch.Tensor]], bf16: bool) -> Callable[[], float]:
    """Return a function that runs ``made`` through a loop of plain PyTorch and takes its time."""
    built = model(bf16)
    optimizer = optimizers.build(built, params.lr, params.finetune)

    def run() -> float:
        start = clock()
        for batch in made:
            loss = loss_of(built, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(built.parameters(), params.finetune.max_gradient_norm)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()
        return clock() - start

    return run


def with_deepspeed(
    params: Any, made: list[dict[str, torch.Tensor]], bf16: bool
) -> Callable[[], float]:
    """Return a function that runs ``made`` through the engine as the stage sets it up."""
    import deepspeed

    built = model(bf16)
    config = {"train_batch_size": params.batch_size, "zero_optimization": {"stage": 2},
              "gradient_clipping": params.finetune.max_gradient_norm,
              "zero_allow_untested_optimizer": True}  # fmt: skip
    engine, *_ = deepspeed.initialize(
        model=built, optimizer=optimizers.build(built, params.lr, params.finetune), config=config
    )

    def run() -> float:
        start = clock()
        for batch in made:
            loss = loss_of(engine, batch)
            engine.backward(loss)
            engine.step()
            loss.item()
        return clock() - start

    return run


def loss_of(forward: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the mean loss of one batch."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = {name: value.to(device) for name, value in batch.items()}
    logits = forward(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return torch.nn.functional.cross_entropy(logits.float(), batch["labels"])


def clock() -> float:
    """Return seconds, with nothing left running on the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def matrix_rate(size: int = 2048, times: int = 5) -> float:
    """Return the operations a second of a square matrix product in the precision we train in."""
    precision = torch.bfloat16 if distributed.bf16_is_fast() else torch.float32
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left = torch.randn(size, size, dtype=precision, device=device)
    left @ left
    start = clock()
    for _ in range(times):
        left @ left
    return times * 2 * size**3 / (clock() - start)


def layer_weights() -> int:
    """Return the number of weights that every token is multiplied with."""
    built = model(bf16=False)
    named: Iterator[tuple[str, torch.nn.Parameter]] = built.named_parameters()
    return sum(p.numel() for n, p in named if p.dim() == 2 and optimizers.BLOCK.search(n))


if __name__ == "__main__":
    if not Path("params.yaml").is_file():
        console.fail("run from the repository's top folder, after `dvc repro tokenize_text`")
    console.run(main)
