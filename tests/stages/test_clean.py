r"""The clean stage: text repaired, duplicates and leaks found, and no document lost without a reason."""

import csv
import json
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from cleantune import files
from cleantune.data import tables
from cleantune.data.text_repair import REPAIRS, has_ag_news_artifacts, repair
from cleantune.data.validation_split import choose_validation
from cleantune.data.words import is_nearly_empty, words
from cleantune.errors import UserError
from cleantune.labels import corrections
from stages import clean, download
from tests import corpus_entry
from tests.conftest import REPOSITORY

Row = tuple[str, str, int]
"""Title, text, label."""

TOPICS = ("market share profit bank euro deal merger rate", "goal match cup coach team season win",
          "planet orbit probe launch crew moon rocket lab")  # fmt: skip


def write_raw(train: list[Row], test: list[Row], classes: int = 3) -> None:
    """Write what the download stage would have written."""
    for split, rows in (("train", train), ("test", test)):
        table = pd.DataFrame(rows, columns=["title", "text", "label"])
        table["id"] = [f"{split}-{i}" for i in range(1, len(rows) + 1)]
        tables.write_table(tables.RAW / f"{split}.parquet", table, tables.TEXT_COLUMNS)
    names = [f"class {i}" for i in range(classes)]
    files.write_json(tables.SOURCE, {"dataset": "made", "labels": names})


def corpus_of(count: int, seed: int = 0) -> list[Row]:
    """Make documents of twenty words; no two are near-duplicates."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        label = int(rng.integers(3))
        said = rng.choice(TOPICS[label].split(), 8).tolist() + [f"w{rng.integers(500)}"] * 2
        rows.append((f"Number {i}", " ".join(rng.permutation(said)) + f" x{i} y{i}", label))
    return rows


def read(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(tables.CLEAN / f"{name}.parquet").to_pylist()
    return rows


def summary() -> dict[str, Any]:
    found: dict[str, Any] = files.read_json(tables.CLEAN / "summary.json")
    return found


def set_params(**changes: object) -> None:
    yaml = YAML()
    content = yaml.load(Path("params.yaml").read_text())
    for key, value in changes.items():
        section = content if key in content else content["clean"]
        section[key] = value
    with Path("params.yaml").open("w") as out:
        yaml.dump(content, out)


# Repair


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        ('Ford &lt;A HREF="http://x/?t=F.N target=/stocks"&gt;F.N&lt;/A&gt; fell', "Ford F.N fell"),
        ("in &lt;b&gt;...&lt;/b&gt;", "in ..."),
        ("cut &lt;A HREF=&quot;http://www.inv", "cut"),
        ("&amp;lt;i&amp;gt;q&amp;lt;/i&amp;gt; &amp;amp;amp; a", "q & a"),
        ("one<br>two<p>three</p>four", "one two three four"),
        ("<ul><li>one<li>two</ul>", "one two"),
        ("<b>R</b>euters", "Reuters"),
        ("a<script>alert('x')</script>b", "ab"),
        ("a <!-- no --> b", "a b"),
        ("schÃ¶n â€œqâ€\x9d", "schön “q”"),
        ("caf&eacute;&nbsp;&euro;5&#8217;s", "café €5’s"),
        ("a\x00b\x07 c\u202ed\u202c\ufeff", "ab cd"),
        ("&#8238;x &#x202e;", "x"),
        ("&am\x00p;lt;b>x&lt;/b>", "x"),
        ("  lines \r\n\tof Windows\r\n", "lines \n\tof Windows"),
        ("half \ud83d a pair <b>\ud83d</b>", "half a pair"),
    ],
)
def test_what_a_corpus_carries_from_its_way_is_repaired(text, repaired):
    assert repair(text) == repaired


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        ("a year #39;s work", "a year's work"),
        ("Street#39;s", "Street's"),
        ("said  quot;Hi quot; to S amp;P", 'said "Hi" to S&P'),
        ("fell by  #36;1.17 billion", "fell by $1.17 billion"),
        ("reaching \\$316 (\\$1) or\\$2", "reaching $316 ($1) or $2"),
        ("dwindling\\band of\\\\cynics", "dwindling band of cynics"),
        ("  lt;b gt;bold lt;/b gt;", "bold"),
        ("Chlo icirc; #233; #8217;", "Chloîé'"),
        ("  two\u00a0 spaces\r\n\tand lines ", "two spaces and lines"),
    ],
)
def test_ag_news_artifacts_are_undone_where_asked_for_alone(text, repaired):
    assert repair(text, ag_news_artifacts=True) == repaired
    assert repair(text) == text.replace("\r\n", "\n").strip()


# Right texts, each of which some repair has taken for an artifact or might.
RIGHT = {
    "code": r"""if (a < b && c > d) { return &part; } p = &phi; // \n is a line end
        List<Section> s; Map<A, B> m; Option<S> t; for (int i=0; i<n; ++i) x[i] <<= 2;
        printf("%d\t%s\n", i, "it\'s"); re.sub(r'\bfoo\b\\', '', s); color: #333; a[#39]
        C:\new\table\bin \\server\share ~/.local/bin $HOME ${PATH} `ls -l | wc` x = y   # aligned""",
    "math": r"""a<b>c, x < y > z, 1 < 2 > 0, if x <b and y> c, \alpha + \frac{1}{2} \neq \{∅\}, 10³ ≠ 103
        Ω (U+2126: Ω) Å K ½ x² ﬁ ℝ ∑ⁿ 5 µm ±3 % 90° 10×12 f′ 10\u202f000 €\u00a0""",
    "chat": r"""¯\_(ツ)_/¯ don\'t <3 :-\ >.< (╯°□°）╯︵ ┻━┻ lol;) AT&T R&D; Q&A; #1; amp; quot me <grin> <sigh>
        “curly” ‘quotes’ «guillemets» … – — naïve café cafe\u0301 u;n;i;q;u;e""",
    "products": '<MSFT.O> <KMRT.O> no. #50; won; RTX-4090/24GB M8×1.25 №5 item#7841;v2 SKU:&12;A 3/8" 5\'11"',
    "usage": "usage: tool <input> <source> [<label>] an unfinished <!-- comment, <script>of words, 5 <p",
    "chinese": "ＡＢＣ，全角标点：“引号”。\u3000段落开头！（例如）～￥１２３　漢字",
    "japanese": "ｶﾀｶﾅ カタカナ「ﾊﾝｶｸ」、ＮＴＴドコモ。㈱ ㍻ 神\ufa19 が か\u3099",
    "arabic": "السعر ١٢٣ \u200f(5 kg)\u200e لا إله ﷺ می\u200cخواهم \u061c5 \u2067ABC\u2069",
    "hebrew": "שָׁלוֹם עולם\u200f! \u200e100%\u200e יִ ש\u05c1",
    "indic": "नमस्ते क्\u200dष कि ನಮಸ್ಕಾರ ไทย 한국어 \u1112\u1161\u11ab Tiếng Việt Ελληνικά Привет",
    "emoji": "👩\u200d🚀 ❤\ufe0f 👨\u200d👩\u200d👧 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f 1\ufe0f\u20e3 👍🏽",
    "empty": "",
}


