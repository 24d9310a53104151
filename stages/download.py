"""Fetch the corpus, check its bytes, and give every document an id.

    python -m stages.download

``dataset`` in params.yaml names an entry of ``datasets``: files in this repository, a user's own by
path or URL, or a pinned commit on the Hugging Face Hub. Nothing that is downloaded is executed.
"""

import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd

from stages.common import console, corpus, fetch, files, records
from stages.common.errors import UserError
from stages.common.params import Columns, Dataset, read_params

READS = ("dataset", "datasets")
SPLITS = ("train", "test")
UNFINISHED = Path(".checkpoints/download")  # DVC empties data/raw before each run, so not there


def main() -> None:
    """Write ``data/raw/{train,test}.parquet`` and ``source.json``.

    Raises ``UserError`` for a file that is missing, empty, damaged, not the pinned one, or holds
    a row that cannot be read or a label that ``labels`` does not list.
    """
    params = read_params(READS)
    dataset = params.datasets[params.dataset]
    console.title("download", f"fetch the corpus {params.dataset} and check it")

    # Fetch
    paths, names, origin, columns, labels = _fetch(params.dataset, dataset)

    # Read
    formats = {
        split: dataset.format
        if origin == "files" and dataset.format != "auto"
        else records.format_of(urlsplit(names[split]).path)
        for split in SPLITS
    }
    header = dataset.header or origin == "hub"
    rows = {
        split: _documents(paths[split], names[split], formats[split], columns, header)
        for split in SPLITS
    }

    # Name the classes
    labels = labels or _labels_found(rows["train"], names["train"])
    classes = list(dict.fromkeys(labels.values()))
    if len(classes) < 2:
        raise UserError(
            f"{names['train']} has one class only ({', '.join(classes)}); a classifier needs two. "
            f"Check datasets.{params.dataset}.columns.label in params.yaml."
        )
    tables = {
        split: _table(split, rows[split], labels, classes, params.dataset) for split in SPLITS
    }

    # Write
    with files.atomic_folder(corpus.RAW) as part:
        for split, table in tables.items():
            corpus.write_table(part / f"{split}.parquet", table, corpus.TEXT_COLUMNS)
        source = {
            "dataset": params.dataset,
            "labels": classes,
            "licence": dataset.licence,
            "source": origin,
            "files": {
                split: {
                    "name": names[split],
                    "sha256": files.sha256(paths[split]),
                    "rows": len(tables[split]),
                }
                for split in SPLITS
            },
        }
        files.write_json(part / corpus.SOURCE.name, source)
    shutil.rmtree(UNFINISHED, ignore_errors=True)

    counts = {split: table["label"].value_counts() for split, table in tables.items()}
    console.table(
        f"{params.dataset}, licence: {dataset.licence}",
        ("class", *SPLITS),
        [(name, *(int(counts[s].get(i, 0)) for s in SPLITS)) for i, name in enumerate(classes)]
        + [("all", *(len(tables[s]) for s in SPLITS))],
    )
    console.outputs(corpus.RAW)


def _fetch(
    name: str, dataset: Dataset
) -> tuple[dict[str, Path], dict[str, str], str, Columns, dict[str, str]]:
    """Return path and name of each split, which source it was, and how that source is laid out."""
    unreachable = ""
    if hub := dataset.hub:
        wanted = {"train": hub.train, "test": hub.test}
        try:
            paths = {s: fetch.from_hub(hub.repo, hub.revision, wanted[s]) for s in SPLITS}
        except fetch.UnreachableError as error:
            unreachable = str(error)
            console.say(f"{unreachable}\ntrying the other source of {name}")
        else:
            names = {s: f"{hub.repo}@{hub.revision}/{wanted[s]}" for s in SPLITS}
            return paths, names, "hub", hub.columns, dict(hub.labels)
    if dataset.files is None:
        raise UserError(f"{unreachable}\n{name} has no other source. Check the network.")
    wanted_files = {"train": dataset.files.train, "test": dataset.files.test}
    paths = {}
    for split, file in wanted_files.items():
        if fetch.is_url(file.path):
            try:
                paths[split] = fetch.from_url(file.path, UNFINISHED, file.sha256)
            except fetch.UnreachableError as error:
                raise UserError(f"{unreachable}\n{error}".strip()) from None
        elif not Path(file.path).is_file():
            raise UserError(
                f"{file.path} does not exist. "
                f"Correct datasets.{name}.files.{split}.path in params.yaml."
            )
        else:
            paths[split] = Path(file.path)
            fetch.check(paths[split], file.sha256, file.path)
    # The path on one machine is nobody else's business, and would differ between equal runs.
    names = {s: Path(f.path).name if Path(f.path).is_absolute() else f.path
             for s, f in wanted_files.items()}  # fmt: skip
    return paths, names, "files", dataset.columns, dict(dataset.labels)


def _documents(
    path: Path, name: str, layout: records.Format, columns: Columns, header: bool
) -> list[records.Record]:
    """Return label, text and title of every row, each with where it stands."""
    wanted = [columns.label, columns.text, *([columns.title] if columns.title else [])]
    found = list(records.read_records(path, layout, wanted, header, name))
    if not found:
        raise UserError(f"{name} holds no rows. Put the corpus there, or correct the path.")
    return found


def _labels_found(rows: list[records.Record], name: str) -> dict[str, str]:
    """Return the values of the label column as their own names, numbers in numeric order."""
    values = {fields[0].strip() for _, fields in rows}
    if "" in values:
        where = next(where for where, fields in rows if not fields[0].strip())
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
    split: str,
    rows: list[records.Record],
    labels: dict[str, str],
    classes: list[str],
    dataset: str,
) -> pd.DataFrame:
    """Return the documents as a table of ``TEXT_COLUMNS``; the id counts rows from 1."""
    position = {value: classes.index(name) for value, name in labels.items()}
    found = []
    for number, (where, (label, text, *title)) in enumerate(rows, 1):
        if label.strip() not in position:
            known = ", ".join(v if v == n else f"{v} ({n})" for v, n in labels.items())
            header = " If it names the columns, set `header: true`." if number == 1 else ""
            raise UserError(
                f"{where}: unknown label {label.strip()[:80]!r}; known: {known[:400]}. Mend the "
                f"row, or add the value to datasets.{dataset}.labels in params.yaml.{header}"
            )
        found.append((f"{split}-{number}", "".join(title), text, position[label.strip()]))
    return pd.DataFrame(found, columns=list(corpus.TEXT_COLUMNS))


if __name__ == "__main__":
    console.run(main)
