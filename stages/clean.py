"""Repair the text, drop duplicates and train/test leaks, split off the validation set.

    python -m stages.clean

The test set gets the same text steps and is otherwise left as it was released. Every document dropped
from train, or from a validation set that the corpus has, is in data/clean/dropped.parquet with its
reason: rows in = rows out + rows dropped. Documents are processed in the order of their ids, which come
from their content: the order of the rows in the corpus file changes nothing.

- ``empty``: the text is empty after repair.
- ``leak``: a near-duplicate of a test document.
- ``in_validation``: a near-duplicate of a document in the validation set that the corpus has.
- ``duplicate``: the same text as another document with the same label.
- ``other_label``: the same text as others, most of which have another label.
- ``conflicting_labels``: the same text with several labels, none of them in the majority; all are dropped.
- ``near_duplicate``: a near-duplicate of a document with a smaller id (only if ``clean.drop_near_duplicates``).

From such a validation set only ``empty`` documents and ``leak`` go.
A label in data/corrections.csv counts as certain: it decides between copies with different labels.
"""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from cleantune import console, files
from cleantune.data import cleaning_report, tables
from cleantune.data.leaving import find_leaving
from cleantune.data.prepared_texts import merged, prepare_tables
from cleantune.data.text_repair import decide_steps
from cleantune.data.validation_split import choose_validation
from cleantune.errors import UserError
from cleantune.labels import corrections
from cleantune.params.read import read_params

PARAMS = ("seed", "clean")
COLUMNS = (*tables.TEXT_COLUMNS, "group")
DROPPED_COLUMNS = ("id", "split", "title", "text", "label", "reason", "duplicate_of")