@pytest.mark.parametrize("kind", RIGHT)
def test_what_is_text_stays(kind):
    assert repair(RIGHT[kind].strip()) == RIGHT[kind].strip()


LINES = [line.strip() for text in RIGHT.values() for line in text.splitlines()]
WORDS = [word for line in LINES for word in line.split()]


@given(st.lists(st.sampled_from(LINES), max_size=4),
       st.sampled_from(["\n", " ", "\n\n    ", "\t", "\u3000"]))  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_right_texts_of_several_kinds_side_by_side_stay(lines, between):
    text = between.join(lines).strip()
    assert repair(text) == text


ARTIFACTS = st.text(alphabet="<>&;#lt/gtqubp!- \\$39amp\x00\u202eÃ©\r\n", max_size=60)


@given(st.text() | ARTIFACTS | st.lists(st.sampled_from(WORDS)).map(" ".join), st.booleans())
@settings(deadline=None, max_examples=300)
def test_a_repaired_text_needs_no_repair_and_has_no_control(text, ag_news):
    repaired = repair(text, ag_news)
    repaired.encode()  # no half of a surrogate pair
    controls = {*map(chr, range(9)), *map(chr, range(14, 28)), "\x7f", "\u202e", "\u202d", "\ufeff"}
    assert not set(repaired) & controls
    assert repaired == repaired.strip()
    if ag_news:
        assert "\\" not in repaired
        assert repaired == " ".join(repaired.split())
    assert repair(repaired, ag_news) == repaired


