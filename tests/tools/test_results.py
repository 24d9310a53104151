"""What tools.results keeps and renders, and what it says of a clone in which `dvc repro` has run."""

import json
import subprocess
from pathlib import Path

import pytest

from cleantune import files, machine
from tools import results

BASELINE = {"accuracy": 0.9, "macro_f1": 0.89, "mcnemar_p": 0.02}


@pytest.fixture
def measured(workspace: Path) -> Path:
    """A folder as evaluate leaves it."""
    files.write_json(Path("metrics/test.json"), {"n": 1200, "accuracy": 0.951, "macro_f1": 0.95})
    bounds = {"accuracy": [0.94, 0.962], "macro_f1": [0.939, 0.961]}
    files.write_json(Path("metrics/intervals.json"), bounds)
    others = {"rnn": BASELINE | {"macro_f1": 0.8}, "tfidf": BASELINE}
    files.write_json(Path("metrics/baselines.json"), others)
    files.write_json(Path("data/raw/source.json"), {"dataset": "news", "labels": ["a", "b"]})
    files.write_json(Path("data/labels/summary.json"), {"action": "keep"})
    files.write_json(Path("models/finetuned/summary.json"), {"base_model": "minilm"})
    return workspace


def test_a_kept_run_is_rendered_where_it_is_marked_and_nowhere_else(measured):
    results.keep("news", "dvc exp run -S dataset=news")
    text = "Before\n<!-- results: news -->\nold\n<!-- end of results -->\nafter 95.1 %\n"
    once = results.rendered(text)
    lines = once.splitlines()
    assert lines[0] == "Before" and lines[-1] == "after 95.1 %" and "old" not in lines
    assert "news, 1,200 test documents" in lines[2]
    assert "**95.0 %** (93.9 to 96.1) | **95.1 %** (94.0 to 96.2)" in lines[4]
    assert "minilm" in lines[4]
    assert [line.split(" | ")[0] for line in lines[5:7]] == [
        "| TF-IDF n-grams, logistic regression",
        "| RNN",
    ]
    assert "`dvc exp run -S dataset=news`" in once
    assert results.rendered(once) == once


def git(*arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True)


def test_it_explains_changed_results_where_nothing_else_was_changed(measured, capsys):
    Path("dvc.lock").write_text("schema: '2.0'\n")
    results.keep("sample", "dvc repro")
    kept = Path("docs/results/sample.json")
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"processor": "Some Xeon"}))
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "as it is")
    capsys.readouterr()

    results.note()
    assert capsys.readouterr().out == "", "nothing has changed"

    Path("dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    files.write_json(Path("metrics/test.json"), {"n": 1200, "accuracy": 0.952, "macro_f1": 0.951})
    results.note()
    said = " ".join(capsys.readouterr().out.split())
    assert "2 files" in said and "Some Xeon" in said and machine.processor() in said

    advice = said.rpartition(": ")[2].split()
    assert advice[:2] == ["git", "restore"]
    params = Path("params.yaml")
    before = params.read_text()
    params.write_text(before.replace("seed: 42", "seed: 43"))
    results.note()
    assert capsys.readouterr().out == "", "another seed explains itself"

    params.write_text(before)
    git(*advice[1:])
    results.note()
    assert capsys.readouterr().out == ""
