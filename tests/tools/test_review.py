"""tools.review and the file behind the page: decisions come in whole or not at all, texts stay data."""

import http.client
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cleantune import files
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.labels import corrections
from cleantune.labels.review_page import content, neighbours, page
from tools import review

NAMES = ["World", "Sports", "Sci/Tech"]
HEADER = "dataset,id,text_sha256,old_label,new_label,note\n"
HOSTILE = "</script><script>alert(1)</script><!-- {{style}} ' \" & \u2028 \u202egnp.exe"


@pytest.fixture
def raw(workspace: Path) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "id": [f"train-{i}" for i in range(6)],
            "title": ["", HOSTILE, "A cup", "A chip", "A vote", "A goal"],
            "text": [f"text number {i} of six" for i in range(6)],
            "label": [0, 1, 2, 0, 1, 2],
        }
    )
    tables.write_table(tables.RAW / "train.parquet", table, tables.TEXT_COLUMNS)
    held_out = table.head(3).assign(id=["test-0", "test-1", "test-2"], text=["a", "b", "c"])
    tables.write_table(tables.RAW / "test.parquet", held_out, tables.TEXT_COLUMNS)
    files.write_json(tables.SOURCE, {"dataset": "custom", "labels": NAMES})
    return table


def rows(raw: pd.DataFrame, **new: str) -> str:
    """Return the body of an export that gives documents, ``train_1`` say, these labels."""
    wanted = {name.replace("_", "-"): label for name, label in new.items()}
    prints = corrections.fingerprints(raw)
    return "".join(
        f"custom,{name},{sha},{NAMES[label]},{wanted[name]},\n"
        for name, sha, label in zip(raw["id"], prints, raw["label"], strict=True)
        if name in wanted
    )


def labels() -> dict[str, str]:
    table = pd.read_csv(corrections.CORRECTIONS)
    assert table["id"].is_monotonic_increasing
    return dict(zip(table["id"], table["new_label"], strict=True))


def export(text: str) -> Path:
    path = Path("export.csv")
    path.write_text(text)
    return path


def test_decisions_are_merged_and_later_ones_replace_earlier(raw, capsys):
    review.apply_file(export(HEADER + rows(raw, train_4="World", train_1="Sci/Tech")))
    review.apply_file(export(HEADER + rows(raw, train_1="Sports", train_2="World")))
    assert labels() == {"train-1": "Sports", "train-2": "World", "train-4": "World"}
    assert "1 new, 1 in place of another" in " ".join(capsys.readouterr().out.split())
    again = corrections.CORRECTIONS.read_bytes()
    review.apply_file(Path("export.csv"))
    assert corrections.CORRECTIONS.read_bytes() == again


def test_decisions_about_test_labels_are_kept_apart(raw, capsys):
    review.apply_file(export(HEADER + rows(raw, train_4="World")))
    before = corrections.CORRECTIONS.read_bytes()
    held_out = tables.read_table(tables.RAW / "test.parquet")
    review.apply_file(export(HEADER + rows(held_out, test_1="Sci/Tech")))
    assert corrections.CORRECTIONS.read_bytes() == before
    assert pd.read_csv(corrections.TEST_CORRECTIONS)["id"].to_list() == ["test-1"]
    assert "data/test_corrections.csv: 1 reviewed, 1 changed" in capsys.readouterr().out
    both = rows(held_out, test_1="World", test_2="World") + rows(raw, train_1="World")
    with pytest.raises(UserError, match="no document has the id train-1"):
        review.apply_file(export(HEADER + both))


def test_what_was_decided_about_another_dataset_stays(raw):
    review.apply_file(export(HEADER + rows(raw, train_4="World")))
    first = corrections.CORRECTIONS.read_text().splitlines()
    files.write_json(tables.SOURCE, {"dataset": "another", "labels": NAMES})
    body = rows(raw, train_4="Sports", train_1="World").replace("custom", "another")
    review.apply_file(export(HEADER + body))
    assert sorted(corrections.CORRECTIONS.read_text().splitlines()) == sorted(
        [*first, *body.splitlines()]
    )


@pytest.mark.parametrize(
    "broken",
    [
        lambda raw: HEADER.replace("note", "notes") + rows(raw, train_1="World"),
        lambda raw: HEADER + rows(raw, train_1="World") + "custom,train-77,0,World,World,\n",
        lambda raw: HEADER + rows(raw, train_1="World", train_2="Weather"),
        lambda raw: HEADER + rows(raw, train_1="World") + rows(raw, train_1="Sports"),
        lambda raw: HEADER + rows(raw.assign(text="of another version"), train_1="World"),
        lambda raw: HEADER + rows(raw.assign(label=0), train_1="World"),
        lambda raw: HEADER + rows(raw, train_1="World").replace("custom", "ag_news"),
    ],
)
def test_a_wrong_file_changes_nothing(raw, broken):
    review.apply_file(export(HEADER + rows(raw, train_4="World")))
    before = corrections.CORRECTIONS.read_bytes()
    with pytest.raises(UserError, match=r"export\.csv, line"):
        review.apply_file(export(broken(raw)))
    assert corrections.CORRECTIONS.read_bytes() == before
    assert sorted(p.name for p in Path("data").iterdir()) == [
        "corrections.csv",
        "raw",
        "test_corrections.csv",
    ]