@pytest.mark.parametrize(
    "text",
    ["&amp;" * 200_000, "&" + "amp;" * 250_000, "<div>" * 100_000 + "x" + "</div>" * 100_000,
     "<a " * 300_000, "<!--" * 250_000, "<script>" * 100_000 + "</script>", "\\" * 1_000_000,
     "#39;" * 250_000, "Ã©" * 500_000, "\u0300" * 1_000_000, "<b x" + " " * 1_000_000],
    ids=lambda text: text[:8],
)  # fmt: skip
def test_a_megabyte_made_to_be_slow_is_not(text):
    start = time.process_time()
    repair(text, ag_news_artifacts=True)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("documents", "found"),
    [
        (["it #39;s", " quot;Hi quot;", "Bob#39;s"] + ["a text"] * 297, True),
        (["it #39;s", "Bob#39;s"] + ["a text"] * 40, False),  # two may be about it
        (["it #39;s", " quot;Hi quot;", "Bob#39;s"] + ["a text"] * 298, False),
        ([r"don\'t go to C:\new, it&#39;s &quot;\alpha&quot;"] * 300, False),
        ([*RIGHT.values()] * 10, False),
    ],
)
def test_ag_news_artifacts_are_known_by_entities_without_their_ampersand(documents, found):
    assert has_ag_news_artifacts(documents) == found


@pytest.mark.parametrize("artifacts", [True, False])
def test_a_corpus_is_repaired_by_its_evidence_and_what_was_done_is_recorded(workspace, artifacts):
    written, right = "the bank #39;s share\\price", r"from C:\new, don\'t" + "\n  go"
    rows = [
        *corpus_of(30),
        *[("", f"{written} {i}", 0) for i in range(3 * artifacts)],
        ("", right, 0),
    ]
    write_raw(rows, [("", written, 0), ("", right, 0)])
    clean.main()
    texts = [row["text"] for row in read("test")]
    assert texts == (
        ["the bank's share price", "from C: new, don 't go"] if artifacts else [written, right]
    )
    assert files.read_json(tables.TEXT_STEPS)["ag_news_artifacts"] is artifacts
    set_params(ag_news_artifacts=not artifacts)  # asked for by name
    clean.main()
    assert [row["text"] for row in read("test")] != texts
    assert files.read_json(tables.TEXT_STEPS)["ag_news_artifacts"] is not artifacts


def test_repairs_are_counted_with_what_they_did(workspace):
    write_raw([*corpus_of(30), ("A &amp; B", "it #39;s  &amp; so", 0)], [("", "x  y", 1)])
    set_params(ag_news_artifacts=True)
    clean.main()
    repairs = summary()["repairs"]
    assert list(repairs) == list(REPAIRS)
    counts = {kind: found["documents"] for kind, found in repairs.items() if found["documents"]}
    assert counts == {"entities": 1, "bare_entities": 1, "single_spaces": 2}
    assert repairs["entities"]["examples"] == [
        {"id": "train-31", "before": "A &amp; B", "after": "A & B"}
    ]
    assert read("test")[0]["text"] == "x y"


def test_the_articles_steps_are_options(workspace):
    text = 'The Bank\'s "profit" rose, and it is 4.5%! 😀 कि'
    rows = [*corpus_of(30), ("", text, 0)]
    done = {}
    for options in ({}, {"lowercase": True}, {"strip_punctuation": True},
                    {"remove_stop_words": True}):  # fmt: skip
        write_raw(rows, [("", text, 0)])
        set_params(repair=True, lowercase=False, strip_punctuation=False, remove_stop_words=False)
        set_params(**options)
        clean.main()
        done[(*options,)] = read("test")[0]["text"]
    assert done == {
        (): text,
        ("lowercase",): text.lower(),
        ("strip_punctuation",): "The Bank s profit rose and it is 4 5 कि",
        ("remove_stop_words",): 'Bank\'s "profit" rose, 4.5%! 😀 कि',
    }


def test_texts_as_released_are_still_compared_as_repaired(workspace):
    text = "The &lt;b&gt;bank&lt;/b&gt; #39;s profit  rose by &amp;quot;five percent&amp;quot; this year"
    written = 'The bank\'s profit rose by "five percent" this year'
    write_raw([*corpus_of(30), ("", text, 0)], [("", written, 0), ("", "some " + text, 1)])
    set_params(repair=False, ag_news_artifacts=True)
    clean.main()
    assert [row["reason"] for row in read("dropped")] == ["leak"]
    assert [row["text"] for row in read("test")] == [written, "some " + text]
    assert summary()["repairs"] == {}


# Duplicates


def test_leaks_go_from_train_and_the_test_set_stays(workspace):
    rows = corpus_of(40)
    title, text, label = rows[3]
    test = [(title, text + " indeed", 1 - label), ("", "&lt;b&gt;&lt;/b&gt;", 0), rows[5], rows[5]]
    write_raw(rows, test)
    clean.main()
    gone = [
        (row["id"], row["reason"], row["duplicate_of"], row["split"]) for row in read("dropped")
    ]
    assert gone == [("train-4", "leak", "test-1", "train"), ("train-6", "leak", "test-3", "train")]
    assert [row["id"] for row in read("test")] == ["test-1", "test-2", "test-3", "test-4"]
    assert [row["label"] for row in read("test")] == [label for _, _, label in test]
    assert summary()["empty_test_documents"] == 1
    assert summary()["leaks_with_another_label"] == 1


