"""Rows of JSON: lines of objects, arrays of objects or of lists, columns, and documents by class."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cleantune.errors import UserError

Row = tuple[str, dict[str, Any]]
"""The location of a row, for messages, and its values by column; none where it has no content."""


def json_lines(
    lines: Iterable[str], columns: Sequence[str] | None, header: bool, name: str
) -> Iterator[Row]:
    """Yield a row for each line, which holds an object or, without a header, a list."""
    number = 0
    for line, row in enumerate(lines, 1):
        if not row.strip():
            continue
        number += 1
        where = f"{name}, row {number} (line {line})"
        try:
            value = json.loads(row)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: not JSON ({error}). Fix the line.") from None
        yield where, _as_row(value, columns, header, where)


def json_value(
    text: str, columns: Sequence[str] | None, header: bool, part: str | None, name: str
) -> Iterator[Row]:
    """Yield the rows of one JSON value, or of the one under its key ``part``."""
    value = load(text, part, name)
    name = f"{name}, {part}" if part else name
    for number, row in enumerate(_rows(value, header, name), 1):
        where = f"{name}, row {number}"
        yield where, _as_row(row, columns, header, where)


def load(text: str, part: str | None, name: str) -> Any:
    """Return the value that a JSON file holds, or the one under its key ``part``."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: not JSON ({error}). Fetch or write it again.") from None
    if part is None:
        return value
    if not isinstance(value, dict) or part not in value:
        found = f"; it has {', '.join(map(str, value))[:200]}" if isinstance(value, dict) else ""
        raise UserError(f"{name} has no key {part!r}{found}. Correct `part` in params.yaml.")
    return value[part]


def _rows(value: Any, header: bool, name: str) -> list[Any]:
    """Return the rows of a JSON value, each an object or a list."""
    if isinstance(value, list):
        if header and value and isinstance(value[0], list):
            return [dict(zip(map(str, value[0]), row, strict=False)) for row in value[1:]]
        return value
    inner = list(value.values()) if isinstance(value, dict) else []
    if inner and all(isinstance(column, dict) for column in inner):
        if len(inner) > len(inner[0]):  # rows by a key, as pandas writes with orient="index"
            return inner
        inner = [list(column.values()) for column in inner]
    if inner and all(isinstance(column, list) for column in inner):
        if not header:  # documents by class
            return [[key, row] for key, rows in zip(value, inner, strict=True) for row in rows]
        if len({len(column) for column in inner}) == 1:
            return [dict(zip(value, row, strict=True)) for row in zip(*inner, strict=True)]
    raise UserError(f"{name}: JSON without rows. An array of objects is needed.")


def _as_row(value: Any, columns: Sequence[str] | None, header: bool, where: str) -> dict[str, Any]:
    if isinstance(value, list) and not header:
        value = dict(zip(map(str, range(len(value))), value, strict=True))
    if not isinstance(value, dict):
        raise UserError(f"{where}: not a JSON object. Each row must be one, in braces.")
    if columns is None:
        return value
    found = {column: at(value, column) for column in columns}
    absent = [column for column, at in found.items() if at is ABSENT]
    if absent:
        raise no_column(where, absent, list(flat(value)))
    return found


ABSENT = object()


def at(value: dict[str, Any], column: str) -> Any:
    """Return the value of a column; ``a.b`` is that of ``b`` in the object ``a``."""
    if column in value:
        return value[column]
    first, _, rest = column.partition(".")
    inner = value.get(first)
    return at(inner, rest) if rest and isinstance(inner, dict) else ABSENT


def flat(value: dict[str, Any]) -> dict[str, Any]:
    """Return an object's values, those of objects inside it under dotted names."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, dict):
            found |= {f"{key}.{name}": of for name, of in flat(inner).items()}
        else:
            found[str(key)] = inner
    return found


def no_column(where: str, absent: Sequence[str], names: Sequence[str]) -> UserError:
    """Return the error for columns that a file does not have."""
    return UserError(
        f"{where}: no column {', '.join(repr(c) for c in absent)}; it has "
        f"{', '.join(repr(n) for n in names)}. Correct `columns` of this dataset in params.yaml."
    )
