"""Tables by class that fit 80 columns at any number of classes.

With more than ``SHOWN`` classes a table has the largest and the smallest, or the worst and the
largest; a matrix that is too wide becomes its commonest pairs. All numbers are in the stages' files.
"""

from collections.abc import Sequence
from itertools import islice

import numpy as np
from rich.cells import cell_len

from cleantune import console

SHOWN = 15  # classes that a table or a chart shows one by one
ENDS = 5  # largest, smallest or worst classes that it shows instead
PAIRS = 10  # of different classes
LISTED = 12  # names in a sentence
NAME_WIDTH = 30  # columns of a terminal
ELLIPSIS = "…"


def shortened(names: Sequence[str], width: int = NAME_WIDTH) -> list[str]:
    """Return the names, those wider than ``width`` columns with an ellipsis.

    It is before the last third, at the start or at the end: where all names stay different. Where
    they would not in any of these forms, equal ones get a number.
    """
    result: list[str] = []
    for tail in (width // 3, width - 1, 0):  # columns after the ellipsis
        result = [_shortened(name, width, tail) for name in names]
        if len(set(result)) == len(set(names)):
            return result
    taken = {name for name in names if cell_len(name) <= width}
    for k, name in enumerate(names):
        short, number = result[k], 1
        while short != name and short in taken:
            number += 1
            short = f"{_shortened(name, width - len(f' {number}'), 0)} {number}"
        taken.add(short)
        result[k] = short
    return result


def _shortened(name: str, width: int, tail: int) -> str:
    if cell_len(name) <= width:
        return name
    end = _fitting(name[::-1], tail)[::-1]
    return f"{_fitting(name, width - 1 - cell_len(end))}{ELLIPSIS}{end}"


def _fitting(text: str, width: int) -> str:
    """Return as many characters from the start as fit in ``width`` columns."""
    end = len(text[:width])
    while cell_len(text[:end]) > width:
        end -= 1
    return text[:end]


def listed(names: Sequence[str], limit: int = LISTED) -> str:
    """Return names as text: the first ``limit``, shortened, and how many more there are."""
    names = shortened(names, 2 * NAME_WIDTH)
    rest = len(names) - limit
    if rest < 2:  # "and 1 more" is no shorter than a name
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {rest:,} more"


def largest(sizes: Sequence[float], count: int = ENDS) -> list[int]:
    """Return the positions of the ``count`` largest, the largest first."""
    return [int(i) for i in np.argsort(-np.asarray(sizes, dtype=float), kind="stable")[:count]]


def smallest(values: Sequence[float], count: int = ENDS) -> list[int]:
    """Return the positions of the ``count`` smallest that are defined (not NaN), the smallest first."""
    order = np.argsort(np.asarray(values, dtype=float), kind="stable")
    return list(islice((int(i) for i in order if not np.isnan(values[i])), count))


def commonest_pairs(counts: np.ndarray, limit: int = PAIRS) -> list[tuple[int, int]]:
    """Return the off-diagonal cells of a matrix (classes, classes) with the highest counts, not 0."""
    apart = counts * (1 - np.eye(len(counts), dtype=int))
    order = np.argsort(-apart, axis=None, kind="stable")[:limit]
    cells = (divmod(int(cell), len(counts)) for cell in order)
    return [(i, j) for i, j in cells if apart[i, j]]


def print_counts(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, *tuple[int, ...]]],
    where: str,
    width: int = NAME_WIDTH,
    total: Sequence[object] | None = None,
) -> None:
    """Print a row of numbers for each class; of many, the largest and smallest by the first number.

    ``where`` says where all of them are; ``total`` is the last row.
    """
    names = shortened([row[0] for row in rows], width)
    cells: list[Sequence[object]] = [
        (name, *row[1:]) for name, row in zip(names, rows, strict=True)
    ]
    if len(rows) > SHOWN:
        sizes = [row[1:][0] for row in rows]
        low = smallest(sizes)
        between = f"{ELLIPSIS} {len(rows) - 2 * ENDS:,} more classes"
        cells = [
            *(cells[i] for i in largest(sizes)),
            (between, *[""] * (len(columns) - 1)),
            *(cells[i] for i in reversed(low)),
        ]
    console.table(caption, columns, [*cells, total] if total else cells)
    if len(rows) > SHOWN:
        console.say(f"all {len(rows):,} classes: {where}")


def print_pairs(
    caption: str, columns: tuple[str, str, str, str], names: Sequence[str], counts: np.ndarray,
    sizes: Sequence[int],
) -> None:  # fmt: skip
    """Print the commonest pairs of different classes of a matrix (classes, classes).

    ``columns`` are row, column, documents, and the documents of the row's class, ``sizes``.
    """
    short = shortened(names, 22)
    pairs = commonest_pairs(counts)
    if not pairs:
        return
    rows = [(short[i], short[j], int(counts[i, j]), int(sizes[i])) for i, j in pairs]
    every = int((counts * (1 - np.eye(len(counts), dtype=int)) > 0).sum())
    of = f", the {len(pairs)} commonest of {every:,} pairs" if every > len(pairs) else ""
    console.table(caption + of, columns, rows, prose=columns[1:2])


def fits(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> bool:
    """Tell whether a table is no wider than the console."""
    cells = [columns, *[[f"{c:,}" if isinstance(c, int) else str(c) for c in row] for row in rows]]
    widths = [max(cell_len(cell) for cell in column) for column in zip(*cells, strict=True)]
    return sum(widths) + 3 * len(widths) + 1 <= console.console.width
