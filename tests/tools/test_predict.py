"""tools.predict as a user runs it, on a two-layer model in a folder that holds nothing else."""

import csv
import gzip
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from cleantune import files
from cleantune.data import tables
from cleantune.data.layouts import Flags
from cleantune.errors import UserError
from cleantune.evaluation import explanations, threshold
from cleantune.evaluation.threshold import Decision
from cleantune.models import classifier, weights
from cleantune.params.sections import TextSteps
from stages import clean, tokenize_text
from tests import evaluated, tiny
from tests.tools.calling import call
from tools import predict as tool
from tools import predict_input


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models/finetuned and nothing else."""
    made, alone = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("alone")
    evaluated.write(made)
    shutil.copytree(made / "models/finetuned", alone / "models/finetuned")
    return alone


@pytest.fixture
def predict(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    return lambda *arguments, stdin=b"": call(tool, arguments, monkeypatch, capsys, stdin)


def test_one_text_as_a_command_prints_its_class(project):
    command = [sys.executable, "-m", "tools.predict", "--json", "coach praised the season"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["predicted"] == "Sports"
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert answer["confidence"] == max(answer["probabilities"].values())


def test_each_line_of_standard_input_is_a_document(predict):
    status, out, _ = predict("--json", stdin=b"coach goal\n\ntreaty\x00 border\n")
    rows = [json.loads(line) for line in out.splitlines()]
    assert (status, [r["predicted"] for r in rows]) == (0, ["Sports", None, "World"])
    assert rows[1]["note"] == "the text is empty"


def test_the_table_shows_names_and_texts_as_they_are(predict):
    _, out, _ = predict("[red]coach[/red] \x1b[31m goal")
    assert "[red]coach[/red]" in out
    assert "\x1b" not in out
    assert "Sports" in out
    assert "Biz <b>" in out


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_file_comes_back_with_its_own_columns_and_the_answers(predict, project, ending):
    rows = [{"key": "7", "title": "Coach, \"again\"", "text": "season\n\u2028 goal"},
            {"key": "8", "title": "", "text": "bank shares"}]  # fmt: skip
    with (project / f"in.{ending}").open("w", newline="") as file:
        if ending == "csv":
            table = csv.DictWriter(file, ["key", "title", "text"])
            table.writeheader()
            table.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    assert predict("--file", f"in.{ending}", "--out", f"out.{ending}")[0] == 0
    found, _, _ = predict_input.read_file(project / f"out.{ending}", Flags())
    assert [{k: r[k] for k in rows[0]} for r in found] == rows
    assert [r["predicted"] for r in found] == ["Sports", evaluated.NAMES[2]]
    assert float(found[0]["confidence"]) > 0.4


@pytest.mark.parametrize(("name", "content"), [
    ("a.csv", b"key;body\n1;coach praised the season\n2;treaty of the border\n"),
    ("a.csv", b"text\ncoach goal match\ntreaty border election\n"),
    ("a.txt", b"coach, goal match\ntreaty border election\n"),
    ("a.csv", "id,text\n1,coach praised the season\n2,treaty of the border\n".encode("utf-16")),
    ("a.csv.gz", gzip.compress(b"text,label\ncoach praised the season,x\ntreaty of the border,y\n", mtime=0)),
    ("a.json", b'[{"data": {"text": "coach praised the season"}}, {"data": {"text": "treaty of the border"}}]'),
])  # fmt: skip
def test_a_file_is_read_in_every_form_that_add_takes(predict, project, name, content):
    (project / name).write_bytes(content)
    status, out, err = predict("--file", name, "--json")
    assert status == 0, err
    assert [json.loads(line)["predicted"] for line in out.splitlines()] == ["Sports", "World"]


def test_a_row_of_json_needs_a_text_but_no_title(predict, project):
    rows = [{"title": "border", "text": "treaty"}, {"text": "coach praised the season"}]
    (project / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, alone, _ = predict("--json", "coach praised the season")
    _, out, _ = predict("--file", "a.jsonl", "--json", "--title", "title")
    assert json.loads(out.splitlines()[1]) == json.loads(alone)
    (project / "a.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in [*rows, {"title": "x"}])
    )
    status, _, err = predict("--file", "a.jsonl")
    assert (status, "row 3 (line 3)" in err) == (1, True)


def test_the_column_can_be_named_and_is_else_the_one_of_the_corpus(predict, project):
    (project / "a.csv").write_text(
        "x,other,text\n1,coach goal,treaty border\n2,goal coach,border treaty\n"
    )
    _, out, err = predict("--file", "a.csv", "--json")
    assert (json.loads(out.splitlines()[0])["predicted"], "text: text" in err) == ("World", True)
    _, out, err = predict("--file", "a.csv", "--json", "--text", "other")
    assert (json.loads(out.splitlines()[0])["predicted"], "text: other" in err) == ("Sports", True)
    assert (
        "--text nothing: there is no such column"
        in predict("--file", "a.csv", "--text", "nothing")[2]
    )


def test_top_gives_the_most_probable_classes(predict, project):
    _, out, _ = predict("--json", "--top", "2", "coach praised the season")
    top = json.loads(out)["top"]
    assert top[0]["label"] == "Sports"
    assert len(top) == 2 and top[0]["probability"] > top[1]["probability"]
    assert "Sports" in predict("--top", "2", "coach praised the season")[1]
    (project / "a.csv").write_text("text\ncoach praised the season\n")
    assert predict("--file", "a.csv", "--out", "b.csv", "--top", "2")[0] == 0
    with (project / "b.csv").open() as file:
        row = next(csv.DictReader(file))
    assert row["top_1"] == "Sports" and float(row["p_top_1"]) > float(row["p_top_2"])


@pytest.fixture
def decided(project):
    """Write what was fitted for the model, with changes."""

    def write(**changes: Any) -> None:
        decision = Decision(documents=50, answer_accuracy=0.9, highest_accuracy=0.8)
        threshold.write(project / tables.DECISION, [
            (replace(decision, **changes), weights.of(project / tables.FINETUNED))])  # fmt: skip

    yield write
    (project / tables.DECISION).unlink(missing_ok=True)


def test_below_the_confidence_the_model_is_unsure_between_two_classes(predict, project, decided):
    _, out, _ = predict("--json", "coach praised the season", "the report of monday")
    other, sure = sorted(
        (json.loads(line) for line in out.splitlines()), key=lambda r: r["confidence"]
    )
    texts = [sure["text"], other["text"], ""]
    (project / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    decided(answer_above=(sure["confidence"] + other["confidence"]) / 2)
    _, out, _ = predict("--file", "a.jsonl", "--json", "--abstain")
    rows = [json.loads(line) for line in out.splitlines()]
    assert rows[0] == sure | {"unsure": False}
    two = sorted(other["probabilities"], key=lambda name: -other["probabilities"][name])[:2]
    assert rows[1] == other | {"predicted": None, "unsure": True, "likeliest": two}
    assert (rows[2]["predicted"], "unsure" in rows[2]) == (None, False), (
        "nothing to be unsure about"
    )
    assert f"unsure: {two[0]} or {two[1]}" in predict("--file", "a.jsonl", "--abstain")[1]
    _, _, err = predict("--file", "a.jsonl", "--abstain", "--out", "b.csv")
    assert "unsure 1" in err
    with (project / "b.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [(r["predicted"], r["unsure"], r["likeliest_1"], r["likeliest_2"]) for r in found] == [
        (sure["predicted"], "False", "", ""), ("", "True", *two), ("", "", "", "")]  # fmt: skip
    assert "unsure" not in predict("--file", "a.jsonl")[1], "it was not asked to abstain"


def test_without_a_confidence_to_go_by_abstaining_is_refused_with_a_way_out(predict, decided):
    assert "`dvc repro evaluate` fits it" in predict("--abstain", "a treaty")[2]
    decided()
    status, out, err = predict("--abstain", "a treaty")
    assert (status, out) == (1, "")
    assert "50 validation documents show of no confidence that 90.0%" in err
    assert "-S evaluate.answer_accuracy=0.8`" in err


@pytest.mark.parametrize(("name", "content", "says"), [
    ("a.csv", b"", "is empty"),
    ("a.csv", b"text\n", "holds no rows"),
    ("a.csv", b"key,text\n1,x y\n2\n", "row 2 (line 3)"),
    ("a.jsonl", b'{"text": "x y"}\n{"text": [3]}\n', "row 2 (line 2): column text holds a list"),
    ("a.jsonl", b'{"text": "x"}\n{"text": "y"}\n{oops\n', "row 3 (line 3): not JSON"),
    ("a.pdf", b"%PDF-1.5", "is a PDF"),
])  # fmt: skip
def test_a_bad_file_is_named_with_its_line(predict, project, name, content, says):
    (project / name).write_bytes(content)
    status, out, err = predict("--file", name, "--json")
    assert (status, out) == (1, "")
    assert says in err
    assert name in err


def test_a_missing_file_and_an_empty_text_stop_with_a_message(predict):
    assert "nowhere.csv does not exist" in predict("--file", "nowhere.csv")[2]
    status, _, err = predict("  ")
    assert (status, "the text is empty" in err) == (1, True)
    assert "Standard input is empty" in predict(stdin=b"")[2]


def test_a_missing_model_says_how_to_get_one(predict):
    status, _, err = predict("--model", "nowhere", "text")
    assert (status, "dvc repro" in err) == (1, True)


def test_a_megabyte_of_text_and_strange_letters_get_an_answer_with_a_note(predict):
    status, out, _ = predict(
        "--json", stdin=b"coach goal " * 100_000 + "\n経済学者 株式市場\n".encode()
    )
    long, foreign = (json.loads(line) for line in out.splitlines())
    assert status == 0
    assert long["note"] == "only the first 48 tokens were read"
    assert "unknown to the model" in foreign["note"]


def test_lone_surrogates_are_read_as_question_marks(project):
    model = classifier.load(project / "models/finetuned")
    assert model.encode(["goal \ud800"]) == model.encode(["goal ?"])


def test_explain_names_the_words_and_the_total(predict):
    status, out, _ = predict("--explain", "--json", "the coach praised the season")
    answer = json.loads(out)
    assert status == 0
    assert [w["word"] for w in answer["words"]] == ["the", "coach", "praised", "the", "season"]
    total = sum(w["attribution"] for w in answer["words"]) + answer["special"]
    assert total == pytest.approx(answer["difference"], abs=0.05)
    assert "coach" in predict("--explain", "the coach praised the season")[1]


def test_seeds_are_asked_together_and_one_alone_is_refused(project, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "model"
    shutil.copytree(project / "models/finetuned", folder)
    arguments = ["--model", str(folder), "--seeds", "--json", "the coach praised the season"]
    status, _, err = call(tool, arguments, monkeypatch, capsys)
    assert status == 1
    assert "holds the model of one seed" in err
    other = folder / classifier.SEEDS / "7"
    shutil.copytree(project / "models/finetuned", other)
    weights = load_file(other / "model.safetensors")
    weights["classifier.weight"][0] += 5  # a model that answers otherwise
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    shares = []
    for words in (
        arguments,
        ["--model", str(folder), *arguments[3:]],
        ["--model", str(other), *arguments[3:]],
    ):
        status, out, _ = call(tool, words, monkeypatch, capsys)
        assert status == 0
        shares.append(np.array([*json.loads(out)["probabilities"].values()]))
    together, one, two = shares
    assert np.abs(one - two).max() > 0.01
    np.testing.assert_allclose(together, (one + two) / 2, atol=1e-5)


def test_batches_sorted_by_length_change_no_answer_and_hardly_pad(project):
    model = classifier.load(project / "models/finetuned")
    rng = np.random.default_rng(0)
    tokens = [[2, *rng.integers(5, 300, n).tolist(), 3] for n in rng.integers(1, 40, 300)]
    together = model.logits(tokens)
    alone = np.concatenate([model.logits([t]) for t in tokens])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    lengths = [len(t) for t in tokens]
    computed = sum(len(b) * max(lengths[i] for i in b) for b in classifier.batches(lengths, 512))
    assert computed < 1.1 * sum(lengths)


def test_a_model_without_a_trained_head_is_refused(project, tmp_path):
    shutil.copytree(project / "models/finetuned", tmp_path / "base")
    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "base/model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, tmp_path / "base/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lack classifier\.weight"):
        classifier.load(tmp_path / "base")


def test_the_stored_tokens_are_what_the_tool_would_read(project, tmp_path):
    evaluated.write(tmp_path)
    stored = tables.read_table(tmp_path / tables.TOKENS / "test.parquet")
    texts = tables.full_text(tables.read_table(tmp_path / tables.CLEAN / "test.parquet"))
    read = classifier.load(tmp_path / "models/finetuned").encode(texts)
    assert [list(ids) for ids in stored["input_ids"]] == read


LONG = [
    "coach goal " * 60,
    "treaty border minister " * 2,
    "",
    "bank market " * 9 + "coach goal " * 9,
]


@pytest.mark.parametrize("method", ["head_tail", "chunks"])
def test_long_documents_are_read_as_in_training(project, tmp_path, monkeypatch, capsys, method):
    """By the way of evaluate, from the tokens that tokenize_text stores, and by the tool's own."""
    evaluated.shorten(project, tmp_path, method)
    model = classifier.load(tmp_path / "models/finetuned")
    stored, whole = tokenize_text.tokenize(model.tokenizer, LONG, model.reading)
    assert max(whole) > 2 * model.reading.limit
    logits = model.logits([list(ids) for ids in stored])
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    monkeypatch.chdir(tmp_path)
    texts = "\n".join(LONG).encode()
    capsys.readouterr()  # the stage's own lines
    status, out, _ = call(tool, ["--json"], monkeypatch, capsys, stdin=texts)
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    for row, shares in zip(rows, expected, strict=True):
        if row["text"]:
            assert list(row["probabilities"].values()) == pytest.approx(shares.tolist(), abs=1e-5)
    read = "the first 36 tokens" if method == "chunks" else "the first 4 and the last 8 tokens"
    assert f"only {read} were read" in rows[0]["note"]
    assert "read" not in rows[1].get("note", "")


