"""Rows of Parquet files and of workbooks, and the text of their values."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import python_calamine

from cleantune.data import decoding
from cleantune.data.nested import Row, no_column
from cleantune.errors import UserError


def parquet(content: bytes, columns: Sequence[str] | None, name: str) -> Iterator[Row]:
    """Yield the rows of a Parquet file; ``UserError`` where it is none or a value is no UTF-8."""
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        names = file.schema_arrow.names
        absent = [column for column in columns or () if column not in names]
        if absent:
            raise no_column(name, absent, names)
        wanted = list(dict.fromkeys(columns)) if columns else names
        number = 0
        for batch in file.iter_batches(columns=wanted):
            for i in range(batch.num_rows):
                number += 1
                where = f"{name}, row {number}"
                try:
                    row = {column: batch.column(column)[i].as_py() for column in wanted}
                except UnicodeDecodeError as error:
                    raise UserError(
                        f"{where}: byte 0x{error.object[error.start]:02x} is not UTF-8. "
                        "Write the file again from text in UTF-8."
                    ) from None
                yield where, row
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{name}: not a Parquet file ({error}). Fetch or write it again.") from None


def sheets(content: bytes, name: str) -> list[str]:
    """Return the names of a workbook's sheets that have cells."""
    book = _open(content, name)
    return [sheet for sheet in book.sheet_names if book.get_sheet_by_name(sheet).height]


def workbook(content: bytes, part: str | None, name: str) -> Iterator[tuple[int, list[Any]]]:
    """Yield row number and cells of the sheet ``part``, or of the only one with cells."""
    part = decoding.chosen(part, sheets(content, name), name, "sheets")
    rows = _open(content, name).get_sheet_by_name(part).to_python(skip_empty_area=False)
    yield from ((line, cells) for line, cells in enumerate(rows, 1) if any(c != "" for c in cells))


def _open(content: bytes, name: str) -> python_calamine.CalamineWorkbook:
    try:
        return python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(content))
    except (python_calamine.CalamineError, OSError) as error:
        raise UserError(f"{name}: not a workbook ({error}). Save it again.") from None


def as_text(value: Any, where: str, column: str) -> str:
    """Return a value as text; half a surrogate pair, which JSON can spell, becomes U+FFFD."""
    if isinstance(value, str) and value.isascii():  # nearly all are
        return value
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
    if isinstance(value, list | dict | tuple):
        raise UserError(f"{where}: column {column} holds a {type(value).__name__}, not text.")
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
