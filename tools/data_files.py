"""The files of a corpus that `tools.data` brings in: their place, their copy, git and DVC."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cleantune import console, files
from cleantune.data import fetch, labelled_texts, records
from cleantune.data.splits import Piece
from tools.commands import DVC, command

CUSTOM = Path("data/custom")
IN_GIT = 1_000_000  # bytes; what is larger goes to DVC


def folder(name: str) -> Path:
    """Return where the files of an entry are."""
    return CUSTOM / name


def is_added(entry: Mapping[str, Any]) -> bool:
    """Tell an entry that `tools.data add` wrote from those of the repository."""
    given = [file["path"] for file in (entry["files"] or {}).values() if file]
    own = all(fetch.is_url(path) or Path(path).is_relative_to(CUSTOM) for path in given)
    return not entry["hub"] and own


def destinations(name: str, found: Mapping[str, Piece], urls: Mapping[str, str]) -> dict[str, Path]:
    """Return where the file of each split will be; several parts of one file share it."""
    sources = [piece.path for split, piece in found.items() if split not in urls]
    made = {}
    for split, piece in found.items():
        if split not in urls:
            stem = split if sources.count(piece.path) == 1 else "corpus"
            made[split] = folder(name) / (stem + _ending(piece.path))
    return made


def _ending(path: Path) -> str:
    """Return the ending of a file's name, with that of what was compressed."""
    endings = [ending for ending in path.suffixes if ending[1:].isalnum() and ending.isascii()]
    return "".join(endings[-2:] if path.suffix.lower() in records.COMPRESSED else endings[-1:])


@contextmanager
def placed(
    name: str, found: Mapping[str, Piece], paths: Mapping[str, Path], format_: str
) -> Iterator[None]:
    """Copy the files to their place and track them; take all of it back if the block raises.

    ``format_`` says which files of a folder hold documents: ``labelled_texts.files_of``.
    """
    own = folder(name)
    if paths:
        command("git", "rev-parse", "--is-inside-work-tree")
    aside, part = own.with_name(f".{name}.old.part"), own.with_name(f".{name}.part")
    for leftover in (aside, part):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        for split, path in paths.items():
            _copy(found[split].path, part / path.relative_to(own), format_)
        if own.exists():
            shutil.copytree(own, aside)
            untrack(name)
        if paths:
            part.rename(own)
            _track(own)
        yield
    except BaseException:
        untrack(name)
        if aside.exists():
            aside.rename(own)
            _track(own)
        raise
    finally:
        for leftover in (aside, part):
            shutil.rmtree(leftover, ignore_errors=True)


def _copy(source: Path, target: Path, format_: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        shutil.copyfile(source, target)
        return
    for file in labelled_texts.files_of(source, format_):
        inside = target / file.relative_to(source)
        inside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, inside)


def _track(own: Path) -> None:
    """Let git know of the files, or DVC if they are large: `dvc exp run --queue` sees no others."""
    size = sum(p.stat().st_size for p in own.rglob("*") if p.is_file())
    if size <= IN_GIT:
        command("git", "add", "--force", "--", str(own))
        console.say(f"git add {own} ({files.size(own)})")
        return
    with console.timed(f"dvc add {own} ({files.size(own)})"):
        command(*DVC, "add", "--quiet", str(own))
    command("git", "add", "--", f"{own}.dvc", str(CUSTOM / ".gitignore"))


def untrack(name: str) -> None:
    """Remove the files of an entry, and what git and DVC know of them."""
    own = folder(name)
    pointer = own.with_name(f"{name}.dvc")
    if pointer.exists():
        command(*DVC, "remove", "--quiet", str(pointer))
        command("git", "rm", "--cached", "--quiet", "--ignore-unmatch", "--", str(pointer))
        ignored = CUSTOM / ".gitignore"
        if ignored.exists():
            command("git", "add", "--", str(ignored))
        else:
            command("git", "rm", "--cached", "--quiet", "--ignore-unmatch", "--", str(ignored))
    elif own.exists():
        command("git", "rm", "-r", "--cached", "--quiet", "--ignore-unmatch", "--", str(own))
    shutil.rmtree(own, ignore_errors=True)
