"""How a labelled file is laid out: proposed from its content, each decision with the flag that overrules it.

Nothing here is used when the pipeline runs: `tools.data add` writes what is found to params.yaml, and
the stage `download` reads by that alone.
"""

import codecs
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cleantune.data import (
    binary_tables,
    column_roles,
    decoding,
    encodings,
    nested,
    records,
    separators,
)
from cleantune.data.records import Layout
from cleantune.data.splits import Piece
from cleantune.errors import UserError

SAMPLE = 5_000  # rows, from all of the file, by which columns are chosen
_PAGE = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)
NOT_READ = {
    b"%PDF": "a PDF; save its text as CSV",
    b"ARROW1": "an Arrow file; write it as Parquet",
    b"SQLite": "an SQLite database; export the table as CSV",
    b"\x80\x04": "a pickle, which could run code; save it as CSV or Parquet",
    b"\x80\x05": "a pickle, which could run code; save it as CSV or Parquet",
    b"<?xml": "XML; save its documents as CSV or JSON lines",
}


@dataclass(frozen=True)
class Flags:
    """What a person has decided; None where it is to be found out."""

    text: str | None = None
    title: str | None = None
    label: str | None = None
    metadata: Sequence[str] = ()
    encoding: str | None = None
    separator: str | None = None
    header: bool | None = None
    join: str | None = None
    label_separator: str | None = None
    texts_alone: bool = False
    """Whether a file may hold nothing but texts, to be classified."""


class Decision(NamedTuple):
    """What was decided, and the flag by which it is decided otherwise."""

    what: str
    taken: str
    flag: str


@dataclass
class Recognised:
    """The layout of a file, its columns, and a sample of its rows."""

    layout: Layout
    columns: dict[str, column_roles.Column]
    decisions: list[Decision]
    label: str = ""
    text: str = ""
    title: str | None = None
    notes: list[str] = field(default_factory=list)


def layout_of(files: Mapping[str, Piece], flags: Flags, names: Mapping[str, str]) -> Recognised:
    """Return how files of one corpus are laid out, going by the first, and what columns it has.

    ``files`` and ``names``, for messages, are by split. Raises ``UserError`` where that cannot be told:
    with the likely readings, and the flag to choose one.
    """
    first = next(iter(files))
    piece, name = files[first], names[first]
    if piece.path.is_dir():
        contents = [
            path.read_bytes() for f in files.values() for path in records.documents_below(f.path)
        ]
        encoding, decision = _encoding([b"\n".join(contents)], flags, name)
        layout = Layout("folders", encoding=encoding)
        rows = [row for _, row in records.read_rows(piece.path, layout, name=name)]
        decided = [
            Decision("format", f"a folder for each class, {len(rows):,} files", ""),
            decision,
        ]
        return Recognised(layout, column_roles.describe(_spread(rows)), decided)
    content = _content(piece, name)
    if content.startswith(decoding.PARQUET):
        layout, decided = Layout("parquet"), [Decision("format", "Parquet", "")]
        rows = [row for _, row in binary_tables.parquet(content, None, name)]
    elif decoding.is_workbook(content):
        layout, decided, rows = _workbook(content, piece, flags, name)
    else:
        others = [_content(file, names[split]) for split, file in files.items() if split != first]
        encoding, decision = _encoding([content, *others], flags, name)
        text = decoding.as_text(content, encoding, name)
        layout, decided, rows = _text(text, Layout("", encoding=encoding), piece, flags, name)
        decided.insert(1, decision)
    rows = [row for row in rows if row]
    if not rows:
        raise UserError(f"{name} holds no rows.")
    return Recognised(layout, column_roles.describe(_spread(rows)), decided)


def choose_columns(found: Recognised, flags: Flags) -> Recognised:
    """Choose text, title and label of a file with classes.

    Raises ``UserError`` where several columns could be the label, or its cells hold several labels.
    """
    if found.layout.format in ("fasttext", "folders"):
        found.label, found.text = records.LABEL, records.TEXT
    else:
        named = found.layout.header
        roles = column_roles.choose(found.columns, flags.label, flags.text, flags.title, named)
        found.label, found.text, found.title = roles.label, roles.text, roles.title
        other = (
            f"; also possible: {', '.join(roles.other_labels[:4])}" if roles.other_labels else ""
        )
        title = "none" if roles.title is None else _spoken(roles.title, named)
        found.decisions += [
            Decision("text", _spoken(roles.text, named), "--text"),
            Decision("title", title, "--title"),
            Decision("label", _spoken(roles.label, named) + other, "--label"),
        ]
    separator = column_roles.several_labels(found.columns[found.label])
    if separator and not flags.label_separator:
        values = found.columns[found.label].counts
        example = next(value for value in values if separator in value)
        several = sum(n for value, n in values.items() if separator in value)
        raise UserError(
            f"documents have several labels: {several:,} of {values.total():,} values of the column "
            f"{found.label} hold more than one, as {example[:50]!r}. A document has one label here. "
            f"--label-separator '{separator}' keeps those with one label and leaves out the others; or name "
            "another column: --label COLUMN"
        )
    return found


def choose_text(found: Recognised, flags: Flags, usual: tuple[str, str | None]) -> Recognised:
    """Choose text and title of a file whose labels do not matter.

    ``usual`` are the names of these columns in the corpus that the model was trained on.
    """
    columns, named = found.columns, found.layout.header
    text, title = flags.text, flags.title
    if text is None:
        text = usual[0] if usual[0] in columns else None
        title = title or (usual[1] if text and usual[1] in columns else None)
    found.text, found.title = column_roles.choose_text(columns, text, title, named)
    return found


