"""Continued pretraining: perplexity, and accuracy after fine-tuning.

    python -m studies.pretraining --epochs 2                      (after `dvc repro tokenize_text`)
    python -m studies.pretraining --epochs 2 --documents 6000     (fewer labelled documents)

stages.pretrain continues pretraining of the base model on all training text, once. Then both models are
fine-tuned by stages.finetune with each seed on the same documents; the validation set selects the
epoch, the test set is read at the end. All else is as in params.yaml.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from scipy import stats

from cleantune import console, files
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.models import encoder
from studies.arguments import numbers
from studies.stage_runs import fine_tuned, furnish, run, spread
from tools import record

SPLITS = ("validation", "test")


def main() -> None:
    """Pretrain, fine-tune both models with every seed, print the table and the difference."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=2, help="of pretraining")
    parser.add_argument("--lr", type=float, help="of pretraining; default: as in params.yaml")
    parser.add_argument("--documents", type=int, help="labelled ones; default: all")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2])
    record.add_option(parser)
    options = parser.parse_args()
    kept = record.Record(options.keep)
    train = tables.read_table(tables.LABELS / "train.parquet")
    documents = len(train) if options.documents is None else options.documents
    if options.epochs < 1 or not 0 < documents <= len(train):
        raise UserError(f"--epochs: 1 or more; --documents: 1 to {len(train):,}.")
    if not (encoder.PRETRAINED / encoder.POINTER).is_file():
        raise UserError(f"{encoder.PRETRAINED} is not the base model: set pretrain.epochs to 0 and run "
                        "`dvc repro pretrain`.")  # fmt: skip
    labels = tables.LABELS / "train.parquet"
    texts = [tables.CLEAN / f"{split}.parquet" for split in SPLITS]
    rate = {"pretrain.lr": options.lr} if options.lr is not None else {}

    accuracy_by_start: dict[str, dict[str, list[float]]] = {
        start: {split: [] for split in SPLITS} for start in ("base model", "pretrained")
    }
    with tempfile.TemporaryDirectory() as temporary:
        pretrained = Path(temporary) / "pretrain"
        furnish(pretrained, {"pretrain.epochs": options.epochs, **rate}, [labels, *texts])
        run("fetch_models", pretrained)
        run("pretrain", pretrained)
        perplexity = files.read_json(pretrained / encoder.PRETRAINED / "pretraining.json")
        kept.say(f"perplexity on validation: {perplexity['perplexity_before']:.1f} "
                    f"before, {perplexity['perplexity_after']:.1f} after")  # fmt: skip
        for seed in options.seeds:
            rows = np.sort(np.random.default_rng(seed).permutation(len(train))[:documents])
            for start, accuracies in accuracy_by_start.items():
                folder = Path(temporary) / f"{start}-{seed}"
                source = pretrained if start == "pretrained" else Path()
                furnish(folder, {"seed": seed}, texts, source)
                tables.write_table(folder / labels, train.iloc[rows], tuple(train.columns))
                for split, accuracy in fine_tuned(folder, SPLITS).items():
                    accuracies[split].append(accuracy)
                scores = ", ".join(f"{split} {accuracies[split][-1]:.4f}" for split in SPLITS)
                console.say(f"seed {seed}, {start}: {scores}")
    kept.table(
        f"accuracy after fine-tuning on {documents:,} documents, {len(options.seeds)} seed(s)",
        ("from", *SPLITS),
        [
            (start, *(spread(by[split]) for split in SPLITS))
            for start, by in accuracy_by_start.items()
        ],
    )
    for split in SPLITS:
        gains = 100 * np.subtract(
            accuracy_by_start["pretrained"][split], accuracy_by_start["base model"][split]
        )
        kept.say(f"{split}: {gains.mean():+.2f} points{_interval(gains)}")


def _interval(gains: np.ndarray) -> str:
    """Return Student's 95 % interval of the mean over seeds, in words; nothing for one seed."""
    if len(gains) < 2:
        return ""
    half = stats.t.ppf(0.975, len(gains) - 1) * stats.sem(gains)
    return f" (95 % over seeds: {gains.mean() - half:+.2f} to {gains.mean() + half:+.2f})"


if __name__ == "__main__":
    console.run(main)
