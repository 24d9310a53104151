"""The rows of a corpus file, read by a layout that says all of it: nothing is skipped or guessed.

Every fault stops with one ``UserError`` that names the file, the row (counted from 1, without the
header) with its line and a fix.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cleantune.data import binary_tables, decoding, labelled_texts, nested
from cleantune.data.nested import Row
from cleantune.errors import UserError

ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".xlsx": "excel",
    ".xls": "excel",
}
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
SEPARATORS = {"csv": ",", "tsv": "\t"}
_LONGEST_FIELD = 2**31 - 1  # csv's own limit, 131,072 characters, is less than some documents have
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


class Layout(NamedTuple):
    """How a file is laid out; ``Dataset`` of cleantune.params.sources documents the fields."""

    format: str
    header: bool = True
    encoding: str = "utf-8"
    separator: str | None = None
    surplus: str | None = None
    text: str = ""
    """The column that ``surplus`` joins fields to."""
    quote: str = '"'


def format_of(name: str) -> str:
    """Tell a file's format from the ending of its name; ``UserError`` for one we cannot read."""
    inner = name.removesuffix(Path(name).suffix) if Path(name).suffix in COMPRESSED else name
    ending = Path(inner).suffix.lower()
    if ending not in ENDINGS:
        raise UserError(
            f"{name}: the ending {ending or '(none)'!r} is not one of {', '.join(ENDINGS)}. "
            f"Rename the file, or let `python -m tools.data add {name}` find its format."
        )
    return ENDINGS[ending]


def read_rows(
    path: Path,
    layout: Layout,
    columns: Sequence[str] | None = None,
    part: str | None = None,
    name: str = "",
) -> Iterator[Row]:
    """Yield the rows of ``path``, decompressed and decoded as ``layout`` says.

    ``columns`` are those that must be there (None: whichever are); without a header they are
    positions counted from 0. CSV may have blanks after a separator. TSV is read line by line: a tab or
    a line end is never inside a field, and quotes are text unless they enclose a whole field.
    ``part`` is documented in ``CorpusFile``. ``name`` is shown for the path in messages.
    """
    name = name or str(path)
    if layout.format in ("folders", "lines"):
        read = labelled_texts.folders if layout.format == "folders" else labelled_texts.lines
        yield from read(path, layout.encoding, name)
        return
    if not path.is_file():
        raise UserError(f"{name} does not exist. Correct the path in params.yaml.")
    if layout.format == "parquet":
        yield from binary_tables.parquet(decoding.read_bytes(path, part, name), columns, name)
    elif layout.format == "excel":
        fields = binary_tables.workbook(decoding.read_bytes(path, part, name), part, name)
        yield from _named(fields, layout, columns, name)
    elif layout.format == "json":
        text = decoding.as_text(decoding.read_bytes(path, part, name), layout.encoding, name)
        yield from parse(text, layout, columns, part, name)
    else:
        lines = decoding.lines(path, layout.encoding, _newline(layout), part, name)
        yield from _parsed(lines, layout, columns, name)


def parse(
    text: str, layout: Layout, columns: Sequence[str] | None, part: str | None, name: str
) -> Iterator[Row]:
    """Yield the rows of a format of text, as ``read_rows`` does."""
    if layout.format == "json":
        return nested.json_value(text, columns, layout.header, part, name)
    return _parsed(io.StringIO(text, newline=_newline(layout)), layout, columns, name)


def _newline(layout: Layout) -> str:
    return "\n" if layout.format == "jsonl" else ""


def _parsed(
    lines: Iterable[str], layout: Layout, columns: Sequence[str] | None, name: str
) -> Iterator[Row]:
    if layout.format == "jsonl":
        return nested.json_lines(lines, columns, layout.header, name)
    if layout.format == "fasttext":
        return labelled_texts.fasttext(lines, name)
    return _named(_fields(lines, layout, name), layout, columns, name)


def fields_of(text: str, layout: Layout, name: str) -> Iterator[tuple[int, list[Any]]]:
    """Yield line number and fields of each row of a CSV or TSV that is no blank line.

    Raises ``UserError`` with the line where the quotes of a CSV are wrong.
    """
    return _fields(io.StringIO(text, newline=""), layout, name)


