"""Labels a person changed or confirmed, read, checked, applied, written.

data/corrections.csv has those of the training set, data/test_corrections.csv those of the test set.

One row a document, sorted by dataset and id, so that a review is a small `git diff`::

    dataset,id,text_sha256,old_label,new_label,note
    ag_news,train-4a1c0be77f20d5e3,9f86d081884c7d65,World,Business,about the bank

``dataset`` is the entry of ``datasets`` in params.yaml; rows about another dataset are ignored, and kept. ``text_sha256`` is the first 16 hex digits of the SHA-256 of the
document as data/raw has it (see ``fingerprints``); ``old_label`` is its label there. Both must
still match, so that a file made for another version of the data is refused instead of relabelling
other documents. A row with two equal labels confirms the label.
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from cleantune import console, files
from cleantune.errors import UserError

CORRECTIONS = Path("data/corrections.csv")
TEST_CORRECTIONS = Path("data/test_corrections.csv")
COLUMNS = ("dataset", "id", "text_sha256", "old_label", "new_label", "note")

Problem = tuple[int, str, str]
"""Line in the file, what is wrong there, and how to fix it."""


def fingerprints(documents: pd.DataFrame) -> list[str]:
    """Return what identifies each raw document: 16 hex digits of SHA-256 of title, LF, text."""
    return [
        hashlib.sha256(f"{title}\n{text}".encode()).hexdigest()[:16]
        for title, text in zip(documents["title"], documents["text"], strict=True)
    ]


def read_corrections(
    path: Path, documents: pd.DataFrame, names: list[str], dataset: str, alone: bool = False
) -> pd.DataFrame:
    """Read and check a corrections file against the raw documents it is about.

    ``documents`` has at least ``id``, ``title``, ``text`` and ``label``, as in
    data/raw, before any repair; they are those of ``dataset``. Rows about another
    dataset are ignored and counted on the console; with ``alone`` they are an error. Returns
    ``COLUMNS`` sorted by id, the labels as positions in ``names``.
    Raises ``UserError`` naming file, line and fix for a missing or unreadable file, wrong columns,
    an unknown id or label, a duplicate id, a document whose text or label is no longer what the row
    was made for, and a note over several lines.
    """
    all_rows = _read_rows(path)
    rows = [(line, row) for line, row in all_rows if row[0] == dataset]
    other_datasets = [(line, row[0]) for line, row in all_rows if row[0] != dataset]
    if alone:
        what = "is about the dataset {!r}, and data/raw holds {!r}"
        _stop_at(path, [(line, what.format(name, dataset), OTHER_DATASET)
                        for line, name in other_datasets], len(all_rows))  # fmt: skip
    elif other_datasets:
        listed = ", ".join(sorted({name for _, name in other_datasets}))
        console.say(f"{path}: ignored {len(other_datasets):,} rows about other datasets ({listed})")
    known = documents.set_index("id")
    ids = [row[1] for _, row in rows]
    about = known[known.index.isin(ids)]
    prints = dict(zip(about.index, fingerprints(about), strict=True))
    given = {name: names[label] for name, label in about["label"].items()}
    first: dict[str, int] = {}
    unknown: list[Problem] = []
    duplicates: list[Problem] = []
    labels: list[Problem] = []
    other: list[Problem] = []
    notes: list[Problem] = []
    for line, (_, name, sha, old, new, note) in rows:
        if name in first:
            duplicates.append(
                (line, f"id {name} is on line {first[name]} too", "Keep one of them.")
            )
        first.setdefault(name, line)
        if name not in prints:
            # only the first problem of a kind is shown, and searching for a text takes time
            problem = ("", "") if unknown else _unknown(name, sha, documents)
            unknown.append((line, *problem))
            continue
        for label in (old, new):
            if label not in names:
                fix = f"Use one of: {', '.join(names)}."
                labels.append((line, f"unknown label {label!r}", fix))
        if sha != prints[name]:
            what = f"the text of {name} has changed: its fingerprint is {prints[name]}, in the file {sha}"
            other.append((line, what, ELSEWHERE))
        elif old in names and old != given[name]:
            what = f"{name} is labelled {given[name]} in the data, {old} in the file"
            other.append((line, what, ELSEWHERE))
        if re.search(r"[\r\n]", note):
            notes.append((line, "the note has a line break", "Write it on one line."))
    for problems in (unknown, duplicates, labels, other, notes):
        _stop_at(path, problems, len(rows))
    table = pd.DataFrame([row for _, row in rows], columns=list(COLUMNS), dtype=object)
    for column in ("old_label", "new_label"):
        table[column] = pd.Series([names.index(label) for label in table[column]], dtype="int64")
    return table.sort_values("id", ignore_index=True)


def split_of(path: Path, documents: dict[str, pd.DataFrame]) -> str:
    """Return which split the rows of a corrections file are about: that with the most of their ids.

    ``documents`` are the splits' raw documents; the first split where no id is known.
    Raises ``UserError`` for a missing or unreadable file.
    """
    ids = {row[1] for _, row in _read_rows(path)}
    return max(documents, key=lambda split: len(ids & set(documents[split]["id"])))


def apply(documents: pd.DataFrame, corrections: pd.DataFrame) -> pd.DataFrame:
    """Return ``documents`` with the corrected labels; rows, order and other columns unchanged.

    ``corrections`` comes from ``read_corrections``. Ids that ``documents`` no longer has (dropped
    as duplicates, for example) are ignored: ``read_corrections`` has checked them against the raw data.
    """
    return _relabelled(documents, corrections, "new_label")


def undo(documents: pd.DataFrame, corrections: pd.DataFrame) -> pd.DataFrame:
    """Return ``documents`` as they were before ``apply``."""
    return _relabelled(documents, corrections, "old_label")


def write_corrections(
    path: Path, corrections: pd.DataFrame, names: list[str], dataset: str
) -> None:
    """Replace the rows of ``dataset`` in ``path`` by a table as ``read_corrections`` returns it.

    Rows of other datasets stay. Sorted by dataset and id, written in one rename.
    """
    rows = [row for _, row in _read_rows(path) if row[0] != dataset] if path.exists() else []
    for name, sha, old, new, note in corrections[list(COLUMNS[1:])].itertuples(index=False):
        rows.append([dataset, name, sha, names[old], names[new], note])
    files.write_text(path, as_csv(sorted(rows)))


def as_csv(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of ``COLUMNS``, labels as names, as the text of a corrections file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return text.getvalue()


def _relabelled(documents: pd.DataFrame, corrections: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return ``documents`` with the labels that ``column`` of ``corrections`` has for them."""
    labels = dict(zip(corrections["id"], corrections[column], strict=True))
    changed = [
        labels.get(name, label)
        for name, label in zip(documents["id"], documents["label"], strict=True)
    ]
    return documents.assign(label=pd.Series(changed, index=documents.index, dtype="int64"))