def test_the_copies_in_the_sample_corpus_are_found_and_nothing_else_goes(workspace):
    sample = REPOSITORY / "data/sample"
    (workspace / "data/sample").symlink_to(sample)
    download.main()
    clean.main()
    ids = {f"{s}.csv": tables.read_table(tables.RAW / f"{s}.parquet")["id"]
           for s in ("train", "test")}  # fmt: skip
    groups = {row["id"]: row["group"] for s in ("train", "validation") for row in read(s)}
    gone = {row["id"]: row["reason"] for row in read("dropped")}
    expected, together = {}, []
    for copy in pd.read_csv(sample / "known_duplicates.csv").itertuples():
        pair = [ids[copy.file][copy.row - 1], ids[copy.of_file][copy.of_row - 1]]
        if copy.kind == "exact":
            expected[max(pair)] = "duplicate"
        elif copy.kind == "two labels":
            expected |= dict.fromkeys(pair, "conflicting_labels")
        elif copy.kind == "leak":
            expected |= {name: "leak" for name in pair if name.startswith("train")}
        else:
            together.append(pair)
    assert gone == expected
    assert len(together) > 20
    for pair in together:
        assert len({groups[name] for name in pair}) == 1
    assert sum(count > 1 for count in Counter(groups.values()).values()) == len(together)


def test_near_duplicates_stay_in_one_group_or_go_by_option(workspace):
    rows = corpus_of(40)
    title, text, label = rows[3]
    near = [(title, f"{text} indeed", label), (title, f"{text} again", (label + 1) % 3)]
    write_raw(rows + near, corpus_of(3, seed=9))
    clean.main()
    group = {row["id"]: row["group"] for s in ("train", "validation") for row in read(s)}
    assert group["train-41"] == group["train-42"] == group["train-4"] == "train-4"
    assert group["train-5"] == "train-5"
    assert summary()["near_duplicates"] == {"groups": 1, "documents": 3, "largest": 3}
    assert summary()["two_labels"]["near_duplicates"][0]["id"] == [
        "train-4",
        "train-41",
        "train-42",
    ]
    set_params(drop_near_duplicates=True)
    clean.main()
    gone = [(row["id"], row["reason"], row["duplicate_of"]) for row in read("dropped")]
    assert gone == [(f"train-{i}", "near_duplicate", "train-4") for i in (41, 42)]


# A validation set that the corpus has


def write_validation(rows: list[Row], **metadata: str) -> None:
    table = pd.DataFrame(rows, columns=["title", "text", "label"]).assign(**metadata)
    table["id"] = [f"validation-{i}" for i in range(1, len(rows) + 1)]
    columns = tables.with_metadata(tables.TEXT_COLUMNS, table)
    tables.write_table(tables.RAW / "validation.parquet", table, columns)


def test_a_given_validation_set_is_used_and_neither_train_nor_test_is_in_it(workspace):
    rows, held_out, test = corpus_of(40), corpus_of(12, seed=5), corpus_of(9, seed=9)
    title, text, label = held_out[3]
    train = [*rows, (title, f"{text} indeed", label), test[2]]
    title, text, label = test[4]
    write_raw(train, test)
    leaked, empty = (title, f"{text} indeed", 1 - label), ("", "<b></b>", 0)
    write_validation([*held_out, leaked, empty, held_out[0]])
    clean.main()
    gone = [
        (row["id"], row["split"], row["reason"], row["duplicate_of"]) for row in read("dropped")
    ]
    assert gone == [
        ("train-41", "train", "in_validation", "validation-4"),
        ("train-42", "train", "leak", "test-3"),
        ("validation-13", "validation", "leak", "test-5"),
        ("validation-14", "validation", "empty", ""),
    ]
    assert len(read("train")) == 40, "nothing else is held out"
    assert {row["id"] for row in read("validation")} == {
        f"validation-{i}" for i in range(1, 16)
    } - {"validation-13", "validation-14"}
    assert summary()["rows"] == {
        "train": {"in": 42, "out": 40, "dropped": 2},
        "validation": {"in": 15, "out": 13, "dropped": 2},
        "test": {"in": 9, "out": 9, "dropped": 0},
    }
    assert summary()["dropped"] == {"in_validation": 1, "leak": 1}
    assert summary()["dropped_from_validation"] == {"empty": 1, "leak": 1}