def _fields(lines: Iterable[str], layout: Layout, name: str) -> Iterator[tuple[int, list[Any]]]:
    separator = layout.separator or SEPARATORS[layout.format]
    if layout.format == "tsv":
        for line, row in enumerate(map(decoding.without_end, lines), 1):
            if row:
                yield line, [_unquoted(field) for field in row.split(separator)]
        return
    csv.field_size_limit(_LONGEST_FIELD)
    # What is joined again keeps the blank that was after the separator.
    skip = layout.surplus is None
    reader = csv.reader(
        lines, delimiter=separator, quotechar=layout.quote, strict=True,
        skipinitialspace=skip,
    )  # fmt: skip
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"{name}, line {line}: not CSV ({error}). A quote inside a quoted field is "
                f"doubled ({2 * layout.quote}), and a quoted field ends before its comma; fix that line."
            ) from None
        if fields:
            yield line, fields


def _unquoted(field: str) -> str:
    quoted = field.startswith('"') and _QUOTED.fullmatch(field)
    return field[1:-1].replace('""', '"') if quoted else field


def named_columns(fields: Sequence[Any]) -> list[str]:
    """Return the names in a header, without the nameless columns at its end.

    A nameless column before these is called by its position, counted from 0.
    """
    names = ["" if is_blank(field) else str(field).strip() for field in fields]
    while names and not names[-1]:
        names.pop()
    return [name or str(i) for i, name in enumerate(names)]


def without_tail(fields: Sequence[Any], needed: int) -> list[Any]:
    """Return the fields of a row without empty ones beyond the first ``needed``."""
    length = len(fields)
    while length > needed and is_blank(fields[length - 1]):
        length -= 1
    return list(fields[:length])


def is_blank(value: Any) -> bool:
    """Tell a field without content."""
    return value is None or (isinstance(value, str) and not value.strip())


def _named(
    rows: Iterable[tuple[int, list[Any]]], layout: Layout, columns: Sequence[str] | None, name: str
) -> Iterator[Row]:
    """Give the fields their columns' names, those in the first row or their positions."""
    rows = iter(rows)
    names: list[str] = []
    if layout.header:
        first = next(rows, (1, [""]))[1]
        names = named_columns(first)
        # A nameless column at the end is one if it is asked for; else its fields are surplus.
        asked = [int(column) for column in columns or () if column.isdecimal()]
        names += map(str, range(len(names), min(len(first), max(asked, default=-1) + 1)))
        absent = [column for column in columns or () if column not in names]
        if absent:
            raise nested.no_column(name, absent, names)
        twice = [column for column in columns or () if names.count(column) > 1]
        if twice:
            raise UserError(f"{name}: column {twice[0]!r} appears twice. Rename one of the two.")
    wrong = [column for column in columns or () if not layout.header and not column.isdecimal()]
    if wrong:
        raise UserError(
            f"{name} is read without a header, so column {wrong[0]!r} must be a position "
            "counted from 0. Give positions, or set header: true."
        )
    needed = len(names) or max((int(column) + 1 for column in columns or ()), default=1)
    most = needed if names or layout.surplus is not None else 0
    for number, (line, row) in enumerate(rows, 1):
        where = f"{name}, row {number} (line {line})"
        if all(map(is_blank, row)):
            yield where, {}
            continue
        most = most or max(needed, len(row))  # without a header, the first row's
        fields = without_tail(row, most)
        if len(fields) > most:
            if layout.surplus is None:
                raise UserError(
                    f"{where}: {len(fields)} fields where {most} are needed. Put fields that hold a "
                    "separator in double quotes, fix the row, or say in `surplus` of this dataset in "
                    "params.yaml (`tools.data add --join`) what joins the further fields to the text."
                )
            fields = _joined(fields, most, names, layout)
        if len(fields) < needed:
            raise UserError(
                f"{where}: {len(fields)} fields where {needed} are needed. "
                "Put fields that hold a separator in double quotes, or fix the row."
            )
        keys = names or map(str, range(len(fields)))
        yield where, dict(zip(keys, fields, strict=False))


def _joined(fields: list[Any], needed: int, names: list[str], layout: Layout) -> list[Any]:
    """Return ``needed`` fields, the surplus joined to the text, which it was cut from."""
    start = names.index(layout.text) if names else int(layout.text)
    end = start + len(fields) - needed + 1
    text = (layout.surplus or "").join(fields[start:end])
    return [*fields[:start], text, *fields[end:]]
