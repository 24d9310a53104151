"""Judge augmentation, label smoothing and R-Drop by the accuracy of models trained with them.

    python -m studies.augmentation                                (after `dvc repro tokenize_text`)
    python -m studies.augmentation --documents 500 --methods none,swap --seeds 0    (a quick look)

The training documents of the pipeline, or a random part of them, the same for every method under
one seed; its validation set, or as large a part of it, chooses the epoch, its test set is read at
the end. Every method gets as many optimizer steps: where copies double the documents, the epochs
are halved, and no run ends early. All else is as in params.yaml. A method that the base model
cannot do (``masked`` without a head for guessing words) is left out, and said to be.
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
from studies.stage_runs import fine_tuned, furnish, spread

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
"""Passes over so many documents, where there are no copies: enough to fit the smaller sets, too."""
SPLITS = ("validation", "test")
VALIDATION = tables.CLEAN / "validation.parquet"


def main() -> None:
    """Train with every method on every number of documents with every seed; print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", type=names, default=list(METHODS))
    parser.add_argument("--documents", type=names, default=list(EPOCHS), help="500,2000,all")
    parser.add_argument("--epochs", type=numbers, help="one for each of --documents; even")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2])
    options = parser.parse_args()
    if wrong := set(options.methods) - set(METHODS):
        raise UserError(f"--methods: {', '.join(sorted(wrong))}; known: {', '.join(METHODS)}.")
    train = tables.read_table(tables.LABELS / "train.parquet")
    sizes = {d: len(train) if d == "all" else _size(d, len(train)) for d in options.documents}
    epochs = options.epochs or [EPOCHS.get(d, 4) for d in options.documents]
    if len(epochs) != len(sizes) or any(n < 2 or n % 2 for n in epochs):
        raise UserError("--epochs: an even number for each of --documents, for copies halve it.")
    methods = [m for m in options.methods if m != "masked" or _guesses_words()]

    rows = []
    for (name, size), passes in zip(sizes.items(), epochs, strict=True):
        found: dict[str, list[dict[str, float]]] = {method: [] for method in methods}
        for seed in options.seeds:
            order = np.random.default_rng(seed).permutation(len(train))[:size]
            part = train.iloc[np.sort(order)]
            for method in methods:
                accuracies = measure(part, method, seed, passes)
                found[method].append(accuracies)
                figures = ", ".join(f"{split} {accuracies[split]:.4f}" for split in SPLITS)
                console.say(f"{name} documents, seed {seed}, {method}: {figures}")
        for method, runs in found.items():
            rows.append((f"{size:,}", method, *(spread([r[s] for r in runs]) for s in SPLITS),
                         _gain(runs, found.get("none"))))  # fmt: skip
    console.table(
        f"accuracy, mean and standard deviation of {len(options.seeds)} seed(s)",
        ("documents", "method", *SPLITS, "test, beside none"),
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


def _guesses_words() -> bool:
    """Tell, and say, whether the base model can do ``masked``."""
    folder = encoder.pretrained_folder()
    try:
        copies.masked_language_model(folder, encoder.load_tokenizer(folder))
    except UserError as error:
        console.say(f"masked is left out. {error}")
        return False
    return True


def _gain(runs: list[dict[str, float]], plain: list[dict[str, float]] | None) -> str:
    """Return how far test accuracy is from that without augmentation, seed by seed, in points."""
    if plain is None or plain is runs:
        return ""
    gains = [100 * (a["test"] - b["test"]) for a, b in zip(runs, plain, strict=True)]
    deviation = f" ± {np.std(gains, ddof=1):.2f}" if len(gains) > 1 else ""
    return f"{np.mean(gains):+.2f}{deviation}"


def _size(text: str, documents: int) -> int:
    if not text.isdigit() or not 0 < int(text) <= documents:
        raise UserError(f"--documents: {text!r}; allowed: all, or 1 to {documents}.")
    return int(text)


if __name__ == "__main__":
    console.run(main)
