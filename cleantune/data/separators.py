"""How a table of plain text is laid out: what separates its columns, its quotes, its header."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from cleantune.data import column_names
from cleantune.data.records import Layout, fields_of, is_blank, named_columns, without_tail
from cleantune.errors import UserError

HEAD = 300_000  # characters that decide on the separator
CANDIDATES = ("\t", ";", "|", ",")
SPOKEN = {"\t": "a tab", ";": ";", "|": "|", ",": "a comma"}
FEW, OFTEN = 20, 10  # values of a column, and how often each occurs, where a header would stand out
REGULAR = 0.9  # share of rows with the commonest number of columns, from which a separator is one
_PROSE = re.compile(r"[^\W\d_][,;|] (?=\w)")


def layout_of(
    text: str, separator: str | None, quote: str | None, encoding: str, name: str
) -> Layout:
    """Return format and separator of a table; CSV where quotes enclose fields, TSV where they are text.

    Raises ``UserError`` where no separator gives columns, or quotes are wrong.
    """
    head = _head(text)
    scores = {}
    kinds = [Layout("csv", quote="'")] if quote == "'" else [Layout("csv"), Layout("tsv")]
    for candidate in [separator] if separator else CANDIDATES:
        regular = max(_regularity(head, kind._replace(separator=candidate)) for kind in kinds)
        # A comma in running text has a blank behind it; one between columns seldom has.
        prose = 0.03 * (_share_in_prose(head, candidate) > 0.9)
        scores[candidate] = regular - prose
        if quote is None and regular < 1 and _is_single_quoted(head, candidate):
            return Layout("csv", encoding=encoding, separator=candidate, quote="'")
    best = max(scores, key=lambda c: scores[c])
    if scores[best] < 0.3 and not separator:
        if _begins_with_label(head):
            return Layout("tsv", False, encoding, " ", " ", "1")
        raise UserError(
            f"{name} has one column only: no tab, comma, semicolon or | separates a label from the text. "
            "Name what does, if there is something: --separator X."
        )
    kind = "csv" if quote == "'" else _quoting(text, best, name)
    return Layout(kind, encoding=encoding, separator=best, quote=quote or '"')


def one_column(text: str) -> Layout | None:
    """Return the layout of a text without columns: of one named column, or of a document a line."""
    head = _head(text)
    first = head.lstrip().split("\n", 1)[0].strip().strip('"')
    known = column_names.is_known(first)
    if (
        known
        or max(
            _regularity(head, Layout(k, separator=c)) for k in ("csv", "tsv") for c in CANDIDATES
        )
        < REGULAR
    ):
        try:
            alone = all(len(row) == 1 for _, row in fields_of(head, Layout("csv"), ""))
        except UserError:
            alone = False
        if alone or not known:
            return Layout("csv" if alone else "tsv", separator="," if alone else "\t")
    return None


def _begins_with_label(text: str) -> bool:
    """Tell lines whose first word is one of a few, as in `DESC:manner How did ...`."""
    lines = [line.split(" ", 1) for line in text.split("\n") if line.strip()]
    first = Counter(line[0] for line in lines)
    return 1 < len(first) <= 0.1 * len(lines) and sum(
        len(line) == 2 for line in lines
    ) > 0.95 * len(lines)


def _share_in_prose(text: str, separator: str) -> float:
    return len([m for m in _PROSE.finditer(text) if separator in m[0]]) / max(
        1, text.count(separator)
    )


def _regularity(text: str, layout: Layout) -> float:
    """Return the share of rows with the commonest number of columns; 0 where that is one."""
    try:
        rows = [row for _, row in fields_of(text, layout, "")]
    except UserError:
        return 0.0
    rows = [row for row in rows if not all(map(is_blank, row))]
    found = 0.0
    for of in (rows, [without_tail(row, 1) for row in rows]):
        number, count = Counter(map(len, of)).most_common(1)[0] if of else (1, 0)
        found = max(found, count / len(of) if number > 1 else 0.0)
    return found


def _head(text: str) -> str:
    """Return ``HEAD`` characters or less from the start that end with a line and not inside quotes."""
    if len(text) <= HEAD:
        return text
    ends = [0, *(m.end() for m in re.finditer("\r\n?|\n", text[:HEAD]))]
    quotes = text.count('"', 0, ends[-1])
    for i in range(len(ends) - 1, 0, -1):
        if quotes % 2 == 0:
            return text[: ends[i]]
        quotes -= text.count('"', ends[i - 1], ends[i])
    return text[: ends[-1] or HEAD]


def _is_single_quoted(text: str, separator: str) -> bool:
    """Tell a table whose rows all have as many columns if single quotes enclose fields."""
    end = re.escape(separator)
    enclosed = re.findall(rf"(?m)(?:^|{end})'.*'\r?(?:$|{end})", text)
    quoted = Layout("csv", separator=separator, quote="'")
    return len(enclosed) >= 3 and _regularity(text, quoted) == 1


def _quoting(text: str, separator: str, name: str) -> str:
    """Return csv, or tsv where every line is a row as it is and CSV's quotes would join or refuse some."""
    csv, tsv = Layout("csv", separator=separator), Layout("tsv", separator=separator)
    if '"' not in text:
        return "tsv" if separator == "\t" else "csv"
    lines = [row for _, row in fields_of(text, tsv, name)]
    width, regular = Counter(map(len, lines)).most_common(1)[0]
    try:
        rows = sum(1 for _ in fields_of(text, csv, name))
    except UserError:
        if width > 1 and regular >= REGULAR * len(lines):
            return "tsv"
        raise
    return "tsv" if rows != len(lines) and width > 1 and regular == len(lines) else "csv"


