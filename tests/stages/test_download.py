"""The download stage: every source and format gives the same documents; every fault gives one message.

Servers run on loopback and misbehave on purpose: they break off, corrupt, ignore ranges, change
the file between two requests. The Hugging Face Hub's own client talks to one of them.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from cleantune import files
from cleantune.data import documents as corpus_documents
from cleantune.data import fetch, tables
from cleantune.errors import UserError
from stages import download
from tests import corpus_entry

HOSTILE = [
    "plain",
    'a "quoted" word, and a comma',
    "two\nlines",
    "NUL \x00 and bell \x07",
    "\u202eright to left\u202c \ufeff",
    "</script><script>alert(1)</script>",
    "é 漢字 😀 \\ \\n",
    "x" * 1_000_000,
    "",
]
ROWS = [(label, f"title {i}", text) for i, text in enumerate(HOSTILE) for label in ("spam", "ham")]
PLAIN = [("ham", "", "one"), ("spam", "", "two")]


def as_csv(rows: Sequence[tuple[str, ...]], header: str = "label,title,text\n") -> bytes:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return (header + out.getvalue()).encode()


def as_jsonl(rows: Sequence[tuple[str, ...]]) -> bytes:
    return "".join(
        json.dumps({"label": label, "title": title, "text": text, "more": None}) + "\n"
        for label, title, text in rows
    ).encode()


def as_parquet(rows: Sequence[tuple[str, ...]]) -> bytes:
    label, title, text = zip(*rows, strict=True)
    out = io.BytesIO()
    pq.write_table(pa.table({"text": text, "title": title, "label": label}), out)
    return out.getvalue()


def as_tsv(rows: Sequence[tuple[str, ...]]) -> bytes:
    return ("label\ttitle\ttext\n" + "".join("\t".join(row) + "\n" for row in rows)).encode()


def choose(train: object, test: object, dataset: str = "custom", **entry: Any) -> None:
    """Point params.yaml at two files: a path, or a path and the sha256 to expect."""
    corpus_entry.choose(dataset, train, test, **entry)


def put(content: bytes, name: str = "train.csv") -> str:
    Path(name).write_bytes(content)
    return name


def read(split: str) -> list[tuple[str, str, str, int]]:
    table = pq.read_table(f"data/raw/{split}.parquet")
    assert tuple(table.column_names) == tables.TEXT_COLUMNS
    return [tuple(row.values()) for row in table.to_pylist()]


def id_of(split: str, label: str, title: str, text: str) -> str:
    content = json.dumps([title, text, label], ensure_ascii=False)
    return f"{split}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def files_here() -> list[str]:
    return sorted(p.as_posix() for p in Path().rglob("*") if p.is_file() and p.parts[0] != "hub")


# What is read


@pytest.mark.parametrize(
    ("name", "write"),
    [("t.csv", as_csv), ("t.jsonl", as_jsonl), ("t.parquet", as_parquet), ("t.NDJSON", as_jsonl)],
)
def test_every_format_gives_the_same_documents(workspace, name, write):
    choose(put(write(ROWS), name), put(write(ROWS[:3]), f"test-{name}"))
    download.main()
    classes = ["ham", "spam"]
    assert read("train") == [
        (id_of("train", label, title, text), title, text, classes.index(label))
        for label, title, text in ROWS
    ]
    assert [row[0] for row in read("test")] == [id_of("test", *row) for row in ROWS[:3]]
    source = json.loads(Path("data/raw/source.json").read_text())
    assert source == {
        "dataset": "custom",
        "labels": classes,
        "licence": "unknown",
        "source": "files",
        "files": {
            split: {
                "name": path,
                "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest(),
                "rows": rows,
            }
            for split, path, rows in (("train", name, len(ROWS)), ("test", f"test-{name}", 3))
        },
    }
    before = {p: p.read_bytes() for p in Path("data/raw").iterdir()}
    download.main()
    assert {p: p.read_bytes() for p in Path("data/raw").iterdir()} == before


def test_a_tsv_is_read_line_by_line_and_unquoted_only_where_a_whole_field_is_quoted(workspace):
    rows = [("ham", '"', 'she said "no'), ("spam", "", '"all ""of"" it"')]
    choose(put(as_tsv(rows), "t.tsv"), put(as_tsv(rows), "u.tsv"))
    download.main()
    assert [row[1:3] for row in read("train")] == [('"', 'she said "no'), ("", 'all "of" it')]


def test_columns_by_position_and_labels_by_name(workspace):
    rows = as_csv([("4", "a", "b"), ("1", "c", "d"), ("2", "e", "f")], header="")
    columns = {"label": 0, "title": None, "text": 2}  # as -S columns.label=0 writes them
    labels = {1: "World", 2: "Sports", "4": "World"}
    choose(put(rows), put(rows, "b.csv"), header=False, columns=columns, labels=labels)
    download.main()
    assert tables.label_names() == ["World", "Sports"]
    assert [row[1:] for row in read("test")] == [("", "b", 0), ("", "d", 0), ("", "f", 1)]


def test_labels_that_nobody_named_are_sorted_numbers_by_value(workspace):
    rows = [(str(label), "", "x") for label in (10, 9, -1)]
    choose(put(as_csv(rows)), put(as_csv(rows), "b.csv"))
    download.main()
    assert tables.label_names() == ["-1", "9", "10"]


def test_half_a_surrogate_pair_becomes_a_replacement_character(workspace):
    lines = b'{"label": 1, "title": null, "text": "a \\ud83d b \\ud83d\\ude00"}\n' + (
        b'{"label": 2.0, "title": "", "text": 7}\r\n\n'
    )
    choose(put(lines, "t.jsonl"), put(lines, "u.jsonl"))
    download.main()
    assert [row[1:] for row in read("train")] == [("", "a \ufffd b 😀", 0), ("", "7", 1)]
    assert tables.label_names() == ["1", "2"]


def test_no_path_of_this_machine_is_recorded(workspace, tmp_path):
    path = tmp_path / put(as_csv(PLAIN))
    choose(path, path)
    download.main()
    assert str(tmp_path) not in Path("data/raw/source.json").read_text()


def test_without_a_test_file_the_same_share_of_the_documents_is_the_test_set(workspace):
    rows = [(label, "", f"text {i}") for i in range(2000) for label in ("ham", "spam")]
    choose(put(as_csv(rows)), None)
    download.main()
    chosen = {text for _, _, text, _ in read("test")}
    assert len(read("train")) + len(read("test")) == 4000
    assert 700 < len(read("test")) < 900
    assert not {text for _, _, text, _ in read("train")} & chosen  # copies of a text stay together
    assert {name for name, *_ in read("test")} <= {id_of("test", *row) for row in rows}
    source = json.loads(Path("data/raw/source.json").read_text())
    assert source["files"]["test"]["sha256"] == source["files"]["train"]["sha256"]
    choose(put(as_csv(rows[::-1])), None)
    download.main()
    assert {text for _, _, text, _ in read("test")} == chosen
    choose(put(as_csv(rows[:2])), None)
    with pytest.raises(
        UserError, match="2 rows are too few for a test set of 20%: each class is a"
    ):
        download.main()


def test_every_class_of_a_single_file_is_in_train_and_one_of_two_texts_in_test_too(workspace):
    rows = [("ham", "", f"text {i}") for i in range(200)]
    for seed in range(8):
        few = [("one", "", f"one {seed}"), *[("copies", "", f"same {seed}")] * 3,
               ("two", "", f"a {seed}"), ("two", "", f"b {seed}")]  # fmt: skip
        choose(put(as_csv([*rows, *few])), None)
        download.main()
        names = tables.label_names()
        sides = {split: {names[label] for *_, label in read(split)} for split in ("train", "test")}
        assert sides == {"train": {"ham", "one", "copies", "two"}, "test": {"ham", "two"}}


def test_a_text_that_another_class_has_more_often_stays_in_train_for_a_class_without_others(
    workspace,
):
    for seed in range(8):
        rows = [("ham", "", f"{seed} text {i}") for i in range(20)] + [("spam", "", f"x {seed} {i}")
                for i in range(20)]  # fmt: skip
        shared = [("ham", "", f"both {seed}")] * 2 + [("rare", "", f"both {seed}")]
        choose(put(as_csv([*rows, *shared])), None, test_share=0.9)
        download.main()
        assert tables.label_names().index("rare") in {label for *_, label in read("train")}


def test_classes_of_all_files_are_known_before_any_is_read_alone(workspace):
    choose(put(as_csv(PLAIN)), put(as_csv([*PLAIN, ("eggs", "", "x")]), "b.csv"))
    download.main()
    assert tables.label_names() == ["eggs", "ham", "spam"]
    assert [label for *_, label in read("test")] == [1, 2, 0]


SIZED = [(label, "", f"{label} {i}") for label, count in
         (("ham", 30), ("spam", 30), ("eggs", 4), ("toast", 2)) for i in range(count)]  # fmt: skip


@pytest.mark.parametrize(
    ("other", "names", "says"),
    [
        (None, ["ham", "spam"], "left out, for they have fewer than 5 documents"),
        ("misc", ["ham", "spam", "misc"], "merged into misc, for they have fewer than 5 documents"),
        ("spam", ["ham", "spam"], "merged into spam"),
    ],
)
def test_small_classes_are_left_out_or_merged_and_named(workspace, capsys, other, names, says):
    test = [("ham", "", "t"), ("toast", "", "u"), ("spam", "", "v")]
    choose(put(as_csv(SIZED)), put(as_csv(test), "b.csv"), min_documents=5, other=other)
    download.main()
    assert tables.label_names() == names
    rows = [
        (names[label], text) for split in ("train", "test") for _, _, text, label in read(split)
    ]
    assert len(rows) == len(SIZED) + len(test) - (0 if other else 7)
    small = ("eggs", "toast", "u")
    for name, text in rows:
        assert (name == other) == text.startswith(small) or name == other == "spam"
    source = json.loads(Path("data/raw/source.json").read_text())
    assert source["small_classes"] == {
        "merged_into": other,
        "documents": {"eggs": 4, "toast": 3},
    }
    out = " ".join(capsys.readouterr().out.split())
    assert says in out
    assert "(datasets.custom.min_documents): eggs (4), toast (3)" in out


def test_where_small_classes_leave_fewer_than_two_it_is_said(workspace):
    choose(put(as_csv([*SIZED[:30], *SIZED[60:]])), None, min_documents=5)
    with pytest.raises(
        UserError, match=r"min_documents: 5 ham alone is left.*eggs \(4\), toast \(2\)"
    ):
        download.main()


def test_a_validation_file_and_metadata_reach_data_raw(workspace):
    header = "label,title,text,source,date\n"
    rows = [("ham", "", "one", " Reuters ", "2024-01-02"), ("spam", "", "two", "", "3")]
    choose(put(as_csv(rows, header)), put(as_csv(rows, header), "b.csv"))
    yaml = YAML()
    content = yaml.load(Path("params.yaml").read_text())
    custom = content["datasets"]["custom"]
    custom["files"]["validation"] = {
        "path": put(as_csv(rows[::-1], header), "c.csv"),
        "sha256": None,
    }
    custom["columns"]["metadata"] = ["date", "source", "date"]
    with Path("params.yaml").open("w") as out:
        yaml.dump(content, out)
    download.main()
    for split in tables.SPLITS:
        table = pq.read_table(f"data/raw/{split}.parquet")
        assert table.column_names == [*tables.TEXT_COLUMNS, "metadata.date", "metadata.source"]
        assert {str(table.schema.field(i).type) for i in (4, 5)} == {"string"}
        values = sorted(zip(*(table.column(i).to_pylist() for i in (2, 4, 5)), strict=True))
        assert values == [("one", "2024-01-02", "Reuters"), ("two", "3", "")]
        assert all(name.startswith(f"{split}-") for name in table.column("id").to_pylist())
    files = json.loads(Path("data/raw/source.json").read_text())["files"]
    assert files["validation"]["name"] == "c.csv"


def test_no_other_row_decides_an_id_and_copies_are_counted(workspace):
    a, b, c = ("ham", "T", "same"), ("spam", "T", "same"), ("ham", "", "Tsame")
    labels = {"ham": "ham", "spam": "spam"}
    put(as_csv([a, b]), "test.csv")
    for rows in ([a, b, c, a, a], [b, a, a, c, a], [a, b, a, a, c], [c, b], [("spam", "", "x"), a]):
        choose(put(as_csv(rows)), "test.csv", labels=labels)
        download.main()
        expected = [
            id_of("train", *row) + (f"-{n + 1}" if (n := rows[:i].count(row)) else "")
            for i, row in enumerate(rows)
        ]
        assert [row[0] for row in read("train")] == expected
        assert len(set(expected)) == len(rows)


def test_two_documents_with_one_id_are_refused(workspace, monkeypatch):
    monkeypatch.setattr(corpus_documents, "ID_DIGITS", 1)
    rows = [("ham", "", f"text {i}") for i in range(17)]
    choose(put(as_csv([*PLAIN, *rows])), "train.csv")
    with pytest.raises(
        UserError, match=r"row \d+ \(line \d+\): its id, train-., is also that of .*, row \d+"
    ):
        download.main()


# What is refused

GOOD = as_csv(PLAIN)
BINARY = pa.table({"label": ["a", "b"], "title": ["", ""], "text": [b"ok", b"\xff"]})
LISTS = pa.table({"label": ["a", "b"], "title": ["", ""], "text": [["ok"], ["x"]]})


def parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.csv",
            None,
            r"t\.csv does not exist\. Correct datasets\.custom\.files\.train\.path.*`git add t\.csv`",
        ),
        ("t.csv", b"", r"t\.csv is empty \(0 bytes\)\. Put"),
        ("t.csv", b"label,title,text\n", r"t\.csv holds no rows\. Put"),
        ("t.csv", b"label,text\na,b\n", r"t\.csv: no column 'title'; it has 'label', 'text'\. Cor"),
        ("t.csv", b"label,text,text,title\n", r"t\.csv: column 'text' appears twice"),
        ("t.csv", GOOD + b'"ham","x"\n', r"t\.csv, row 3 \(line 4\): 2 fields where 3 .*fix"),
        ("t.csv", GOOD + b'"ham","a\nb","c"d"\n', r"t\.csv, line 4: not CSV .*fix that line"),
        ("t.csv", GOOD + b'"ham","a,b\n', r"t\.csv, line 4: not CSV \(unexpected end of data\)"),
        (
            "t.csv",
            GOOD + b"ham,,caf\xe9\n",
            r"t\.csv, line 4: byte 0xe9 at .*not UTF-8\. Set `encoding`",
        ),
        ("t.csv", GOOD + b",,x\n", r"t\.csv, row 3 \(line 4\): the label is empty\. Fill it in"),
        ("t.txt", GOOD, r"t\.txt: the ending '\.txt' is not one of .*Rename"),
        ("t.tsv", as_tsv(PLAIN) + b"ham\tx\n", r"t\.tsv, row 3 \(line 4\): 2 fields where 3"),
        (
            "t.jsonl",
            as_jsonl(PLAIN) + b"{",
            r"t\.jsonl, row 3 \(line 3\): not JSON .*Fix the line",
        ),
        ("t.jsonl", b"[" * 100_000, r"t\.jsonl, row 1 \(line 1\): not JSON"),
        ("t.jsonl", b"[1]\n", r"t\.jsonl, row 1 \(line 1\): not a JSON object"),
        (
            "t.jsonl",
            b'{"label": 1}',
            r"t\.jsonl, row 1 \(line 1\): no column 'text', 'title'; it has 'label'",
        ),
        (
            "t.jsonl",
            b'{"label":1,"title":{},"text":""}',
            r"t\.jsonl, row 1 .*title holds a dict, not text",
        ),
        ("t.parquet", b"PAR1", r"t\.parquet: not a Parquet file .*Fetch or write it again"),
        ("t.parquet", as_parquet(PLAIN)[:-40], r"t\.parquet: not a Parquet file"),
        ("t.parquet", parquet(BINARY), r"t\.parquet, row 2: column text is not UTF-8"),
        ("t.parquet", parquet(LISTS), r"t\.parquet, row 1: column text holds a list, not text"),
        ("t.parquet", parquet(BINARY.drop(["text"])), r"t\.parquet: no column 'text'; it has"),
    ],
)
def test_a_fault_stops_with_one_message_and_leaves_what_was_there(
    workspace, name, content, message
):
    choose(put(GOOD, "good.csv"), "good.csv")
    download.main()
    if content is not None:
        put(content, name)
    choose(name, "good.csv")
    before = files_here()
    with pytest.raises(UserError, match=f"(?s)^{message}"):
        download.main()
    assert files_here() == before
    assert len(read("train")) == 2


def test_an_unknown_label_is_named_with_its_row(workspace):
    choose(
        put(as_csv([*PLAIN, ("eggs", "", "x")])),
        put(GOOD, "b.csv"),
        labels={"ham": "H", "spam": "S"},
    )
    with pytest.raises(
        UserError,
        match=r"train\.csv, row 3 \(line 4\): unknown label 'eggs'; known: ham \(H\), spam \(S\)\. "
        r"Fix the row, or add the value to datasets\.custom\.labels",
    ):
        download.main()
    # in the test file too
    choose("b.csv", "train.csv", labels={"ham": "H", "spam": "S"})
    with pytest.raises(UserError, match=r"train\.csv, row 3 \(line 4\): unknown label 'eggs'"):
        download.main()


def test_a_corpus_of_one_class_is_refused(workspace):
    choose(put(as_csv(PLAIN[:1])), put(as_csv(PLAIN[:1]), "b.csv"))
    with pytest.raises(
        UserError, match=r"train\.csv, b\.csv: one class only \(ham\).*columns\.label"
    ):
        download.main()


def test_a_header_taken_for_a_document_gets_a_hint(workspace):
    columns = {"label": "0", "title": None, "text": "2"}
    labels = {"ham": "ham", "spam": "spam"}
    choose(put(GOOD), "train.csv", header=False, columns=columns, labels=labels)
    with pytest.raises(UserError, match=r"row 1 \(line 1\): unknown label 'label'.*header: true"):
        download.main()


def test_the_wrong_checksum_names_both(workspace):
    choose((put(GOOD), "0" * 64), "train.csv")
    found = hashlib.sha256(GOOD).hexdigest()
    with pytest.raises(UserError, match=f"(?s)train.csv has sha256.*{found}.*{'0' * 64}"):
        download.main()
    choose(("train.csv", found), "train.csv")
    download.main()


def test_the_checksum_of_a_folder_is_that_of_its_files(workspace):
    for name in ("ham", "spam"):
        Path("mails", name).mkdir(parents=True)
        Path("mails", name, "1.txt").write_text(f"a mail of {name}")
    found = files.sha256(Path("mails"))
    columns = {"label": "label", "title": None, "text": "text"}
    choose(("mails", found), "mails", format="folders", columns=columns)
    download.main()
    Path("mails/ham/1.txt").write_text("another mail")
    with pytest.raises(UserError, match=f"(?s)mails has sha256.*not the expected.*{found}"):
        download.main()


def test_the_command_prints_the_message_alone_and_fails(workspace):
    choose("absent.csv", "absent.csv")
    done = run_stage()
    assert done.returncode == 1
    assert done.stderr.startswith("error: absent.csv does not exist.")
    assert "Traceback" not in done.stdout + done.stderr


# Over HTTP


@dataclass
class Server:
    """A file server on loopback with the faults a test gives it."""

    content: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    stops_after: list[int | None] = field(default_factory=list)  # bytes, a connection each
    statuses: list[int] = field(default_factory=list)  # answered before any file is sent
    wrong_range: bool = False
    corrupts: int = 0  # connections whose first byte is wrong
    pause_s: float = 0.0  # before each 1,000 bytes
    headers: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, range
    sent: int = 0  # bytes of files
    url: str = ""


@contextlib.contextmanager
def serving(server: Server) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, with_body: bool) -> None:
            asked = self.headers.get("Range")
            server.seen.append((self.command, self.path, asked))
            body = server.content.get(self.path)
            status = server.statuses.pop(0) if server.statuses else 200 if body is not None else 404
            if body is None or status != 200:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            etag = f'"{hashlib.sha256(body).hexdigest()}"'
            start = 0
            if asked and server.ranges and self.headers.get("If-Range", etag) == etag:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body) > 0:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                first = 0 if server.wrong_range else start
                self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            self.send_header("ETag", etag)
            for name, value in server.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if not with_body:
                return
            if server.corrupts:
                server.corrupts -= 1
                body = b"\x00" + body[1:]
            stop = server.stops_after.pop(0) if server.stops_after else None
            rest = body[start:][:stop]
            for i in range(0, len(rest), 1000):
                time.sleep(server.pause_s)
                self.wfile.write(rest[i : i + 1000])
                server.sent += len(rest[i : i + 1000])
            self.close_connection = stop is not None

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}"
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


LONG = as_csv([(label, f"title {i}", "word " * 50) for i in range(200) for label in ("a", "b")])
SHA = hashlib.sha256(LONG).hexdigest()


@pytest.fixture
def server(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetch, "FIRST_PAUSE_S", 0)
    with serving(
        Server({"/train.csv": LONG, "/test.csv": GOOD.replace(b"ham", b"a").replace(b"spam", b"b")})
    ) as it:
        choose(f"{it.url}/train.csv?x=1", f"{it.url}/test.csv")
        it.content["/train.csv?x=1"] = LONG
        yield it


def test_a_url_gives_what_the_file_holds_and_nothing_is_left_behind(server):
    download.main()
    assert len(read("train")) == 400
    source = json.loads(Path("data/raw/source.json").read_text())
    assert source["files"]["train"]["name"] == f"{server.url}/train.csv?x=1"
    assert source["files"]["train"]["sha256"] == SHA
    assert not Path(".checkpoints/download").exists()


def test_a_broken_transfer_goes_on_where_it_stopped(server):
    server.stops_after = [10_000, 1, 50_000]
    download.main()
    assert [r for m, p, r in server.seen if p.startswith("/train")] == [
        None, "bytes=10000-", "bytes=10001-", "bytes=60001-"
    ]  # fmt: skip
    assert server.sent == len(LONG) + len(server.content["/test.csv"])
    assert len(read("train")) == 400


def test_a_server_that_ignores_ranges_sends_it_again_from_the_start(server):
    server.ranges, server.stops_after = False, [10_000]
    download.main()
    assert len(read("train")) == 400


def test_a_server_that_sends_another_range_than_asked_is_not_trusted(server):
    server.wrong_range, server.stops_after = True, [10_000]
    download.main()
    assert [r for m, p, r in server.seen if p.startswith("/train")] == [None, "bytes=10000-", None]
    assert len(read("train")) == 400


def test_without_a_way_to_tell_versions_apart_no_half_is_kept(server):
    server.headers, server.stops_after = {"Content-Encoding": "identity"}, [10_000]
    download.main()
    assert all(r is None for _, _, r in server.seen)
    assert len(read("train")) == 400


def test_the_next_run_goes_on_where_this_one_gave_up(server):
    server.stops_after = [30_000] + [0] * fetch.TRIES
    with pytest.raises(UserError, match=r"train\.csv.*30,000 bytes have come and are kept"):
        download.main()
    assert not Path("data/raw").exists()
    server.stops_after, server.sent = [], 0
    download.main()
    assert server.sent == len(LONG) - 30_000 + len(server.content["/test.csv"])
    assert len(read("train")) == 400


def test_a_file_that_changed_between_two_runs_is_not_glued_together(server):
    server.stops_after = [30_000] + [0] * fetch.TRIES
    with pytest.raises(UserError):
        download.main()
    server.stops_after = []
    server.content["/train.csv?x=1"] = LONG.replace(b"word", b"WORD")
    download.main()
    assert {row[2] for row in read("train")} == {"WORD " * 50}


def test_a_file_mended_on_the_server_is_fetched_again(server):
    good = server.content["/test.csv"]
    server.content["/test.csv"] = good + b"c\n"
    with pytest.raises(UserError, match="fields"):
        download.main()
    server.content["/test.csv"], server.sent = good, 0
    download.main()
    assert server.sent == len(good)  # and the other, which the server still has, is not
    assert len(read("train")) == 400


def test_corrupt_bytes_are_refused_and_not_kept(server):
    choose((f"{server.url}/train.csv", SHA), f"{server.url}/test.csv")
    server.corrupts = 1
    with pytest.raises(UserError, match=rf"(?s)/train\.csv has sha256.*not the expected.*{SHA}"):
        download.main()
    assert not Path("data/raw").exists()
    download.main()
    assert len(read("train")) == 400


def test_a_corrupt_beginning_kept_from_before_is_fetched_anew(server):
    choose((f"{server.url}/train.csv", SHA), f"{server.url}/test.csv")
    server.corrupts, server.stops_after = 1, [30_000] + [0] * fetch.TRIES
    with pytest.raises(UserError, match="30,000 bytes"):
        download.main()
    server.stops_after = []
    download.main()
    assert len(read("train")) == 400


def test_an_error_that_passes_is_waited_for_and_one_that_stays_is_not(server):
    server.statuses = [503, 429]
    download.main()
    assert len(read("train")) == 400
    server.statuses, server.seen = [404], []
    with pytest.raises(UserError, match=r"HTTP status 404 Not Found\. Check the URL"):
        download.main()
    assert len(server.seen) == 1
    assert len(read("train")) == 400  # the last good one stays


def test_a_server_that_is_not_there_says_so(server):
    choose("http://127.0.0.1:9/train.csv", "http://127.0.0.1:9/test.csv")
    with pytest.raises(UserError, match=r"^http://127\.0\.0\.1:9/train\.csv could not be fetched"):
        download.main()


def test_an_empty_answer_and_a_page_in_place_of_the_file_are_named(server):
    server.content["/test.csv"] = b""
    with pytest.raises(UserError, match=r"/test\.csv is empty \(0 bytes\)"):
        download.main()
    server.content["/test.csv"] = b"<html>Please log in</html>"
    with pytest.raises(UserError, match=r"/test\.csv: no column 'label'.*'<html>Please log in"):
        download.main()


def test_an_interrupted_transfer_leaves_no_output_and_goes_on_later(server):
    server.pause_s = 0.02
    process = subprocess.Popen([sys.executable, "-m", "stages.download"])
    while server.sent < 20_000:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    assert not Path("data/raw").exists()
    server.pause_s, server.seen = 0, []
    download.main()
    assert re.fullmatch(r"bytes=\d+-", server.seen[0][2] or "")
    assert len(read("train")) == 400


# The Hub: its own client against a server that answers what it asks for

REPO = "/datasets/fancyzhx/ag_news/resolve/eb185aade064a813bc0b7f42de02595523103ca4/data"
HUB = {
    split: parquet(
        pa.table({"text": [f"{split} {i}" for i in range(4000)], "label": [0, 3] * 2000})
    )
    for split in ("train", "test")
}


@pytest.fixture
def hub(server: Server) -> Server:
    for split, content in HUB.items():
        server.content[f"{REPO}/{split}-00000-of-00001.parquet"] = content
    server.headers = {"X-Repo-Commit": REPO.split("/")[-2]}
    classes = {"1": "World", "2": "Sports", "3": "Business", "4": "Sci/Tech"}
    files = {f"/{s}.csv": as_csv([("1", "t", s), ("4", "u", s)], "") for s in HUB}
    server.content |= files
    train, test = ((server.url + p, hashlib.sha256(c).hexdigest()) for p, c in files.items())
    choose(
        train,
        test,
        dataset="ag_news",
        columns={"label": "0", "title": "1", "text": "2"},
        labels=classes,
    )
    return server


def run_stage(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stages.download"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def from_hub(hub: Server) -> subprocess.CompletedProcess[str]:
    home = str(Path("hub").absolute())
    return run_stage(HF_ENDPOINT=hub.url, HF_HOME=home, HF_HUB_OFFLINE="0")


def test_the_hub_is_asked_for_the_pinned_files_and_no_others(hub):
    done = from_hub(hub)
    assert done.returncode == 0, done.stderr
    assert [row[1:] for row in read("train")[:2]] == [("", "train 0", 0), ("", "train 1", 3)]
    source = json.loads(Path("data/raw/source.json").read_text())
    assert source["source"] == "hub"
    assert source["files"]["test"] == {
        "name": "fancyzhx/ag_news@eb185aade064a813bc0b7f42de02595523103ca4/"
        "data/test-00000-of-00001.parquet",
        "sha256": hashlib.sha256(HUB["test"]).hexdigest(),
        "rows": 4000,
    }
    fetched = {path for method, path, _ in hub.seen if method == "GET" and "datasets" in path}
    assert fetched == {f"{REPO}/{split}-00000-of-00001.parquet" for split in HUB}
    hub.seen = []
    assert from_hub(hub).returncode == 0
    assert [path for _, path, _ in hub.seen if "datasets" in path] == []  # the Hub's cache has it


def test_a_transfer_from_the_hub_that_breaks_is_tried_again(hub):
    hub.stops_after = [5_000]
    done = from_hub(hub)
    assert done.returncode == 0, done.stderr
    gets = [path for method, path, _ in hub.seen if method == "GET" and path.startswith(REPO)]
    assert len(gets) == 3
    assert len(read("train")) == 4000


def test_what_the_hub_sends_is_checked_and_a_bad_copy_is_not_kept(hub):
    hub.corrupts = 1
    done = from_hub(hub)
    assert done.returncode == 1
    assert "train-00000-of-00001.parquet has sha256" in done.stderr
    assert not Path("data/raw").exists()
    assert from_hub(hub).returncode == 0


@pytest.mark.parametrize(
    ("dataset", "files", "columns", "names"),
    [
        ("spam", ["plain_text/train-00000-of-00001.parquet"], ("sms", "label"), ["ham", "spam"]),
        (
            "sentiment",
            ["train.parquet", "test.parquet"],
            ("text", "label"),
            ["negative", "positive"],
        ),
    ],
)
def test_the_other_corpora_come_from_the_hub_with_their_names(hub, dataset, files, columns, names):
    entry = YAML(typ="safe").load(Path("params.yaml").read_text())["datasets"][dataset]["hub"]
    values = {columns[0]: [f"text {i}" for i in range(400)], columns[1]: [0, 1] * 200}
    for file in files:
        path = f"/datasets/{entry['repo']}/resolve/{entry['revision']}/{file}"
        hub.content[path] = parquet(pa.table(values))
    hub.headers = {"X-Repo-Commit": entry["revision"]}
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(
        re.sub(r"^dataset: \w+", f"dataset: {dataset}", text, flags=re.M)
    )
    done = from_hub(hub)
    assert done.returncode == 0, done.stderr
    assert tables.label_names() == names
    counts = [len(read(split)) for split in ("train", "test")]
    assert counts == [400, 400] if len(files) == 2 else sum(counts) == 400 and min(counts) > 50


def test_without_the_hub_the_other_source_serves(hub):
    for path in [p for p in hub.content if p.startswith(REPO)]:
        del hub.content[path]
    done = from_hub(hub)
    assert done.returncode == 0, done.stderr
    assert "could not be fetched from the Hub" in " ".join(done.stdout.split())
    assert [row[1:] for row in read("test")] == [("t", "test", 0), ("u", "test", 3)]
    assert json.loads(Path("data/raw/source.json").read_text())["source"] == "files"
    hub.content = {}
    done = from_hub(hub)
    assert done.returncode == 1
    assert re.search(r"(?s)error: fancyzhx/ag_news@.*Hub.*/train\.csv could not", done.stderr)
