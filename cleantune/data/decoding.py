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
        byte = f"byte 0x{content[error.start]:02x} at offset {error.start:,}"
        raise UserError(
            f"{name}, line {line}: {byte} is not {encoding.upper()}. Set `encoding` of this dataset in "
            "params.yaml to the one it was written in; `python -m tools.data add` finds it."
        ) from None
