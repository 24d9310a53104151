"""Console output: one rich console, on which only rank 0 prints.

A stage prints a title, its inputs, progress bars, a closing table and its outputs. Without a
terminal the output is plain lines, with one line at the end of each bar.
"""

import errno
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from cleantune import files
from cleantune.errors import UserError

T = TypeVar("T")

EXTRAS = {"captum": "explain", "fastapi": "serve", "onnx": "export", "onnxruntime": "export",
          "onnxscript": "export", "optuna": "sweep", "tensorboard": "logs", "uvicorn": "serve"}  # fmt: skip
"""The optional packages, and which extra of pyproject.toml installs each."""

_rank_0 = os.environ.get("RANK", "0") == "0"
console = Console(quiet=not _rank_0, highlight=False)
_errors = Console(stderr=True, highlight=False)


def title(stage: str, does: str) -> None:
    """Print the title of a stage: its name and what it does."""
    console.print(f"[bold]{stage}[/bold]  {does}")


def say(line: str) -> None:
    """Print one line without interpreting markup."""
    console.print(line, markup=False)


def warn(line: str) -> None:
    """Print what the user should know of a result, without interpreting markup."""
    console.print(Text.assemble(("warning:", "bold yellow"), " ", line))


def table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    prose: Collection[str] = (),
) -> None:
    """Print a table; every column but the first and those of ``prose`` is right-aligned.

    Cells are not interpreted as markup; unprintable characters, such as terminal escapes and
    bidirectional controls, are escaped.
    """
    grid = Table(title=caption, title_justify="left", title_style="bold", header_style="bold",
                 min_width=min(len(caption), console.width))  # fmt: skip
    for i, column in enumerate(columns):
        left = i == 0 or column in prose
        grid.add_column(column, justify="left" if left else "right", overflow="fold")
    for row in rows:
        grid.add_row(*(_cell(f"{c:,}" if isinstance(c, int) else str(c)) for c in row))
    console.print(grid)


def _cell(text: str) -> Text:
    return Text("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text))


def outputs(*paths: Path) -> None:
    """Print the outputs of a stage and their sizes."""
    if console.quiet:  # rank 0 may still be writing temporary files
        return
    for path in paths:
        say(f"wrote {path} ({files.size(path)})")


class Bar:
    """A progress bar on a terminal; one line at the end elsewhere."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._start = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                   TimeRemainingColumn())  # fmt: skip
        live = console.is_terminal and not console.quiet
        self._progress = Progress(*columns, console=console, disable=not live)
        self._task = self._progress.add_task(what, total=total)

    def advance(self, count: int = 1, note: str = "") -> None:
        """Move on by ``count``; ``note`` follows the description."""
        self._done += count
        self._progress.update(self._task, advance=count, description=f"{self._what} {note}".strip())

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()
        if not console.is_terminal:
            seconds = time.monotonic() - self._start
            of = "" if self._total is None else f" of {self._total:,}"
            say(f"{self._what}: {self._done:,}{of} in {seconds:.1f} s")


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield ``items`` while a bar counts them."""
    with Bar(what, total) as bar:
        for item in items:
            yield item
            bar.advance()


def run(main: Callable[[], None]) -> None:
    """Run a command's ``main`` and leave with a message and a status a shell can read.

    A ``UserError``, a package of ``EXTRAS`` that is missing and a full disk give one message and
    status 1, Ctrl-C and SIGTERM 130 and 143; any other exception is a bug and keeps its
    traceback. The garbage collector, which ``stages`` and ``tools`` disable for their imports, works
    from here on, and passes over what these have made.
    """
    gc.freeze()
    gc.enable()
    try:
        _tell(main)
    except SystemExit as leaving:
        _leave(int(leaving.code or 0))
        raise
    _leave(0)


def _tell(main: Callable[[], None]) -> None:
    """Run ``main``; turn expected errors into a message and a status."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        with optional():
            main()
    except UserError as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("Interrupted; unfinished files were removed. The same command starts again.", 130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or "the disk"
        fail(
            f"No space left while writing {where}; nothing half-written was kept. Free some and run again."
        )


@contextmanager
def optional() -> Iterator[None]:
    """Leave with a message where an import inside lacks a package of ``EXTRAS``."""
    try:
        yield
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        fail(f"{error.name} is not installed: pip install '.[{extra}]' in the project's folder.")


def fail(message: str, status: int = 1) -> None:
    """Print an error and leave with ``status``."""
    _errors.print("error:", style="bold red", end=" ")
    _errors.print(message, markup=False)
    sys.exit(status)


def _leave(status: int) -> None:
    """End this process at once if it is one of several: all that it writes is written.

    Without the interpreter's own end, in which torch's threads now and then abort it (SIGABRT,
    "terminate called without an active exception"): torchrun would then report a failed run,
    and on other hosts wait five minutes for it.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _terminate(signum: int, _frame: FrameType | None) -> None:
    """Unwind on SIGTERM as on Ctrl-C, so that temporary files go."""
    sys.exit(128 + signum)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long the block took. Seconds go to the console only, never into an output."""
    start = time.monotonic()
    yield
    say(f"{what} in {time.monotonic() - start:.1f} s")
