"""Recognising labelled files: every field case ends as tests/field_cases/README.md says."""

import bz2
import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cleantune.data import separators, splits
from cleantune.data.layouts import Flags
from cleantune.data.proposal import Options, Proposal, propose
from cleantune.errors import UserError

CASES = Path(__file__).parents[2] / "field_cases"
FIRST = "sound is clear and warm, used it in the kitchen, no. 0"
CHINESE = "选手打破了世界纪录，昨天下午，第0条"
THREE = {"good": 30, "bad": 30, "mixed": 30}
SPORTS = {"体育": 20, "文学": 20, "校园": 20}


def recognised(path: Path, options: Options | None = None, **flags) -> Proposal:
    pieces = splits.pieces(path, None, path.name)
    names = dict.fromkeys(pieces, path.name)
    return propose(pieces, names, Flags(**flags), options or Options())


def layout(found: Proposal) -> dict[str, object]:
    """Return what the entry says beside what every entry does."""
    usual = {"hub", "files", "test_share", "licence"}
    columns = found.entry["columns"]
    rest = {k: v for k, v in found.entry.items() if k not in usual | {"columns"}}
    return {k: v for k, v in rest.items() if v or k == "header"} | {
        "label": columns["label"], "text": columns["text"]
    }  # fmt: skip


def named(format_: str, **more: object) -> dict[str, object]:
    return {"format": format_, "header": True, "label": "label", "text": "text"} | more


@pytest.mark.parametrize(("name", "expected", "first", "classes"), [
    ("semicolon.csv", named("csv", separator=";"), FIRST, THREE),
    ("text_label.txt", {"format": "csv", "separator": ";", "header": False, "label": "1", "text": "0"},
     FIRST, THREE),
    ("fasttext.txt", named("fasttext"), FIRST, THREE),
    ("array.json", named("json"), FIRST, THREE),
    ("plain.csv.gz", named("csv"), FIRST, THREE),
    ("utf16.csv", named("csv", encoding="utf-16"), FIRST, THREE),
    ("latin1.csv", named("csv", encoding="cp1252"), f"{FIRST}, café, 5 £", THREE),
    ("gbk.tsv", {"format": "tsv", "encoding": "gb18030", "header": False, "label": "1", "text": "0"},
     CHINESE, SPORTS),
    ("chinese_utf8.csv", named("csv", label="类别", text="评论"), CHINESE, SPORTS),
    ("pandas_newline.tsv", named("csv", separator="\t"), FIRST.replace(", u", ",\nu"), THREE),
    ("blank_after_comma.csv", named("csv"), FIRST, THREE),
    ("blank_tail.csv", named("csv"), FIRST, THREE),
    ("float_labels.csv", named("csv", labels={"0.0": "0", "1.0": "1"}), FIRST, {"0": 30, "1": 30}),
    ("true_false.csv", named("csv", label="toxic"), FIRST, {"TRUE": 30, "FALSE": 30}),
    ("empty_texts.tsv", named("tsv", text="1"), FIRST, THREE),
    ("bytes_literals.csv", named("csv"), f'b"{FIRST}<br />it\'s fine"', THREE),
    ("rare_classes.csv", named("csv"), FIRST,
     THREE | {"gift card": 2, "spare part": 1, "warranty": 1}),
    ("excel_named.csv", named("excel"), FIRST, THREE),
    ("folder_per_class", named("folders", encoding="gb18030"), CHINESE,
     {"体育": 6, "文学": 6, "校园": 6}),
])  # fmt: skip
def test_a_field_case_is_read(name, expected, first, classes):
    found = recognised(CASES / name)
    assert layout(found) == expected
    assert found.documents["train"][0].text == first
    assert found.counts("train") == classes


def test_every_field_case_is_in_the_table_of_its_readme():
    table = (CASES / "README.md").read_text()
    for path in CASES.iterdir():
        assert path.name == "README.md" or f"| {path.name}" in table, path.name


@pytest.mark.parametrize(("name", "says"), [
    ("overflow.csv", r"15 of 90 rows have more fields than the 2 columns: row 1 \(line 2\), 7 \(line 8\),"
     r".*'used it in the kitchen \| no\. 0'.*--join ', '"),
    ("several_labels.csv", r"several labels: 60 of 90 values of the column labels.*'delivery\|quality'"
     r".*--label-separator '\|'.*--label COLUMN"),
    ("flag_columns.csv", r"is_price, is_quality, is_delivery are flags:.*44 documents have several"
     r".*--label is_price"),
])  # fmt: skip
def test_a_field_case_says_what_it_is_and_the_way_out(name, says):
    with pytest.raises(UserError, match=f"(?s){says}"):
        recognised(CASES / name)


