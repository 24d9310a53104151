"""Introduce the corpus: classes, lengths, vocabulary, phrases, agencies, repairs, duplicates.

    python -m tools.explore [--json]
    python -m tools.explore --file reviews.csv

Reads what the clean stage wrote (training and validation documents; the test set stays unread),
and lengths in tokens if tokenize_text has run on these documents. ``--file`` describes the training
documents of a labelled file instead, as they are, in any form that `tools.data add` takes.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from cleantune import console, files
from cleantune.data import class_tables, splits, tables
from cleantune.data.layouts import Flags
from cleantune.data.proposal import Options, propose
from cleantune.data.statistics import explore

EVERY_CLASS = "python -m tools.explore --json"
TOKENS = [tables.TOKENS / f"{split}.parquet" for split in ("train", "validation")]


def main() -> None:
    """Print tables for a person, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.add_argument("--file", type=Path, help="a labelled file, before `tools.data add`")
    for name in ("--text", "--title", "--label", "--encoding", "--separator", "--join"):
        parser.add_argument(name, help="as in `tools.data add`")
    arguments = parser.parse_args()
    if arguments.file:
        found = _of_file(arguments)
        if arguments.json:
            print(json.dumps(found, indent=2, ensure_ascii=False))
        else:
            _tables(found)
        return
    columns = tables.TEXT_COLUMNS
    parts = [
        tables.read_table(tables.CLEAN / f"{s}.parquet", columns) for s in ("train", "validation")
    ]
    cleaning = files.read_json(tables.CLEAN / "summary.json")
    found = explore(pd.concat(parts, ignore_index=True), tables.label_names(), _tokens(parts[1]))
    found["cleaning"] = cleaning
    if arguments.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _tables(found)


def _of_file(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what a file's training documents are like."""
    path = arguments.file
    given = {name: getattr(arguments, name)
             for name in ("text", "title", "label", "encoding", "separator", "join")}  # fmt: skip
    inside = splits.pieces(path, None, str(path))
    made = propose(inside, dict.fromkeys(inside, str(path)), Flags(**given), Options())
    names = list(dict.fromkeys(made.labels.values()))
    rows = [
        (row.title, row.text, names.index(made.labels[row.label]))
        for row in made.documents["train"]
    ]
    found = explore(pd.DataFrame(rows, columns=["title", "text", "label"]), names, None)
    found["cleaning"] = {
        "dataset": str(path),
        "repairs": {},
        "dropped": {},
        "near_duplicates": None,
    }
    return found


def _tokens(validation: pd.DataFrame) -> pd.DataFrame | None:
    """Return what data/tokens says of the documents; None where it is missing or of others.

    Those that validate tell: no stage between changes which they are, or their labels. That only
    the texts were cleaned otherwise since is not noticed.
    """
    if not all(path.is_file() for path in TOKENS):
        return None
    train, held_out = (tables.read_table(path, ("id", "label", "length")) for path in TOKENS)
    if held_out[["id", "label"]].to_dict("list") != validation[["id", "label"]].to_dict("list"):
        return None
    tokens = pd.concat([train, held_out])
    return tokens[tables.originals(tokens["id"])]


def _tables(found: dict[str, Any]) -> None:
    cleaning, classes = found["cleaning"], found["classes"]
    console.title(cleaning["dataset"], f"{found['documents']:,} documents to learn from")
    measured = list(next(iter(found["length_in_words"].values())))
    class_tables.print_counts(
        "Documents, and their length in words",
        ("class", "documents", *measured),
        [(name, classes[name], *(round(v) for v in of.values()))
         for name, of in found["length_in_words"].items()],
        EVERY_CLASS, 20,
    )  # fmt: skip
    if found["length_in_tokens"]:
        said = ", ".join(f"{k} {v:.0f}" for k, v in found["length_in_tokens"].items())
    else:
        said = "`dvc repro tokenize_text` counts them"
    console.say(f"Length in tokens: {said}\n")
    console.table(
        "Vocabulary",
        ("what", "words"),
        [(k.replace("_", " "), v) for k, v in found["vocabulary"].items()],
    )
    names = list(classes)
    short = dict(zip(names, class_tables.shortened(names, 20), strict=True))
    many = len(names) > class_tables.SHOWN
    shown = [names[i] for i in class_tables.largest(list(classes.values()), 10)] if many else names
    of_all = f", the {len(shown)} largest of {len(names):,} classes" if many else ""
    for kind, caption in (
        ("frequent", "Most frequent phrases"),
        ("distinctive", "What sets a class apart"),
    ):
        rows = [(short[name], ", ".join(found["phrases"][name][kind])) for name in shown]
        console.table(caption + of_all, ("class", "phrases"), rows, prose=["phrases"])
    if found["agencies"]:
        _agencies(found["agencies"], short)
    repairs = [(kind, of["documents"], of["examples"][0]["before"], of["examples"][0]["after"])
               for kind, of in cleaning["repairs"].items() if of["documents"]]  # fmt: skip
    if repairs:
        console.table(
            "Artifacts that were repaired",
            ("kind", "documents", "before", "after"),
            repairs,
            prose=["before", "after"],
        )
    if cleaning["dropped"]:
        console.table(
            "Dropped from train", ("reason", "documents"), list(cleaning["dropped"].items())
        )
    if near := cleaning["near_duplicates"]:
        console.say(f"Near-duplicates kept: {near['documents']:,} documents in {near['groups']:,} "
                    f"groups, the largest of {near['largest']:,}\n")  # fmt: skip
    examples = [
        (short[name], found["examples"][name]) for name in shown if name in found["examples"]
    ]
    caption = f"An example of each class{of_all}"
    console.table(caption, ("class", "text"), examples, prose=["text"])
    if many:
        console.say(f"all {len(names):,} classes: {EVERY_CLASS}")


def _agencies(agencies: list[dict[str, Any]], short: dict[str, str]) -> None:
    """Print each agency's documents by class: a column for each, or the commonest where too many."""
    caption = "Agencies and places in datelines and titles"
    columns = ("name", *short.values())
    rows = [(a["name"], *(a["by_class"].get(name, 0) for name in short)) for a in agencies]
    if class_tables.fits(columns, rows):
        console.table(caption, columns, rows)
        return
    prose = [
        (a["name"], ", ".join(f"{short[name]} {count:,}" for name, count in
                              Counter(a["by_class"]).most_common(class_tables.ENDS)))
        for a in agencies
    ]  # fmt: skip
    console.table(caption, ("name", "commonest classes"), prose, prose=["commonest classes"])


if __name__ == "__main__":
    console.run(main)