def test_the_command_says_what_is_wrong_and_fails(raw):
    command = [sys.executable, "-m", "tools.review"]
    export(HEADER + "custom,train-77,0,World,World,\n")
    for arguments, message in (
        (["apply", "export.csv"], "export.csv, line 2: no document has the id train-77"),
        (["apply", "nowhere.csv"], "nowhere.csv is missing. `make review` opens the page"),
        (["open"], "reports/label_review.html is missing. `dvc repro label_noise`"),
    ):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True)
        assert done.returncode == 1
        assert message in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr


def test_status_counts_what_is_left(raw, capsys):
    issues = pd.DataFrame({"id": raw["id"], "flagged": [True, True, True, False, False, False]})
    tables.write_table(tables.LABELS / "issues.parquet", issues, ("id", "flagged"))
    review.apply_file(export(HEADER + rows(raw, train_1="Sports", train_4="World")))
    capsys.readouterr()
    review.status()
    said = " ".join(capsys.readouterr().out.split())
    assert "2 reviewed, 1 changed, 1 kept" in said
    assert "3 flagged labels, 2 left to review" in said


def test_the_page_is_served_alone_and_on_loopback(raw):
    files.write_text(page.PAGE, "<!doctype html>the page")
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "tools.review", "open", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://(127\.0\.0\.1:\d+)/", process.stdout.readline())
        assert found
        for path, status in (("/", 200), ("/params.yaml", 404)):
            connection = http.client.HTTPConnection(found[1], timeout=10)
            connection.request("GET", path)
            answer = connection.getresponse()
            assert answer.status == status
            assert (answer.read() == page.PAGE.read_bytes()) == (status == 200)
            connection.close()
    finally:
        process.terminate()
        process.communicate(timeout=20)


# ---- the file


def flagged(raw: pd.DataFrame, positions: list[int]) -> content.FlaggedLabels:
    at = np.array(positions)
    near, similarity = neighbours.by_words(tables.full_text(raw), at, 3)
    shares = np.full((len(at), 3), 1 / 3)
    return content.FlaggedLabels(at, np.zeros(len(at), int), shares[:, 0], shares, near, similarity)


def embedded(path: Path) -> Any:
    text = path.read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert found
    assert not re.search("[<>&\u2028\u202e]", found[1])
    return json.loads(found[1])


def test_texts_are_embedded_as_they_are_and_hold_no_markup(raw):
    empty = corrections.read_corrections(corrections.CORRECTIONS, raw, NAMES, "custom")
    for _ in range(2):
        page.write_page(page.PAGE, "custom", NAMES, raw, raw, flagged(raw, [4, 1]), empty)
        written = page.PAGE.read_bytes()
    assert page.PAGE.read_bytes() == written
    data = embedded(page.PAGE)
    assert [s["id"] for s in data["flagged"]] == ["train-4", "train-1"]
    assert data["documents"][1]["title"] == HOSTILE
    assert data["flagged"][1]["sha"] == corrections.fingerprints(raw)[1]
    assert page.PAGE.read_text().count("<script") == 2


def test_the_page_of_other_data_has_another_key(raw):
    key = content.data_key(raw, NAMES)
    assert key == content.data_key(raw.copy(), NAMES)
    others = [raw.assign(text="x"), raw.assign(label=0), raw.iloc[1:], raw.iloc[::-1]]
    assert (
        len(
            {key, content.data_key(raw, NAMES[::-1]), *(content.data_key(o, NAMES) for o in others)}
        )
        == 6
    )


def test_a_long_text_is_cut_and_says_so(raw):
    long = raw.assign(text="x" * 1_000_000)
    empty = corrections.read_corrections(corrections.CORRECTIONS, long, NAMES, "custom")
    page.write_page(page.PAGE, "custom", NAMES, long, long, flagged(long, [0]), empty)
    data = embedded(page.PAGE)
    for document in data["documents"]:
        assert len(document["text"]) + document["more"] == 1_000_000
    assert page.PAGE.stat().st_size < 100_000


def test_a_flagged_label_without_raw_document_is_refused(raw):
    empty = corrections.read_corrections(corrections.CORRECTIONS, raw, NAMES, "custom")
    with pytest.raises(ValueError, match="train-4"):
        page.write_page(page.PAGE, "custom", NAMES, raw, raw.iloc[:4], flagged(raw, [4]), empty)


@pytest.mark.parametrize("count", [1, 4, 50])
def test_neighbours_are_the_nearest_others_as_brute_force_finds_them(count):
    rng = np.random.default_rng(count)
    vectors = rng.normal(size=(40, 6))
    at = np.arange(0, 40, 3)
    found, similarity = neighbours.by_vectors(vectors, at, count)
    assert found.shape == similarity.shape == (len(at), min(count, 39))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for row, near, cosines in zip(at, found, similarity, strict=True):
        expected = sorted((i for i in range(40) if i != row), key=lambda i: -(unit[row] @ unit[i]))
        assert near.tolist() == expected[: len(near)]
        assert np.allclose(cosines, np.clip(unit[near] @ unit[row], 0, 1))


def test_neighbours_by_words_share_words():
    texts = ["the cup final goal", "a chip in a phone", "goal in the final", "phone with a chip"]
    found, _ = neighbours.by_words(texts, np.arange(4), 1)
    assert found.ravel().tolist() == [2, 3, 0, 1]
    assert neighbours.by_words(["alone here"], np.array([0]))[0].shape == (1, 0)
