"""The layout of one file, told from its content: format, separator, header."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cleantune.data import binary_tables, column_names, nested, records, separators
from cleantune.data.records import Layout
from cleantune.data.splits import Piece
from cleantune.errors import UserError

SAMPLE = 5_000  # rows, from all of the file, by which columns are chosen


@dataclass(frozen=True)
class Flags:
    """What a person has decided; None where it is to be found out."""

    text: str | None = None
    title: str | None = None
    label: str | None = None
    metadata: Sequence[str] = ()
    encoding: str | None = None
    separator: str | None = None
    quote: str | None = None
    header: bool | None = None
    join: str | None = None
    label_separator: str | None = None
    lines: bool = False
    """Whether a folder has a file for each class, with a document on each line."""
    texts_alone: bool = False
    """Whether a file may hold nothing but texts, to be classified."""


class Decision(NamedTuple):
    """What was decided, and the flag by which it is decided otherwise."""

    what: str
    taken: str
    flag: str


def of_text(
    text: str, layout: Layout, piece: Piece, flags: Flags, name: str
) -> tuple[Layout, list[Decision], list[dict[str, Any]]]:
    """Return layout, decisions and rows of a format of text."""
    kind = None if flags.separator else _json_kind(text)
    if kind:
        return _json(text, kind, layout, piece, flags, name)
    lines = text[: separators.HEAD].split("\n")
    if not flags.separator and sum(line.startswith("__label__") for line in lines) > 0.9 * len(
        lines
    ):
        layout = layout._replace(format="fasttext")
        decided = [Decision("format", "fastText, __label__NAME before each text", "--separator")]
        return layout, decided, [row for _, row in records.parse(text, layout, None, None, name)]
    alone = flags.texts_alone and not flags.separator and separators.one_column(text)
    encoding = layout.encoding
    layout = alone or separators.layout_of(text, flags.separator, flags.quote, encoding, name)
    layout = layout._replace(encoding=encoding)
    if layout.separator == " " and not flags.separator:
        decided = [Decision("format", "a label, a blank, the text on each line", "--separator")]
        parsed = records.parse(text, layout, ["0", "1"], None, name)
        return layout, decided, [row for _, row in parsed]
    layout = layout._replace(surplus=flags.join)
    between = separators.SPOKEN.get(layout.separator or "", layout.separator)
    quotes = "" if layout.format == "csv" else ", each line a row"
    quotes += ", fields in single quotes" if layout.quote == "'" else ""
    taken = f"table with {between} between columns{quotes}"
    decided = [Decision("format", taken, "--separator, --quote")]
    return _table(list(records.fields_of(text, layout, name)), layout, decided, flags, name)


def _table(
    rows: list[tuple[int, list[Any]]],
    layout: Layout,
    decided: list[Decision],
    flags: Flags,
    name: str,
) -> tuple[Layout, list[Decision], list[dict[str, Any]]]:
    """Decide on the header of a table, and check that its rows are of one width."""
    fields = [row for _, row in rows if not all(map(records.is_blank, row))]
    if not fields:
        raise UserError(f"{name} holds no rows.")
    header, why = separators.has_header(fields[:1] + spread(fields[1:]))
    if flags.header is not None:
        header, why = flags.header, "as given"
    width = separators.width(fields, header)
    said = "yes" if header else "none"
    decided.append(Decision("header", f"{said}: {why}", "--no-header" if header else "--header"))
    layout = layout._replace(header=header, separator=_unless_usual(layout))
    separators.check_width(rows[1:] if header else rows, layout, width, name)
    if layout.surplus is not None:  # joined to a column that is chosen later: here it is left out
        fields = [row[:width] for row in fields]
    keys = records.named_columns(fields[0]) if header else []
    keys += map(str, range(len(keys), width))
    return layout, decided, [dict(zip(keys, row, strict=False)) for row in fields[header:]]


def _unless_usual(layout: Layout) -> str | None:
    usual = records.SEPARATORS.get(layout.format) == layout.separator
    return None if usual else layout.separator


def of_workbook(
    content: bytes, piece: Piece, flags: Flags, name: str
) -> tuple[Layout, list[Decision], list[dict[str, Any]]]:
    """Return layout, decisions and rows of a sheet of a workbook."""
    rows = list(binary_tables.workbook(content, piece.part, name))
    decided = [
        Decision("format", f"workbook{f', sheet {piece.part}' if piece.part else ''}", "--part")
    ]
    return _table(rows, Layout("excel", surplus=flags.join), decided, flags, name)


def _json_kind(text: str) -> str | None:
    """Return json or jsonl, None for text that is neither."""
    start = text.lstrip()[:1]
    if start not in ("{", "["):
        return None
    lines = [line for line in text[: separators.HEAD].split("\n") if line.strip()]
    first = [_loads(line) for line in lines[:2]]
    if len(lines) > 1 and all(isinstance(value, dict | list) for value in first):
        return "jsonl"
    return "json" if start == "{" or _loads(text) is not None else None


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _json(
    text: str, kind: str, layout: Layout, piece: Piece, flags: Flags, name: str
) -> tuple[Layout, list[Decision], list[dict[str, Any]]]:
    part = f", key {piece.part}" if piece.part else ""
    layout = layout._replace(format=kind)
    decided = [Decision("format", ("JSON lines" if kind == "jsonl" else "JSON") + part, "--part")]
    if flags.header is not None:
        header = flags.header
    elif kind == "jsonl":
        header = not text.lstrip().startswith("[")
    else:
        header = _has_names(nested.load(text, piece.part, name))
    layout = layout._replace(header=header)
    rows = records.parse(text, layout, None, piece.part, name)
    return layout, decided, [nested.flat(row) for _, row in rows]


def _has_names(value: Any) -> bool:
    """Tell JSON whose columns have names from lists without, and from lists of texts by class."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        return separators.has_header(value[: separators.HEAD // 100])[0]
    if (
        isinstance(value, dict)
        and value
        and all(isinstance(inner, list) for inner in value.values())
    ):
        return any(column_names.is_known(key) for key in value)
    return True


def spread(rows: Sequence[Any]) -> list[Any]:
    """Return at most ``SAMPLE`` rows from all of a file."""
    return list(rows[:: max(1, len(rows) // SAMPLE)])
