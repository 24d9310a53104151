"""Checkpoints: whole or not there, the newest undamaged one found, and a run's own only."""

import errno
import hashlib
import json
import shutil
from types import SimpleNamespace

import pytest

from cleantune import files
from cleantune.errors import UserError
from cleantune.training import checkpoints
from cleantune.training.checkpoints import Checkpoints
from tests import kills


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder):
    return Checkpoints("finetune", "abc")


def save(run, *steps, text="state"):
    for step in steps:
        with run.write(step) as part:
            (part / "model.bin").write_text(f"{text} {step}")


def save_best(run, step):
    with run.write_best(step) as part:
        (part / "weights").mkdir()
        (part / "weights/best.bin").write_text(f"best {step}")


def names(run):
    return sorted(path.name for path in run.folder.iterdir())


# ---- writing


def test_a_checkpoint_is_there_when_it_is_whole(run):
    assert (run.steps(), run.latest()) == ([], None)
    with run.write(7) as part:
        assert part.is_dir()
        assert list(part.iterdir()) == []
        (part / "sub").mkdir()
        (part / "sub/model.bin").write_text("state")
        assert run.steps() == []
    assert names(run) == ["step-7"]
    assert run.folder.parts == (".checkpoints", "finetune", "abc")
    assert run.latest() == run.path(7) == run.folder / "step-7"
    assert json.loads((run.path(7) / "files.json").read_text()) == {
        "sub/model.bin": hashlib.sha256(b"state").hexdigest()
    }


def test_what_breaks_while_one_is_written_leaves_the_earlier_ones(run):
    save(run, 1)
    with pytest.raises(ZeroDivisionError), run.write(2) as part:
        (part / "half").write_text("x")
        raise ZeroDivisionError
    assert run.steps() == [1]
    assert run.latest() == run.path(1)
    with run.write(2) as part:
        assert list(part.iterdir()) == [], "half of the last try is gone"
    assert names(run) == ["step-1", "step-2"]


def test_a_step_that_is_written_again_replaces_the_first(run):
    save(run, 3, text="old")
    save(run, 3, text="new")
    assert names(run) == ["step-3"]
    assert (run.path(3) / "model.bin").read_text() == "new 3"


def test_the_last_two_are_kept_by_number(run):
    save(run, 8, 9, 10, 100)
    assert run.steps() == [10, 100]
    assert names(run) == ["step-10", "step-100"]
    assert run.latest() == run.path(100)


def test_another_process_than_the_first_neither_clears_nor_seals(run, monkeypatch):
    save(run, 1)
    part = run.folder / ".step-2.part"
    part.mkdir()
    (part / "of-rank-0").write_text("x")
    monkeypatch.setenv("RANK", "1")
    with run.write(2) as yielded:
        assert yielded == part
        (part / "of-rank-1").write_text("x")
    assert names(run) == [".step-2.part", "step-1"]
    assert sorted(p.name for p in part.iterdir()) == ["of-rank-0", "of-rank-1"]
    assert run.latest() is None, "the first looks for all"
    run.discard()
    assert run.folder.is_dir()
    monkeypatch.setenv("RANK", "0")
    run.discard()
    assert not run.folder.exists()
    run.discard()


# ---- damage


def shorten(path):
    (path / "model.bin").write_text("stat")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (shorten, "model.bin has changed"),
        (lambda path: (path / "model.bin").unlink(), "No such file"),
        (lambda path: (path / "files.json").unlink(), "No such file"),
        (lambda path: (path / "files.json").write_text("{"), "Expecting"),
        (lambda path: (path / "files.json").write_bytes(b"\xff"), "utf-8"),
    ],
)
def test_a_damaged_one_is_passed_over_and_goes_with_the_next(run, capsys, damage, why):
    save(run, 1, 2)
    damage(run.path(2))
    assert run.latest() == run.path(1)
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("the checkpoint of step 2 is damaged (")
    assert said.endswith("); trying the one before")
    assert why in said
    assert names(run) == [".damaged-2", "step-1"]
    assert run.latest() == run.path(1)
    assert capsys.readouterr().out == "", "it is said once"
    save(run, 2)
    assert names(run) == ["step-1", "step-2"]


def test_where_all_are_damaged_there_is_none(run):
    save(run, 1, 2)
    (run.folder / ".damaged-2").mkdir()
    (run.folder / ".damaged-2/old").write_text("x")
    shorten(run.path(1))
    shorten(run.path(2))
    assert run.latest() is None
    assert names(run) == [".damaged-1", ".damaged-2"]


# ---- the best weights


