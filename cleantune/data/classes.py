"""Which classes a corpus has, by the labels of all its files together."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cleantune.data import class_tables
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
    rows: Mapping[str, pa.Table],
    labels: Mapping[str, str],
    name: str,
    dataset: Dataset,
    files: str,
) -> Classes:
    """Return the classes of ``rows``, of ``documents.as_table`` by file; ``labels`` names values, empty for their own names.

    ``name`` is that of the ``dataset`` in params.yaml, ``files`` of its files, for messages.
    Classes with fewer than ``min_documents`` documents are merged into ``other`` or left out.
    Raises ``UserError`` for a value that ``labels`` does not name, an empty one, more different ones
    than a classifier could have classes, and fewer than two classes.
    """
    sizes: Counter[str] = Counter()
    for table in rows.values():
        counted = pc.value_counts(table["label"].combine_chunks()).to_pylist()
        sizes.update({each["values"]: each["counts"] for each in counted})
    labels = _named(rows, sizes, labels, name) if labels else _values(rows, sizes, files)
    counts: Counter[str] = Counter()
    for value, size in sizes.items():
        counts[labels[value]] += size
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
    return class_tables.listed([f"{name} ({count:,})" for name, count in ranked])


def _values(rows: Mapping[str, pa.Table], sizes: Mapping[str, int], files: str) -> dict[str, str]:
    """Return the values of the label column as their own names, numbers in numeric order."""
    if "" in sizes:
        where = _first(rows, [value for value in sizes if value])["where"]
        raise UserError(f"{where}: the label is empty. Fill it in, or take the row out.")
    if len(sizes) > max(1000, sum(sizes.values()) // 2):
        raise UserError(
            f"{files} has {len(sizes):,} different labels in {sum(sizes.values()):,} rows: that column does "
            "not hold classes. Correct `columns` in params.yaml."
        )
    numeric = all(value.removeprefix("-").isdecimal() for value in sizes)
    ordered = sorted(sizes, key=lambda v: (int(v), v)) if numeric else sorted(sizes)
    return {value: value for value in ordered}


def _named(
    rows: Mapping[str, pa.Table], sizes: Mapping[str, int], labels: Mapping[str, str], dataset: str
) -> dict[str, str]:
    """Return ``labels``, after a check that they name the label of every row."""
    if not sizes.keys() <= labels.keys():
        row = _first(rows, [*labels])
        known = ", ".join(v if v == n else f"{v} ({n})" for v, n in labels.items())
        header = " If it names the columns, set `header: true`." if row["number"] == 1 else ""
        raise UserError(
            f"{row['where']}: unknown label {row['label'][:80]!r}; known: {known[:400]}. Fix the "
            f"row, or add the value to datasets.{dataset}.labels in params.yaml.{header}"
        )
    return dict(labels)


def _first(rows: Mapping[str, pa.Table], labels: list[str]) -> dict[str, Any]:
    """Return the first row whose label is none of ``labels``."""
    values = pa.array(labels, pa.string())
    others = (t.filter(pc.invert(pc.is_in(t["label"], value_set=values))) for t in rows.values())
    row: dict[str, Any] = next(table for table in others if len(table)).slice(0, 1).to_pylist()[0]
    return row
