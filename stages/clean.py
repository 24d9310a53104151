"""Repair the text, find what stands twice or leaks, and split off the validation set.

    python -m stages.clean

The test set is repaired and otherwise left as it was released. Every training document that goes
is kept in data/clean/dropped.parquet with its reason: rows in = rows out + rows dropped.

- ``empty``: nothing is left after repair.
- ``leak``: a near-duplicate of a test document.
- ``duplicate``: the same words as an earlier document with the same label.
- ``other_label``: the same words as others, most of which carry another label.
- ``conflicting_labels``: the same words under several labels and none has the majority; all go.
- ``near_duplicate``: like an earlier document (only if ``clean.drop_near_duplicates``).

A label in data/corrections.csv counts as certain: it settles which of several copies is right.
"""

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pandas as pd

from stages.common import console, corpus, corrections, files
from stages.common.duplicates import Shingles, Similar, words
from stages.common.errors import UserError
from stages.common.params import Clean, read_params
from stages.common.repair import REPAIRS, repair

READS = ("seed", "clean")
COLUMNS = (*corpus.TEXT_COLUMNS, "group")
DROPPED_COLUMNS = ("id", "split", "title", "text", "label", "reason", "duplicate_of")
EXAMPLES = 3  # of each repair, in the summary
SNIPPET = 60  # characters before and after the place an example shows

Dropped = dict[int, tuple[str, str]]
"""Row of the training table to reason and the id it is a duplicate of ("" if none)."""


def main() -> None:
    """Write ``data/clean/{train,validation,test,dropped}.parquet`` and ``summary.json``.

    Raises ``UserError`` for corrections that do not fit the data, and when too little is left to
    split or to tell two classes apart.
    """
    params = read_params(READS)
    console.title("clean", "repair the text, find duplicates and leaks, split off validation")

    # Read
    raw = {s: corpus.read_table(corpus.RAW / f"{s}.parquet", corpus.TEXT_COLUMNS)
           for s in ("train", "test")}  # fmt: skip
    source = files.read_json(corpus.SOURCE)
    classes: list[str] = source["labels"]
    corrected = corrections.read_corrections(corrections.CORRECTIONS, raw["train"], classes)
    console.say(f"read {len(raw['train']):,} training and {len(raw['test']):,} test documents, "
                f"{len(corrected):,} corrections")  # fmt: skip

    # Repair
    train, test = corrections.apply(raw["train"], corrected), raw["test"].copy()
    repairs = _repair((train, test))
    for table in (train, test):
        for column in ("title", "text"):
            table[column] = [_reduced(text, params.clean) for text in table[column]]

    # Find what stands twice
    texts = corpus.full_text(train) + corpus.full_text(test)
    n = len(train)
    similar = Similar(Shingles(texts), params.clean.near_duplicate_jaccard)
    dropped: Dropped = {i: ("empty", "") for i in range(n) if not texts[i]}
    present = [i for i in range(n) if i not in dropped]
    in_test = [n + i for i in range(len(test)) if texts[n + i]]
    leaks = similar.nearest(present, in_test)
    dropped |= {i: ("leak", test["id"].iloc[j - n]) for i, (j, _) in leaks.items()}
    conflicts = _drop_copies(train, texts, set(corrected["id"]), dropped)
    group = similar.groups([i for i in present if i not in dropped])
    if params.clean.drop_near_duplicates:
        dropped |= {i: ("near_duplicate", train["id"].iloc[f]) for i, f in group.items() if i != f}
    train["group"] = [train["id"].iloc[group.get(i, i)] for i in range(n)]
    test["group"] = test["id"]
    gone, kept = train.iloc[sorted(dropped)], train.drop(index=list(dropped))
    gone = gone.assign(
        split="train",
        reason=[dropped[i][0] for i in gone.index],
        duplicate_of=[dropped[i][1] for i in gone.index],
    )

    # Split
    if kept["label"].nunique() < 2:
        raise UserError(
            f"{len(kept):,} of {n:,} training documents are left, of "
            f"{kept['label'].nunique()} class. Look into data/raw/train.parquet: "
            f"dropped were {dict(Counter(reason for reason, _ in dropped.values()))}."
        )
    held_out = choose_validation(kept, params.clean.validation_share, params.seed)
    splits = {"train": kept[~held_out], "validation": kept[held_out], "test": test}

    # Write
    summary = {
        "dataset": source["dataset"],
        "rows": {
            "train": {"in": n, "out": len(kept), "dropped": len(gone)},
            "test": {"in": len(test), "out": len(test), "dropped": 0},
        },
        "classes": {name: {s: int((t["label"] == i).sum()) for s, t in splits.items()}
                    for i, name in enumerate(classes)},
        "dropped": dict(sorted(Counter(gone["reason"]).items())),
        "corrections": {"given": len(corrected), "changed_a_label": int((train["label"] != raw["train"]["label"]).sum())},
        "near_duplicates": _group_sizes(kept),
        "leaks_with_another_label": sum(
            int(train["label"].iloc[i] != test["label"].iloc[j - n]) for i, (j, _) in leaks.items()
        ),
        "empty_test_documents": len(test) - len(in_test),
        "two_labels": {"same_words": conflicts, "near_duplicates": _mixed_groups(kept)},
        "repairs": repairs,
    }  # fmt: skip
    with files.atomic_folder(corpus.CLEAN) as part:
        for name, table in splits.items():
            corpus.write_table(part / f"{name}.parquet", table, COLUMNS)
        corpus.write_table(part / "dropped.parquet", gone, DROPPED_COLUMNS)
        files.write_json(part / "summary.json", summary)
    _report(summary, classes)
    console.outputs(corpus.CLEAN)


