"""Repair the text, drop duplicates and train/test leaks, split off the validation set.

    python -m stages.clean

The test set gets the same text steps and is otherwise left as it was released. Every dropped
training document is in data/clean/dropped.parquet with its reason:
rows in = rows out + rows dropped. Documents are processed in the order of their ids, which come
from their content: the order of the rows in the corpus file changes nothing.

- ``empty``: the text is empty after repair.
- ``leak``: a near-duplicate of a test document.
- ``duplicate``: the same text as another document with the same label.
- ``other_label``: the same text as others, most of which have another label.
- ``conflicting_labels``: the same text with several labels, none of them in the majority; all are dropped.
- ``near_duplicate``: a near-duplicate of a document with a smaller id (only if ``clean.drop_near_duplicates``).

A label in data/corrections.csv counts as certain: it decides between copies with different labels.
"""

from collections import Counter
from typing import Any

import pandas as pd

from cleantune import console, files
from cleantune.data import class_tables, tables
from cleantune.data.near_duplicates import Shingles, Similar, drop_copies
from cleantune.data.text_repair import decide_steps, prepare, repair_tables
from cleantune.data.validation_split import choose_validation
from cleantune.errors import UserError
from cleantune.labels import corrections
from cleantune.params.read import read_params

PARAMS = ("seed", "clean")
TEXTS = ["title", "text"]
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
    raw = {s: tables.read_table(tables.RAW / f"{s}.parquet", tables.TEXT_COLUMNS).sort_values(
           "id", ignore_index=True) for s in ("train", "test")}  # fmt: skip
    source = files.read_json(tables.SOURCE)
    classes: list[str] = source["labels"]
    corrected = corrections.read_corrections(
        corrections.CORRECTIONS, raw["train"], classes, source["dataset"]
    )
    console.say(f"read {len(raw['train']):,} training and {len(raw['test']):,} test documents, "
                f"{len(corrected):,} corrections")  # fmt: skip

    # Repair
    train, test = corrections.apply(raw["train"], corrected), raw["test"].copy()
    released = [table[TEXTS].copy() for table in (train, test)]
    steps = decide_steps(params.clean, tables.full_text(raw["train"]))
    if steps.repair and steps.ag_news_artifacts:
        console.say("AG News artifacts (such as #39;) are repaired: clean.ag_news_artifacts")
    repairs = repair_tables((train, test), steps.ag_news_artifacts is True)
    others = steps.model_copy(update={"repair": False})
    for table in (train, test):
        table[TEXTS] = table[TEXTS].map(prepare, options=others)

    # Find duplicates, in repaired texts even if clean.repair is off: markup would hide copies
    texts = tables.full_text(train) + tables.full_text(test)
    if not params.clean.repair:
        repairs = {}
        for table, own in zip((train, test), released, strict=True):
            table[TEXTS] = own.map(prepare, options=others)
    n = len(train)
    similar = Similar(Shingles(texts), params.clean.near_duplicate_jaccard)
    # Row of the training table to reason and the id it is a duplicate of.
    dropped = {i: ("empty", "") for i in range(n) if not texts[i]}
    present = [i for i in range(n) if i not in dropped]
    in_test = [n + i for i in range(len(test)) if texts[n + i]]
    leaks = similar.nearest(present, in_test)
    dropped |= {i: ("leak", test["id"].iloc[j - n]) for i, (j, _) in leaks.items()}
    present = [i for i in present if i not in leaks]
    certain = train["id"].isin(corrected["id"])
    copies, conflicts = drop_copies(texts, train["label"].to_list(), certain.to_list(), present)
    dropped |= {i: (reason, train["id"].iloc[j]) for i, (reason, j) in copies.items()}
    group = similar.groups([i for i in present if i not in dropped])
    if params.clean.drop_near_duplicates:
        dropped |= {i: ("near_duplicate", train["id"].iloc[f]) for i, f in group.items() if i != f}
    labels_changed = int((train["label"] != raw["train"]["label"]).sum())
    train["group"] = [train["id"].iloc[group.get(i, i)] for i in range(n)]
    test["group"] = test["id"]
    removed, kept = train.iloc[sorted(dropped)], train.drop(index=list(dropped))
    removed = removed.assign(
        split="train",
        reason=[dropped[i][0] for i in removed.index],
        duplicate_of=[dropped[i][1] for i in removed.index],
    )

    # Split
    if kept["label"].nunique() < 2:
        raise UserError(
            f"{len(kept):,} of {n:,} training documents are left, of "
            f"{kept['label'].nunique()} class. Check data/raw/train.parquet; "
            f"dropped: {dict(Counter(reason for reason, _ in dropped.values()))}."
        )
    held_out = choose_validation(kept, params.clean.validation_share, params.seed)
    splits = {"train": kept[~held_out], "validation": kept[held_out], "test": test}

    # Write
    sizes, mixed = _near_duplicate_groups(kept)
    summary = {
        "dataset": source["dataset"],
        "rows": {
            "train": {"in": n, "out": len(kept), "dropped": len(removed)},
            "test": {"in": len(test), "out": len(test), "dropped": 0},
        },
        "classes": {name: {s: int((t["label"] == i).sum()) for s, t in splits.items()}
                    for i, name in enumerate(classes)},
        "dropped": dict(sorted(Counter(removed["reason"]).items())),
        "corrections": {"given": len(corrected), "changed_a_label": labels_changed},
        "near_duplicates": sizes,
        "leaks_with_another_label": sum(
            int(train["label"].iloc[i] != test["label"].iloc[j - n]) for i, (j, _) in leaks.items()
        ),
        "empty_test_documents": len(test) - len(in_test),
        "two_labels": {
            "same_text": [train.iloc[rows][["id", "label"]].to_dict("list") for rows in conflicts],
            "near_duplicates": mixed,
        },
        "repairs": repairs,
    }  # fmt: skip
    with files.atomic_folder(tables.CLEAN) as part:
        for name, table in splits.items():
            tables.write_table(part / f"{name}.parquet", table, COLUMNS)
        tables.write_table(part / "dropped.parquet", removed, DROPPED_COLUMNS)
        files.write_json(part / "summary.json", summary)
        files.write_json(part / tables.TEXT_STEPS.name, steps.model_dump())
    _report(summary, classes)
    console.outputs(tables.CLEAN)