def test_the_best_weights_stay_as_long_as_a_checkpoint_names_them(run):
    save_best(run, 2)
    save(run, 2)
    assert (run.best(2) / "weights/best.bin").read_text() == "best 2"
    assert run.best(2) == run.folder / "best-2"
    listing = json.loads((run.path(2) / "files.json").read_text())
    assert listing["../best-2/weights/best.bin"] == hashlib.sha256(b"best 2").hexdigest()
    save(run, 3)
    save_best(run, 4)
    assert names(run) == ["best-2", "best-4", "step-2", "step-3"]
    save(run, 4)
    assert names(run) == ["best-2", "best-4", "step-3", "step-4"]
    save(run, 5)
    assert names(run) == ["best-4", "step-4", "step-5"]
    listing = json.loads((run.path(5) / "files.json").read_text())
    assert set(listing) == {"model.bin", "../best-4/weights/best.bin"}


def test_a_run_that_goes_on_names_the_best_weights_it_had(run):
    save_best(run, 1)
    save(run, 1)
    again = Checkpoints("finetune", "abc")
    assert again.latest() == run.path(1)
    save(again, 2, 3)
    assert names(again) == ["best-1", "step-2", "step-3"]
    assert again.latest() == again.path(3)


def test_a_checkpoint_whose_best_weights_are_damaged_is_damaged(run, capsys):
    save(run, 1)
    save_best(run, 2)
    save(run, 2)
    (run.best(2) / "weights/best.bin").write_text("worst")
    assert run.latest() == run.path(1)
    assert "../best-2/weights/best.bin has changed" in capsys.readouterr().out
    save(run, 3)
    assert names(run) == ["step-1", "step-3"]


def test_best_weights_that_break_off_leave_the_earlier_ones(run):
    save_best(run, 1)
    with pytest.raises(ZeroDivisionError), run.write_best(2):
        raise ZeroDivisionError
    save(run, 2)
    assert names(run) == ["best-1", "step-2"]


# ---- a full disk

FULL = OSError(errno.ENOSPC, "No space")


@pytest.mark.parametrize(
    "error",
    [FULL, OSError(errno.EDQUOT, "quota"), RuntimeError("write failed: No space left on device")],
)
def test_a_full_disk_is_one_error_and_the_unfinished_part_goes(run, error):
    save(run, 4, 5)
    with pytest.raises(UserError) as said, run.write(6) as part:
        (part / "half").write_text("x")
        raise error
    assert str(said.value) == (
        "No space left on the disk of .checkpoints/finetune/abc for the checkpoint of step 6. The "
        "checkpoint of step 5 is kept: free some space, then the same command goes on from there."
    )
    assert said.value.__suppress_context__
    assert names(run) == ["step-4", "step-5"]


def test_a_full_disk_before_the_first_checkpoint(run):
    with pytest.raises(UserError) as said, run.write_best(6):
        raise FULL
    assert str(said.value) == (
        "No space left on the disk of .checkpoints/finetune/abc for the weights of step 6. "
        "There is no checkpoint yet: free some space, then start again."
    )


@pytest.mark.parametrize(
    ("error", "kind"), [(RuntimeError("failed"), RuntimeError), (OSError("?"), OSError)]
)
def test_where_the_library_does_not_say_why_the_free_space_does(run, monkeypatch, error, kind):
    asked = []
    free = 2**20 - 1

    def disk_usage(path):
        asked.append(path)
        return SimpleNamespace(free=free)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    with pytest.raises(UserError, match="No space left on the disk"), run.full_disk_error("it"):
        raise error
    assert all(path.exists() for path in asked), "of a folder that there is"
    with pytest.raises(ZeroDivisionError), run.full_disk_error("it"):
        raise ZeroDivisionError("no matter how full")
    free = 2**20
    with pytest.raises(kind), run.full_disk_error("it"):
        raise error


def test_other_errors_stay_what_they_are(run):
    with pytest.raises(PermissionError), run.write(1) as part:
        (part / "half").write_text("x")
        raise PermissionError(errno.EACCES, "no")
    assert names(run) == [".step-1.part"]


def test_syncing_takes_files_and_folders_and_leaves_none_open(folder):
    (folder / "a").write_text("x")
    for _ in range(3):
        checkpoints.sync(folder / "a")
        checkpoints.sync(folder)
    with pytest.raises(FileNotFoundError):
        checkpoints.sync(folder / "b")
    assert files.sha256(folder / "a") == hashlib.sha256(b"x").hexdigest()


def test_a_kill_while_a_step_is_written_again_leaves_a_whole_checkpoint(run, capsys):
    save(run, 2, 4)
    for _ in kills.at_each_change(lambda: save(run, 4, text="again")):
        latest = Checkpoints("finetune", "abc").latest()
        assert latest in (run.path(2), run.path(4))
        save(run, 4)
    assert "damaged" not in capsys.readouterr().out
    assert names(run) == ["step-2", "step-4"]
