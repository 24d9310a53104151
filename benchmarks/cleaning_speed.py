"""Time of stages.clean at the size of AG News, and of duplicate search compared with plain datasketch.

    python -m benchmarks.cleaning_speed [--documents 127600] [--folder data/raw]

The documents are those of data/raw, repeated with two words in three replaced by others of the
corpus, so that they are new texts; every twentieth has one word replaced, a near-duplicate.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from datasketch import MinHash, MinHashLSH

from cleantune import files
from cleantune.data import near_duplicates, tables
from cleantune.data.near_duplicates import Shingles, Similar
from cleantune.data.words import words
from cleantune.labels import corrections
from tools import record

COMPARED = 5_000  # texts for the comparison, which would take minutes on all
TEST_SHARE = 7_600 / 127_600
THRESHOLD = 0.8


def main() -> None:
    """Time the whole stage in a folder of its own, then the search for duplicates both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=127_600)
    parser.add_argument("--folder", type=Path, default=tables.RAW)
    record.add_option(parser)
    arguments = parser.parse_args()
    kept = record.Record(arguments.keep)
    made = varied(tables.read_table(arguments.folder / "train.parquet"), arguments.documents)
    test = round(TEST_SHARE * len(made))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for split, table in (("test", made[:test]), ("train", made[test:])):
            tables.write_table(folder / f"data/raw/{split}.parquet", table, tables.TEXT_COLUMNS)
        for path in (Path("params.yaml"), corrections.CORRECTIONS, tables.SOURCE):
            files.write_text(folder / path, path.read_text(encoding="utf-8"))
        here = {"PYTHONPATH": str(Path(near_duplicates.__file__).parents[2])}
        start = time.monotonic()
        command = [sys.executable, "-m", "stages.clean"]
        subprocess.run(command, cwd=folder, env=os.environ | here, check=True)
        taken = time.monotonic() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    kept.say(f"stages.clean: {len(made):,} documents in {taken:.1f} s "
          f"({used.ru_utime:.1f} s of processor time), peak memory {used.ru_maxrss / 1e6:.2f} GB")  # fmt: skip

    texts = tables.full_text(made)[:COMPARED]
    start = time.monotonic()
    Similar(Shingles(texts), THRESHOLD).groups(range(len(texts)))
    ours = time.monotonic() - start
    theirs = one_by_one(texts)
    kept.say(f"near-duplicates among {len(texts):,}: {ours:.2f} s; "
          f"datasketch text by text, pairs not verified: {theirs:.2f} s; ratio {theirs / ours:.1f}")  # fmt: skip


def varied(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return ``count`` documents made from those of ``table``, with ids of their own."""
    rng = np.random.default_rng(0)
    vocabulary = np.array(sorted({word for text in table["text"] for word in text.split()}))
    rows = []
    for i in range(count):
        row = table.iloc[i % len(table)]
        tokens = np.array(row["text"].split() or [""], dtype=object)
        changed = 1 if i % 20 == 0 else len(tokens) * 2 // 3
        positions = rng.permutation(len(tokens))[: changed if i >= len(table) else 0]
        tokens[positions] = rng.choice(vocabulary, len(positions))
        rows.append((f"train-{i + 1}", row["title"], " ".join(tokens), row["label"]))
    return pd.DataFrame(rows, columns=list(tables.TEXT_COLUMNS))


def one_by_one(texts: list[str]) -> float:
    """Return the seconds that datasketch's own example takes, with the same shingles."""
    start = time.monotonic()
    index = MinHashLSH(THRESHOLD, near_duplicates.PERMUTATIONS)
    for i, text in enumerate(texts):
        sketch, tokens = MinHash(near_duplicates.PERMUTATIONS), words(text)
        for j in range(max(1, len(tokens) - 2)):
            sketch.update(" ".join(tokens[j : j + 3]).encode())
        index.query(sketch)
        index.insert(i, sketch)
    return time.monotonic() - start


if __name__ == "__main__":
    main()