def _unknown(name: str, sha: str, documents: pd.DataFrame) -> tuple[str, str]:
    """Return what is wrong with a row whose id no document has, and how to fix it."""
    what = f"no document has the id {name}"
    ids = documents["id"][[print_ == sha for print_ in fingerprints(documents)]].to_list()
    if not ids:
        return what, ELSEWHERE
    return (
        f"{what}; its text is that of {', '.join(ids)}",
        "Ids come from title, text and label: the row was made before they did, or for another label. "
        "Export it again from a review of this data, or write the new id and the label the data has.",
    )


OTHER_DATASET = "Rebuild with that one first: `dvc repro` after setting `dataset` in params.yaml."
ELSEWHERE = (
    "The file was made for another version of the data: `dvc repro` with the dataset it belongs to, "
    "or export it again from a review of this data. To go on without it, move it away and leave "
    "only the header line."
)


def _read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return each row with its line, or raise ``UserError`` when the file is not of the format."""
    header = ",".join(COLUMNS)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        way_out = (
            f"`git checkout {path}` brings it back; without corrections it holds one line: {header}"
            if path in (CORRECTIONS, TEST_CORRECTIONS) else "`make review` opens the page that exports such a file."
        )  # fmt: skip
        raise UserError(f"{path} is missing. {way_out}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not UTF-8. Save the file as UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        columns = next(reader, [])
        if tuple(columns) != COLUMNS:
            found = ",".join(columns) or "nothing"
            raise UserError(f"{path}, line 1: the columns must be {header}; found {found}.")
        start = reader.line_num + 1
        for row in reader:
            if row and len(row) != len(COLUMNS):
                what = f"{len(row)} values where {len(COLUMNS)} belong ({header})"
                raise UserError(f"{path}, line {start}: {what}. Put quotes around a comma.")
            if row:
                rows.append((start, row))
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num}: not CSV ({error}). Fix the quotes."
        ) from None
    return rows


def _stop_at(path: Path, problems: list[Problem], rows: int) -> None:
    """Raise ``UserError`` for the first problem, with the number of rows that have one of its kind."""
    if not problems:
        return
    line, what, fix = problems[0]
    more = f" ({len(problems):,} of {rows:,} rows have this problem)" if len(problems) > 1 else ""
    raise UserError(f"{path}, line {line}: {what}{more}. {fix}")
