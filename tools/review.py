"""Review flagged labels: open the page, apply its decisions, count what is left.

python -m tools.review open                    # in the browser, from disk
python -m tools.review open --port 8765        # served on this machine only, for an ssh tunnel
python -m tools.review open --test             # doubtful labels of the test set
python -m tools.review apply corrections.csv   # check, and merge into data/corrections.csv
python -m tools.review status

Corrections of test labels go to data/test_corrections.csv. The test set keeps its labels; evaluate reports
the metrics with the corrected ones beside those with the labels as they came.
"""

import argparse
import http.server
import webbrowser
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from cleantune import console, files
from cleantune.data import class_tables, tables
from cleantune.errors import UserError
from cleantune.labels import label_report
from cleantune.labels.corrections import (
    CORRECTIONS,
    TEST_CORRECTIONS,
    read_corrections,
    split_of,
    write_corrections,
)
from cleantune.labels.review_page.page import PAGE
from cleantune.params.read import read_params

RECORDS = {"train": CORRECTIONS, "test": TEST_CORRECTIONS}


def main() -> None:
    """Run the command that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tools.review", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True)
    opening = commands.add_parser("open", help="open the page")
    opening.add_argument("--port", type=int, help="serve it on 127.0.0.1 instead")
    opening.add_argument("--test", action="store_true", help="the labels of the test set")
    applying = commands.add_parser("apply", help="merge an exported file into the corrections")
    applying.add_argument("file", type=Path)
    commands.add_parser("status", help="count flagged and reviewed labels")
    arguments = parser.parse_args()
    if arguments.command == "open":
        open_page(write_test_page() if arguments.test else PAGE, arguments.port)
    elif arguments.command == "apply":
        apply_file(arguments.file)
    else:
        status()


def write_test_page() -> Path:
    """Write the page of the test set's doubtful labels; return its path."""
    from tools import doubtful_test_labels  # late: PyTorch takes seconds

    raw = _raw("test")
    reviewed = read_corrections(TEST_CORRECTIONS, raw, tables.label_names(), tables.dataset_name())
    count = doubtful_test_labels.write_page(raw, reviewed, read_params(("seed",)).seed)
    console.say(f"{doubtful_test_labels.PAGE}: {count:,} of {len(raw):,} test labels to review")
    return doubtful_test_labels.PAGE


def open_page(page: Path, port: int | None) -> None:
    """Open the page in a browser; with a port, serve it on loopback until Ctrl-C.

    Raises ``UserError`` when the page is missing or the port cannot be had.
    """
    if not page.is_file():
        raise UserError(f"{page} is missing. `dvc repro label_noise` makes it.")
    if port is None:
        address = page.resolve().as_uri()
        opened = webbrowser.open(address)
        console.say(f"{'opened' if opened else 'no browser found here; open'} {address}")
        return
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), partial(_OnePage, page))
    except (OSError, OverflowError) as error:
        raise UserError(f"port {port} cannot be had ({error}). Choose another.") from None
    with server:
        console.say(f"http://127.0.0.1:{server.server_port}/  (Ctrl-C ends)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.say("stopped")


class _OnePage(http.server.BaseHTTPRequestHandler):
    """Answers with one page, and with nothing else."""

    def __init__(self, page: Path, *request: Any) -> None:
        self.page = page
        super().__init__(*request)

    def do_GET(self) -> None:
        if self.path != "/":
            self.send_error(404)
            return
        content = self.page.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing about each request."""


def apply_file(path: Path) -> None:
    """Merge the decisions in ``path`` into the corrections of their split; a later one replaces an earlier.

    Both files are read and checked in full before the first byte is written, and the result takes
    its name in one rename. Raises ``UserError`` naming file, line and fix; then nothing changed.
    """
    dataset, names = tables.dataset_name(), tables.label_names()
    splits = {split: _raw(split) for split in RECORDS}
    split = split_of(path, splits)
    record, raw = RECORDS[split], splits[split]
    before = read_corrections(record, raw, names, dataset)
    new = read_corrections(path, raw, names, dataset, alone=True)
    merged = pd.concat([before, new]).drop_duplicates("id", keep="last")
    earlier = before.set_index("id").loc[before["id"].isin(new["id"]).to_numpy(), "new_label"]
    later = new.set_index("id")["new_label"]
    replaced = sum(int(label != later[name]) for name, label in earlier.items())
    write_corrections(record, merged, names, dataset)
    console.say(
        f"{path}: {_in_words(new)}; {len(new) - len(earlier):,} new, "
        f"{replaced:,} in place of another decision"
    )
    console.say(f"{record}: {_in_words(merged)}")
    console.say(f"`git diff {record}` shows what changed; `dvc repro` rebuilds from there on.")


def status() -> None:
    """Print how many flagged labels are reviewed, and by which pairs labels were changed."""
    names, raws = tables.label_names(), {split: _raw(split) for split in RECORDS}
    reviewed, of_test = (
        read_corrections(record, raws[split], names, tables.dataset_name())
        for split, record in RECORDS.items()
    )
    issues = tables.read_table(tables.LABELS / "issues.parquet", ("id", "flagged"))
    flagged = set(issues.loc[issues["flagged"], "id"])
    done = flagged & set(reviewed["id"])
    console.say(f"{CORRECTIONS}: {_in_words(reviewed)}")
    if len(of_test):
        console.say(f"{TEST_CORRECTIONS}: {_in_words(of_test)}")
    console.say(f"{PAGE}: {len(flagged):,} flagged labels, {len(flagged - done):,} left to review")
    if done:
        console.say(f"{len(done):,} of them were reviewed since: `dvc repro` takes them off")
    else:
        summary = files.read_json(tables.LABELS / "summary.json")
        for sentence in label_report.review_advice(summary["review"]):
            console.say(sentence)
    pairs = Counter(zip(reviewed["old_label"], reviewed["new_label"], strict=True))
    short = class_tables.shortened(names)
    rows = [
        (short[old], short[new], count)
        for (old, new), count in pairs.most_common(class_tables.PAIRS)
    ]
    if rows:
        console.table("Reviewed labels", ("in the data", "reviewed", "documents"), rows)
    if more := len(pairs) - len(rows):
        console.say(f"and {more:,} rarer pairs: {CORRECTIONS} has all")


def _raw(split: str) -> pd.DataFrame:
    """Return the raw documents of a split."""
    return tables.read_table(tables.RAW / f"{split}.parquet", tables.TEXT_COLUMNS)


def _in_words(table: pd.DataFrame) -> str:
    changed = int((table["old_label"] != table["new_label"]).sum())
    return f"{len(table):,} reviewed, {changed:,} changed, {len(table) - changed:,} kept"


if __name__ == "__main__":
    console.run(main)
