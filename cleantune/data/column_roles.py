"""Which column of a table holds the text, which the title, which the label, by names and by content."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from cleantune.data import column_names, words
from cleantune.data.binary_tables import as_text
from cleantune.errors import UserError

NONE = "none"  # as a name on the command line: no such column

FLAGS = {"0", "1", "0.0", "1.0", "true", "false", "yes", "no"}
CLASSES = 1000  # more are no classes
WHOLE = re.compile(r"-?\d+(\.0+)?")
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?", re.IGNORECASE)
_UNSPACED = re.compile(f"[{words.UNSPACED}]")


class Column(NamedTuple):
    """What the values of a column are like."""

    name: str
    values: list[str]
    """Of a sample of the rows, without blanks around them."""
    counts: Counter[str]
    """Of the values that are not empty."""
    lists: bool
    """Whether a value of it is a list of several."""

    @property
    def filled(self) -> int:
        """How many values are not empty."""
        return self.counts.total()

    @property
    def length(self) -> float:
        """Words of a value on average; two letters of a script without blanks count as one."""
        total = sum(n * (value.count(" ") + 1 + len(_UNSPACED.findall(value)) / 2)
                    for value, n in self.counts.items())  # fmt: skip
        return total / max(1, self.filled)

    def is_flag(self) -> bool:
        """Tell a column of two values that mean yes and no."""
        return bool(self.counts) and {v.lower() for v in self.counts} <= FLAGS

    def may_be_label(self) -> bool:
        """Tell whether there are at least two values, short ones that are found again."""
        different = len(self.counts)
        fractions = sum(bool(_NUMBER.fullmatch(v)) and not WHOLE.fullmatch(v) for v in self.counts)
        return (1 < different <= min(CLASSES, max(2, self.filled // 2)) and self.length <= 6
                and (not fractions or different <= 20))  # fmt: skip

    def may_be_text(self) -> bool:
        """Tell whether there are letters, of more than a word, that differ from row to row."""
        letters = sum(any(c.isalpha() for c in value) for value in self.counts)
        return (letters > 0.5 * len(self.counts) and self.length >= 1.5
                and len(self.counts) > min(20, 0.1 * self.filled))  # fmt: skip


class Roles(NamedTuple):
    """The columns that were chosen, with what else might have been."""

    label: str
    text: str
    title: str | None
    other_labels: list[str]


def describe(rows: Sequence[dict[str, Any]]) -> dict[str, Column]:
    """Return the columns of a table's rows by name."""
    names = dict.fromkeys(name for row in rows for name in row)
    found = {}
    for name in names:
        cells = [row.get(name) for row in rows]
        lists = any(isinstance(cell, list) and len(cell) != 1 for cell in cells)
        values = [_shown(cell) for cell in cells]
        found[name] = Column(name, values, Counter(v for v in values if v), lists)
    return found


def _shown(cell: Any) -> str:
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, list | tuple):
        return "|".join(_shown(one) for one in cell)
    return str(cell) if isinstance(cell, dict) else as_text(cell, "", "").strip()


def choose(
    columns: dict[str, Column], label: str | None, text: str | None, title: str | None, named: bool
) -> Roles:
    """Return which column is what, as given, else by the columns' names and values.

    Raises ``UserError`` where no column can be the label or the text, or several can.
    """
    given = [_given(name, columns, flag) for name, flag in
             ((label, "--label"), (text, "--text"), (title, "--title"))]  # fmt: skip
    label, text, title = given
    others: list[str] = []
    if label is None:
        label, others = _label(columns, {text, title}, named)
    if text is None:
        text = _text(columns, {label, title})
    if title is None and given[2] is None:
        title = _title(columns, {label, text}, named)
    return Roles(label, text, None if title == NONE else title, others)


def choose_text(
    columns: dict[str, Column], text: str | None, title: str | None, named: bool
) -> tuple[str, str | None]:
    """Return the columns of text and title of documents without labels."""
    text, title = _given(text, columns, "--text"), _given(title, columns, "--title")
    if text is None and len(columns) == 1:
        text = next(iter(columns))
    text = text or _text(columns, {title})
    if title is None and named:
        title = _title(columns, {text}, named)
    return text, None if title == NONE else title


