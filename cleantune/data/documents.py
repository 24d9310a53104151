"""The documents of a corpus as its files have them, and their ids."""

import hashlib
import json
from collections import Counter
from typing import NamedTuple

from cleantune.errors import UserError

ID_DIGITS = 16  # hexadecimal: two of a million documents share them with probability 3e-8


class Document(NamedTuple):
    """One row of a file."""

    number: int
    """From 1, without the header."""
    where: str
    label: str
    title: str
    text: str
    metadata: tuple[str, ...] = ()
    """The values of ``columns.metadata``."""


def ids(split: str, rows: list[Document]) -> list[str]:
    """Return an id for each document that depends on no other row of the file.

    It is a hash of title, text and label as the file has them. The label counts, so that copies of
    a text under different labels keep their ids when one is moved or removed; of copies that are
    alike in all three, the second gets ``-2``, the third ``-3``: which is which does not matter.
    Raises ``UserError`` when different documents share a hash.
    """
    first: dict[str, Document] = {}
    copies: Counter[str] = Counter()
    result = []
    for row in rows:
        content = json.dumps([row.title, row.text, row.label], ensure_ascii=False)
        digest = hashlib.sha256(content.encode()).hexdigest()[:ID_DIGITS]
        other = first.setdefault(digest, row)
        if (other.title, other.text, other.label) != (row.title, row.text, row.label):
            raise UserError(
                f"{row.where}: its id, {split}-{digest}, is also that of {other.where}, by chance. "
                "Change a character in one of the two texts."
            )
        copies[digest] += 1
        copy = f"-{copies[digest]}" if copies[digest] > 1 else ""
        result.append(f"{split}-{digest}{copy}")
    return result
