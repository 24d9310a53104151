"""Reading the labelled documents of a corpus file, as an entry of ``datasets`` says."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cleantune.data import records
from cleantune.data.binary_tables import as_text
from cleantune.data.documents import Document
from cleantune.errors import UserError
from cleantune.params.sources import Columns, Dataset

UNLABELLED, SEVERAL, EMPTY = "without a label", "with several labels", "empty"


class Reading(NamedTuple):
    """What of an entry of ``datasets`` says how its files are read."""

    layout: records.Layout
    columns: Columns
    bytes_literals: bool = False
    label_separator: str | None = None
    skip_unlabelled: bool = False


def reading_of(entry: Dataset) -> Reading:
    """Return how the files of an entry are read."""
    layout = records.Layout(
        format=entry.format,
        header=entry.header,
        encoding=entry.encoding,
        separator=entry.separator,
        surplus=entry.surplus,
        quote=entry.quote,
        text=entry.columns.text,
    )
    return Reading(
        layout, entry.columns, entry.bytes_literals, entry.label_separator, entry.skip_unlabelled
    )


def with_format(how: Reading, name: str) -> Reading:
    """Return ``how`` with the format that a file's name ends in, where it says auto."""
    if how.layout.format != "auto":
        return how
    return how._replace(layout=how.layout._replace(format=records.format_of(name)))


def read_documents(
    path: Path, how: Reading, part: str | None = None, name: str = ""
) -> tuple[list[Document], dict[str, int]]:
    """Return the documents of a file, in its order, and how many rows were left out and why.

    Left out are rows without any content, and those that ``how`` says. A text may be empty.
    Raises ``UserError`` for a file without documents and for any row that cannot be read.
    """
    left_out: Counter[str] = Counter()
    return [*iterate_documents(path, how, left_out, part, name)], dict(left_out)


def iterate_documents(
    path: Path, how: Reading, left_out: Counter[str], part: str | None = None, name: str = ""
) -> Iterator[Document]:
    """Yield the documents of a file as ``read_documents`` does; count in ``left_out`` what is."""
    name = name or str(path)
    columns = how.columns
    wanted = [
        columns.label,
        columns.text,
        *filter(None, [columns.title]),
        *dict.fromkeys(columns.metadata),
    ]
    found = False
    for number, (where, row) in enumerate(
        records.read_rows(path, how.layout, wanted, part, name), 1
    ):
        if not row:
            left_out[EMPTY] += 1
            continue
        label = label_of(row[columns.label], where, columns.label)
        if not label and how.skip_unlabelled:
            left_out[UNLABELLED] += 1
        elif how.label_separator and how.label_separator in label:
            left_out[SEVERAL] += 1
        else:
            text = as_text(row[columns.text], where, columns.text)
            if how.bytes_literals:
                text = decoded_literal(text, where)
            title = as_text(row[columns.title], where, columns.title) if columns.title else ""
            more = tuple(as_text(row[c], where, c).strip() for c in dict.fromkeys(columns.metadata))
            yield Document(number, where, label, title, text, more)
            found = True
    if not found:
        why = "".join(f", and {count:,} {reason}" for reason, count in left_out.items())
        raise UserError(f"{name} holds no rows{why}. Put the corpus there, or correct the path.")


def label_of(value: Any, where: str, column: str) -> str:
    """Return a label without blanks around it; ``|`` between those of a list."""
    if isinstance(value, list | tuple):
        return "|".join(as_text(one, where, column).strip() for one in value)
    return as_text(value, where, column).strip()


def decoded_literal(text: str, where: str) -> str:
    """Return the text of a ``b'...'`` literal of Python, or the text itself where it is none."""
    if text[:2] not in ("b'", 'b"'):
        return text
    try:
        value = ast.literal_eval(text)
        return value.decode() if isinstance(value, bytes) else text
    except (ValueError, SyntaxError) as error:
        raise UserError(
            f"{where}: not a b'...' literal of UTF-8 ({error}). Fix the row, or set bytes_literals: false."
        ) from None
