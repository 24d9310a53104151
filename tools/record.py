"""What a study or a benchmark measures: printed, and with ``--keep NAME`` kept for the docs.

docs/results/NAME.json then holds the tables with the command, the day and the processor, and
`python -m tools.results render` writes them into the pages that name it.
"""

import argparse
import datetime
import re
import shlex
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from cleantune import console, files, machine

RESULTS = Path("docs/results")


class Record:
    """The tables and remarks of one command, in the order in which they were printed."""

    def __init__(self, name: str | None) -> None:
        self._name = name
        self._tables: list[dict[str, Any]] = []
        self._remarks: list[str] = []

    def table(
        self,
        caption: str,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        prose: Collection[str] = (),
    ) -> None:
        """Print a table, as ``console.table`` does, and keep its cells as they are printed."""
        cells = [[f"{c:,}" if isinstance(c, int) else str(c) for c in row] for row in rows]
        console.table(caption, columns, cells, prose)
        self._tables.append({"caption": caption, "columns": list(columns), "rows": cells})
        self._write()

    def say(self, line: str) -> None:
        """Print a remark and keep it."""
        console.say(line)
        self._remarks.append(line)
        self._write()

    def _write(self) -> None:
        """Write all there is so far: a command of hours that is stopped keeps what it has measured."""
        if self._name is None:
            return
        files.write_json(
            RESULTS / f"{self._name}.json",
            {
                "command": command(sys.orig_argv),
                "day": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "processor": machine.processor(),
                "tables": self._tables,
                "remarks": self._remarks,
            },
        )


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--keep NAME``, whose value is what ``Record`` takes."""
    parser.add_argument("--keep", metavar="NAME", type=_name,
                        help=f"also write the tables to {RESULTS}/NAME.json, for tools.results")  # fmt: skip


def command(argv: Sequence[str]) -> str:
    """Return the command line that repeats a run: ``python`` with its arguments, without ``--keep``."""
    given = list(argv[1:])
    if "--keep" in given:
        at = given.index("--keep")
        del given[at : at + 2]
    return shlex.join(["python", *(word for word in given if not word.startswith("--keep="))])


def as_markdown(kept: dict[str, Any]) -> list[str]:
    """Return the lines of a page that show what was kept."""
    day, processor = kept["day"], kept["processor"]
    lines = [f"`{kept['command']}`, {day}, {processor}:"]
    for table in kept["tables"]:
        head, *rows = ([_cell(c) for c in row] for row in (table["columns"], *table["rows"]))
        lines += ["", f"{table['caption']}:", "", f"| {' | '.join(head)} |",
                  f"| --- |{' --: |' * (len(head) - 1)}", *(f"| {' | '.join(r)} |" for r in rows)]  # fmt: skip
    return lines + [line for remark in kept["remarks"] for line in ("", remark)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9_]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not lower-case letters, digits and _")
    return text
