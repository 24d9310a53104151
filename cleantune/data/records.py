"""Reading a table that a person made: CSV, TSV, JSONL or Parquet, in UTF-8.

Every fault stops with one ``UserError`` that names the file, the row (counted from 1, without the
header) with its line and a fix; nothing is skipped or guessed.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cleantune.errors import UserError

ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
Record = tuple[str, list[str]]
"""Its location, for messages, and the values of the requested columns."""

_LONGEST_FIELD = 2**31 - 1  # csv's own limit, 131,072 characters, is less than some documents have
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def format_of(name: str) -> str:
    """Tell a file's format from the ending of its name; ``UserError`` for one we cannot read."""
    ending = Path(name).suffix.lower()
    if ending not in ENDINGS:
        raise UserError(
            f"{name}: the ending {ending or '(none)'!r} is not one of {', '.join(ENDINGS)}. "
            "Rename the file, or set the format: -S datasets.custom.format=csv."
        )
    return ENDINGS[ending]


def read_records(
    path: Path, layout: str, columns: Sequence[str], header: bool = True, name: str = ""
) -> Iterator[Record]:
    """Yield each row of ``path`` with its values of ``columns``, as text.

    ``layout`` is csv, tsv, jsonl or parquet.
    ``columns`` are names, or positions counted from 0 when a CSV or TSV has no ``header``.
    TSV is read line by line: a tab or a line end is never inside a field, and quotes are text
    unless they enclose a whole field. A value that is missing (JSON null, Parquet null) is "".
    ``name`` is shown for the path in messages.
    """
    name = name or str(path)
    if not path.is_file():
        raise UserError(f"{name} does not exist. Correct the path in params.yaml.")
    if layout == "parquet":
        yield from _parquet(path, columns, name)
    elif layout == "jsonl":
        yield from _jsonl(_decoded(path, name), columns, name)
    else:
        rows = (_csv if layout == "csv" else _tsv)(_decoded(path, name), name)
        yield from _chosen(rows, columns, header, name)


def _decoded(path: Path, name: str) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{name}, line {line}: byte 0x{content[error.start]:02x} at offset {error.start:,} is "
            "not UTF-8. Convert the file, for example: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
        ) from None


def _csv(content: str, name: str) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"{name}, line {line}: not CSV ({error}). A quote inside a quoted field is "
                'doubled (""), and a quoted field ends before its comma; fix that line.'
            ) from None
        if fields:
            yield line, fields


def _tsv(content: str, name: str) -> Iterator[tuple[int, list[str]]]:  # noqa: ARG001
    for line, text in enumerate(re.split("\r\n|\n|\r", content), 1):
        if text:
            yield line, [_unquoted(field) for field in text.split("\t")]


def _unquoted(field: str) -> str:
    return field[1:-1].replace('""', '"') if _QUOTED.fullmatch(field) else field


def _chosen(
    rows: Iterator[tuple[int, list[str]]], columns: Sequence[str], header: bool, name: str
) -> Iterator[Record]:
    """Pick the columns, by the names in the first row or by position."""
    names: list[str] = []
    if header:
        names = [field.strip() for field in next(rows, (1, [""]))[1]]
        absent = [column for column in columns if column not in names]
        if absent:
            raise _no_column(name, absent, names)
        twice = [column for column in columns if names.count(column) > 1]
        if twice:
            raise UserError(f"{name}: column {twice[0]!r} appears twice. Rename one of the two.")
        positions = [names.index(column) for column in columns]
    else:
        wrong = [column for column in columns if not column.isdecimal()]
        if wrong:
            raise UserError(
                f"{name} is read without a header, so column {wrong[0]!r} must be a position "
                "counted from 0. Give positions, or set header: true."
            )
        positions = [int(column) for column in columns]
    for number, (line, fields) in enumerate(rows, 1):
        where = f"{name}, row {number} (line {line})"
        if len(fields) <= max(positions) or (names and len(fields) != len(names)):
            needed = len(names) if names else max(positions) + 1
            raise UserError(
                f"{where}: {len(fields)} fields where {needed} are needed. "
                "Put fields that hold a separator in double quotes, or fix the row."
            )
        yield where, [fields[position] for position in positions]


def _jsonl(content: str, columns: Sequence[str], name: str) -> Iterator[Record]:
    number = 0
    for line, text in enumerate(content.split("\n"), 1):
        if not text.strip():
            continue
        number += 1
        where = f"{name}, row {number} (line {line})"
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: not JSON ({error}). Mend the line.") from None
        if not isinstance(value, dict):
            raise UserError(f"{where}: not a JSON object. Each line must be one, in braces.")
        absent = [column for column in columns if column not in value]
        if absent:
            raise _no_column(where, absent, list(value))
        yield where, [_text(value[column], where, column) for column in columns]


def _parquet(path: Path, columns: Sequence[str], name: str) -> Iterator[Record]:
    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        absent = [column for column in columns if column not in names]
        if absent:
            raise _no_column(name, absent, names)
        number = 0
        for batch in file.iter_batches(columns=list(dict.fromkeys(columns))):
            values = [batch.column(column) for column in columns]
            for i in range(batch.num_rows):
                number += 1
                where = f"{name}, row {number}"
                try:
                    row = [column[i].as_py() for column in values]
                except UnicodeDecodeError as error:
                    raise UserError(
                        f"{where}: byte 0x{error.object[error.start]:02x} is not UTF-8. "
                        "Write the file again from text in UTF-8."
                    ) from None
                yield where, [_text(v, where, c) for v, c in zip(row, columns, strict=True)]
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{name}: not a Parquet file ({error}). Fetch or write it again.") from None


def _text(value: Any, where: str, column: str) -> str:
    """Return a value as text; half a surrogate pair, which JSON can spell, becomes U+FFFD."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise UserError(
                f"{where}: column {column} is not UTF-8. Write the file again from text in UTF-8."
            ) from None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of whole numbers with a gap is stored as floats
    if not isinstance(value, str | int | float):
        raise UserError(f"{where}: column {column} holds a {type(value).__name__}, not text.")
    return str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _no_column(where: str, absent: Sequence[str], names: Sequence[str]) -> UserError:
    return UserError(
        f"{where}: no column {', '.join(repr(c) for c in absent)}; it has "
        f"{', '.join(repr(n) for n in names)}. Correct `columns` of this dataset in params.yaml."
    )