def test_the_words_of_all_chunks_explain_an_answer(project, tmp_path):
    evaluated.shorten(project, tmp_path, "chunks")
    model = classifier.load(tmp_path / "models/finetuned")
    found = explanations.explain(model, LONG[3])
    total = sum(share for *_, share in found.spans) + found.special
    assert total == pytest.approx(found.difference, abs=0.02 * abs(found.difference) + 0.01)
    assert found.target == int(model.logits(model.encode([LONG[3]])).argmax())
    assert len(found.spans) == 30, "words of three chunks of 12 tokens, two of which are special"


# ---- texts as the training saw them


RAW = [("Profit at S amp;P", "It #39;s up &lt;b&gt;4.5%&lt;/b&gt;\\\\ the CafÃ© said"),
       ("", "ALL \x00 Caps,  two\u00a0 spaces"), ("Über", "<script>x</script>")]  # fmt: skip


@pytest.mark.parametrize("steps", [
    {}, {"lowercase": True}, {"strip_punctuation": True, "remove_stop_words": True}, {"repair": False},
    {"ag_news_artifacts": True}, {"ag_news_artifacts": "auto"},
])  # fmt: skip
def test_a_raw_document_is_read_as_clean_would_have_written_it(workspace, steps):
    rows = [(f"Title {i}", f"text w{i} x{i} y{i}", i % 2) for i in range(20)]
    for split, kept in (("train", rows), ("test", [(*row, 0) for row in RAW])):
        table = pd.DataFrame(kept, columns=["title", "text", "label"])
        table["id"] = [f"{split}-{i}" for i in range(len(kept))]
        tables.write_table(tables.RAW / f"{split}.parquet", table, tables.TEXT_COLUMNS)
    files.write_json(tables.SOURCE, {"dataset": "made", "labels": ["a", "b"]})
    tiny.set_params(workspace, **{f"clean__{name}": on for name, on in steps.items()})
    clean.main()
    written = tables.full_text(tables.read_table(tables.CLEAN / "test.parquet"))
    recorded = TextSteps.model_validate(files.read_json(tables.TEXT_STEPS))
    decided = {"ag_news_artifacts": False} | {k: on for k, on in steps.items() if on != "auto"}
    assert recorded == predict_input.PLAIN.model_copy(update=decided)
    raw = [{"title": title, "text": text} for title, text in RAW]
    assert [predict_input.as_trained(record, recorded) for record in raw] == written
    as_released = tables.full_text(pd.DataFrame(RAW, columns=["title", "text"]))
    assert (written == as_released) == (not recorded.repair)


