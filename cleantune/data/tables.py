"""The tables that pass between stages, and the names of their classes."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cleantune import files

RAW = Path("data/raw")
CLEAN = Path("data/clean")
TEXT_STEPS = CLEAN / "text_steps.json"  # taken on every text; who uses the model takes them too
LABELS = Path("data/labels")
TOKENS = Path("data/tokens")
BASELINES = Path("models/baselines")
SPLITS = ("train", "validation", "test")
COPY = "~"  # in TOKENS alone: ID~1 is a changed copy of the document ID
FLIPPED = "tfidf_on_flipped_labels.parquet"  # in BASELINES
FINETUNED = Path("models/finetuned")
DECISION = Path("models/decision.json")
SOURCE = RAW / "source.json"

TEXT_COLUMNS = ("id", "title", "text", "label")
"""A document: ``id`` is unique in the corpus and comes from the content
(``train-9f86d081884c7d65``), ``title`` may be empty, ``label`` counts from 0 in the order of
``label_names()``."""

METADATA = "metadata."
"""Begins the name of a column that ``columns.metadata`` of the corpus names: ``metadata.date``. These are
text, "" where there is none, and follow the other columns."""

SOFT_LABELS = ("other_label", "other_share")
"""Columns of a training set of which some labels are soft."""

GROUP_ROWS = 1_000_000
GROUP_BYTES = 2**29  # of a column: a column of text in memory has at most 2**31

TYPES = {
    "id": pa.string(),
    "title": pa.string(),
    "text": pa.string(),
    "label": pa.int64(),
    "group": pa.string(),  # the smallest id in a group of near-duplicates
    "weight": pa.float64(),  # of the document in the training loss, 1 by default
    "other_label": pa.int64(),  # a second class in a soft label
    "other_share": pa.float64(),  # of the soft label that is the second class
    "input_ids": pa.list_(pa.int32()),
    "length": pa.int64(),  # in tokens, special ones included
    "split": pa.string(),
    "share": pa.float64(),  # of training labels flipped
    "predicted": pa.int64(),
    "reason": pa.string(),
    "duplicate_of": pa.string(),
    "given": pa.int64(),
    "suggested": pa.int64(),
    "flagged": pa.bool_(),
    "fold": pa.int64(),
    "nearest": pa.int64(),
    "is_label": pa.bool_(),
    "is_outlier": pa.bool_(),
    "is_near_duplicate": pa.bool_(),
    "is_class_imbalance": pa.bool_(),
    "is_underperforming_group": pa.bool_(),
}


def write_table(path: Path, table: pd.DataFrame | pa.Table, columns: tuple[str, ...]) -> None:
    """Write ``columns`` of ``table``, in that order, as Parquet with the types of ``TYPES``.

    A column that ``TYPES`` does not list is written as float64, a metadata column as text. The bytes
    depend on nothing but the values: no index, no pandas metadata, row groups of a million rows, or of
    about ``GROUP_BYTES`` where that is less.
    """
    schema = pa.schema([(name, type_of(name)) for name in columns])
    size = max((int(table[name].nbytes) for name in columns), default=0)
    rows = min(GROUP_ROWS, max(1, len(table) // (1 + size // GROUP_BYTES)))
    with files.atomic_file(path) as part, pq.ParquetWriter(part, schema) as writer:
        for start in range(0, len(table) or 1, rows):
            if isinstance(table, pa.Table):
                group = table.slice(start, rows).select(list(columns)).cast(schema)
            else:
                some = table[list(columns)].iloc[start : start + rows]
                group = pa.Table.from_pandas(some, schema=schema, preserve_index=False)
            # Pages end with chunks, and how many of these there are follows from how a table was made.
            writer.write_table(group.replace_schema_metadata(None).combine_chunks(), rows)


def type_of(column: str) -> pa.DataType:
    """Return the type that a column of any table is written with."""
    return pa.string() if column.startswith(METADATA) else TYPES.get(column, pa.float64())


def with_metadata(columns: tuple[str, ...], table: Iterable[str]) -> tuple[str, ...]:
    """Return ``columns``, and after them the metadata columns that ``table`` has."""
    return (*columns, *(name for name in table if name.startswith(METADATA)))


def read_table(
    path: Path, columns: tuple[str, ...] | None = None, metadata: bool = False, soft: bool = False
) -> pd.DataFrame:
    """Read a table an earlier stage wrote; ``UserError`` when it is missing or damaged.

    Only ``columns`` if given, which the table must have, with ``metadata`` the metadata columns, and with
    ``soft`` those of soft labels if there are any.
    """
    try:
        wanted = columns
        if columns and metadata:
            wanted = with_metadata(columns, pq.read_schema(path).names)
        if columns and soft:
            wanted = with_soft_labels(columns, pq.read_schema(path).names)
        table: pd.DataFrame = pq.read_table(path, columns=wanted and list(wanted)).to_pandas()
    except FileNotFoundError:
        raise files.missing(path) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise files.damaged(path, error) from None
    absent = [name for name in columns or () if name not in table]
    if absent:
        raise files.damaged(path, f"no column {', '.join(absent)}")
    return table


def with_soft_labels(columns: tuple[str, ...], table: Iterable[str]) -> tuple[str, ...]:
    """Return ``columns``, and after them those of soft labels where ``table`` has them."""
    return (*columns, *(name for name in SOFT_LABELS if name in table))


def originals(ids: pd.Series) -> pd.Series:
    """Tell which of the training tokens' ``ids`` are documents, and no changed copies of one."""
    return ~ids.str.contains(COPY, regex=False)


def label_names(source: Path = SOURCE) -> list[str]:
    """Return the class names; a document's ``label`` is a position in this list."""
    names: list[str] = files.read_json(source)["labels"]
    return names


def dataset_name(source: Path = SOURCE) -> str:
    """Return which entry of ``datasets`` in params.yaml the data are."""
    return str(files.read_json(source)["dataset"])


def token_counts() -> dict[str, dict[str, float]]:
    """Return tokenize_text's counts of documents and tokens by split; empty where it wrote none."""
    path = TOKENS / "summary.json"
    counts: dict[str, dict[str, float]] = files.read_json(path) if path.is_file() else {}
    return counts


def comparable(text: str) -> str:
    """Return a text without case and surplus blanks: two that are equal then are copies."""
    return " ".join(text.casefold().split())


def full_text(table: pd.DataFrame) -> list[str]:
    """Return what a model reads of each document: title and text, joined by a space."""
    return [*iterate_full_text(table)]


def iterate_full_text(table: pd.DataFrame, batch: int = 10_000) -> Iterator[str]:
    """Yield the same one by one; of a large table only ``batch`` texts are in memory as objects."""
    for start in range(0, len(table), batch):
        rows = table.iloc[start : start + batch]
        yield from map(joined_text, rows["title"].to_list(), rows["text"].to_list())


def joined_text(title: str, text: str) -> str:
    """Return what a model reads of a document."""
    return f"{title} {text}".strip()
