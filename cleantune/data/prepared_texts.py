"""The texts of a corpus after ``clean``'s steps, and what the search for duplicates needs to know of each.

Documents are taken in batches, of many documents by one process for each processor; what comes out does
not depend on either.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from numpy.typing import NDArray

from cleantune import console
from cleantune.data import tables, words
from cleantune.data.near_duplicates import Hashes, Shingles, band_keys, same_text
from cleantune.data.text_repair import REPAIRS, changes, difference, prepare
from cleantune.errors import UserError
from cleantune.params.sections import Clean, TextSteps

BATCH = 5_000  # documents
FEW = 20_000  # documents for which starting processes takes longer than they save
EXAMPLES = 3  # of each repair

Repairs = dict[str, dict[str, Any]]
"""By kind, the number of ``documents`` and ``examples``."""


class Prepared(NamedTuple):
    """What is known of n documents."""

    titles: pa.Array
    """(n,) after all steps, as are ``texts``."""
    texts: pa.Array
    repairs: Repairs
    released: Hashes
    """(n,) equal where the released texts are, whatever their case and blanks."""
    same: NDArray[np.bytes_]
    """(n,) ``same_text`` of each; this and what follows is of repaired texts, even if they are not to be."""
    empty: NDArray[np.bool_]
    nearly_empty: NDArray[np.bool_]
    shingles: Shingles
    keys: Hashes
    """(n, bands)"""


def prepare_tables(
    splits: Mapping[str, pd.DataFrame], steps: TextSteps, options: Clean
) -> dict[str, Prepared]:
    """Return what is known of the documents of each split; ``steps`` are those decided by ``options``.

    Raises ``UserError`` when a process was killed, as the system does when memory is short.
    """
    total = sum(map(len, splits.values()))
    work = partial(_prepare, steps=steps, threshold=options.near_duplicate_jaccard)
    several = Parallel(
        cpu_count() if total > FEW else 1, return_as="generator", pre_dispatch="2*n_jobs"
    )
    done: dict[str, list[Prepared]] = {split: [] for split in splits}
    with console.Bar("preparing texts", total) as bar:
        try:
            for split, prepared in several(
                delayed(_of_split)(split, work, batch)
                for split, table in splits.items() for batch in _batches(table)
            ):  # fmt: skip
                done[split].append(prepared)
                bar.advance(len(prepared.empty))
        except TerminatedWorkerError:
            raise UserError(
                "A process that prepared texts was killed, most likely by the system because memory is "
                "short. Free some, and run the same command again."
            ) from None
    return {split: _joined(parts) for split, parts in done.items()}


def merged(repairs: Sequence[Repairs]) -> Repairs:
    """Return the repairs of several sequences of documents as those of one."""
    return {
        kind: {
            "documents": sum(found[kind]["documents"] for found in repairs),
            "examples": [e for found in repairs for e in found[kind]["examples"]][:EXAMPLES],
        }
        for kind in REPAIRS
    }


def _batches(table: pd.DataFrame) -> Iterator[tuple[list[str], ...]]:
    """Yield ids, titles and texts; of an empty table too, so that it has columns."""
    for start in range(0, len(table) or 1, BATCH):
        rows = table.iloc[start : start + BATCH]
        yield tuple(rows[column].to_list() for column in ("id", "title", "text"))


def _of_split(split: str, work: Any, batch: tuple[list[str], ...]) -> tuple[str, Prepared]:
    return split, work(*batch)


def _prepare(
    ids: list[str], titles: list[str], texts: list[str], steps: TextSteps, threshold: float
) -> Prepared:
    repairs: Repairs = {kind: {"documents": 0, "examples": []} for kind in REPAIRS}
    others = steps.model_copy(update={"repair": False})
    released = list(zip(titles, texts, strict=True))
    repaired = [
        _repaired(name, parts, steps.ag_news_artifacts is True, repairs)
        for name, parts in zip(ids, released, strict=True)
    ]
    searched = [[prepare(part, others) for part in parts] for parts in repaired]
    kept = searched if steps.repair else [[prepare(p, others) for p in parts] for parts in released]
    found = [tables.joined_text(*parts) for parts in searched]
    shingles = Shingles(found)
    return Prepared(
        pa.array([title for title, _ in kept], pa.string()),
        pa.array([text for _, text in kept], pa.string()),
        repairs,
        np.array([_hash(tables.comparable(tables.joined_text(*p))) for p in released], np.uint64),
        np.array([same_text(text) for text in found], "S16"),
        np.array([not text for text in found], bool),
        np.array([words.is_nearly_empty(text) for text in found], bool),
        shingles,
        band_keys(shingles, threshold),
    )


def _repaired(
    name: str, parts: tuple[str, str], ag_news_artifacts: bool, repairs: Repairs
) -> list[str]:
    """Return title and text repaired; count in ``repairs`` what was, once for each document."""
    counted = set()
    result = []
    for text in parts:
        repaired = text
        for kind, before, repaired in changes(text, ag_news_artifacts):
            if kind in counted:
                continue
            counted.add(kind)
            repairs[kind]["documents"] += 1
            if len(repairs[kind]["examples"]) < EXAMPLES:
                example = {"id": name, **difference(before, repaired)}
                repairs[kind]["examples"].append(example)
        result.append(repaired)
    return result


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _joined(parts: Sequence[Prepared]) -> Prepared:
    """Return what is known of several sequences of documents as that of one."""
    titles, texts, repairs, released, same, empty, nearly_empty, shingles, keys = zip(
        *parts, strict=True
    )
    return Prepared(
        pa.chunked_array(titles),
        pa.chunked_array(texts),
        merged(repairs),
        np.concatenate(released),
        np.concatenate(same),
        np.concatenate(empty),
        np.concatenate(nearly_empty),
        Shingles.joined(shingles),
        np.concatenate(keys),
    )
