"""A sweep refuses what would go wrong later, before any trial. tests/pipeline/test_sweep.py runs one."""

import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.storages import RetryHeartbeatStaleTrialCallback

from cleantune.errors import UserError
from cleantune.params.space import read_space
from tests.conftest import REPOSITORY
from tools import sweep


def git(*words: str) -> None:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    subprocess.run(("git", *identity, *words), check=True, capture_output=True)


@pytest.fixture
def repository(workspace: Path) -> Path:
    """A git repository with params.yaml and a space file, both committed."""
    Path("space.yaml").write_bytes((REPOSITORY / "space.yaml").read_bytes())
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message=Begin")
    return workspace


def test_a_folder_that_dvc_cannot_run_in_is_refused(repository, monkeypatch):
    folder = repository / "größe"
    folder.mkdir()
    for name in ("params.yaml", "space.yaml"):
        (folder / name).write_bytes((repository / name).read_bytes())
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["sweep", "space.yaml"])
    with pytest.raises(UserError, match=r"letters beyond ASCII.*größe"):
        sweep.main()
    assert not (folder / ".sweeps").exists()


def test_uncommitted_changes_are_refused_by_name(repository, monkeypatch):
    Path("params.yaml").write_text(Path("params.yaml").read_text() + "# changed\n")
    monkeypatch.setattr(sys, "argv", ["sweep", "space.yaml"])
    with pytest.raises(UserError, match=r"Not committed: params\.yaml\..*`git commit -a`"):
        sweep.main()


def test_only_the_number_of_trials_may_change_once_a_sweep_has_begun(repository):
    path, study = Path("space.yaml"), optuna.create_study(direction="maximize")
    text = path.read_text()
    begun = read_space(path).model_copy(update={"trials": None})
    study.set_user_attr("space", repr(begun))
    path.write_text(text.replace("trials: 12", "trials: 13"))
    sweep.begin(read_space(path), path, study)
    path.write_text(text.replace("[16, 32, 64]", "[16, 32]"))
    with pytest.raises(UserError, match="has changed since the sweep sweep began"):
        sweep.begin(read_space(path), path, study)


def test_an_attempt_that_was_retried_counts_once_and_keeps_its_name():
    study = optuna.create_study(study_name="probe", direction="maximize")
    for state in (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL):
        trial = study.ask()
        study.tell(trial, 0.5 if state.name == "COMPLETE" else None, state)
    RetryHeartbeatStaleTrialCallback()(study, study.trials[1])
    again = study.ask()
    following = study.ask()
    names = {name: trial.number for name, trial in sweep.attempts(study).items()}
    assert names == {"probe-1": 0, "probe-2": again.number, "probe-3": following.number}
