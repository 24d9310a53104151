"""The documents that tools.predict classifies: read, brought into training's form, written back."""

import csv
import io
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cleantune import files
from cleantune.data.text_repair import prepare
from cleantune.errors import UserError
from cleantune.params.sections import TextSteps

Record = dict[str, Any]
ANSWER = ("predicted", "confidence", "probabilities", "calibrated", "note")
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


def read_records(path: Path) -> list[Record]:
    """Read the documents of a ``.csv`` (with a header) or ``.jsonl`` file.

    Raises ``UserError`` with file and line for a wrong ending, bytes that are not UTF-8, a missing
    `text` column, and a line that cannot be read.
    """
    if path.suffix not in (".csv", ".jsonl"):
        raise UserError(f"{path}: the name must end in .csv or .jsonl, to tell what it holds.")
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}, line {line}: not UTF-8. Convert it: iconv -f latin1 -t utf-8."
        ) from None
    read = _csv if path.suffix == ".csv" else _jsonl
    records = list(read(path, content))
    if not records:
        raise UserError(f"{path} holds no document.")
    return records


def _csv(path: Path, content: str) -> Iterable[Record]:
    csv.field_size_limit(sys.maxsize)
    reader = csv.DictReader(io.StringIO(content, newline=""), restkey="", strict=True)
    if "text" not in (reader.fieldnames or ()):
        found = ", ".join(reader.fieldnames or ()) or "nothing"
        raise UserError(f"{path}, line 1: no column `text` in the header; found: {found}.")
    try:
        for row in reader:
            if "" in row or None in row.values():
                raise UserError(f"{path}, line {reader.line_num}: not as many fields as columns.")
            yield dict(row)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}.") from None


def _jsonl(path: Path, content: str) -> Iterable[Record]:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not JSON: {error}.") from None
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise UserError(f'{path}, line {number}: not an object with a string "text".')
        yield record


def write_records(
    path: Path, records: list[Record], answers: list[Record], labels: list[str]
) -> None:
    """Write what came in and what the model says of it as ``.csv`` or ``.jsonl``, all or nothing."""
    with files.atomic_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            for record, answer in zip(records, answers, strict=True):
                file.write(json.dumps(record | answer, ensure_ascii=False) + "\n")
            return
        kept = [k for k in dict.fromkeys(k for r in records for k in r) if k not in ANSWER]
        shares = [f"p_{name}" for name in labels]
        table = csv.DictWriter(file, [*kept, "predicted", "confidence", *shares, "calibrated", "note"],
                               extrasaction="ignore", lineterminator="\n")  # fmt: skip
        table.writeheader()
        for record, answer in zip(records, answers, strict=True):
            each = {f"p_{name}": share for name, share in answer["probabilities"].items()}
            table.writerow(record | {"note": ""} | answer | each)
