"""Accuracy and macro-F1 of models trained with different parameters.

    python -m studies.parameters epochs=3 epochs=15                    (after `dvc repro tokenize_text`)
    python -m studies.parameters long_documents=head "long_documents=chunks lr=5e-5" --seeds 0,1

Each argument is a variant: one change of params.yaml or several, with blanks between them. The documents
are those of the pipeline; the validation set selects the epoch, the test set is read at the end. The same
seeds train every variant; the points of macro-F1 ahead of the first one are paired by seed.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from cleantune import console
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.evaluation import metrics
from cleantune.models import classifier
from studies.arguments import numbers
from studies.stage_runs import furnish, run, spread
from tools import record

INPUTS = [
    tables.LABELS / "train.parquet",
    *(tables.CLEAN / f"{s}.parquet" for s in ("validation", "test")),
]


def main() -> None:
    """Train every variant with every seed; print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("variants", nargs="+", metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2])
    record.add_option(parser)
    options = parser.parse_args()
    kept = record.Record(options.keep)
    variants = {text: changes_of(text) for text in options.variants}
    sizes = {path.stem: len(tables.read_table(path, ("id",))) for path in INPUTS}

    runs: dict[str, list[dict[str, float]]] = {text: [] for text in variants}
    for seed in options.seeds:
        for text, changes in variants.items():
            runs[text].append(measure({**changes, "seed": seed}))
            last = runs[text][-1]
            console.say(f"seed {seed}, {text}: macro-F1 {last['test macro-F1']:.4f} (validation "
                        f"{last['validation macro-F1']:.4f}), accuracy {last['test accuracy']:.4f}")  # fmt: skip
    first = runs[options.variants[0]]
    kept.table(
        f"{sizes['train']:,} documents of {tables.dataset_name()}, {sizes['validation']:,} validation, "
        f"{sizes['test']:,} test; {len(options.seeds)} seed(s)",
        ("variant", "macro-F1", "accuracy", "points of F1", "minutes"),
        [(text, spread([r["test macro-F1"] for r in found]), f"{np.mean([r['test accuracy'] for r in found]):.4f}",
          "" if found is first else _gain(found, first),
          f"{np.mean([r['minutes'] for r in found]):.1f}") for text, found in runs.items()],
        prose=("variant",),
    )  # fmt: skip


def changes_of(text: str) -> dict[str, Any]:
    """Return the changes that a variant such as ``epochs=3 lr=1e-4`` stands for, by dotted key.

    Raises ``UserError`` for a text without ``=``.
    """
    changes = {}
    for change in text.split():
        key, equals, value = change.partition("=")
        if not (key and equals):
            raise UserError(f"{text}: a variant is KEY=VALUE, or several with blanks between them.")
        changes[key] = YAML(typ="safe").load(value)
    return changes


def measure(changes: dict[str, Any]) -> dict[str, float]:
    """Return scores and minutes of fine-tuning of a model trained in a new folder."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        furnish(folder, changes, INPUTS)
        run("tokenize_text", folder)
        start = time.perf_counter()
        run("finetune", folder)
        minutes = (time.perf_counter() - start) / 60
        trained = classifier.load(folder / tables.FINETUNED)
        found = {"minutes": minutes}
        for split in ("validation", "test"):
            tokens = tables.read_table(folder / tables.TOKENS / f"{split}.parquet")
            logits = trained.logits(tokens["input_ids"].to_list())
            scores = metrics.accuracy_and_f1(logits, tokens["label"].to_numpy())
            found[f"{split} macro-F1"] = scores["macro_f1"]
            found[f"{split} accuracy"] = scores["accuracy"]
        return found


def _gain(runs: list[dict[str, float]], first: list[dict[str, float]]) -> str:
    """Return the paired difference in test macro-F1 in percentage points."""
    gains = [
        100 * (a["test macro-F1"] - b["test macro-F1"]) for a, b in zip(runs, first, strict=True)
    ]
    deviation = f" ± {np.std(gains, ddof=1):.2f}" if len(gains) > 1 else ""
    return f"{np.mean(gains):+.2f}{deviation}"


if __name__ == "__main__":
    console.run(main)
