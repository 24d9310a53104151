"""Fetch the corpus, check its bytes, and give every document an id.

    python -m stages.download

``dataset`` in params.yaml names an entry of ``datasets``: files in this repository, a user's own by
path or URL, or a pinned commit on the Hugging Face Hub. Nothing that is downloaded is executed.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd

from cleantune import console, files
from cleantune.data import class_tables, records, tables
from cleantune.data.classes import Classes, listed, name_classes
from cleantune.data.documents import Document, ids
from cleantune.data.sources import UNFINISHED, Source, from_hub_or_files
from cleantune.data.validation_split import choose_test
from cleantune.errors import UserError
from cleantune.params.read import read_params
from cleantune.params.sources import Dataset

PARAMS = ("dataset", "datasets")


def main() -> None:
    """Write ``data/raw/{train,test}.parquet``, ``validation.parquet`` if it is given, ``source.json``.

    Raises ``UserError`` for a file that is missing, empty, damaged, not the pinned one, or holds
    a row that cannot be read or a label that ``labels`` does not list.
    """
    params = read_params(PARAMS)
    dataset = params.datasets[params.dataset]
    console.title("download", f"fetch the corpus {params.dataset} and check it")

    # Fetch
    source = from_hub_or_files(params.dataset, dataset)

    # Read
    rows = {split: _documents(source, split) for split in source.paths}

    # Name the classes, by all files together
    names = ", ".join(dict.fromkeys(source.names.values()))
    classes = name_classes(rows, source.labels, params.dataset, dataset, names)
    rows = {split: [row for row in of if row.label in classes.position]
            for split, of in rows.items()}  # fmt: skip
    if classes.small:
        _report_small(classes, params.dataset, dataset)
    if "test" not in rows:
        rows |= _divided(rows["train"], classes, dataset.test_share, source.names["train"])
    metadata = [f"{tables.METADATA}{name}" for name in dict.fromkeys(source.columns.metadata)]
    splits = {s: _table(s, rows[s], classes, metadata) for s in tables.SPLITS if s in rows}

    # Write
    with files.atomic_folder(tables.RAW) as part:
        for split, table in splits.items():
            columns = (*tables.TEXT_COLUMNS, *metadata)
            tables.write_table(part / f"{split}.parquet", table, columns)
        origin = {
            "dataset": params.dataset,
            "labels": classes.names,
            "licence": dataset.licence,
            "source": source.kind,
            "files": {split: _described(source, split, len(splits[split])) for split in splits},
        }
        if classes.small:
            origin["small_classes"] = {"merged_into": dataset.other, "documents": classes.small}
        files.write_json(part / tables.SOURCE.name, origin)
    shutil.rmtree(UNFINISHED, ignore_errors=True)

    counts = {split: table["label"].value_counts() for split, table in splits.items()}
    class_tables.print_counts(
        f"{params.dataset}, licence: {dataset.licence}",
        ("class", *splits),
        [
            (name, *(int(counts[s].get(i, 0)) for s in splits))
            for i, name in enumerate(classes.names)
        ],
        "`clean` counts them in data/clean/summary.json",
        total=("all", *(len(table) for table in splits.values())),
    )
    console.outputs(tables.RAW)


def _report_small(classes: Classes, name: str, dataset: Dataset) -> None:
    """Name the classes that are too small to be classes of their own."""
    done = f"merged into {dataset.other}" if dataset.other else "left out"
    console.say(
        f"{done}, for they have fewer than {dataset.min_documents:,} documents "
        f"(datasets.{name}.min_documents): {listed(classes.small)}"
    )


def _described(source: Source, split: str, count: int) -> dict[str, object]:
    """Return what source.json says of a split."""
    file = split if split in source.paths else "train"
    name = source.names[file]
    return {
        # The path on one machine is nobody else's business, and would differ between equal runs.
        "name": Path(name).name if Path(name).is_absolute() else name,
        "sha256": files.sha256(source.paths[file]),
        "rows": count,
    }


def _documents(source: Source, split: str) -> list[Document]:
    columns, name = source.columns, source.names[split]
    layout = records.format_of(urlsplit(name).path) if source.format == "auto" else source.format
    titles = [columns.title] if columns.title else []
    wanted = [columns.label, columns.text, *titles, *dict.fromkeys(columns.metadata)]
    rows = records.read_records(source.paths[split], layout, wanted, source.header, name)
    found = []
    for number, (where, (label, text, *more)) in enumerate(rows, 1):
        title, metadata = "".join(more[: len(titles)]), tuple(map(str.strip, more[len(titles) :]))
        found.append(Document(number, where, label.strip(), title, text, metadata))
    if not found:
        raise UserError(f"{name} holds no rows. Put the corpus there, or correct the path.")
    return found


def _divided(
    rows: Sequence[Document], classes: Classes, share: float, name: str
) -> dict[str, list[Document]]:
    """Return train and test of a corpus that has no test set of its own.

    A hash of the text decides: the choice is the same in every run, with every seed, and for every
    order of the rows, and copies of a text stay together. Every class has a document in train.
    """
    labels = [classes.position[row.label] for row in rows]
    texts = [f"{row.title}\n{row.text}" for row in rows]
    in_test = choose_test(pd.DataFrame({"group": texts, "label": labels}), share)
    divided: dict[str, list[Document]] = {"train": [], "test": []}
    for row, held_out in zip(rows, in_test, strict=True):
        divided["test" if held_out else "train"].append(row)
    if not divided["test"]:
        raise UserError(
            f"{name}: {len(rows):,} rows are too few for a test set of {share:.0%}: each class is a "
            "single text. Add documents, or name a test file."
        )
    return divided


def _table(
    split: str, rows: list[Document], classes: Classes, metadata: Sequence[str]
) -> pd.DataFrame:
    """Return the documents as a table of ``TEXT_COLUMNS`` and ``metadata``, in the order of the file."""
    found = [
        (name, row.title, row.text, classes.position[row.label], *row.metadata)
        for name, row in zip(ids(split, rows), rows, strict=True)
    ]
    return pd.DataFrame(found, columns=[*tables.TEXT_COLUMNS, *metadata])


if __name__ == "__main__":
    console.run(main)