def _spoken(column: str, named: bool) -> str:
    return column if named else f"column {column}, counted from 0"


def _content(piece: Piece, name: str) -> bytes:
    """Return the decompressed bytes of a file, of which a part may be meant."""
    start = piece.path.read_bytes()
    inside = piece.part if decoding.compression(start) == "zip" else None
    content = decoding.read_bytes(piece.path, inside, name)
    what = next((what for first, what in NOT_READ.items() if content.startswith(first)), None)
    if what:
        raise UserError(f"{name} is {what}.")
    if _PAGE.match(content[:2000]):
        raise UserError(f"{name} is a web page, not a table. Give the address of the file itself.")
    if not content.strip():
        raise UserError(f"{name} is empty.")
    return content


def _encoding(contents: Sequence[bytes], flags: Flags, name: str) -> tuple[str, Decision]:
    """Return the encoding of all of a corpus' files."""
    if flags.encoding:
        try:
            codecs.lookup(flags.encoding)
        except LookupError:
            raise UserError(
                f"--encoding {flags.encoding}: Python knows no such encoding."
            ) from None
        return flags.encoding, Decision("encoding", f"{flags.encoding}, as given", "--encoding")
    spoken: dict[str, list[encodings.Reading]] = {}
    for content in contents:
        found = encodings.readings(content, name)
        spoken.setdefault(found[0].encoding, found)
    if "utf-8" in spoken and len(spoken) > 1 and any(c.isascii() for c in contents):
        del spoken["utf-8"]
    if len(spoken) > 1:
        raise UserError(
            f"the files are in different encodings: {', '.join(spoken)}. Convert one of them."
        )
    likely = next(iter(spoken.values()))
    if len(likely) > 1:
        shown = "\n".join(f"  --encoding {r.encoding:<10} {_around(r.shown)}" for r in likely[:6])
        raise UserError(
            f"{name}: its encoding is not certain. Line {likely[0].line:,} reads\n{shown}\n"
            "Choose the right one and give its flag."
        )
    encoding, line, text = likely[0]
    where = f", decided on line {line:,}: {_around(text)}" if line else ""
    return encoding, Decision(
        "encoding", encodings.NAMES.get(encoding, encoding) + where, "--encoding"
    )


def _around(text: str) -> str:
    """Return what is near the first letter beyond ASCII."""
    at = next((i for i, c in enumerate(text) if c > "\x7f"), 0)
    start = max(0, at - 20)
    return ("…" if start else "") + text[start : at + 25] + ("…" if at + 25 < len(text) else "")


def _text(
    text: str, layout: Layout, piece: Piece, flags: Flags, name: str
) -> tuple[Layout, list[Decision], list[dict[str, Any]]]:
    """Return layout, decisions and rows of a format of text."""
    kind = None if flags.separator else _json_kind(text)
    if kind:
        return _json(text, kind, layout, piece, flags, name)
    lines = text[: separators.HEAD].splitlines()
    if not flags.separator and sum(line.startswith("__label__") for line in lines) > 0.9 * len(
        lines
    ):
        layout = layout._replace(format="fasttext")
        decided = [Decision("format", "fastText, __label__NAME before each text", "--separator")]
        return layout, decided, [row for _, row in records.parse(text, layout, None, None, name)]
    layout = separators.layout_of(text, flags.separator, layout.encoding, name)
    if layout.separator == " " and not flags.separator:
        decided = [Decision("format", "a label, a blank, the text on each line", "--separator")]
        rows_ = (row for _, row in records.parse(text, layout, ["0", "1"], None, name))
        return layout, decided, list(rows_)
    layout = layout._replace(surplus=flags.join)
    between = separators.SPOKEN.get(layout.separator or "", layout.separator)
    quotes = "" if layout.format == "csv" else ", each line a row"
    decided = [Decision("format", f"table with {between} between columns{quotes}", "--separator")]
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
    header, why = separators.has_header(fields[:1] + _spread(fields[1:]))
    if flags.header is not None:
        header, why = flags.header, "as given"
    width = separators.width(fields, header)
    said = "yes" if header else "none"
    decided.append(Decision("header", f"{said}: {why}", "--no-header" if header else "--header"))
    layout = layout._replace(header=header, separator=_unless_usual(layout))
    separators.check_width(rows[1:] if header else rows, layout, width, name)
    if (
        layout.surplus is not None
    ):  # which column it is joined to is chosen later: here it is left out
        fields = [row[:width] for row in fields]
    keys = records.named_columns(fields[0]) if header else []
    keys += map(str, range(len(keys), width))
    return layout, decided, [dict(zip(keys, row, strict=False)) for row in fields[header:]]


def _unless_usual(layout: Layout) -> str | None:
    usual = records.SEPARATORS.get(layout.format) == layout.separator
    return None if usual else layout.separator


def _workbook(
    content: bytes, piece: Piece, flags: Flags, name: str
) -> tuple[Layout, list[Decision], list[dict[str, Any]]]:
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
    lines = [line for line in text[: separators.HEAD].splitlines() if line.strip()]
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
        return any(column_roles.is_known(key) for key in value)
    return True


def _spread(rows: Sequence[Any]) -> list[Any]:
    """Return at most ``SAMPLE`` rows from all of a file."""
    return list(rows[:: max(1, len(rows) // SAMPLE)])
