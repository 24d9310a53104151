"""How a labelled file is laid out: proposed from its content, each decision with the flag that overrules it.

Nothing here is used when the pipeline runs: `tools.data add` writes what is found to params.yaml, and
the stage `download` reads by that alone.
"""

import codecs
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cleantune.data import (
    binary_tables,
    column_roles,
    decoding,
    encodings,
    labelled_texts,
    records,
)
from cleantune.data.layouts import Decision, Flags, of_text, of_workbook, spread
from cleantune.data.records import Layout
from cleantune.data.splits import Piece
from cleantune.errors import UserError

_PAGE = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)
NOT_READ = {
    b"%PDF": "a PDF; save its text as CSV",
    b"ARROW1": "an Arrow file; write it as Parquet",
    b"SQLite": "an SQLite database; export the table as CSV",
    b"\x80\x04": "a pickle, which could run code; save it as CSV or Parquet",
    b"\x80\x05": "a pickle, which could run code; save it as CSV or Parquet",
    b"<?xml": "XML; save its documents as CSV or JSON lines",
}


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
    if flags.lines and not piece.path.is_dir():
        raise UserError(f"--lines is for a folder with a file for each class; {name} is a file.")
    if piece.path.is_dir():
        format_ = "lines" if flags.lines else "folders"
        encoding, decision = _encoding([_joined(files, format_, flags, name)], flags, name)
        layout = Layout(format_, encoding=encoding)
        rows = [row for _, row in records.read_rows(piece.path, layout, name=name)]
        if flags.lines:
            form = Decision("format", "a file for each class, a document on each line", "--lines")
        else:
            form = Decision("format", f"a folder for each class, {len(rows):,} files", "")
        decided = [form, decision]
        return Recognised(layout, column_roles.describe(spread(rows)), decided)
    content = _content(piece, name)
    if content.startswith(decoding.PARQUET):
        layout, decided = Layout("parquet"), [Decision("format", "Parquet", "")]
        rows = [row for _, row in binary_tables.parquet(content, None, name)]
    elif decoding.is_workbook(content):
        layout, decided, rows = of_workbook(content, piece, flags, name)
    else:
        others = [_content(file, names[split]) for split, file in files.items() if split != first]
        encoding, decision = _encoding([content, *others], flags, name)
        text = decoding.as_text(content, encoding, name)
        layout, decided, rows = of_text(text, Layout("", encoding=encoding), piece, flags, name)
        decided.insert(1, decision)
    rows = [row for row in rows if row]
    if not rows:
        raise UserError(f"{name} holds no rows.")
    return Recognised(layout, column_roles.describe(spread(rows)), decided)


def choose_columns(found: Recognised, flags: Flags) -> Recognised:
    """Choose text, title and label of a file with classes.

    Raises ``UserError`` where several columns could be the label, or its cells hold several labels.
    """
    if found.layout.format in ("fasttext", "folders", "lines"):
        found.label, found.text = labelled_texts.LABEL, labelled_texts.TEXT
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
    content = decoding.read_bytes(piece.path, piece.part, name)
    what = next((what for first, what in NOT_READ.items() if content.startswith(first)), None)
    if what:
        raise UserError(f"{name} is {what}.")
    if _PAGE.match(content[:2000]):
        raise UserError(f"{name} is a web page, not a table. Give the address of the file itself.")
    if not content.strip():
        raise UserError(f"{name} is empty.")
    return content


def _joined(folders: Mapping[str, Piece], format_: str, flags: Flags, name: str) -> bytes:
    """Return the documents in folders as one text.

    Raises ``UserError`` where some are in UTF-8 with letters beyond ASCII, and others are not in UTF-8.
    """
    contents = {path: path.read_bytes() for folder in folders.values()
                for path in labelled_texts.files_of(folder.path, format_)}  # fmt: skip
    others = {path: c for path, c in contents.items() if not encodings.is_utf8(c)}
    beyond = any(not c.isascii() for path, c in contents.items() if path not in others)
    if others and beyond and not flags.encoding:
        likely = encodings.readings(b"\n".join(others.values()), name)[0]
        listed = ", ".join(map(str, list(others)[:3])) + (", ..." if len(others) > 3 else "")
        raise UserError(
            f"{name}: {len(others):,} of {len(contents):,} files are not in UTF-8, as the others are: "
            f"{listed}. Likely it is {likely.encoding}: {_around(likely.shown)}\nWrite each again in "
            f"UTF-8: iconv -f {likely.encoding} -t utf-8 FILE > NEW"
        )
    return b"\n".join(contents.values())


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