def test_the_ways_out_of_the_messages_work():
    joined = recognised(CASES / "overflow.csv", join=", ")
    assert [row.text for row in joined.documents["train"]][:2] == [
        FIRST, "far too loud at night, bought for my sister, no. 1"
    ]  # fmt: skip
    assert joined.counts("train") == THREE
    one = recognised(CASES / "several_labels.csv", label_separator="|")
    assert (len(one.documents["train"]), one.left_out["train"]) == (30, {"with several labels": 60})
    assert set(one.labels) == {"price", "quality", "delivery", "service"} & set(one.labels)
    flag = recognised(CASES / "flag_columns.csv", label="is_quality")
    assert set(flag.counts("train")) == {"0", "1"}


def test_splits_of_json_are_train_validation_and_test():
    found = recognised(CASES / "splits.json")
    assert {s: len(rows) for s, rows in found.documents.items()} == {
        "train": 60, "validation": 15, "test": 15
    }  # fmt: skip
    assert {s: piece.part for s, piece in found.files.items()} == {
        "train": "train", "validation": "val", "test": "test"
    }  # fmt: skip


def test_what_a_person_should_know_is_said():
    assert recognised(CASES / "blank_tail.csv").left_out == {"train": {"empty": 25}}
    assert "--decode-bytes" in recognised(CASES / "bytes_literals.csv").notes[0]
    rare = recognised(CASES / "rare_classes.csv").notes[0]
    assert "gift card (2), spare part (1), warranty (1)" in rare and "--min-documents" in rare
    empty = recognised(CASES / "empty_texts.tsv").documents["train"]
    assert sum(not row.text for row in empty) == 11
    encoding = next(d for d in recognised(CASES / "latin1.csv").decisions if d.what == "encoding")
    assert "Windows-1252, decided on line" in encoding.taken
    assert any("Wöche" in row.text for row in recognised(CASES / "utf16.csv").documents["train"])


def test_options_are_followed():
    decoded = recognised(CASES / "bytes_literals.csv", Options(decode_bytes=True))
    assert decoded.documents["train"][0].text == f"{FIRST}<br />it's fine"
    assert decoded.entry["bytes_literals"] is True
    names = Options(label_names={"false": "fine", "TRUE": "toxic"})
    assert recognised(CASES / "true_false.csv", names).entry["labels"] == {
        "FALSE": "fine", "TRUE": "toxic"
    }  # fmt: skip
    names = Options(label_names={"0": "bad", "1": "good"})
    assert recognised(CASES / "float_labels.csv", names).counts("train") == {"bad": 30, "good": 30}
    with pytest.raises(
        UserError, match=r"--label-names: no label is '2'\. The labels are 0\.0, 1\.0"
    ):
        recognised(CASES / "float_labels.csv", Options(label_names={"2": "x"}))
    with pytest.raises(UserError, match=r"--label nothing: there is no such column.* label, text"):
        recognised(CASES / "plain.csv.gz", label="nothing")
    with pytest.raises(UserError, match="--encoding klingon: Python knows no such"):
        recognised(CASES / "latin1.csv", encoding="klingon")


ROWS = [(("good", "bad")[i % 2], f"the text of number {i} is here") for i in range(40)]


def written(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def as_csv(rows: Any = ROWS, header: str = "label,text\n") -> str:
    return header + "".join(f"{label},{text}\n" for label, text in rows)


def zipped(**files: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "."), content)
    return out.getvalue()


@pytest.mark.parametrize("content", [
    gzip.compress(as_csv().encode()), bz2.compress(as_csv().encode()), lzma.compress(as_csv().encode()),
    pa.compress(as_csv().encode(), "zstd", asbytes=True), zipped(reviews__csv=as_csv()),
], ids=["gzip", "bz2", "xz", "zstd", "zip"])  # fmt: skip
def test_compression_is_told_by_the_first_bytes(tmp_path, content):
    found = recognised(written(tmp_path, "any.name", content))
    assert len(found.documents["train"]) == 40


