"""Labelled texts without columns: fastText's lines, a folder or a file for each class."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from cleantune.data import decoding
from cleantune.data.nested import Row
from cleantune.errors import UserError

LABEL, TEXT, FILE = "label", "text", "file"
"""What the columns of these formats are called."""

_LABELLED = re.compile(r"((?:__label__\S+[\s,]+)*)(.*)", re.DOTALL)


def fasttext(lines: Iterable[str], name: str) -> Iterator[Row]:
    """Yield the lines of fastText's format; several labels of one are separated by ``|``."""
    for line, row in enumerate(map(decoding.without_end, lines), 1):
        if row.strip():
            found = _LABELLED.fullmatch(row)
            assert found
            labels = re.findall(r"__label__([^\s,]+)", found[1])
            yield f"{name}, line {line}", {LABEL: "|".join(labels), TEXT: found[2].strip()}


def folders(path: Path, encoding: str, name: str) -> Iterator[Row]:
    """Yield the files below a folder as documents, each with its topmost folder's name as label."""
    for file, where, text in _texts(path, "folders", encoding, name):
        inside = file.relative_to(path)
        yield where, {LABEL: inside.parts[0], TEXT: text.strip(), FILE: inside.as_posix()}


def lines(path: Path, encoding: str, name: str) -> Iterator[Row]:
    """Yield the lines of the files in a folder as documents, labelled by what tells the files' names apart."""
    read = [*_texts(path, "lines", encoding, name)]
    words = {file: re.findall(r"[^\W_]+", file.name) for file, _, _ in read}
    shared = set.intersection(*map(set, words.values())) if len(read) > 1 else set()
    for file, where, text in read:
        label = "_".join(word for word in words[file] if word not in shared)
        for line, row in decoding.numbered_lines(text):
            if row.strip():
                yield f"{where}, line {line}", {LABEL: label, TEXT: row.strip(), FILE: file.name}


def files_of(path: Path, format_: str) -> list[Path]:
    """Return the files of a folder that hold documents, without hidden ones.

    Of ``lines`` they are in the folder itself, of ``folders`` in the folders of the classes.
    """
    inside = path.iterdir() if format_ == "lines" else path.glob("*/**/*")
    return sorted(file for file in inside
                  if file.is_file() and not any(p.startswith(".") for p in file.relative_to(path).parts))  # fmt: skip


def _texts(path: Path, format_: str, encoding: str, name: str) -> Iterator[tuple[Path, str, str]]:
    """Yield each of these files, its name for messages, and its text."""
    if not path.is_dir():
        raise UserError(f"{name} is no folder. Correct the path in params.yaml.")
    for file in files_of(path, format_):
        where = f"{name}/{file.relative_to(path).as_posix()}"
        yield file, where, decoding.as_text(decoding.read_bytes(file, None, where), encoding, where)
