"""The tables that pass between stages, and the names of their classes."""

from collections.abc import Iterable
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


def write_table(path: Path, table: pd.DataFrame, columns: tuple[str, ...]) -> None:
    """Write ``columns`` of ``table``, in that order, as Parquet with the types of ``TYPES``.

    A column that ``TYPES`` does not list is written as float64, a metadata column as text. The bytes
    depend on nothing but the values: no index, no pandas metadata, one row group per million rows.
    """
    schema = pa.schema([(name, _type(name)) for name in columns])
    rows = pa.Table.from_pandas(table[list(columns)], schema=schema, preserve_index=False)
    with files.atomic_file(path) as part:
        pq.write_table(rows.replace_schema_metadata(None), part, row_group_size=1_000_000)


def _type(column: str) -> pa.DataType:
    return pa.string() if column.startswith(METADATA) else TYPES.get(column, pa.float64())


def with_metadata(columns: tuple[str, ...], table: Iterable[str]) -> tuple[str, ...]:
    """Return ``columns``, and after them the metadata columns that ``table`` has."""
    return (*columns, *(name for name in table if name.startswith(METADATA)))


def read_table(
    path: Path, columns: tuple[str, ...] | None = None, metadata: bool = False
) -> pd.DataFrame:
    """Read a table an earlier stage wrote; ``UserError`` when it is missing or damaged.

    Only ``columns`` if given, which the table must have, and with ``metadata`` the metadata columns.
    """
    try:
        wanted = columns
        if columns and metadata:
            wanted = with_metadata(columns, pq.read_schema(path).names)
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
    return [
        f"{title} {text}".strip() for title, text in zip(table["title"], table["text"], strict=True)
    ]
