"""The bytes of a corpus file without their compression, and their text.

Compression is told by the first bytes, never by the name: gzip, bzip2, xz, Zstandard and zip.
"""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from cleantune.errors import UserError

ZIP = b"PK\x03\x04"
OLD_WORKBOOK = b"\xd0\xcf\x11\xe0"  # .xls
PARQUET = b"PAR1"
STREAMS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
         (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
"""Byte order marks and the encodings they announce; the longer ones first."""
_IN_WORKBOOK = re.compile(r"\[Content_Types\]\.xml|mimetype")
_NO_TABLE = re.compile(r"(^|/)(\.|__MACOSX/)|/$")
_BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, pa.ArrowException,
           RuntimeError, NotImplementedError)  # fmt: skip


def read_bytes(path: Path, part: str | None = None, name: str = "") -> bytes:
    """Return the content of a file, decompressed.

    ``part`` is the member of a zip archive that is meant; with one member there is no need for it.
    Raises ``UserError`` for an archive that is damaged, encrypted, or holds no such member.
    """
    name = name or str(path)
    try:
        content = path.read_bytes()
        kind = compression(content)
        if kind == "gzip":
            content = gzip.decompress(content)
        elif kind == "bz2":
            content = bz2.decompress(content)
        elif kind == "xz":
            content = lzma.decompress(content)
        elif kind == "zstd":
            content = pa.CompressedInputStream(io.BytesIO(content), "zstd").read()
        elif kind == "zip":
            content = _member(content, part, name)
        return content
    except _BROKEN as error:
        raise UserError(f"{name} cannot be decompressed: {error}. Fetch it again.") from None


def lines(path: Path, encoding: str, newline: str, part: str | None, name: str) -> Iterator[str]:
    """Yield the lines of a text file with their ends, decompressed and decoded as they are asked for.

    ``newline`` is that of ``open``: "" ends lines at CR, LF or both, a line feed at no other. A byte order
    mark is left out. Raises ``UserError`` as ``read_bytes`` and ``as_text`` do, but after the lines before.
    """
    try:
        with _stream(path, part, name) as file:
            text = io.TextIOWrapper(file, encoding, newline=newline)
            yield next(text, "").removeprefix("\ufeff")
            yield from text
    except UnicodeDecodeError:
        raise _undecodable(path, encoding, part, name) from None
    except UnicodeError as error:  # UTF-16 without a byte order mark
        raise UserError(f"{name}: {error}. Name the encoding utf-16-le or utf-16-be.") from None
    except _BROKEN as error:
        raise UserError(f"{name} cannot be decompressed: {error}. Fetch it again.") from None


def _stream(path: Path, part: str | None, name: str) -> Any:
    """Return the decompressed bytes of a file as a file; of an archive in memory."""
    with path.open("rb") as file:
        kind = compression(start) if (start := file.read(8)) and start[:4] != ZIP else "zip"
    opened: dict[str | None, Any] = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open}
    if kind in opened:
        return opened[kind](path)
    if kind == "zstd":
        return pa.CompressedInputStream(str(path), "zstd")
    if kind == "zip":
        return io.BytesIO(read_bytes(path, part, name))
    return path.open("rb")


def _undecodable(path: Path, encoding: str, part: str | None, name: str) -> UserError:
    """Return the error for a file with a byte that ``encoding`` has no character for."""
    decoder = codecs.getincrementaldecoder(encoding)()
    read = newlines = 0
    with _stream(path, part, name) as file:
        while True:
            block = file.read(2**20)
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                waiting = error.object[: len(error.object) - len(block)]
                offset = read - len(waiting) + error.start
                line = (
                    1 + newlines - waiting.count(b"\n") + error.object.count(b"\n", 0, error.start)
                )
                return _no_character(error.object[error.start], offset, line, encoding, name)
            read += len(block)
            newlines += block.count(b"\n")


def _no_character(byte: int, offset: int, line: int, encoding: str, name: str) -> UserError:
    return UserError(
        f"{name}, line {line}: byte 0x{byte:02x} at offset {offset:,} is not {encoding.upper()}. Set "
        "`encoding` of this dataset in params.yaml to the one it was written in; "
        "`python -m tools.data add` finds it."
    )


def compression(content: bytes) -> str | None:
    """Return gzip, bz2, xz, zstd or zip by the first bytes; None for anything else, workbooks too."""
    if content.startswith(ZIP):
        return None if is_workbook(content) else "zip"
    return next((kind for start, kind in STREAMS.items() if content.startswith(start)), None)


def is_workbook(content: bytes) -> bool:
    """Tell a spreadsheet program's workbook (.xlsx, .xlsb, .ods, .xls) from other files."""
    if not content.startswith(ZIP):
        return content.startswith(OLD_WORKBOOK)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return any(_IN_WORKBOOK.fullmatch(name) for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def members(content: bytes) -> list[str]:
    """Return the files in a zip archive, without hidden ones."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [name for name in archive.namelist() if not _NO_TABLE.search(name)]


def _member(content: bytes, part: str | None, name: str) -> bytes:
    part = chosen(part, members(content), name, "files")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read(part)


def chosen(part: str | None, found: Sequence[str], name: str, what: str) -> str:
    """Return ``part``, or the only one of the parts that a file has; ``what`` calls them in the plural.

    Raises ``UserError`` where there is no such part, or several and none is named.
    """
    if part is None and len(found) == 1:
        return found[0]
    if part is None or part not in found:
        which = f"holds no {part}" if part else f"holds {len(found)} {what}"
        raise UserError(
            f"{name} {which}: {', '.join(found[:10])}. Set `part` of the file in params.yaml to one."
        )
    return part


def without_end(line: str) -> str:
    """Return a line without the line end that it has."""
    return line.removesuffix("\n").removesuffix("\r")


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text, without their ends, and their numbers from 1."""
    yield from enumerate(re.split("\r\n|\n|\r", text), 1)


def as_text(content: bytes, encoding: str, name: str) -> str:
    """Return ``content`` as text, without its byte order mark.

    Raises ``UserError`` with the line and the byte that ``encoding`` has no character for.
    """
    # These codecs read their own mark; the others leave it in the text.
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise _no_character(byte, error.start, line, encoding, name) from None
