"""Fetch the corpus, check its bytes, and give every document an id.

    python -m stages.download

``dataset`` in params.yaml names an entry of ``datasets``: files in this repository, a user's own by
path or URL, or a pinned commit on the Hugging Face Hub. Nothing that is downloaded is executed.
"""

import shutil
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cleantune import console, files
from cleantune.data import class_tables, tables
from cleantune.data.classes import Classes, listed, name_classes
from cleantune.data.documents import as_table, ids
from cleantune.data.reading import iterate_documents, with_format
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
    # Arrow's own pool keeps what it grew through: half as much memory again.
    pa.set_memory_pool(pa.system_memory_pool())
    params = read_params(PARAMS)
    dataset = params.datasets[params.dataset]
    console.title("download", f"fetch the corpus {params.dataset} and check it")

    # Fetch
    source = from_hub_or_files(params.dataset, dataset)

    # Read
    read = {split: _documents(source, split) for split in source.paths}
    rows = {split: found for split, (found, _) in read.items()}
    left_out = {split: reasons for split, (_, reasons) in read.items()}
    del read

    # Name the classes, by all files together
    names = ", ".join(dict.fromkeys(source.names.values()))
    classes = name_classes(rows, source.labels, params.dataset, dataset, names)
    if classes.small:
        _report_small(classes, params.dataset, dataset)
        known = pa.array([*classes.position], pa.string())
        rows = {split: table.filter(pc.is_in(table["label"], value_set=known))
                for split, table in rows.items()}  # fmt: skip
    if "test" not in rows:
        rows |= _divided(rows["train"], classes, dataset.test_share, source.names["train"])
    splits = {s: _table(s, rows[s], classes) for s in tables.SPLITS if s in rows}
    columns = tables.with_metadata(tables.TEXT_COLUMNS, rows["train"].column_names)
    described = {
        split: _described(source, split, rows[split], left_out.get(split, {})) for split in splits
    }

    # Write
    with files.atomic_folder(tables.RAW) as part:
        for split, table in splits.items():
            tables.write_table(part / f"{split}.parquet", table, columns)
        origin = {
            "dataset": params.dataset,
            "labels": classes.names,
            "licence": dataset.licence,
            "source": source.kind,
            "files": described,
        }
        if classes.small:
            origin["small_classes"] = {"merged_into": dataset.other, "documents": classes.small}
        files.write_json(part / tables.SOURCE.name, origin)
    shutil.rmtree(UNFINISHED, ignore_errors=True)

    counts = {split: np.bincount(table["label"], minlength=len(classes.names))
              for split, table in splits.items()}  # fmt: skip
    class_tables.print_counts(
        f"{params.dataset}, licence: {dataset.licence}",
        ("class", *splits),
        [(name, *(int(counts[s][i]) for s in splits)) for i, name in enumerate(classes.names)],
        "`clean` counts them in data/clean/summary.json",
        total=("all", *(len(table) for table in splits.values())),
    )
    for split, reasons in left_out.items():
        for reason, count in reasons.items():
            console.say(f"{source.names[split]}: {count:,} rows left out, {reason}")
    console.outputs(tables.RAW)


def _report_small(classes: Classes, name: str, dataset: Dataset) -> None:
    """Name the classes that are too small to be classes of their own."""
    done = f"merged into {dataset.other}" if dataset.other else "left out"
    console.say(
        f"{done}, for they have fewer than {dataset.min_documents:,} documents "
        f"(datasets.{name}.min_documents): {listed(classes.small)}"
    )


def _described(
    source: Source, split: str, rows: pa.Table, left_out: dict[str, int]
) -> dict[str, object]:
    """Return what source.json says of a split."""
    file = split if split in source.paths else "train"
    name = source.names[file]
    texts = rows.select(["title", "text"]).to_batches()
    empty = sum(not (title.strip() or text.strip())
                for batch in texts for title, text in zip(*(c.to_pylist() for c in batch.columns), strict=True))  # fmt: skip
    return {
        # The path on one machine is nobody else's business, and would differ between equal runs.
        "name": Path(name).name if Path(name).is_absolute() else name,
        "sha256": files.sha256(source.paths[file]),
        "rows": len(rows),
        **({"part": source.parts[file]} if source.parts[file] else {}),
        **({"empty_texts": empty} if empty else {}),
        **({"left_out": left_out} if left_out else {}),
    }


def _documents(source: Source, split: str) -> tuple[pa.Table, dict[str, int]]:
    """Return the documents of a split's file, and how many rows were left out for which reason."""
    name = source.names[split]
    how = with_format(source.reading, urlsplit(name).path)
    left_out: Counter[str] = Counter()
    found = iterate_documents(source.paths[split], how, left_out, source.parts[split], name)
    metadata = [f"{tables.METADATA}{column}" for column in dict.fromkeys(how.columns.metadata)]
    return as_table(found, metadata), dict(left_out)


def _divided(rows: pa.Table, classes: Classes, share: float, name: str) -> dict[str, pa.Table]:
    """Return train and test of a corpus that has no test set of its own.

    A hash of the text decides: the choice is the same in every run, with every seed, and for every
    order of the rows, and copies of a text stay together. Every class has a document in train.
    """
    texts = pc.binary_join_element_wise(rows["title"], rows["text"], "\n")
    grouped = pd.DataFrame({"group": texts.to_pandas(), "label": _positions(rows, classes)})
    in_test = choose_test(grouped, share).to_numpy()
    if not in_test.any():
        raise UserError(
            f"{name}: {len(rows):,} rows are too few for a test set of {share:.0%}: each class is a "
            "single text. Add documents, or name a test file."
        )
    return {"train": rows.filter(pa.array(~in_test)), "test": rows.filter(pa.array(in_test))}


def _positions(rows: pa.Table, classes: Classes) -> NDArray[np.int64]:
    """Return the class of each row as a position in ``classes.names``."""
    of_value = np.array([*classes.position.values()], np.int64)
    values = pa.array([*classes.position], pa.string())
    found: NDArray[np.int64] = of_value[pc.index_in(rows["label"], value_set=values).to_numpy()]
    return found


def _table(split: str, rows: pa.Table, classes: Classes) -> pa.Table:
    """Return the documents with ``TEXT_COLUMNS`` and metadata, in the order of the file."""
    labels = pa.array(_positions(rows, classes))
    return rows.drop_columns(["number", "where", "label"]).append_column(
        "id", pa.array(ids(split, rows), pa.string())
    ).append_column("label", labels)  # fmt: skip


if __name__ == "__main__":
    console.run(main)
