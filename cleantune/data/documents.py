"""The documents of a corpus as its files have them."""

from typing import NamedTuple


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
