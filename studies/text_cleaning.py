"""Accuracy of models trained on differently cleaned text.

    python -m studies.text_cleaning                                     (after `dvc repro pretrain`)
    python -m studies.text_cleaning --models tfidf --seeds 0            (quick)

The same documents, validation split and models; only the text differs, in training and test alike:

- raw: as released;
- repaired: entities, markup, encoding and spaces repaired, the default of stages.clean;
- article: repaired, then lower case, stop words and punctuation removed.

``pipeline`` is ``repaired`` trained on what stages.clean keeps: without copies and leaks. Each model
is trained by its own stage in a temporary folder, with the params of params.yaml.
"""

import argparse

import numpy as np
import pandas as pd

from cleantune import console
from cleantune.data import tables
from cleantune.data.text_repair import has_ag_news_artifacts, prepare
from cleantune.errors import UserError
from cleantune.params.sections import TextSteps
from studies.arguments import names, numbers
from studies.stage_runs import accuracies, spread
from tools import record

RECIPES = ("raw", "repaired", "article", "pipeline")
MODELS = ("tfidf", "lstm", "transformer")
VALIDATION_SHARE = 0.05
MIN_DOCUMENTS = 20  # one of them for validation


def main() -> None:
    """Train every model on every recipe with every seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=names, default=list(MODELS))
    parser.add_argument("--recipes", type=names, default=list(RECIPES))
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=2, help="of the transformer")
    parser.add_argument("--documents", type=int, help="train on so many; another choice every seed")
    record.add_option(parser)
    options = parser.parse_args()
    results = record.Record(options.keep)
    for name, chosen, known in (
        ("--models", options.models, MODELS),
        ("--recipes", options.recipes, RECIPES),
    ):
        if wrong := set(chosen) - set(known):
            raise UserError(f"{name}: {', '.join(sorted(wrong))}; known: {', '.join(known)}.")
    splits = {
        split: tables.read_table(tables.RAW / f"{split}.parquet") for split in ("train", "test")
    }
    kept = {
        name: tables.read_table(tables.CLEAN / f"{name}.parquet", ("id",))
        for name in ("train", "validation")
    }
    rows_kept = set(pd.concat(kept.values())["id"])

    most = min(len(rows_kept if r == "pipeline" else splits["train"]) for r in options.recipes)
    if options.documents is not None and not MIN_DOCUMENTS <= options.documents <= most:
        raise UserError(f"--documents: {options.documents}; allowed: {MIN_DOCUMENTS} to {most:,}.")

    artifacts = has_ag_news_artifacts(tables.full_text(splits["train"]))
    rows = []
    for recipe in options.recipes:
        cleaned = {split: with_text(table, recipe, artifacts) for split, table in splits.items()}
        if recipe == "pipeline":
            cleaned["train"] = cleaned["train"][cleaned["train"]["id"].isin(rows_kept)]
        accuracy_by_model: dict[str, list[float]] = {model: [] for model in options.models}
        for seed in options.seeds:
            train = cleaned["train"]
            if options.documents:
                train = train.sample(options.documents, random_state=seed).sort_index()
            accuracies = measure(cleaned | {"train": train}, options.models, seed, options.epochs)
            for model, accuracy in accuracies.items():
                accuracy_by_model[model].append(accuracy)
                console.say(f"{recipe}, seed {seed}, {model}: {accuracy:.4f}")
        rows.append(
            (recipe, f"{len(train):,}", *(spread(accuracy_by_model[m]) for m in options.models))
        )
    results.table(
        f"accuracy on {len(splits['test']):,} test documents, {len(options.seeds)} seed(s)",
        ("text", "documents", *options.models),
        rows,
    )


def with_text(table: pd.DataFrame, recipe: str, ag_news_artifacts: bool) -> pd.DataFrame:
    """Return the table with its texts cleaned by a recipe."""
    simplest = recipe == "article"
    steps = TextSteps(repair=recipe != "raw", ag_news_artifacts=ag_news_artifacts, lowercase=simplest,
                      strip_punctuation=simplest, remove_stop_words=simplest)  # fmt: skip
    texts = table[["title", "text"]].map(prepare, options=steps)
    return table.assign(**texts)


def measure(
    splits: dict[str, pd.DataFrame], models: list[str], seed: int, epochs: int
) -> dict[str, float]:
    """Return the test accuracy of each model, trained by its stage in a folder of its own."""
    train, test = splits["train"].assign(group=splits["train"]["id"]), splits["test"]
    held_out = np.random.default_rng(seed).permutation(len(train)) < VALIDATION_SHARE * len(train)
    held = {
        "train": train[~held_out].assign(weight=1.0),
        "validation": train[held_out],
        "test": test,
    }
    return accuracies(held, models, {"seed": seed, "epochs": epochs})


if __name__ == "__main__":
    console.run(main)
