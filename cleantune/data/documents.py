"""The documents of a corpus as its files have them, and their ids."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from cleantune.errors import UserError

BATCH = 10_000  # documents that are in memory as objects
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


def as_table(documents: Iterable[Document], metadata: Sequence[str]) -> pa.Table:
    """Return documents as a table of the fields of ``Document``, ``metadata`` in columns of these names."""
    names = ("number", "where", "label", "title", "text")
    schema = pa.schema(
        [("number", pa.int64()), *((name, pa.string()) for name in (*names[1:], *metadata))]
    )
    batches = []
    documents = iter(documents)
    while some := [*islice(documents, BATCH)]:
        *columns, more = zip(*some, strict=True)
        columns += zip(*more, strict=True)
        batches.append(pa.record_batch(columns, schema=schema))
    return pa.Table.from_batches(batches, schema)


def ids(split: str, documents: pa.Table) -> list[str]:
    """Return an id for each document that depends on no other row of the file.

    It is a hash of title, text and label as the file has them. The label counts, so that copies of
    a text under different labels keep their ids when one is moved or removed; of copies that are
    alike in all three, the second gets ``-2``, the third ``-3``: which is which does not matter.
    Raises ``UserError`` when different documents share a hash.
    """
    result = []
    as_json = json.JSONEncoder(ensure_ascii=False).encode
    for batch in documents.select(["title", "text", "label"]).to_batches():
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            digest = hashlib.sha256(as_json(row).encode()).hexdigest()[:ID_DIGITS]
            result.append(f"{split}-{digest}")
    first: dict[str, dict[str, Any]] = {}
    copies: Counter[str] = Counter()
    numbers = np.array([int(name[-ID_DIGITS:], 16) for name in result], np.uint64)
    for i in np.flatnonzero(pd.Series(numbers).duplicated(keep=False)).tolist():
        row, name = documents.slice(i, 1).to_pylist()[0], result[i]
        other = first.setdefault(name, row)
        if any(row[field] != other[field] for field in ("title", "text", "label")):
            raise UserError(
                f"{row['where']}: its id, {name}, is also that of {other['where']}, by chance. "
                "Change a character in one of the two texts."
            )
        copies[name] += 1
        if copies[name] > 1:
            result[i] = f"{name}-{copies[name]}"
    return result