def test_the_steps_come_from_the_models_folder_alone(project, monkeypatch, capsys, tmp_path):
    shutil.copytree(project / "models/finetuned", tmp_path / "model")
    summary = files.read_json(tmp_path / "model/summary.json")
    steps = tiny.STEPS | {"remove_stop_words": True}
    files.write_json(tmp_path / "model/summary.json", summary | {"clean": steps})
    monkeypatch.chdir(tmp_path)
    arguments = ["--model", "model", "--explain", "--json", "the coach &amp; the season"]
    status, out, _ = call(tool, arguments, monkeypatch, capsys)
    assert (status, json.loads(out)["read"]) == (0, "coach & season")
    files.write_json(tmp_path / "model/summary.json", summary | {"clean": {"lowercase": 3}})
    status, _, err = call(tool, ["--model", "model", "x"], monkeypatch, capsys)
    assert (status, "summary.json is damaged (clean:" in err) == (1, True)


def test_controls_alone_are_no_text(predict):
    status, _, err = predict("\x01\x02 \u202e")
    assert (status, "no readable characters in the text" in err) == (1, True)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer_config.json",
                                  "tokenizer.json", "summary.json"])  # fmt: skip
def test_a_half_written_model_is_named_and_how_to_get_it_back(
    project, tmp_path, monkeypatch, capsys, name
):
    shutil.copytree(project / "models/finetuned", tmp_path / "model")
    path = tmp_path / "model" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    status, out, err = call(tool, ["--model", str(tmp_path / "model"), "goal"], monkeypatch, capsys)
    assert (status, out) == (1, "")
    assert "damaged" in err
    assert "dvc repro" in err