def main() -> None:
    """Write ``data/clean/{train,validation,test,dropped}.parquet``, ``summary.json``, ``text_steps.json``.

    Raises ``UserError`` for corrections that do not fit the data, and when too few documents
    or classes are left to split.
    """
    params = read_params(PARAMS)
    console.title("clean", "repair the text, find duplicates and leaks, split off validation")

    # Read
    given = [
        s for s in tables.SPLITS if s != "validation" or (tables.RAW / f"{s}.parquet").is_file()
    ]
    raw = {s: tables.read_table(tables.RAW / f"{s}.parquet", tables.TEXT_COLUMNS, metadata=True)
           .sort_values("id", ignore_index=True) for s in given}  # fmt: skip
    source = files.read_json(tables.SOURCE)
    classes: list[str] = source["labels"]
    corrected = corrections.read_corrections(
        corrections.CORRECTIONS, raw["train"], classes, source["dataset"]
    )
    cleaning_report.say_what_was_read(raw, len(corrected))

    # Repair; duplicates are found in repaired texts even if clean.repair is off: markup would hide copies
    whole = raw | {"train": corrections.apply(raw["train"], corrected)}
    steps = decide_steps(params.clean, tables.iterate_full_text(raw["train"]))
    if steps.repair and steps.ag_news_artifacts:
        console.say("AG News artifacts (such as #39;) are repaired: clean.ag_news_artifacts")
    prepared = prepare_tables(whole, steps, params.clean)
    cleaning_report.say_if_many_copies(np.concatenate([p.released for p in prepared.values()]))
    repairs = merged([p.repairs for p in prepared.values()]) if steps.repair else {}

    # Find duplicates
    certain = whole["train"]["id"].isin(corrected["id"]).to_list()
    leaving = find_leaving(whole, prepared, certain, params.clean)
    for split, table in whole.items():
        known = prepared[split]
        whole[split] = table.assign(
            title=known.titles.to_pandas(),
            text=known.texts.to_pandas(),
            group=leaving.group if split == "train" else table["id"],
            nearly_empty=known.nearly_empty,
        )
    removed = pd.concat([
        whole[split].iloc[sorted(why)].assign(
            split=split,
            reason=[why[i][0] for i in sorted(why)],
            duplicate_of=[why[i][1] for i in sorted(why)],
        ) for split, why in leaving.reasons.items()
    ])  # fmt: skip
    kept = {split: whole[split].drop(index=list(why)) for split, why in leaving.reasons.items()}

    # Split
    train, test = whole["train"], whole["test"]
    reasons = {split: dict(sorted(Counter(removed["reason"][removed["split"] == split]).items()))
               for split in kept}  # fmt: skip
    _raise_if_too_few(kept, len(train), reasons)
    if "validation" not in kept:
        held_out = choose_validation(kept["train"], params.clean.validation_share, params.seed)
        splits = {"train": kept["train"][~held_out], "validation": kept["train"][held_out]}
    else:
        splits = kept
    splits = splits | {"test": test}

    # Write
    sizes, mixed = _near_duplicate_groups(kept["train"])
    ids, labels = train["id"].to_list(), train["label"].to_list()
    test_labels = test["label"].to_list()
    summary = {
        "dataset": source["dataset"],
        "rows": {split: {"in": len(whole[split]), "out": len(kept.get(split, test)),
                         "dropped": len(leaving.reasons.get(split, ()))} for split in given},
        "classes": {name: {s: int((t["label"] == i).sum()) for s, t in splits.items()}
                    for i, name in enumerate(classes)},
        "dropped": reasons["train"],
        "corrections": {
            "given": len(corrected),
            "changed_a_label": int((train["label"] != raw["train"]["label"]).sum()),
        },
        "near_duplicates": sizes,
        "leaks_with_another_label": sum(labels[i] != test_labels[j] for i, j in leaving.leaks),
        "empty_test_documents": int(prepared["test"].empty.sum()),
        "two_labels": {
            "same_text": [{"id": [ids[i] for i in rows], "label": [labels[i] for i in rows]}
                          for rows in leaving.conflicts],
            "near_duplicates": mixed,
        },
        "repairs": repairs,
    }  # fmt: skip
    if "validation" in reasons:
        summary["dropped_from_validation"] = reasons["validation"]
    nearly_empty = {split: int(table["nearly_empty"].sum()) for split, table in splits.items()}
    if any(nearly_empty.values()):
        summary["nearly_empty"] = nearly_empty
    with files.atomic_folder(tables.CLEAN) as part:
        for name, table in splits.items():
            columns = tables.with_metadata(COLUMNS, table)
            tables.write_table(part / f"{name}.parquet", table, columns)
        columns = tables.with_metadata(DROPPED_COLUMNS, removed)
        tables.write_table(part / "dropped.parquet", removed, columns)
        files.write_json(part / "summary.json", summary)
        files.write_json(part / tables.TEXT_STEPS.name, steps.model_dump())
    cleaning_report.report(summary, classes)
    console.outputs(tables.CLEAN)


def _raise_if_too_few(
    kept: dict[str, pd.DataFrame], documents: int, reasons: dict[str, dict[str, int]]
) -> None:
    """Raise ``UserError`` where too little is left to learn from or to choose the best epoch by."""
    if kept["train"]["label"].nunique() < 2:
        raise UserError(
            f"{len(kept['train']):,} of {documents:,} training documents are left, of "
            f"{kept['train']['label'].nunique()} class. Check data/raw/train.parquet; "
            f"dropped: {reasons['train']}."
        )
    if "validation" in kept and kept["validation"].empty:
        raise UserError(
            "No validation document is left. Check data/raw/validation.parquet; "
            f"dropped: {reasons['validation']}. Without a validation file "
            "clean.validation_share of the training documents are held out."
        )


def _near_duplicate_groups(kept: pd.DataFrame) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Return how many near-duplicates there are, and which of their groups have several labels."""
    several = kept[kept["group"].duplicated(keep=False)]
    found: dict[str, dict[str, Any]] = {}
    for group, name, label in zip(
        *(several[c].to_list() for c in ("group", "id", "label")), strict=True
    ):
        rows = found.setdefault(group, {"id": [], "label": []})
        rows["id"].append(name)
        rows["label"].append(label)
    groups = [*found.values()]
    sizes = {
        "groups": len(groups),
        "documents": len(several),
        "largest": max((len(group["id"]) for group in groups), default=1),
    }
    return sizes, [group for group in groups if len(set(group["label"])) > 1]


if __name__ == "__main__":
    console.run(main)
