"""Which file, or which part of a file, is train, test and validation."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from cleantune.data import binary_tables, decoding
from cleantune.errors import UserError

WORDS = {
    "train": "train", "training": "train", "test": "test", "testing": "test", "eval": "test",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
}  # fmt: skip
ORDER = ("train", "validation", "test")
NOT_DATA = {".md", ".rst", ".pdf", ".html", ".py", ".ipynb", ".yml", ".yaml", ".dvc", ".cff"}
_NAMED = re.compile(r"readme|licen[cs]e|citation|notice|changelog", re.IGNORECASE)


class Piece(NamedTuple):
    """A file, or one of several things in it."""

    path: Path
    part: str | None = None


def split_of(name: str) -> str | None:
    """Return the split that a file's or key's name says, None where it says none."""
    words = [
        WORDS[word] for word in re.split(r"[\W_\d]+", Path(name).name.lower()) if word in WORDS
    ]
    return words[0] if len(set(words)) == 1 else None


def without_split(name: str) -> str:
    """Return what a name says besides its split; empty where that is all."""
    return "_".join(w for w in re.split(r"[\W_]+", name) if w and w.lower() not in WORDS)


def by_split(names: Iterable[str]) -> dict[str, str]:
    """Return the name of each split where there is one name for train and no two for a split."""
    names = list(names)
    found = {WORDS[stem]: n for n in names if (stem := n.lower().split(".")[0]) in WORDS}
    for name in names if "train" not in found else ():
        split = split_of(name)
        if split and found.setdefault(split, name) != name:
            return {}
    return {s: found[s] for s in ORDER if s in found} if "train" in found else {}


def pieces(path: Path, part: str | None, name: str) -> dict[str, Piece]:
    """Return the splits that a file or a folder holds; train alone where it tells none.

    Raises ``UserError`` where it holds several things, and none is told to be the training part.
    """
    if path.is_dir():
        return _in_folder(path, name)
    if part is not None:
        return {"train": Piece(path, part)}
    content = path.read_bytes()
    if decoding.is_workbook(content):
        return _chosen(path, binary_tables.sheets(content, name), name, "sheets")
    if decoding.compression(content) == "zip":
        inside = [m for m in decoding.members(content) if is_data(m)]
        return _chosen(
            path, inside, name, "files", alone=len(inside) == len(decoding.members(content))
        )
    value = _json_object(decoding.read_bytes(path, None, name))
    found = by_split(key for key, inner in value.items() if isinstance(inner, list | dict))
    if found:
        return {split: Piece(path, key) for split, key in found.items()}
    tables = [key for key, inner in value.items() if isinstance(inner, list) and inner
              and isinstance(inner[0], dict)]  # fmt: skip
    return {"train": Piece(path, tables[0] if len(tables) == 1 else None)}


def is_data(name: str) -> bool:
    """Tell a file that may hold a corpus from those that lie beside it."""
    path = Path(name)
    return path.suffix.lower() not in NOT_DATA and not _NAMED.match(path.stem)


def _chosen(
    path: Path, names: list[str], name: str, what: str, alone: bool = True
) -> dict[str, Piece]:
    if len(names) == 1:
        return {"train": Piece(path, None if alone else names[0])}
    found = by_split(names)
    if not found:
        raise UserError(
            f"{name} holds {len(names)} {what}, and their names do not say which is for training: "
            f"{', '.join(names[:8])}. Name one: --part {names[0] if names else 'NAME'!r}"
        )
    return {split: Piece(path, part) for split, part in found.items()}


def _in_folder(path: Path, name: str) -> dict[str, Piece]:
    inside = sorted(p for p in path.iterdir() if not p.name.startswith((".", "__")))
    folders = {p.name: p for p in inside if p.is_dir()}
    tables = {p.name: p for p in inside if p.is_file() and is_data(p.name)}
    if folders and not tables:
        found = by_split(folders)
        return {s: Piece(folders[key]) for s, key in found.items()} or {"train": Piece(path)}
    if len(tables) == 1:
        return pieces(next(iter(tables.values())), None, f"{name}/{next(iter(tables))}")
    found = by_split(tables)
    if not found:
        raise UserError(
            f"{name} holds {len(tables)} files, and their names do not say which is for training: "
            f"{', '.join(list(tables)[:8])}. Name one, and the test file with --test. If each file is a "
            "class, with a document on each line: --lines"
        )
    return {split: Piece(tables[key]) for split, key in found.items()}


def _json_object(content: bytes) -> dict[str, Any]:
    """Return the object that a JSON file holds; an empty one for any other file."""
    if content[:200].lstrip(b"\xef\xbb\xbf \r\n\t")[:1] != b"{":
        return {}
    try:
        value = json.loads(content)
    except ValueError:
        return {}  # JSON lines, or no JSON
    return value if isinstance(value, dict) else {}
