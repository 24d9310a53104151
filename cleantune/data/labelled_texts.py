"""Labelled texts without columns: fastText's lines, a folder or a file for each class."""

import re
from collections.abc import Iterator
from pathlib import Path

from cleantune.data import decoding
from cleantune.data.nested import Row
from cleantune.errors import UserError

LABEL, TEXT, FILE = "label", "text", "file"
"""What the columns of these formats are called."""

_LABELLED = re.compile(r"((?:__label__\S+[\s,]+)*)(.*)", re.DOTALL)


def fasttext(text: str, name: str) -> Iterator[Row]:
    """Yield the lines of fastText's format; several labels of one are separated by ``|``."""
    for line, row in enumerate(re.split("\r\n|\n|\r", text), 1):
        if row.strip():
            found = _LABELLED.fullmatch(row)
            assert found
            labels = re.findall(r"__label__([^\s,]+)", found[1])
            yield f"{name}, line {line}", {LABEL: "|".join(labels), TEXT: found[2].strip()}


def folders(path: Path, encoding: str, name: str) -> Iterator[Row]:
    """Yield the files below a folder as documents, each with its topmost folder's name as label."""
    if not path.is_dir():
        raise UserError(f"{name} is no folder. Correct the path in params.yaml.")
    for file in sorted(documents_below(path)):
        inside = file.relative_to(path)
        where = f"{name}/{inside.as_posix()}"
        text = decoding.as_text(decoding.read_bytes(file, None, where), encoding, where)
        yield where, {LABEL: inside.parts[0], TEXT: text.strip(), FILE: inside.as_posix()}


def lines(path: Path, encoding: str, name: str) -> Iterator[Row]:
    """Yield the lines of the files in a folder as documents, labelled by what tells the files' names apart."""
    if not path.is_dir():
        raise UserError(f"{name} is no folder. Correct the path in params.yaml.")
    files = class_files(path)
    words = {file: re.findall(r"[^\W_]+", file.name) for file in files}
    shared = set.intersection(*map(set, words.values())) if len(files) > 1 else set()
    for file in files:
        label = "_".join(word for word in words[file] if word not in shared)
        where = f"{name}/{file.name}"
        text = decoding.as_text(decoding.read_bytes(file, None, where), encoding, where)
        for line, row in enumerate(re.split("\r\n|\n|\r", text), 1):
            if row.strip():
                yield f"{where}, line {line}", {LABEL: label, TEXT: row.strip(), FILE: file.name}


def class_files(path: Path) -> list[Path]:
    """Return the files in a folder, without hidden ones."""
    return sorted(file for file in path.iterdir() if file.is_file() and file.name[0] != ".")


def documents_below(path: Path) -> list[Path]:
    """Return the files in the folders of ``path``, without hidden ones."""
    return [file for file in path.glob("*/**/*")
            if file.is_file() and not any(p.startswith(".") for p in file.relative_to(path).parts)]  # fmt: skip
