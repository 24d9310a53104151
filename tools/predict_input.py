"""The documents that tools.predict classifies: read, brought into training's form, written back."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cleantune import files
from cleantune.data import tables
from cleantune.data.binary_tables import as_text
from cleantune.data.layouts import Flags
from cleantune.data.nested import ABSENT, at
from cleantune.data.recognition import choose_text, layout_of
from cleantune.data.records import read_rows
from cleantune.data.splits import pieces
from cleantune.data.text_repair import prepare
from cleantune.errors import UserError
from cleantune.params.read import read_params
from cleantune.params.sections import TextSteps

Record = dict[str, Any]
ANSWER = (
    "predicted",
    "confidence",
    "probabilities",
    "calibrated",
    "note",
    "top",
    "unsure",
    "likeliest",
)
LIKELIEST = ("likeliest_1", "likeliest_2")  # columns of a table
PLAIN = TextSteps(repair=True, ag_news_artifacts=False, lowercase=False, strip_punctuation=False,
                  remove_stop_words=False)  # fmt: skip


def text_of(record: Record) -> str:
    """Return a document as it came: title, where there is one, and text."""
    title = record.get("title")
    return f"{title} {record['text']}".strip() if isinstance(title, str) else record["text"]


def as_trained(record: Record, steps: TextSteps) -> str:
    """Return a document as the model's training would have seen it: stages.clean does the same."""
    read = {name: prepare(part, steps) if isinstance(part, str) else ""
            for name, part in (("title", record.get("title")), ("text", record["text"]))}  # fmt: skip
    return text_of(read)


def steps_of(model: Path) -> TextSteps:
    """Return the steps that were taken on the text a model was trained on.

    finetune records them in the model's folder; a folder from elsewhere has none.
    Raises ``UserError`` when the record cannot be read.
    """
    path = model / "summary.json"
    recorded = files.read_json(path).get("clean") if path.is_file() else None
    if recorded is None:
        return PLAIN
    try:
        return TextSteps.model_validate(recorded)
    except ValidationError as error:
        raise files.damaged(path, f"clean: {error.errors()[0]['msg']}") from None


def read_lines() -> list[Record]:
    """Read standard input, one document a line; ``UserError`` when there is none."""
    sys.stdin.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    records = [{"text": line.rstrip("\r\n")} for line in sys.stdin]
    if not records:
        raise UserError("Standard input is empty: one document per line is expected.")
    return records


def read_file(path: Path, flags: Flags) -> tuple[list[Record], list[Record], str]:
    """Read the rows of a file in any form that `tools.data add` takes; labels need not be there.

    Return the rows as they came, their `title` and `text`, and in words which columns these are: as given,
    those of the corpus that the model was trained on, else by name and content.
    Raises ``UserError`` with file, line and way out for what cannot be read.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist.")
    piece = pieces(path, None, str(path))["train"]
    flags = replace(flags, texts_alone=True)
    found = layout_of({"train": piece}, flags, {"train": str(path)})
    found = choose_text(found, flags, _corpus_columns())
    layout = found.layout._replace(text=found.text)
    rows = [
        (where, row)
        for where, row in read_rows(piece.path, layout, None, piece.part, str(path))
        if row
    ]
    documents = [_document(row, found.title, found.text, where) for where, row in rows]
    said = f"text: {found.text}, title: {found.title or 'none'} (--text, --title)"
    return [row for _, row in rows], documents, said


def _document(row: Record, title: str | None, text: str, where: str) -> Record:
    """Return title and text of a row, without a title where it has none."""
    if at(row, text) is ABSENT:
        raise UserError(f"{where}: no column {text!r}. Add it, or name another with --text.")
    found = {"title": title, "text": text}
    return {key: as_text(at(row, column), where, column) for key, column in found.items()
            if column and at(row, column) is not ABSENT}  # fmt: skip


def _corpus_columns() -> tuple[str, str | None]:
    """Return text and title column of the corpus in data/raw, `text` and `title` where there is none."""
    try:
        entry = read_params(("datasets",)).datasets[tables.dataset_name()]
    except (UserError, KeyError):
        return "text", "title"
    columns = (entry.hub or entry).columns
    return columns.text, columns.title


def write_records(
    path: Path, records: list[Record], answers: list[Record], labels: list[str]
) -> None:
    """Write what came in and what the model returned for it as ``.csv`` or ``.jsonl``, all or nothing."""
    with files.atomic_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            for record, answer in zip(records, answers, strict=True):
                file.write(json.dumps(record | answer, ensure_ascii=False, default=str) + "\n")
            return
        kept = [k for k in dict.fromkeys(k for r in records for k in r) if k not in ANSWER]
        top = max((len(answer.get("top", ())) for answer in answers), default=0)
        ranks = [f"{what}_{i}" for i in range(1, top + 1) for what in ("top", "p_top")]
        shares = [] if top else [f"p_{name}" for name in labels]
        unsure = ["unsure", *LIKELIEST] if any("unsure" in answer for answer in answers) else []
        columns = [*kept, "predicted", *unsure, "confidence", *ranks, *shares, "calibrated", "note"]
        table = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        for record, answer in zip(records, answers, strict=True):
            each = {f"p_{name}": share for name, share in answer.get("probabilities", {}).items()}
            each |= dict(zip(LIKELIEST, answer.get("likeliest", ()), strict=False))
            for i, one in enumerate(answer.get("top", ()), 1):
                each |= {f"top_{i}": one["label"], f"p_top_{i}": one["probability"]}
            table.writerow(record | {"note": ""} | answer | each)