@pytest.mark.parametrize(("name", "content"), [
    ("a.csv", as_csv()), ("a.tsv", as_csv().replace(",", "\t")), ("a.csv", as_csv().replace(",", "|")),
    ("a.jsonl", "".join(json.dumps({"label": a, "text": b, "meta": {"x": 1}}) + "\n" for a, b in ROWS)),
    ("a.json", json.dumps({"label": [a for a, _ in ROWS], "text": [b for _, b in ROWS]})),
    ("a.json", json.dumps({"version": 1, "data": [{"label": a, "text": b} for a, b in ROWS]})),
    ("a.json", json.dumps({"label": {str(i): a for i, (a, _) in enumerate(ROWS)},
                           "text": {str(i): b for i, (_, b) in enumerate(ROWS)}})),
    ("a.json", json.dumps({str(i): {"label": a, "text": b} for i, (a, b) in enumerate(ROWS)})),
    ("a.json", json.dumps([["label", "text"], *ROWS])),
    ("a.json", json.dumps({k: [b for a, b in ROWS if a == k] for k in ("good", "bad")})),
    ("a.csv", as_csv(header="")), ("a.txt", as_csv(header="").replace(",", " ")),
    ("a.csv", as_csv([(a.upper() + " ", b) for a, b in ROWS]).replace("GOOD ", "good").replace("BAD ", "bad")),
])  # fmt: skip
def test_the_same_documents_come_out_of_every_form(tmp_path, name, content):
    found = recognised(written(tmp_path, name, content)).documents["train"]
    assert sorted((row.label, row.text) for row in found) == sorted(ROWS)