def _given(name: str | None, columns: dict[str, Column], flag: str) -> str | None:
    if name is None or name in columns or (flag == "--title" and name == NONE):
        return name
    if name.isdecimal() and int(name) < len(columns):
        return list(columns)[int(name)]
    raise UserError(f"{flag} {name}: there is no such column. There are: {', '.join(columns)}.")


def _label(
    columns: dict[str, Column], taken: set[str | None], named: bool
) -> tuple[str, list[str]]:
    able = [c for c in columns.values() if c.name not in taken and c.may_be_label()]
    ranks = {
        c.name: column_names.rank(c.name, column_names.LABELS)
        for c in columns.values()
        if c.name not in taken
    }
    by_name = [name for name, rank in sorted(ranks.items(), key=lambda r: r[1] if r[1] is not None else 1e9)
               if rank is not None and named]  # fmt: skip
    flags = [c.name for c in able if c.is_flag()]
    ranked = [name for name in by_name if columns[name] in able]
    if (
        len(flags) > 1
        and (not ranked or ranked[0] in flags)
        and not (ranked and ranks[ranked[0]] == 0)
    ):
        raise UserError(_flags_message(flags, columns))
    if ranked:
        return ranked[0], [c.name for c in able if c.name != ranked[0]]
    rare = [name for name in by_name if len(columns[name].counts) > 1 and columns[name].length <= 4]
    if rare and not able:
        return rare[0], []
    if len(able) == 1:
        return able[0].name, []
    shown = able or list(columns.values())
    listed = "\n".join(f"  --label {c.name:<12} {_values(c)}" for c in shown[:12])
    what = "several columns may be the label" if able else "no column looks like a label"
    raise UserError(f"{what}:\n{listed}\nChoose one and give its flag.")


def _values(column: Column) -> str:
    common = ", ".join(value[:20] for value, _ in column.counts.most_common(4))
    more = ", ..." if len(column.counts) > 4 else ""
    return f"{len(column.counts):,} values: {common}{more}"


def _flags_message(flags: list[str], columns: dict[str, Column]) -> str:
    rows = zip(*(columns[name].values for name in flags), strict=True)
    several = sum(sum(v.lower() in {"1", "1.0", "true", "yes"} for v in row) > 1 for row in rows)
    return (
        f"the columns {', '.join(flags)} are flags: each says yes or no to one label, and {several:,} "
        f"documents have several. A document has one label here: name one column, --label {flags[0]}, and its "
        "two values are the classes."
    )


def _text(columns: dict[str, Column], taken: set[str | None]) -> str:
    able = [c for c in columns.values() if c.name not in taken and c.may_be_text()]
    able = able or [c for c in columns.values()
                    if c.name not in taken and column_names.rank(c.name, column_names.TEXTS) is not None and c.filled]  # fmt: skip
    if not able:
        raise UserError(
            f"no column looks like text. There are: {', '.join(columns)}. Name it: --text COLUMN"
        )

    def weight(column: Column) -> float:
        rank = column_names.rank(column.name, column_names.TEXTS)
        return column.length * (
            1.0 if rank is None else 8.0 if rank < len(column_names.TEXTS) else 4.0
        )

    return max(able, key=weight).name


def _title(columns: dict[str, Column], taken: set[str | None], named: bool) -> str | None:
    able = [c for c in columns.values() if c.name not in taken and c.may_be_text()]
    if not named:  # label, title, text as AG News has them
        return able[0].name if len(able) == 1 and len(columns) == 3 else None
    return next(
        (c.name for c in able if column_names.rank(c.name, column_names.TITLES) is not None), None
    )


def several_labels(column: Column) -> str | None:
    """Return what separates labels in the cells of a label column; None where each cell holds one."""
    if column.lists:
        return "|"
    for separator in "|;,":
        cells = [[one.strip() for one in value.split(separator)] for value in column.counts]
        many = [
            (cell, n)
            for cell, n in zip(cells, column.counts.values(), strict=True)
            if len(cell) > 1
        ]
        if sum(n for _, n in many) < 0.02 * column.filled or not many:
            continue
        in_cells = Counter(one for cell in cells for one in set(cell))
        again = sum(in_cells[one] > 1 for cell, _ in many for one in cell)
        if again > 0.8 * sum(len(cell) for cell, _ in many) and len(in_cells) < len(cells) + 1:
            return separator
    return None