def test_a_train_document_is_not_dropped_for_a_validation_document_that_is_dropped(workspace):
    # of three sentences, neighbours are near-duplicates, and the outer two are not
    words_of = " ".join(f"word{i}" for i in range(40))
    test, held_out, train = words_of, f"{words_of} a b c d e", f"{words_of} a b c d e f g h i j k l"
    write_raw([*corpus_of(40), ("", train, 0)], [("", test, 0)])
    write_validation([*corpus_of(12, seed=5), ("", held_out, 0)])
    clean.main()
    assert [(row["id"], row["reason"]) for row in read("dropped")] == [("validation-13", "leak")]


def test_a_validation_set_of_which_nothing_is_left_is_refused(workspace):
    write_raw(corpus_of(40), corpus_of(9, seed=9))
    write_validation(corpus_of(3, seed=9))
    with pytest.raises(UserError, match=r"No validation document is left.*'leak': 3.*_share"):
        clean.main()
    assert not tables.CLEAN.exists()


@given(train=st.lists(st.integers(0, 9), min_size=8, max_size=30),
       held_out=st.lists(st.integers(0, 14), min_size=1, max_size=8))  # fmt: skip
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
def test_of_train_and_validation_rows_in_are_rows_out_and_rows_dropped(workspace, train, held_out):
    known = corpus_of(15, seed=3)
    write_raw([*corpus_of(9), *(known[i] for i in train)], [known[i] for i in (1, 2)])
    write_validation([*corpus_of(2, seed=4), *(known[i] for i in held_out)])
    clean.main()
    gone = read("dropped")
    for split, count in (("train", 9 + len(train)), ("validation", 2 + len(held_out))):
        ids = [row["id"] for row in read(split)] + [r["id"] for r in gone if r["split"] == split]
        assert sorted(ids) == sorted(f"{split}-{i + 1}" for i in range(count))
    texts = {s: {row["text"] for row in read(s)} for s in tables.SPLITS}
    assert not texts["train"] & texts["validation"]
    assert not (texts["train"] | texts["validation"]) & texts["test"]


def test_metadata_travels_with_the_documents(workspace):
    write_raw(corpus_of(40), corpus_of(9, seed=9))
    write_validation([*corpus_of(12, seed=5), ("", "", 0)], **{"metadata.source": "here"})
    for split in ("train", "test"):
        path = tables.RAW / f"{split}.parquet"
        table = tables.read_table(path)
        table["metadata.source"] = table["id"]
        tables.write_table(path, table, tables.with_metadata(tables.TEXT_COLUMNS, table))
    clean.main()
    for split in ("train", "test"):
        assert all(row["metadata.source"] == row["id"] for row in read(split))
    assert {row["metadata.source"] for row in read("validation") + read("dropped")} == {"here"}


# What is said first


def test_many_copies_are_told_in_the_first_lines(workspace, capsys):
    rows = corpus_of(40)
    for copies, told in ((rows[:5], False), ([*rows, *rows], True)):
        write_raw([*rows, *copies], corpus_of(5, seed=9))
        clean.main()
        first = " ".join(capsys.readouterr().out.split("repairing")[0].split())
        assert ("many copies: only 45 different texts among 125 documents" in first) == told
        assert "many copies" in first or not told


def test_texts_with_nothing_to_classify_are_counted_and_kept(workspace, capsys):
    write_raw(
        [*corpus_of(40), ("", "?!", 0), ("", "a", 1), ("", "<br>", 1)],
        [("", "-", 0), ("", "ok", 0)],
    )
    clean.main()
    found = summary()["nearly_empty"]
    assert found["train"] + found["validation"] == 2
    assert found["test"] == 1
    assert summary()["dropped"] == {"empty": 1}
    assert f"kept: {found['train']} in train" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("text", "empty"),
    [("", True), (" _-!", True), ("a", True), ("7.", True), ("好", True), ("ok", False), ("a 1", False),
     ("很好", False), ("👍👍", False), ("не", False)],
)  # fmt: skip
def test_a_text_of_two_letters_digits_or_emoji_is_not_nearly_empty(text, empty):
    assert is_nearly_empty(text) == empty


# Corrections


def correct(rows: list[tuple[str, str, str, str]]) -> None:
    header = ",".join(corrections.COLUMNS)
    Path("data/corrections.csv").write_text(
        "\n".join([header, *(f"made,{n},{sha},{old},{new}," for n, sha, old, new in rows)]) + "\n"
    )


