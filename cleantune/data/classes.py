"""Which classes a corpus has, by the labels of all its files together."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cleantune import console
from cleantune.data.documents import Document
from cleantune.errors import UserError
from cleantune.params.sources import Dataset


class Classes(NamedTuple):
    """The classes and what is in them."""

    names: list[str]
    position: dict[str, int]
    """In ``names``, by the value of the label column. A value that is left out is not in it."""
    small: dict[str, int]
    """Classes with fewer than ``min_documents`` documents, and how many they have."""


def name_classes(
    rows: Mapping[str, Sequence[Document]],
    labels: Mapping[str, str],
    name: str,
    dataset: Dataset,
    files: str,
) -> Classes:
    """Return the classes of ``rows``, by file; ``labels`` names values, empty for their own names.

    ``name`` is that of the ``dataset`` in params.yaml, ``files`` of its files, for messages.
    Classes with fewer than ``min_documents`` documents are merged into ``other`` or left out.
    Raises ``UserError`` for a value that ``labels`` does not name, an empty one, more different ones
    than a classifier could have classes, and fewer than two classes.
    """
    together = [row for split in rows.values() for row in split]
    labels = _named(together, labels, name) if labels else _values(together, files)
    counts = Counter(labels[row.label] for row in together)
    names = list(dict.fromkeys(labels.values()))
    if len(names) < 2:
        raise UserError(
            f"{files}: one class only ({', '.join(names)}); a classifier "
            f"needs two. Check datasets.{name}.columns.label in params.yaml."
        )
    small = {}
    if dataset.min_documents > 1:  # by default a class that `labels` names needs no document
        small = {n: counts[n] for n in names
                 if counts[n] < dataset.min_documents and n != dataset.other}  # fmt: skip
    kept = [n for n in names if n not in small]
    if small and dataset.other and dataset.other not in kept:
        kept.append(dataset.other)
    if len(kept) < 2:
        raise UserError(
            f"{files}: with datasets.{name}.min_documents: {dataset.min_documents} "
            f"{' and '.join(kept) or 'no class'} alone is left; a classifier needs two classes. The "
            f"others: {listed(small)}. Lower min_documents."
        )
    merged = {n: dataset.other if n in small else n for n in names}
    position = {value: kept.index(to) for value, n in labels.items() if (to := merged[n])}
    return Classes(kept, position, small)


def listed(counts: Mapping[str, int]) -> str:
    """Return classes with their numbers of documents as words, the largest first."""
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    return console.listed([f"{name} ({count:,})" for name, count in ranked])


def _values(rows: Sequence[Document], files: str) -> dict[str, str]:
    """Return the values of the label column as their own names, numbers in numeric order."""
    values = {row.label for row in rows}
    if "" in values:
        where = next(row.where for row in rows if not row.label)
        raise UserError(f"{where}: the label is empty. Fill it in, or take the row out.")
    if len(values) > max(1000, len(rows) // 2):
        raise UserError(
            f"{files} has {len(values):,} different labels in {len(rows):,} rows: that column does "
            "not hold classes. Correct `columns` in params.yaml."
        )
    numeric = all(value.removeprefix("-").isdecimal() for value in values)
    ordered = sorted(values, key=lambda v: (int(v), v)) if numeric else sorted(values)
    return {value: value for value in ordered}


def _named(rows: Sequence[Document], labels: Mapping[str, str], dataset: str) -> dict[str, str]:
    """Return ``labels``, after a check that they name the label of every row."""
    for row in rows:
        if row.label not in labels:
            known = ", ".join(v if v == n else f"{v} ({n})" for v, n in labels.items())
            header = " If it names the columns, set `header: true`." if row.number == 1 else ""
            raise UserError(
                f"{row.where}: unknown label {row.label[:80]!r}; known: {known[:400]}. Fix the "
                f"row, or add the value to datasets.{dataset}.labels in params.yaml.{header}"
            )
    return dict(labels)