def has_header(rows: Sequence[Sequence[Any]]) -> tuple[bool, str]:
    """Tell whether the first row names the columns, and why that is thought."""
    first, rest = named_columns(rows[0]), rows[1:]
    known = [name for name in first if column_names.is_known(name)]
    columns = [[str(row[i]).strip() for row in rest if i < len(row)] for i in range(len(first))]
    again = [
        name
        for name, given, column in zip(first, rows[0], columns, strict=False)
        if not is_blank(given) and name in column
    ]
    if known and not again:
        return True, f"the first row names {', '.join(known)}"
    for name, column in zip(first, columns, strict=True):
        # A column may be called like a class of another one: "hate" of the classes hate and none.
        counts = Counter(column)
        if len(counts) <= FEW and name not in counts and min(counts.values(), default=0) >= OFTEN:
            return True, f"{name!r} is not found again in its column of {len(counts)} values"
    if again:
        return False, f"{again[0][:30]!r} of the first row is found again below"
    if len(set(first)) < len(first) or any(len(name) > 60 for name in first):
        return False, "the first row is like the others"
    for name, column in zip(first, columns, strict=True):
        if column and not _is_number(name) and sum(map(_is_number, column)) > 0.9 * len(column):
            return True, f"{name!r} stands above numbers"
        few = 2 * len(set(column)) <= len(column) and len(set(column)) <= max(2, len(column) // 5)
        if column and few and name not in column:
            return True, f"{name!r} is not found again in its column"
    return False, "the first row is like the others"


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def width(rows: Sequence[Sequence[Any]], header: bool) -> int:
    """Return how many columns a table has, without those that only some rows run on into."""
    lengths = Counter(len(without_tail(row, 1)) for row in rows[header:])
    usual = max(lengths, key=lambda n: (lengths[n], n), default=1)
    return max(len(named_columns(rows[0])), min(usual, len(rows[0]))) if header else usual


def check_width(
    rows: Sequence[tuple[int, Sequence[Any]]], layout: Layout, needed: int, name: str
) -> None:
    """Raise ``UserError`` for rows that have more fields than the table has columns, or fewer."""
    filled = [(i, line, row) for i, (line, row) in enumerate(rows, 1)
              if not all(map(is_blank, row))]  # fmt: skip
    more = [(i, line, row) for i, line, row in filled if len(without_tail(row, needed)) > needed]
    if more and layout.surplus is None:
        number, line, row = more[0]
        surplus = without_tail(row, needed)[needed:]
        listed = ", ".join(f"{i:,} (line {at:,})" for i, at, _ in more[:5])
        raise UserError(
            f"{name}: {len(more):,} of {len(filled):,} rows have more fields than the {needed} columns: "
            f"row {listed}{', ...' if len(more) > 5 else ''}. Row {number:,} goes on with "
            f"{' | '.join(str(field) for field in surplus)[:80]!r}. If that is the rest of its text, "
            f"--join '{_joiner(surplus, layout)}' joins it (or another separator in the quotes); else fix "
            "the rows: a field that holds a separator is in double quotes."
        )
    fewer = [(i, line, row) for i, line, row in filled if len(row) < needed]
    if fewer:
        number, line, row = fewer[0]
        raise UserError(
            f"{name}: {len(fewer):,} of {len(filled):,} rows have fewer fields than the {needed} columns, "
            f"first row {number:,} (line {line:,}): {str(row)[:60]}. Fix them: a text with a line end in it "
            "is in double quotes. Another separator can be named: --separator X."
        )


def _joiner(surplus: Sequence[Any], layout: Layout) -> str:
    separator = layout.separator or ","
    return (
        separator if str(surplus[0]).startswith(" ") or layout.format == "tsv" else f"{separator} "
    )
