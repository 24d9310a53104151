"""Fetch the corpus, check its bytes, and give every document an id.

    python -m stages.download

``dataset`` in params.yaml names an entry of ``datasets``: files in this repository, a user's own by
path or URL, or a pinned commit on the Hugging Face Hub. Nothing that is downloaded is executed.
"""

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd

from cleantune import console, files
from cleantune.data import tables
from cleantune.data.documents import Document
from cleantune.data.reading import read_documents, with_format
from cleantune.data.sources import UNFINISHED, Source, from_hub_or_files
from cleantune.errors import UserError
from cleantune.params.read import read_params

PARAMS = ("dataset", "datasets")
SPLITS = ("train", "validation", "test")
ID_DIGITS = 16  # hexadecimal: two of a million documents share them with probability 3e-8


def main() -> None:
    """Write ``data/raw/{train,test}.parquet`` and ``source.json``.

    Raises ``UserError`` for a file that is missing, empty, damaged, not the pinned one, or holds
    a row that cannot be read or a label that ``labels`` does not list.
    """
    params = read_params(PARAMS)
    dataset = params.datasets[params.dataset]
    console.title("download", f"fetch the corpus {params.dataset} and check it")

    # Fetch
    source = from_hub_or_files(params.dataset, dataset)

    # Read
    read = {split: _documents(source, split) for split in source.paths}
    rows = {split: found for split, (found, _) in read.items()}
    if "test" not in rows:
        rows = _divided(rows["train"], dataset.test_share, source.names["train"])

    # Name the classes
    labels = source.labels or _labels_found(rows["train"], source.names["train"])
    classes = list(dict.fromkeys(labels.values()))
    if len(classes) < 2:
        raise UserError(
            f"{source.names['train']} has one class only ({', '.join(classes)}); a classifier "
            f"needs two. Check datasets.{params.dataset}.columns.label in params.yaml."
        )
    columns = (
        *tables.TEXT_COLUMNS,
        *(f"{tables.METADATA}{name}" for name in source.reading.columns.metadata),
    )
    splits = {
        split: _with_metadata(_table(split, rows[split], labels, classes, params.dataset), rows[split], columns)
        for split in SPLITS if split in rows
    }  # fmt: skip

    # Write
    with files.atomic_folder(tables.RAW) as part:
        for split, table in splits.items():
            tables.write_table(part / f"{split}.parquet", table, columns)
        origin = {
            "dataset": params.dataset,
            "labels": classes,
            "licence": dataset.licence,
            "source": source.kind,
            "files": {
                split: _described(source, split, rows[split], read.get(split, ([], {}))[1])
                for split in splits
            },
        }
        files.write_json(part / tables.SOURCE.name, origin)
    shutil.rmtree(UNFINISHED, ignore_errors=True)

    counts = {split: table["label"].value_counts() for split, table in splits.items()}
    console.table(
        f"{params.dataset}, licence: {dataset.licence}",
        ("class", *splits),
        [(name, *(int(counts[s].get(i, 0)) for s in splits)) for i, name in enumerate(classes)]
        + [("all", *(len(splits[s]) for s in splits))],
    )
    for split, (_, left_out) in read.items():
        for reason, count in left_out.items():
            console.say(f"{source.names[split]}: {count:,} rows left out, {reason}")
    console.outputs(tables.RAW)


def _described(
    source: Source, split: str, rows: list[Document], left_out: dict[str, int]
) -> dict[str, object]:
    """Return what source.json says of a split."""
    file = split if split in source.paths else "train"
    name = source.names[file]
    empty = sum(not row.text.strip() and not row.title.strip() for row in rows)
    return {
        # The path on one machine is nobody else's business, and would differ between equal runs.
        "name": Path(name).name if Path(name).is_absolute() else name,
        "sha256": files.sha256(source.paths[file]),
        "rows": len(rows),
        **({"part": source.parts[file]} if source.parts[file] else {}),
        **({"empty_texts": empty} if empty else {}),
        **({"left_out": left_out} if left_out else {}),
    }


