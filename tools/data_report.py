"""What `tools.data` prints: decisions, classes, first documents, entries. Fits 80 columns."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from cleantune import console
from cleantune.data import fetch, reading
from cleantune.data.documents import Document
from cleantune.data.proposal import Proposal
from cleantune.params.sections import Params
from cleantune.params.sources import Dataset

SHOWN = 5  # documents
CHARACTERS = 160  # of a text
ALL_CLASSES = 12  # up to so many are listed; of more, the largest and the smallest
LARGEST, SMALLEST = 7, 4


def override(name: str) -> str:
    """Return ``dataset=NAME`` so that a shell and DVC's -S both take it."""
    return f"dataset={name}" if name.isascii() else f"\"dataset='{name}'\""


def show_proposal(name: str, found: Proposal, names: Mapping[str, str]) -> None:
    """Print what was found and decided, the first documents and the classes."""
    console.title(name, ", ".join(f"{split} {names[split]}" for split in found.files))
    rows = [(d.what, _printable(d.taken, 300), d.flag) for d in found.decisions]
    if metadata := found.entry["columns"].get("metadata"):
        rows.append(("metadata", ", ".join(metadata), "--metadata"))
    if "test" not in found.files:
        share = f"{found.entry['test_share']:.0%} of the documents, the same in every run"
        rows.append(("test set", share, "--test, --test-share"))
    rows.append(("name", name, "--name"))
    console.table("Decided", ("what", "as", "otherwise"), rows, prose=["as", "otherwise"])
    _show(found.documents, found.labels, found.left_out, names)
    for note in found.notes:
        console.say(f"note: {note}")


def show_documents(name: str, entry: Dataset) -> None:
    """Print what the files of an entry give, where they are on this machine."""
    given = {split: file for split in ("train", "validation", "test")
             if entry.files and (file := getattr(entry.files, split))}  # fmt: skip
    if entry.hub or any(fetch.is_url(file.path) for file in given.values()):
        console.say(f"the stage `download` fetches it: dvc exp run -S {override(name)}")
        return
    how = reading.with_format(reading.reading_of(entry), given["train"].path)
    read = {s: reading.read_documents(Path(f.path), how, f.part) for s, f in given.items()}
    documents = {split: rows for split, (rows, _) in read.items()}
    values = {row.label for rows in documents.values() for row in rows}
    labels = {value: entry.labels.get(value, value) for value in sorted(values)}
    left_out = {split: reasons for split, (_, reasons) in read.items()}
    _show(documents, labels, left_out, {split: file.path for split, file in given.items()})


def show_list(params: Params) -> None:
    """Print the entries of ``datasets``; the one in use is marked."""
    rows = []
    for name, entry in params.datasets.items():
        source = (
            entry.files.train.path if entry.files else f"hub: {entry.hub.repo}" if entry.hub else ""
        )
        classes = len(set((entry.hub or entry).labels.values()))
        rows.append((f"{name} *" if name == params.dataset else name, classes or "-", source))
    console.table(
        "Datasets (* in use)", ("entry", "classes named", "source"), rows, prose=["source"]
    )


def _show(
    documents: Mapping[str, Sequence[Document]],
    labels: Mapping[str, str],
    left_out: Mapping[str, Mapping[str, int]],
    names: Mapping[str, str],
) -> None:
    every = [row for rows in documents.values() for row in rows]
    texts = {(row.title, row.text) for row in every}
    empty = sum(not f"{row.title}{row.text}".strip() for row in every)
    classes = len(set(labels.values()))
    said = f"{len(every):,} documents in {classes:,} classes, {len(texts):,} distinct texts"
    console.say(f"{said}, {empty:,} empty texts" if empty else said)
    for split, reasons in left_out.items():
        for reason, count in reasons.items():
            rows = (
                f"{count:,} empty rows" if reason == reading.EMPTY else f"{count:,} rows {reason}"
            )
            console.say(f"{names[split]}: {rows} left out")
    first = next(iter(documents.values()))[:SHOWN]
    titled = any(row.title for row in first)
    console.table(
        f"The first {len(first)} documents",
        ("label", *(["title"] if titled else []), "text"),
        [(labels[row.label], *([_printable(row.title)] if titled else []), _printable(row.text)) for row in first],
        prose=["title", "text"],
    )  # fmt: skip
    _classes(documents, labels)


def _classes(documents: Mapping[str, Sequence[Document]], labels: Mapping[str, str]) -> None:
    by_split = {s: Counter(labels[row.label] for row in rows) for s, rows in documents.items()}
    total = sum(by_split.values(), Counter())
    order = list(dict.fromkeys(labels.values()))
    caption = "Classes"
    if len(order) > ALL_CLASSES:
        ranked = [name for name, _ in total.most_common()]
        order = [*ranked[:LARGEST], *ranked[-SMALLEST:]]
        caption = f"Classes: the {LARGEST} largest and the {SMALLEST} smallest of {len(ranked)}"
    rows = [(_printable(name, 40), *(by_split[s][name] for s in documents)) for name in order]
    console.table(caption, ("class", *documents), rows)


def _printable(text: str, most: int = CHARACTERS) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
