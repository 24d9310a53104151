"""The count of earlier results on a test set, in a real git repository."""

import subprocess
from pathlib import Path

from cleantune.evaluation import earlier_results

ENTRY = "    - path: {}\n      hash: md5\n      md5: {}\n      size: 1\n"


def git(*arguments: str) -> None:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


def record(test_set: str, result: str | None) -> None:
    """Commit a dvc.lock."""
    entries = [("data/raw/train.parquet", "0"), ("data/raw/test.parquet", test_set)]
    entries += [("models/finetuned", f"{result}.dir")] if result else []
    entries += [("metrics/test.json", "of all alike")] if result else []
    Path("dvc.lock").write_text("".join(ENTRY.format(*entry) for entry in entries))
    git("add", "dvc.lock")
    git("commit", "--allow-empty", "-m", "x")


def test_each_model_measured_on_this_test_set_counts_once_wherever_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert earlier_results.count() is None, "no dvc.lock"
    git("init", "-b", "main")
    record("a", None)
    assert earlier_results.count() == 0
    for result in ("1", "2", "1"):
        record("a", result)
    record("another", "3")
    git("checkout", "-b", "side")
    record("a", "4")
    git("update-ref", "refs/exps/12/34/name", "HEAD")
    git("checkout", "main")
    git("branch", "-D", "side")
    assert earlier_results.count() == 1, "of the other test set"
    git("checkout", "HEAD~1")
    assert earlier_results.count() == 3


def test_without_git_nothing_is_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    Path("dvc.lock").write_text(ENTRY.format("data/raw/test.parquet", "a"))
    assert earlier_results.count() is None
    monkeypatch.setenv("PATH", "")
    assert earlier_results.count() is None