# ---- int8


def test_int8_is_made_once_answers_alike_and_is_made_again_for_other_weights(
    project, tmp_path, monkeypatch, capsys
):
    shutil.copytree(project / "models", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    texts = ["coach goal match", "treaty border election", "bank shares profit of the quarter"]

    def ask(*arguments: str) -> tuple[list[dict[str, Any]], str]:
        _, out, err = call(tool, ["--json", *arguments], monkeypatch, capsys)
        return [json.loads(line) for line in out.splitlines()], err

    exact, _ = ask(*texts)
    first, making = ask("--int8", *texts)
    again, silent = ask("--int8", *texts)
    alone, _ = ask("--int8", texts[1])
    assert ("once" in making, "once" in silent) == (True, False)
    assert again == first
    assert alone == [first[1]]
    assert [a["predicted"] for a in first] == [a["predicted"] for a in exact]
    for one, other in zip(first, exact, strict=True):
        assert one["confidence"] == pytest.approx(other["confidence"], abs=0.05)

    from safetensors.torch import load_file, save_file

    weights = load_file("models/finetuned/model.safetensors")
    weights["classifier.weight"] *= -1
    save_file(weights, "models/finetuned/model.safetensors", metadata={"format": "pt"})
    (other,), making = ask("--int8", texts[0])
    assert "once" in making
    assert other["predicted"] != "Sports"

    graph = Path("models/int8/onnx/model_int8.onnx")
    graph.write_bytes(graph.read_bytes()[:1000])
    status, _, err = call(tool, ["--int8", texts[0]], monkeypatch, capsys)
    assert (status, "models/int8 is damaged or half-written" in err) == (1, True)
    assert call(tool, ["--int8", "--model", "nowhere", "x"], monkeypatch, capsys)[0] == 1