def _near_duplicate_groups(kept: pd.DataFrame) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Return how many near-duplicates there are, and which of their groups have several labels."""
    several = kept[kept.groupby("group")["group"].transform("size") > 1]
    groups = [
        rows[["id", "label"]].to_dict("list") for _, rows in several.groupby("group", sort=False)
    ]
    sizes = {
        "groups": len(groups),
        "documents": len(several),
        "largest": max((len(group["id"]) for group in groups), default=1),
    }
    return sizes, [group for group in groups if len(set(group["label"])) > 1]


def _report(summary: dict[str, Any], classes: list[str]) -> None:
    """Print the counts of the summary as tables."""
    repaired = [(k, v["documents"]) for k, v in summary["repairs"].items() if v["documents"]]
    console.table("Repairs", ("kind", "documents"), repaired)
    console.table("Dropped from train", ("reason", "documents"), list(summary["dropped"].items()))
    mixed = summary["two_labels"]
    console.say(
        f"near-duplicates kept: {summary['near_duplicates']['documents']:,} documents in "
        f"{summary['near_duplicates']['groups']:,} groups; with two labels: "
        f"{len(mixed['same_text']):,} identical texts, {len(mixed['near_duplicates']):,} near-duplicate groups"
    )
    class_tables.print_counts(
        "Documents by class",
        ("class", "train", "validation", "test"),
        [(name, *summary["classes"][name].values()) for name in classes],
        f"{tables.CLEAN}/summary.json",
    )
    for split in ("train", "validation", "test"):
        absent = [name for name in classes if not summary["classes"][name][split]]
        if absent:
            console.say(f"note: no document of {class_tables.listed(absent)} in {split}")


if __name__ == "__main__":
    console.run(main)