def _documents(source: Source, split: str) -> tuple[list[Document], dict[str, int]]:
    """Return the documents of a split's file, and how many rows were left out for which reason."""
    name = source.names[split]
    how = with_format(source.reading, urlsplit(name).path)
    return read_documents(source.paths[split], how, source.parts[split], name)


def _with_metadata(
    table: pd.DataFrame, rows: list[Document], columns: tuple[str, ...]
) -> pd.DataFrame:
    """Add the columns of the entry that only travel with the documents."""
    for i, column in enumerate(columns[len(tables.TEXT_COLUMNS) :]):
        table[column] = [row.metadata[i] for row in rows]
    return table


def _divided(rows: list[Document], share: float, name: str) -> dict[str, list[Document]]:
    """Return train and test of a corpus that has no test set of its own.

    A hash of the text decides: the choice is the same in every run, with every seed, and for every
    order of the rows, and copies of a text stay together.
    """
    divided: dict[str, list[Document]] = {"train": [], "test": []}
    for row in rows:
        drawn = hashlib.sha256(f"{row.title}\n{row.text}".encode()).digest()[:8]
        in_test = int.from_bytes(drawn, "big") < share * 2**64
        divided["test" if in_test else "train"].append(row)
    if not all(divided.values()):
        raise UserError(
            f"{name}: {len(rows):,} rows are too few for a test set of {share:.0%}. Add documents, "
            "change test_share, or name a test file."
        )
    return divided


def _labels_found(rows: list[Document], name: str) -> dict[str, str]:
    """Return the values of the label column as their own names, numbers in numeric order."""
    values = {row.label for row in rows}
    if "" in values:
        where = next(row.where for row in rows if not row.label)
        raise UserError(f"{where}: the label is empty. Fill it in, or take the row out.")
    if len(values) > max(1000, len(rows) // 2):
        raise UserError(
            f"{name} has {len(values):,} different labels in {len(rows):,} rows: that column does "
            "not hold classes. Correct `columns` in params.yaml."
        )
    numeric = all(value.removeprefix("-").isdecimal() for value in values)
    ordered = sorted(values, key=lambda v: (int(v), v)) if numeric else sorted(values)
    return {value: value for value in ordered}


def _table(
    split: str, rows: list[Document], labels: dict[str, str], classes: list[str], dataset: str
) -> pd.DataFrame:
    """Return the documents as a table of ``TEXT_COLUMNS``, in the order of the file."""
    position = {value: classes.index(name) for value, name in labels.items()}
    for row in rows:
        if row.label not in position:
            known = ", ".join(v if v == n else f"{v} ({n})" for v, n in labels.items())
            header = " If it names the columns, set `header: true`." if row.number == 1 else ""
            raise UserError(
                f"{row.where}: unknown label {row.label[:80]!r}; known: {known[:400]}. Mend the "
                f"row, or add the value to datasets.{dataset}.labels in params.yaml.{header}"
            )
    found = [
        (name, row.title, row.text, position[row.label])
        for name, row in zip(_ids(split, rows), rows, strict=True)
    ]
    return pd.DataFrame(found, columns=list(tables.TEXT_COLUMNS))


def _ids(split: str, rows: list[Document]) -> list[str]:
    """Return an id for each document that depends on no other row of the file.

    It is a hash of title, text and label as the file has them. The label counts, so that copies of
    a text under different labels keep their ids when one is moved or removed; of copies that are
    alike in all three, the second gets ``-2``, the third ``-3``: which is which does not matter.
    Raises ``UserError`` when different documents share a hash.
    """
    first: dict[str, Document] = {}
    copies: Counter[str] = Counter()
    ids = []
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
        ids.append(f"{split}-{digest}{copy}")
    return ids


if __name__ == "__main__":
    console.run(main)