def test_parquet_and_a_folder_of_splits_and_an_archive_of_splits(tmp_path):
    table = pa.table({"text": [b for _, b in ROWS], "label": [a for a, _ in ROWS]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert len(recognised(tmp_path / "a.parquet").documents["train"]) == 40
    for split in ("train", "dev", "test"):
        written(tmp_path / "folder", f"corpus_{split}.csv", as_csv())
    written(tmp_path / "folder", "README.md", "about")
    content = zipped(**{f"data/{s}__csv": as_csv() for s in ("train", "val", "test")})
    for path in (tmp_path / "folder", written(tmp_path, "a.zip", content)):
        found = recognised(path)
        assert list(found.documents) == ["train", "validation", "test"]
        assert {len(rows) for rows in found.documents.values()} == {40}


@pytest.mark.parametrize(("name", "content", "says"), [
    ("a.pdf", b"%PDF-1.7", "is a PDF; save its text as CSV"),
    ("a.pkl", b"\x80\x04\x95", "is a pickle, which could run code"),
    ("a.csv", "<!DOCTYPE html><html>", "is a web page, not a table"),
    ("a.csv", "", "is empty"),
    ("a.csv", "only one column\nand no label\n", "has one column only"),
    ("a.csv", b"label,text\n" + bytes(range(256)) * 20, "is not text: it holds NUL bytes|no encoding"),
    ("a.csv", as_csv().replace("good", "bad"), "no column looks like a label:.*1 values: bad"),
    ("a.csv", as_csv().replace("4 is here", "4, is here"), r"4 of 40 rows have more fields"),
    ("a.csv", as_csv() + "good\n", r"1 of 41 rows have fewer fields than the 2 columns, first row 41 "),
    ("a.csv", as_csv([(f"{a},{a}er", b) for a, b in ROWS], ""),
     r"several columns may be the label:.*--label 0 +2 values: good, bad.*--label 1 +2 values: gooder"),
    ("a.zip", zipped(one__csv=as_csv(), two__csv=as_csv()), r"holds 2 files.*one\.csv, two\.csv.*--part"),
    ("a.csv", as_csv([(a, b if i else "na\xefve " * 30) for i, (a, b) in enumerate(ROWS)]).encode() + b"x\xe9\n",
     r"line 42: byte 0xe9 is not UTF-8, as all of the file is but for 1 such place"),
])  # fmt: skip
def test_what_cannot_be_read_is_named(tmp_path, name, content, says):
    with pytest.raises(UserError, match=f"(?s){says}"):
        recognised(written(tmp_path, name, content))


def test_single_quotes_enclose_fields_where_only_they_make_the_rows_alike(tmp_path):
    rows = [
        (a, f"it's warm; {b}, say ''no''" if i % 9 == 0 else b) for i, (a, b) in enumerate(ROWS)
    ]
    quoted = "".join(
        f"{a};'" + b.replace("'", "''") + "'\n" if ";" in b else f"{a};{b}\n" for a, b in rows
    )
    found = recognised(written(tmp_path, "a.csv", quoted))
    assert [(row.label, row.text) for row in found.documents["train"]] == rows
    assert found.entry["quote"] == "'"
    with pytest.raises(UserError, match="5 of 40 rows have more fields"):
        recognised(tmp_path / "a.csv", quote='"')
    words = [(a, f'\'tis "{b}" they say') for a, b in ROWS]
    apostrophes = recognised(written(tmp_path, "b.csv", as_csv(words)))
    assert [(row.label, row.text) for row in apostrophes.documents["train"]] == words


def test_a_header_may_hold_the_name_of_a_class(tmp_path):
    rows = [(b, str(i % 3 == 0), ("none", "bias", "hate")[i % 3]) for i, (_, b) in enumerate(ROWS)]
    lines = "".join("\t".join(row) + "\n" for row in [("comments", "gendered", "hate"), *rows])
    found = recognised(written(tmp_path, "a.tsv", lines), label="hate")
    assert found.entry["header"] is True
    assert found.counts("train") == {"none": 14, "bias": 13, "hate": 13}


@pytest.mark.parametrize("end", ["\n", "\r"])
def test_a_long_table_may_have_line_ends_in_its_texts(tmp_path, end):
    texts = [f'a word,\nanother "line"\n\nand {"more " * (i % 50)}{i}' for i in range(4000)]
    quoted = ['"' + text.replace('"', '""') + '"' for text in texts]
    content = as_csv([(("good", "bad")[i % 2], text) for i, text in enumerate(quoted)]).replace(
        "\n", end
    )
    assert len(content) > separators.HEAD
    found = recognised(written(tmp_path, "a.csv", content))
    assert [row.text for row in found.documents["train"]] == [t.replace("\n", end) for t in texts]


def test_a_folder_may_have_a_file_for_each_class(tmp_path):
    for name in ("good", "bad"):
        texts = [text for label, text in ROWS if label == name]
        (tmp_path / f"rt-review.{name}").write_text("\n".join([*texts, ""]), encoding="utf-8")
    with pytest.raises(UserError, match=r"holds 2 files.*a document on each line: --lines"):
        recognised(tmp_path)
    with pytest.raises(UserError, match=r"--lines is for a folder.*rt-review\.bad is a file"):
        recognised(tmp_path / "rt-review.bad", lines=True)
    folder = {"train": splits.Piece(tmp_path)}
    found = propose(folder, {"train": "folder"}, Flags(lines=True), Options())
    assert found.entry["format"] == "lines"
    assert sorted((row.label, row.text) for row in found.documents["train"]) == sorted(ROWS)


def test_a_file_of_a_folder_that_is_in_another_encoding_is_named(tmp_path):
    for i in range(12):
        for name in ("good", "bad"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{i}.txt").write_text(f"a {name} thing for £{i}, the best of it")
    assert recognised(tmp_path).counts("train") == {"good": 12, "bad": 12}
    odd = tmp_path / "bad/3.txt"
    odd.write_bytes("this is a bad thing for £3".encode("cp1252"))
    with pytest.raises(
        UserError, match=r"(?s)1 of 24 files.*bad/3\.txt.*cp1252.*£3.*iconv -f cp1252"
    ):
        recognised(tmp_path)
    odd.write_bytes(odd.read_bytes().decode("cp1252").encode())
    assert "thing for £3" in {row.text[-12:] for row in recognised(tmp_path).documents["train"]}


def test_labels_that_differ_by_case_are_reported_and_merged_by_a_flag(tmp_path):
    path = written(
        tmp_path,
        "a.csv",
        as_csv([(a.title() if i % 4 == 0 else a, b) for i, (a, b) in enumerate(ROWS)]),
    )
    assert "differ by case only: Good, good. --label-names Good=good" in recognised(path).notes[0]
    merged = recognised(path, Options(label_names={"Good": "good"}))
    assert merged.counts("train") == {"good": 20, "bad": 20}
    assert merged.entry["labels"] == {"Good": "good", "bad": "bad", "good": "good"}


def test_rows_without_a_label_are_left_out_and_counted(tmp_path):
    found = recognised(
        written(tmp_path, "a.csv", as_csv([*ROWS, ("", "nobody said what this is")]))
    )
    assert found.left_out == {"train": {"without a label": 1}}
    assert found.entry["skip_unlabelled"] is True


def test_a_test_file_without_labels_is_not_used(tmp_path):
    written(tmp_path, "train.csv", as_csv())
    written(tmp_path, "test.csv", "text\nsome text here\n")
    found = recognised(tmp_path)
    assert list(found.files) == ["train"]
    assert "has no column" in found.notes[0]
