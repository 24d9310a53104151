"""Accuracy of models trained with augmentation, label smoothing and R-Drop.

    python -m studies.augmentation                                (after `dvc repro tokenize_text`)
    python -m studies.augmentation --documents 500 --methods none,swap --seeds 0    (quick)

The training documents of the pipeline, or a random sample of them, the same for every method with
the same seed; the validation set, or a sample of that size, selects the epoch; the test set is read
at the end. Every method gets the same number of optimizer steps: where copies double the documents,
the epochs are halved; there is no early stopping. Other params are those of params.yaml. ``masked`` is
skipped, with a message, if the base model has no masked-language head.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cleantune import console
from cleantune.augmentation import copies
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.models import encoder
from studies.arguments import names, numbers
from studies.stage_runs import fine_tuned, furnish, gain, spread
from tools import record

METHODS: dict[str, dict[str, Any]] = {
    "none": {},
    "swap": {"augment.method": "swap"},
    "synonyms": {"augment.method": "synonyms"},
    "masked": {"augment.method": "masked"},
    "cutoff": {"augment.method": "cutoff"},
    "label_smoothing": {"finetune.label_smoothing": 0.1},
    "r_drop": {"finetune.r_drop": 1.0},
}
COPIES = 1
COPYING = ("swap", "synonyms", "masked")
EPOCHS = {"500": 12, "2000": 8, "all": 2}
"""Epochs by number of documents, without copies: enough to fit the smaller sets too."""
SPLITS = ("validation", "test")
VALIDATION = tables.CLEAN / "validation.parquet"


def main() -> None:
    """Train with every method on every number of documents with every seed; print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", type=names, default=list(METHODS))
    parser.add_argument("--documents", type=names, default=list(EPOCHS), help="500,2000,all")
    parser.add_argument("--epochs", type=numbers, help="one for each of --documents; even")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2])
    record.add_option(parser)
    options = parser.parse_args()
    kept = record.Record(options.keep)
    if wrong := set(options.methods) - set(METHODS):
        raise UserError(f"--methods: {', '.join(sorted(wrong))}; known: {', '.join(METHODS)}.")
    train = tables.read_table(tables.LABELS / "train.parquet")
    sizes = {d: len(train) if d == "all" else _size(d, len(train)) for d in options.documents}
    epochs = options.epochs or [EPOCHS.get(d, 4) for d in options.documents]
    if len(epochs) != len(sizes) or any(n < 2 or n % 2 for n in epochs):
        raise UserError("--epochs: an even number for each of --documents, for copies halve it.")
    methods = [m for m in options.methods if m != "masked" or _has_masked_language_head()]

    rows = []
    for (name, size), passes in zip(sizes.items(), epochs, strict=True):
        runs_by_method: dict[str, list[dict[str, float]]] = {method: [] for method in methods}
        for seed in options.seeds:
            order = np.random.default_rng(seed).permutation(len(train))[:size]
            part = train.iloc[np.sort(order)]
            for method in methods:
                accuracies = measure(part, method, seed, passes)
                runs_by_method[method].append(accuracies)
                scores = ", ".join(f"{split} {accuracies[split]:.4f}" for split in SPLITS)
                console.say(f"{name} documents, seed {seed}, {method}: {scores}")
        for method, runs in runs_by_method.items():
            rows.append((f"{size:,}", method, *(spread([r[s] for r in runs]) for s in SPLITS),
                         _gain(runs, runs_by_method.get("none"))))  # fmt: skip
    kept.table(
        f"accuracy, mean and standard deviation of {len(options.seeds)} seed(s)",
        ("documents", "method", *SPLITS, "test, difference to none"),
        rows,
        prose=("method",),
    )


def measure(train: pd.DataFrame, method: str, seed: int, epochs: int) -> dict[str, float]:
    """Return the accuracy on each of ``SPLITS`` of a model that the stages train in a new folder."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        columns = (*tables.TEXT_COLUMNS, *(["weight"] if "weight" in train else []))
        tables.write_table(folder / tables.LABELS / "train.parquet", train, columns)
        passes = epochs // (1 + COPIES) if method in COPYING else epochs
        changes = {"seed": seed, "epochs": passes, "augment.copies": COPIES, **METHODS[method]}
        changes["finetune.early_stopping_patience"] = passes
        changes = {"augment.method": "none", **changes}
        furnish(folder, changes, [tables.CLEAN / "test.parquet"])
        validation = tables.read_table(VALIDATION)
        part = validation.sample(min(len(train), len(validation)), random_state=seed).sort_index()
        tables.write_table(folder / VALIDATION, part, tuple(part))
        return fine_tuned(folder, SPLITS)


def _has_masked_language_head() -> bool:
    """Return whether the base model supports ``masked``; print a message if not."""
    folder = encoder.pretrained_folder()
    try:
        copies.masked_language_model(folder, encoder.load_tokenizer(folder))
    except UserError as error:
        console.say(f"masked is skipped. {error}")
        return False
    return True


def _gain(runs: list[dict[str, float]], plain: list[dict[str, float]] | None) -> str:
    """Return the paired difference in test accuracy to no augmentation, in percentage points."""
    if plain is None or plain is runs:
        return ""
    return gain([run["test"] for run in runs], [run["test"] for run in plain])


def _size(text: str, documents: int) -> int:
    if not text.isdigit() or not 0 < int(text) <= documents:
        raise UserError(f"--documents: {text!r}; allowed: all, or 1 to {documents}.")
    return int(text)


if __name__ == "__main__":
    console.run(main)
