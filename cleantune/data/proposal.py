"""An entry of ``datasets`` for labelled files, and the documents that it gives."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cleantune.data import column_roles, reading
from cleantune.data.documents import Document
from cleantune.data.layouts import Decision, Flags
from cleantune.data.recognition import Recognised, choose_columns, layout_of
from cleantune.data.splits import Piece
from cleantune.errors import UserError
from cleantune.params.sources import Dataset

FEW = 10  # documents of a class, from which on nothing is said about it


@dataclass(frozen=True)
class Options:
    """What a person may say of the entry, beside how its files are laid out."""

    label_names: Mapping[str, str] = field(default_factory=dict)
    decode_bytes: bool = False
    min_documents: int = 1
    other: str | None = None
    test_share: float = 0.2
    licence: str = "unknown"


@dataclass
class Proposal:
    """An entry whose ``files`` are still to be named, and what it gives."""

    entry: dict[str, Any]
    documents: dict[str, list[Document]]
    """Of each split."""
    left_out: dict[str, dict[str, int]]
    """Rows of each split, by the reason."""
    labels: dict[str, str]
    """Value in the files: name of the class."""
    decisions: list[Decision]
    notes: list[str]
    files: dict[str, Piece]

    def counts(self, split: str) -> Counter[str]:
        """Return how many documents of a split each class has, by its name."""
        return Counter(self.labels[row.label] for row in self.documents[split])


def propose(
    files: Mapping[str, Piece], names: Mapping[str, str], flags: Flags, options: Options
) -> Proposal:
    """Return the entry for files by split, all documents read as the pipeline would read them.

    Raises ``UserError`` where something is wrong or cannot be told, with the flag that settles it.
    """
    found = choose_columns(layout_of(files, flags, names), flags)
    unlabelled = _unlabelled(found)
    entry = {
        "hub": None,
        "files": {"train": {"path": "-", "sha256": None}, "test": None},
        "format": found.layout.format,
        **_given(encoding=found.layout.encoding, but="utf-8"),
        **_given(separator=found.layout.separator),
        **_given(quote=found.layout.quote, but='"'),
        **_given(surplus=found.layout.surplus),
        **({"bytes_literals": True} if options.decode_bytes else {}),
        **_given(label_separator=flags.label_separator),
        **({"skip_unlabelled": True} if unlabelled else {}),
        "header": found.layout.header,
        "columns": {"label": found.label, "title": found.title, "text": found.text}
        | ({"metadata": _metadata(found, flags)} if flags.metadata else {}),
        "labels": {},
        **({"min_documents": options.min_documents} if options.min_documents > 1 else {}),
        **_given(other=options.other),
        "test_share": options.test_share,
        "licence": options.licence,
    }
    how = reading.reading_of(Dataset.model_validate(entry))
    documents, left_out, notes = {}, {}, []
    for split, piece in files.items():
        try:
            read = reading.read_documents(piece.path, how, piece.part, names[split])
        except UserError as error:
            if split == "train" or "no column" not in str(error):
                raise
            notes.append(
                f"{names[split]} has no column {found.label} and {found.text}: it is not used."
            )
            continue
        documents[split], left_out[split] = read
    labels = _named(documents, options.label_names)
    if any(value != name for value, name in labels.items()):
        entry["labels"] = labels
    notes += _notes(documents, labels, options, found)
    files = {split: piece for split, piece in files.items() if split in documents}
    made = Proposal(entry, documents, left_out, labels, found.decisions, notes, files)
    classes = len(set(labels.values()))
    if classes < 2:
        raise UserError(
            f"{names['train']}: the column {found.label} holds one class only ({next(iter(labels))}); a "
            "classifier needs two. Name another column: --label COLUMN"
        )
    return made


def _given(but: Any = None, **value: Any) -> dict[str, Any]:
    """Return a field of the entry unless it has its usual value."""
    return {key: of for key, of in value.items() if of is not None and of != but}


def _metadata(found: Recognised, flags: Flags) -> list[str]:
    for name in flags.metadata:
        if name not in found.columns:
            raise UserError(
                f"--metadata {name}: there is no such column. There are: {', '.join(found.columns)}."
            )
    return list(flags.metadata)


def _unlabelled(found: Recognised) -> int:
    """Return how many rows of the sample lack a label; ``UserError`` if most do."""
    column = found.columns[found.label]
    lacking = len(column.values) - column.filled
    if lacking > column.filled:
        raise UserError(
            f"most rows have nothing in the column {found.label} ({lacking:,} of {len(column.values):,}). "
            "Name the column of the labels: --label COLUMN"
        )
    if lacking:
        found.decisions.append(Decision("unlabelled", "rows without a label are left out", ""))
    return lacking


def _named(documents: Mapping[str, Sequence[Document]], given: Mapping[str, str]) -> dict[str, str]:
    """Return the name of each label, in order: as given, whole numbers without `.0`, else the label."""
    values = {row.label for rows in documents.values() for row in rows}
    if len(values) > column_roles.CLASSES:
        raise UserError(
            f"there are {len(values):,} different labels: that column does not hold classes. Name another: "
            "--label COLUMN"
        )
    numbers = all(column_roles.WHOLE.fullmatch(value) for value in values)
    ordered = sorted(values, key=lambda v: (float(v), v)) if numbers else sorted(values)
    names = {value: value.partition(".")[0] if numbers else value for value in ordered}
    for value, name in given.items():
        same = [v for v in ordered if value in (v, names[v])] or [
            v for v in ordered if v.lower() == value.lower()
        ]
        if not same:
            raise UserError(
                f"--label-names: no label is {value!r}. The labels are {', '.join(ordered)[:400]}."
            )
        names.update(dict.fromkeys(same, name))
    return names


def _notes(
    documents: Mapping[str, Sequence[Document]],
    labels: dict[str, str],
    options: Options,
    found: Recognised,
) -> list[str]:
    """Return what a person should know of the documents, each with what can be done."""
    rows = [row for of in documents.values() for row in of]
    notes = []
    alike: dict[str, list[str]] = {}
    for name in dict.fromkeys(labels.values()):
        alike.setdefault(name.casefold(), []).append(name)
    for names in (names for names in alike.values() if len(names) > 1):
        merged = ",".join(f"{name}={names[-1]}" for name in names[:-1])
        notes.append(
            f"labels that differ by case only: {', '.join(names)}. --label-names {merged} merges them."
        )
    if not options.decode_bytes and sum(row.text[:2] in ("b'", 'b"') for row in rows) > 0.5 * len(
        rows
    ):
        notes.append(
            "the texts are Python's b'...' literals, read as they are. --decode-bytes decodes them."
        )
    counts = Counter(labels[row.label] for row in rows)
    few = [name for name, n in counts.items() if n < FEW]
    if few and options.min_documents == 1:
        listed = ", ".join(f"{name} ({counts[name]})" for name in few[:5])
        notes.append(
            f"{len(few)} {'classes have' if len(few) > 1 else 'class has'} fewer than {FEW} documents: {listed}"
            f"{', ...' if len(few) > 5 else ''}. "
            f"--min-documents {FEW} leaves them out, with --other NAME it merges them."
        )
    split = next((c for c in found.columns.values() if c.name.lower() in ("split", "set", "fold", "subset")
                  and {v.lower() for v in c.counts} & {"train", "training"}), None)  # fmt: skip
    if split and len(documents) == 1:
        notes.append(
            f"the column {split.name} names splits ({', '.join(split.counts)}); it is not used."
        )
    return notes