def _repair(tables: tuple[pd.DataFrame, ...]) -> dict[str, dict[str, Any]]:
    """Repair titles and texts in place; return for each kind how many documents, and examples."""
    found: dict[str, dict[str, Any]] = {k: {"documents": 0, "examples": []} for k in REPAIRS}
    total = sum(len(table) for table in tables)
    with console.Bar("repairing texts", total) as bar:
        for table in tables:
            mended = []
            for name, *parts in zip(table["id"], table["title"], table["text"], strict=True):
                results = [repair(part) for part in parts]
                for kind in {kind for _, kinds in results for kind in kinds}:
                    found[kind]["documents"] += 1
                    if len(found[kind]["examples"]) < EXAMPLES:
                        which = next(i for i, (_, kinds) in enumerate(results) if kind in kinds)
                        before, after = _difference(parts[which], results[which][0])
                        example = {"id": name, "before": before, "after": after}
                        found[kind]["examples"].append(example)
                mended.append([text for text, _ in results])
                bar.advance()
            table[["title", "text"]] = mended
    return found


def _difference(before: str, after: str) -> tuple[str, str]:
    """Return both texts around the first place where they differ."""
    pairs = zip(before, after, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(before), len(after)))
    start = max(0, at - SNIPPET // 3)
    return before[start : at + SNIPPET], after[start : at + SNIPPET]


def _reduced(text: str, options: Clean) -> str:
    """Return the text after the article's steps, as far as they are switched on."""
    if options.lowercase:
        text = text.lower()
    if options.strip_punctuation:
        text = " ".join("".join(c if c.isalnum() else " " for c in text).split())
    if options.remove_stop_words:
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        text = " ".join(word for word in text.split() if word.lower() not in ENGLISH_STOP_WORDS)
    return text


def _drop_copies(
    train: pd.DataFrame, texts: list[str], certain: set[str], dropped: Dropped
) -> list[dict[str, Any]]:
    """Add to ``dropped`` all but one of those with the same words; return those with two labels."""
    copies: dict[str, list[int]] = defaultdict(list)
    for i in range(len(train)):
        if i not in dropped:
            copies[" ".join(words(texts[i]))].append(i)
    conflicts = []
    ids, labels = train["id"].to_list(), train["label"].to_list()
    for rows in copies.values():
        settled = Counter(labels[i] for i in rows if ids[i] in certain)
        votes = (settled or Counter(labels[i] for i in rows)).most_common(2)
        kept = next(i for i in rows if labels[i] == votes[0][0])
        if len({labels[i] for i in rows}) > 1:
            conflicts.append({"ids": [ids[i] for i in rows], "labels": [labels[i] for i in rows]})
        if len(votes) == 2 and votes[0][1] == votes[1][1]:
            dropped |= dict.fromkeys(rows, ("conflicting_labels", ids[rows[0]]))
            continue
        for i in rows:
            if i != kept:
                reason = "duplicate" if labels[i] == labels[kept] else "other_label"
                dropped[i] = (reason, ids[kept])
    return conflicts


def choose_validation(kept: pd.DataFrame, share: float, seed: int) -> pd.Series:
    """Return which rows go to validation: about ``share`` of each class, in whole groups.

    A group counts to the class most of its documents have. Each class of two groups or more has
    documents on both sides; one of a single group stays in training. The choice depends on the
    seed and on the order of the rows, not on their number of processes or the machine.
    Raises ``UserError`` when nothing can be held out.
    """
    rng = np.random.default_rng(seed)
    about = kept.groupby("group", sort=False)["label"].agg(["size", lambda x: x.mode().iloc[0]])
    about.columns = pd.Index(["size", "label"])
    chosen: list[str] = []
    for _, of_class in about.groupby("label"):
        wanted = max(1, round(share * of_class["size"].sum()))
        order = of_class.iloc[rng.permutation(len(of_class))]
        taken: list[str] = []
        for group, size in zip(order.index, order["size"], strict=True):
            if size <= wanted and len(taken) < len(of_class) - 1:
                taken.append(group)
                wanted -= size
        if not taken and len(of_class) > 1:  # every group is larger than what is wanted
            taken = [order["size"].idxmin()]
        chosen += taken
    if not chosen:
        raise UserError(
            f"No validation set can be split off {len(kept):,} training documents: each class is "
            "a single document or a single group of near-duplicates. Add documents."
        )
    return kept["group"].isin(chosen)


def _group_sizes(kept: pd.DataFrame) -> dict[str, int]:
    sizes = kept["group"].value_counts()
    several = sizes[sizes > 1]
    return {
        "groups": len(several),
        "documents": int(several.sum()),
        "largest": int(sizes.max()),
    }


def _mixed_groups(kept: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the groups of near-duplicates that carry more than one label."""
    several = kept[kept.groupby("group")["label"].transform("nunique") > 1]
    return [
        {"ids": rows["id"].to_list(), "labels": rows["label"].to_list()}
        for _, rows in several.groupby("group", sort=False)
    ]


def _report(summary: dict[str, Any], classes: list[str]) -> None:
    """Print the counts of the summary as tables."""
    repaired = [(k, v["documents"]) for k, v in summary["repairs"].items() if v["documents"]]
    console.table("Repairs", ("kind", "documents"), repaired)
    console.table("Dropped from train", ("reason", "documents"), list(summary["dropped"].items()))
    mixed = summary["two_labels"]
    console.say(
        f"near-duplicates kept: {summary['near_duplicates']['documents']:,} documents in "
        f"{summary['near_duplicates']['groups']:,} groups; under two labels: "
        f"{len(mixed['same_words']):,} texts word for word, {len(mixed['near_duplicates']):,} nearly"
    )
    console.table(
        "Documents by class",
        ("class", "train", "validation", "test"),
        [(name, *summary["classes"][name].values()) for name in classes],
    )
    for name in classes:
        for split, count in summary["classes"][name].items():
            if not count:
                console.say(f"note: no document of {name} in {split}")


if __name__ == "__main__":
    console.run(main)
