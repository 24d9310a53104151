"""Reading files, and writing them atomically.

Content is written to a hidden temporary file beside the target (``.NAME.part``) and then renamed, so
an exception, a full disk, Ctrl-C or ``kill -9`` leaves the old content or nothing. A folder that is
replaced is renamed to ``.NAME.old.part`` first, and back if the new one does not follow.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cleantune.errors import UserError


def _part(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.part")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary neighbour of ``path`` that replaces it when the block ends well."""
    part = _part(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder that replaces ``path`` when the block ends well."""
    part = _part(path)
    clear_up(path)
    part.mkdir()
    try:
        yield part
        put_in_place(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def put_in_place(path: Path) -> None:
    """Give the finished folder ``.NAME.part`` the name ``path``, whose old content then goes.

    At no moment has ``path`` half of its files: what is removed has another name by then.
    """
    if path.exists():
        path.replace(_aside(path))
    try:
        _part(path).replace(path)
    finally:
        clear_up(path)


def clear_up(path: Path) -> None:
    """Remove what a killed run left beside the folder ``path``.

    If it died between the two renames of ``put_in_place``, the old folder comes back.
    """
    part, aside = _part(path), _aside(path)
    shutil.rmtree(part, ignore_errors=True)
    if aside.exists():
        aside.replace(part if path.exists() else path)
        shutil.rmtree(part, ignore_errors=True)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old.part")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 with LF line ends."""
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON in the order given, ending in a newline.

    Raises ``ValueError`` for NaN and infinities, which are not JSON.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON written by an earlier stage; ``UserError`` when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing(path) from None
    except ValueError as error:
        raise damaged(path, error) from None


def missing(path: Path) -> UserError:
    """Return the error for an input that an earlier stage should have made."""
    return UserError(
        f"{path} is missing. `dvc repro` rebuilds what makes it; `dvc pull` fetches it."
    )


def damaged(path: Path, why: object) -> UserError:
    """Return the error for an input that cannot be read as what it should be."""
    return UserError(
        f"{path} is damaged ({why}). Delete it and run `dvc repro`, or `dvc checkout` the kept copy."
    )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex; of a folder, of its files' names and digests."""
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file())
        listed = "".join(f"{sha256(p)}  {p.relative_to(path).as_posix()}\n" for p in inside)
        return hashlib.sha256(listed.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size(*paths: Path) -> str:
    """Return the size of files together, of a folder's all, for a person to read."""
    files = [
        p for path in paths for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file()
    ]
    count = float(sum(p.stat().st_size for p in files))
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