def test_a_correction_changes_a_label_before_anything_is_split_or_dropped(workspace):
    rows = corpus_of(40)
    title, text, label = rows[0]
    other = (label + 1) % 3
    rows.append((title, text, other))
    write_raw(rows, corpus_of(3, seed=9))
    raw = tables.read_table(tables.RAW / "train.parquet")
    clean.main()
    assert {r["id"]: r["reason"] for r in read("dropped")} == {
        "train-1": "conflicting_labels",
        "train-41": "conflicting_labels",
    }
    print_1, *_, print_41 = corrections.fingerprints(raw)
    correct([("train-41", print_41, f"class {other}", f"class {other}")])  # a person looked
    clean.main()
    assert [(r["id"], r["reason"]) for r in read("dropped")] == [("train-1", "other_label")]
    correct([("train-1", print_1, f"class {label}", f"class {other}")])
    clean.main()
    assert [(r["id"], r["reason"]) for r in read("dropped")] == [("train-41", "duplicate")]
    kept = {r["id"]: r["label"] for s in ("train", "validation") for r in read(s)}
    assert kept["train-1"] == other
    assert summary()["corrections"] == {"given": 1, "changed_a_label": 1}


def test_corrections_for_other_data_stop_before_anything_is_written(workspace):
    write_raw(corpus_of(40), corpus_of(3, seed=9))
    correct([("train-1", "0" * 16, "class 0", "class 1")])
    with pytest.raises(UserError, match="the text of train-1 has changed"):
        clean.main()
    assert not tables.CLEAN.exists()


def test_corrections_of_another_dataset_are_passed_over_with_a_word(workspace, capsys):
    write_raw(corpus_of(40), corpus_of(3, seed=9))
    clean.main()
    before = {path.name: path.read_bytes() for path in tables.CLEAN.iterdir()}
    path = Path("data/corrections.csv")
    path.write_text(path.read_text() + f"another,train-1,{'0' * 16},Ham,Spam,\n")
    capsys.readouterr()
    clean.main()
    said = " ".join(capsys.readouterr().out.split())
    assert "ignored 1 rows about other datasets (another)" in said
    assert {path.name: path.read_bytes() for path in tables.CLEAN.iterdir()} == before


# The split


def test_validation_takes_its_share_of_each_class_in_whole_groups(workspace):
    rows = corpus_of(600)
    rows += [(title, f"{text} indeed", label) for title, text, label in rows[:200]]
    write_raw(rows, corpus_of(3, seed=9))
    clean.main()
    train, validation = read("train"), read("validation")
    assert not {r["group"] for r in train} & {r["group"] for r in validation}
    for label in range(3):  # 200 groups each, of which a tenth is 20, give or take 4
        here = sum(r["label"] == label for r in validation)
        assert here == pytest.approx(sum(row[2] == label for row in rows) / 10, abs=16)
    for table in (train, validation):
        assert all(a["id"] < b["id"] for a, b in pairwise(table))


LABELS = st.lists(st.integers(0, 3), min_size=8, max_size=80)


def sides(table: pd.DataFrame, share: float) -> dict[str, bool]:
    return dict(zip(table["id"], choose_validation(table, share, 42), strict=True))


@given(labels=LABELS, at=st.integers(0, 7), label=st.integers(0, 3), removed=st.booleans(),
       share=st.sampled_from([0.05, 0.1, 0.3, 0.5]))  # fmt: skip
@settings(deadline=None)
def test_a_changed_document_moves_at_most_one_other_of_each_class_it_concerns(
    labels, at, label, removed, share
):
    ids = [f"train-{i}" for i in range(len(labels))]
    table = pd.DataFrame({"id": ids, "group": ids, "label": [0, 0, 1, 1, *labels[4:]]})
    changed = table.drop(index=at) if removed else table.assign(
        label=table["label"].where(table["id"] != ids[at], label))  # fmt: skip
    before, after = sides(table, share), sides(changed, share)
    moved = table[[i in after and i != ids[at] and before[i] != after[i] for i in ids]]
    concerned = {table["label"][at], *([] if removed else [label])}
    assert set(moved["label"]) <= concerned
    assert not moved["label"].duplicated().any()


@given(labels=LABELS, share=st.sampled_from([0.01, 0.1, 0.5]), seed=st.integers(0, 9))
@settings(deadline=None)
def test_a_class_of_two_groups_or_more_has_documents_on_both_sides(labels, share, seed):
    table = pd.DataFrame({"group": [f"g{i}" for i in range(len(labels))], "label": labels})
    for at in (0, 4):  # so many groups are two documents
        documents = pd.concat([table, table[:at]], ignore_index=True)
        if table["label"].duplicated().any():
            held_out = choose_validation(documents, share, seed)
            for label, count in table["label"].value_counts().items():
                here = documents["label"] == label
                assert held_out[here].any() == (count > 1), "validation"
                assert not held_out[here].all(), "train"


