"""data/corrections.csv: what is refused and how, and that applying changes labels and nothing else."""

import hashlib
from pathlib import Path

import pandas as pd
import pytest

from cleantune.errors import UserError
from cleantune.labels import corrections

NAMES = ["World", "Sports", "Sci/Tech"]
DOCUMENTS = pd.DataFrame(
    {
        "id": ["train-0", "train-1", "train-2"],
        "title": ["Oil, again", "", "</script>"],
        "text": ["&lt;b&gt;x", 'he said "no"', "\u202eabc"],
        "label": [0, 1, 2],
    }
)
PRINTS = corrections.fingerprints(DOCUMENTS)
HEADER = "dataset,id,text_sha256,old_label,new_label,note\n"
GOOD = f"news,train-1,{PRINTS[1]},Sports,World,\n"


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "corrections.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_fingerprint_is_of_title_newline_text():
    assert PRINTS[0] == hashlib.sha256(b"Oil, again\n&lt;b&gt;x").hexdigest()[:16]
    swapped = DOCUMENTS.assign(title="Oil, again\n&lt;b&gt;x", text="").iloc[:1]
    assert corrections.fingerprints(swapped) != PRINTS[:1]


def test_a_header_alone_corrects_nothing(tmp_path):
    table = corrections.read_corrections(write(tmp_path, HEADER), DOCUMENTS, NAMES, "news")
    assert list(table.columns) == list(corrections.COLUMNS)
    pd.testing.assert_frame_equal(corrections.apply(DOCUMENTS, table), DOCUMENTS)


@pytest.mark.parametrize("index", [[0, 1, 2], [9, 4, 4]])
def test_applying_changes_the_labels_and_nothing_else(tmp_path, index):
    documents = DOCUMENTS.set_axis(index, axis=0)
    path = write(
        tmp_path, "\ufeff" + HEADER + f"news,train-2,{PRINTS[2]},Sci/Tech,World,why\n" + GOOD
    )
    table = corrections.read_corrections(path, documents, NAMES, "news")
    assert table["id"].tolist() == ["train-1", "train-2"]
    corrected = corrections.apply(documents, table)
    assert corrected["label"].tolist() == [0, 0, 0]
    pd.testing.assert_frame_equal(corrected.assign(label=documents["label"]), documents)
    assert documents["label"].tolist() == [0, 1, 2]
    # a document that cleaning dropped is passed over
    assert corrections.apply(documents.iloc[:1], table)["label"].tolist() == [0]


def test_what_is_written_is_read_again_and_sorted(tmp_path):
    note = 'a "quoted", note; <script>\u202e'
    rows = [("news", "train-2", PRINTS[2], 2, 0, note), ("news", "train-0", PRINTS[0], 0, 0, "")]
    table = pd.DataFrame(rows, columns=list(corrections.COLUMNS))
    path = tmp_path / "new" / "corrections.csv"
    corrections.write_corrections(path, table, NAMES, "news")
    read = corrections.read_corrections(path, DOCUMENTS, NAMES, "news")
    assert list(read.itertuples(index=False, name=None)) == rows[::-1]
    again = path.read_bytes()
    corrections.write_corrections(path, read, NAMES, "news")
    assert path.read_bytes() == again


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "line 1: the columns must be .*found nothing"),
        ("id,new_label\n", "line 1: the columns must be dataset,.*found id,new_label"),
        (HEADER + "train-1,Sports\n", "line 2: 2 values where 6 belong"),
        (HEADER + GOOD + 'news,train-2,"x\n', "line 3: not CSV"),
        ((HEADER + GOOD).encode() + b"\xff", "line 3: not UTF-8"),
        (
            HEADER + "news,train-9,0,World,World,\n",
            "line 2: no document has the id train-9",
        ),
        (
            HEADER + f"news,train-9,{PRINTS[1]},Sports,World,\n",
            "line 2: no .* id train-9; its text is that of train-1. Ids come from .*Export it again",
        ),
        (HEADER + GOOD + "\n" + GOOD, "line 4: id train-1 is on line 2 too.*Keep one"),
        (HEADER + GOOD.replace("World", "Wrld"), "line 2: unknown label 'Wrld'.*World, Sports, S"),
        (HEADER + GOOD.replace("Sports", "sports"), "line 2: unknown label 'sports'"),
        (HEADER + GOOD.replace(PRINTS[1], "0" * 16), "line 2: the text of train-1 has changed"),
        (HEADER + GOOD.replace("Sports", "Sci/Tech"), "line 2: train-1 is labelled Sports in the"),
        (HEADER + GOOD.replace(",\n", ',"a\nb"\n'), "line 2: the note has a line break"),
    ],
)
def test_a_wrong_file_is_refused_with_file_line_and_fix(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=rf"corrections\.csv, {message}"):
        corrections.read_corrections(path, DOCUMENTS, NAMES, "news")


def test_a_problem_of_many_rows_is_one_message(tmp_path):
    text = HEADER + "".join(f"news,train-{i},{'0' * 16},World,World,\n" for i in range(3))
    with pytest.raises(UserError, match=r"line 2: .* \(3 of 3 rows have this problem\).*version"):
        corrections.read_corrections(write(tmp_path, text), DOCUMENTS, NAMES, "news")


def test_a_missing_file_says_what_it_holds_or_where_it_comes_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"missing.*git checkout.*id,text_sha256,"):
        corrections.read_corrections(corrections.CORRECTIONS, DOCUMENTS, NAMES, "news")
    with pytest.raises(UserError, match=r"missing.*make review"):
        corrections.read_corrections(tmp_path / "export.csv", DOCUMENTS, NAMES, "news")


def test_rows_of_other_datasets_are_kept_and_passed_over(tmp_path, capsys):
    spam = f'spam,train-1,{"0" * 16},ham,spam,"a, note"\n'
    path = write(tmp_path, HEADER + spam + GOOD)
    table = corrections.read_corrections(path, DOCUMENTS, NAMES, "news")
    assert table["id"].tolist() == ["train-1"]
    assert "ignored 1 rows about other datasets (spam)" in " ".join(capsys.readouterr().out.split())
    corrections.write_corrections(path, table.iloc[:0], NAMES, "news")
    assert path.read_text() == HEADER + spam
    corrections.write_corrections(path, table, NAMES, "news")
    assert path.read_text() == HEADER + GOOD + spam
    with pytest.raises(UserError, match=r"line 3: is about the dataset 'spam', and .* 'news'"):
        corrections.read_corrections(path, DOCUMENTS, NAMES, "news", alone=True)
