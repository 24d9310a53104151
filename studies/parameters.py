"""Accuracy and macro-F1 of models trained with different parameters.

    python -m studies.parameters epochs=3 epochs=15                    (after `dvc repro tokenize_text`)
    python -m studies.parameters long_documents=head "long_documents=chunks lr=5e-5" --seeds 0,1

Each argument is a variant: one change of params.yaml or several, with blanks between them. The documents
are those of the pipeline; the validation set selects the epoch, the test set is read at the end. The same
seeds train every variant; the points of macro-F1 ahead of the first one are paired by seed.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from cleantune import console
from cleantune.data import tables
from cleantune.errors import UserError
from studies.arguments import numbers
from studies.stage_runs import furnish, gain, run, scores, spread
from tools import record

INPUTS = [
    tables.LABELS / "train.parquet",
    *(tables.CLEAN / f"{s}.parquet" for s in ("validation", "test")),
]


class Run(NamedTuple):
    """What is measured of a fine-tuned model."""

    macro_f1: float
    """On test, as ``accuracy``."""
    accuracy: float
    on_validation: float
    """Macro-F1."""
    minutes: float
    """Of fine-tuning."""


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

    runs: dict[str, list[Run]] = {text: [] for text in variants}
    for seed in options.seeds:
        for text, changes in variants.items():
            found = measure({**changes, "seed": seed})
            runs[text].append(found)
            console.say(f"seed {seed}, {text}: macro-F1 {found.macro_f1:.4f} (validation "
                        f"{found.on_validation:.4f}), accuracy {found.accuracy:.4f}")  # fmt: skip
    by_variant = {text: [r.macro_f1 for r in of] for text, of in runs.items()}
    first = by_variant[options.variants[0]]
    kept.table(
        f"{sizes['train']:,} documents of {tables.dataset_name()}, {sizes['validation']:,} validation, "
        f"{sizes['test']:,} test; {len(options.seeds)} seed(s)",
        ("variant", "macro-F1", "accuracy", "points of F1", "minutes"),
        [(text, spread(by_variant[text]), f"{statistics.mean(r.accuracy for r in of):.4f}",
          "" if by_variant[text] is first else gain(by_variant[text], first),
          f"{statistics.mean(r.minutes for r in of):.1f}") for text, of in runs.items()],
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


def measure(changes: dict[str, Any]) -> Run:
    """Fine-tune a model in a new folder and measure it there."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        furnish(folder, changes, INPUTS)
        run("tokenize_text", folder)
        start = time.perf_counter()
        run("finetune", folder)
        minutes = (time.perf_counter() - start) / 60
        found = scores(folder, ("validation", "test"))
        test = found["test"]
        return Run(test["macro_f1"], test["accuracy"], found["validation"]["macro_f1"], minutes)


if __name__ == "__main__":
    console.run(main)