@given(groups=st.lists(st.integers(0, 30), min_size=8, max_size=80), at=st.integers(0, 7))
@settings(deadline=None)
def test_with_groups_too_no_document_of_an_unconcerned_class_moves(groups, at):
    table = pd.DataFrame({"id": [f"train-{i}" for i in range(len(groups))], "group": groups})
    table["label"] = table["group"] % 3  # each group of one class
    table["group"] = table["group"].map("train-{}".format)
    try:
        before = sides(table, 0.2)
        after = sides(table.drop(index=at), 0.2)
    except UserError:
        return  # nothing but single groups
    others = table["label"] != table["label"][at]
    assert all(before[i] == after[i] for i in table["id"][others])


BASE = [(("ham", "spam", "eggs")[label], title, text) for title, text, label in corpus_of(150)]
BASE += [("ham", title, f"{text} indeed") for _, title, text in BASE[:20]]  # near-duplicates
BASE += [BASE[3], ("eggs", *BASE[30][1:]), *BASE[40:42]]  # copies, one with another label perhaps


def built(rows: list[tuple[str, str, str]]) -> tuple[dict[str, str], dict[str, bytes]]:
    """Download and clean a file of ``rows``; return each id's side, and all bytes of data/clean."""
    with Path("rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("label", "title", "text"), *rows])
    download.main()
    clean.main()
    sides = {row["id"]: name for name in ("train", "validation", "test", "dropped")
             for row in read(name)}  # fmt: skip
    return sides, {path.name: path.read_bytes() for path in sorted(tables.CLEAN.iterdir())}


@pytest.fixture
def base(workspace: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    """One file without a test set of its own, and two labels that a person corrected."""
    yaml = YAML()
    content = yaml.load(Path("params.yaml").read_text())
    content["clean"]["validation_share"] = 0.2
    with Path("params.yaml").open("w") as out:
        yaml.dump(content, out)
    corpus_entry.choose("custom", "rows.csv")
    built(BASE)
    raw = tables.read_table(tables.RAW / "train.parquet")
    raw = raw[raw["title"].isin([title for _, title, _ in BASE[44:70]])].head(
        2
    )  # none may go below
    names = tables.label_names()
    rows = [
        ["custom", name, sha, names[label], names[label - 1], ""]
        for name, sha, label in zip(
            raw["id"], corrections.fingerprints(raw), raw["label"], strict=True
        )
    ]
    corrections.CORRECTIONS.write_text(corrections.as_csv(sorted(rows)))
    before = built(BASE)
    assert set(before[0].values()) == {"train", "validation", "test", "dropped"}
    assert summary()["corrections"] == {"given": 2, "changed_a_label": 2}
    return before


@given(st.permutations(range(len(BASE))))
@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
def test_the_order_of_the_rows_changes_no_byte(base, order):
    assert built([BASE[i] for i in order]) == base


# Rows 70 to 149 stand once and have no near-duplicate: they may go without concerning others.
@given(added=st.lists(st.tuples(st.integers(0, len(BASE)), st.sampled_from(["ham", "spam", "eggs"]),
                                st.text("abcdefgh ", min_size=20, max_size=40)), max_size=15),
       removed=st.sets(st.integers(70, 149), max_size=40))  # fmt: skip
@example(added=[(0, "ham", "a new first row")], removed=set())
@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
def test_rows_that_come_and_go_concern_no_other_document(base, added, removed):
    rows: list[tuple[str, str, str] | None] = [None if i in removed else row
                                               for i, row in enumerate(BASE)]  # fmt: skip
    for number, (at, label, text) in enumerate(added):
        rows.insert(at, (label, f"new {number}", text))
    after, _ = built([row for row in rows if row])
    before = base[0]
    assert len(set(before) - set(after)) == len(removed)
    assert {name: side for name, side in after.items() if name in before} == {
        name: side for name, side in before.items() if name in after
    }
    assert summary()["corrections"] == {"given": 2, "changed_a_label": 2}


def test_the_seed_decides_the_split_and_nothing_else_does(workspace):
    write_raw(corpus_of(200), corpus_of(3, seed=9))
    done = []
    for seed, hash_seed in ((1, "1"), (1, "2"), (2, "1")):
        set_params(seed=seed)
        command = ["env", f"PYTHONHASHSEED={hash_seed}", sys.executable, "-m", "stages.clean"]
        subprocess.run(command, check=True, capture_output=True)
        done.append({p.name: p.read_bytes() for p in tables.CLEAN.iterdir()})
    assert done[0] == done[1]
    assert done[0]["validation.parquet"] != done[2]["validation.parquet"]
    assert done[0]["test.parquet"] == done[2]["test.parquet"]


def test_a_class_of_one_document_stays_in_training_and_is_named(workspace, capsys):
    rows = [(title, text, min(label, 1)) for title, text, label in corpus_of(40)]
    write_raw([*rows, ("", "the only one", 2)], [("", "a test", 0)])
    clean.main()
    assert summary()["classes"]["class 2"] == {"train": 1, "validation": 0, "test": 0}
    assert "no document of class 2 in validation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([("", "one", 0), ("", "two", 1)], "No validation set can be split off 2 .*Add documents"),
        ([("", "one", 0), ("", "two", 0)], "2 of 2 training documents are left, of 1 class"),
        ([("", " ", 0), ("", "<b></b>", 1)], "0 of 2 .*dropped: {'empty': 2}"),
        ([("", "same", 0), ("", "Same", 1)], "0 of 2 .*'conflicting_labels': 2"),
    ],
)
def test_too_little_to_split_says_so_and_writes_nothing(workspace, train, message):
    write_raw(train, [("", "a test", 0)])
    with pytest.raises(UserError, match=message):
        clean.main()
    assert not tables.CLEAN.exists()


