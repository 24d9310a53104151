"""Calling a tool in this process, as its command would run it."""

import io
import sys
from collections.abc import Sequence
from types import ModuleType

import pytest

from cleantune import console

Answer = tuple[int, str, str]
"""Exit status, stdout, and stderr on one line."""


def call(
    tool: ModuleType,
    arguments: Sequence[object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stdin: bytes = b"",
) -> Answer:
    """Run ``tool.main`` with these arguments."""
    monkeypatch.setattr(sys, "argv", [tool.__name__, *map(str, arguments)])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
    status = 0
    try:
        console.run(tool.main)
    except SystemExit as end:
        status = int(end.code or 0)
    out = capsys.readouterr()
    return status, out.out, " ".join(out.err.split())
