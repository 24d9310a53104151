"""Introduce the corpus: classes, lengths, vocabulary, phrases, agencies, repairs, duplicates.

    python -m tools.explore [--json]
    python -m tools.explore --file reviews.csv

Reads what the clean stage wrote (training and validation documents; the test set stays unread),
and lengths in tokens if tokenize_text has run on these documents. ``--file`` describes the training
documents of a labelled file instead, as they are, in any form that `tools.data add` takes.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

from cleantune import console, files
from cleantune.data import splits, tables
from cleantune.data.layouts import Flags
from cleantune.data.proposal import Options, propose
from cleantune.data.statistics import explore

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
    console.table(
        "Documents, and their length in words",
        ("class", "documents", *measured),
        [(name, classes[name], *(f"{v:.0f}" for v in of.values()))
         for name, of in found["length_in_words"].items()],
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
    for kind, caption in (
        ("frequent", "Most frequent phrases"),
        ("distinctive", "What sets a class apart"),
    ):
        rows = [(name, ", ".join(of[kind])) for name, of in found["phrases"].items()]
        console.table(caption, ("class", "phrases"), rows, prose=["phrases"])
    if found["agencies"]:
        console.table(
            "Agencies and places in datelines and titles",
            ("name", *classes),
            [
                (a["name"], *(a["by_class"].get(name, 0) for name in classes))
                for a in found["agencies"]
            ],
        )
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
    console.table(
        "An example of each class",
        ("class", "text"),
        list(found["examples"].items()),
        prose=["text"],
    )


if __name__ == "__main__":
    console.run(main)