def test_a_missing_or_damaged_input_says_what_to_do(workspace):
    with pytest.raises(UserError, match=r"data/raw/train\.parquet is missing. `dvc repro`"):
        clean.main()
    write_raw(corpus_of(40), corpus_of(3))
    path = tables.RAW / "train.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"data/raw/train\.parquet is damaged"):
        clean.main()


@pytest.mark.parametrize("stage", ["download", "clean"])
def test_a_disk_that_fills_up_leaves_the_old_output_whole(workspace, stage):
    (workspace / "data/sample").symlink_to(REPOSITORY / "data/sample")
    download.main()
    clean.main()
    folder = {"download": tables.RAW, "clean": tables.CLEAN}[stage]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    limit = (
        max(map(len, before.values())) // 2
    )  # bytes a file may have: a write stops in its middle
    program = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        f"from stages import {stage}; {stage}.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "File too large" in done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not list(folder.parent.glob(".*.part"))


# Nothing is lost

TEXT = st.text(max_size=12) | st.sampled_from(
    ["the same words here", "The same words, here", "the same words there", " ", "&nbsp;", "\x00"]
)
ROW = st.tuples(st.sampled_from(["", "T"]), TEXT, st.integers(0, 2))


@given(train=st.lists(ROW, min_size=1, max_size=25), test=st.lists(ROW, min_size=1, max_size=5),
       share=st.sampled_from([0.01, 0.1, 0.5]), near=st.booleans())  # fmt: skip
@settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_rows_in_are_rows_out_and_rows_dropped_with_a_reason(workspace, train, test, share, near):
    train = [(a.encode(errors="replace").decode(), b.encode(errors="replace").decode(), c)
             for a, b, c in train]  # fmt: skip
    test = [(a, b.encode(errors="replace").decode(), c) for a, b, c in test]
    write_raw(train, test)
    set_params(validation_share=share, drop_near_duplicates=near)
    try:
        clean.main()
    except UserError as error:
        assert "training documents" in str(error)  # too little is left
        return
    kept = [row for split in ("train", "validation") for row in read(split)]
    gone = read("dropped")
    assert sorted(r["id"] for r in kept + gone) == sorted(
        f"train-{i + 1}" for i in range(len(train))
    )
    assert [r["id"] for r in read("test")] == [f"test-{i + 1}" for i in range(len(test))]
    counts = summary()["rows"]["train"]
    assert counts == {"in": len(train), "out": len(kept), "dropped": len(gone)}
    assert sum(summary()["dropped"].values()) == len(gone)
    known = {r["id"] for r in kept + gone + read("test")}
    for row in gone:
        assert row["reason"] in {"empty", "leak", "duplicate", "other_label",
                                 "conflicting_labels", "near_duplicate"}  # fmt: skip
        assert (row["duplicate_of"] == "") == (row["reason"] == "empty")
        assert row["duplicate_of"] in known | {""}
    texts = [tables.full_text(pd.DataFrame([row]))[0] for row in kept]
    assert all(texts)
    assert len({text.casefold() for text in texts}) == len(texts)
    tests = {tuple(words(text)) for text in tables.full_text(pd.DataFrame(read("test")))}
    assert not {tuple(words(text)) for text in texts} & tests
    groups = [{row["group"] for row in read(split)} for split in ("train", "validation")]
    assert not groups[0] & groups[1]
    assert all(groups)
    ids = {row["id"] for row in kept}
    assert groups[0] | groups[1] <= ids
    assert json.loads((tables.CLEAN / "summary.json").read_text())["dataset"] == "made"
