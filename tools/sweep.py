"""Search hyper-parameters: Optuna draws the values, ``dvc exp run --temp`` runs each trial.

python -m tools.sweep space.yaml     # begin, or go on where it was stopped or killed

The space file says what is varied and how (space.yaml is one, with comments). A trial runs the
pipeline up to ``finetune`` and is scored on validation: nothing is measured on the test set.

Trials run in a clone of the commit that the sweep began with. For some seconds ``--temp`` detaches
HEAD and changes params.yaml where it is called: a kill would leave the working tree like that.
"""

import argparse
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from cleantune import console
from cleantune.data import tables
from cleantune.errors import UserError
from tools.commands import DVC, command

with console.optional():
    import optuna
    from optuna.storages import RetryHeartbeatStaleTrialCallback as Retry
    from optuna.trial import FrozenTrial, TrialState

    import dvc.api  # isort: skip - takes a second, and is not needed to say that optuna is missing
    from cleantune.params.space import Space, in_words, read_space, rounded


def main() -> None:
    """Run the trials that are missing and name the best."""
    parser = argparse.ArgumentParser(prog="python -m tools.sweep", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("space", type=Path, help="the space file")
    path = parser.parse_args().space
    space = read_space(path)
    if not str(Path.cwd()).isascii():
        raise UserError(
            f"DVC's `exp run --temp`, which runs the trials, fails in a folder with letters beyond "
            f"ASCII in its path: {Path.cwd()}. Move or clone the repository, to ~/cleantune say."
        )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    folder = Path(".sweeps", space.name)
    folder.mkdir(parents=True, exist_ok=True)
    console.title("sweep", f"{space.method} over {', '.join(space.params)}")
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.say("waiting: this sweep runs already, or a trial of it that outlived a kill")
            fcntl.flock(lock, fcntl.LOCK_EX)
        study = optuna.create_study(
            storage=f"sqlite:///{folder}/study.db", study_name=space.name, direction="maximize",
            load_if_exists=True,
        )  # fmt: skip
        begin(space, path, study)
        search(space, study, folder, lock)
    report(study)


def begin(space: Space, path: Path, study: optuna.Study) -> None:
    """Note in a new study what its trials share; ``UserError`` if that has changed since."""
    identity = repr(space.model_copy(update={"trials": None}))
    begun = study.user_attrs.get("space")
    if begun == identity:
        return
    if begun:
        raise UserError(
            f"{path} has changed since the sweep {space.name} began, and only `trials` may. Undo "
            "the change, or write another `name` to begin another sweep."
        )
    if changed := command("git", "diff", "--name-only", "HEAD").split("\n")[:-1]:
        raise UserError(
            f"Not committed: {', '.join(changed)}. Trials run what is committed: `git commit -a`, or "
            "`git stash`, then the same command."
        )
    if untracked := command("git", "ls-files", "--others", "--exclude-standard").split("\n")[:-1]:
        console.say(f"not in git, so no trial sees it: {', '.join(untracked)}")
    names = command(*DVC, "exp", "list", "--all-commits", "--name-only").split()
    if taken := " ".join(name for name in names if name.rpartition("-")[0] == space.name):
        raise UserError(
            f"There are experiments {taken} already. Write another `name` into {path}, or remove "
            f"them: dvc exp remove {taken}"
        )
    study.set_user_attr("commit", command("git", "rev-parse", "HEAD").strip())
    study.set_user_attr("space", identity)


def search(space: Space, study: optuna.Study, folder: Path, lock: TextIO) -> None:
    """Run the trials that are missing, first those again that failed or were killed."""
    trials = study.get_trials(deepcopy=False)
    missing = space.trials - sum(trial.state == TrialState.COMPLETE for trial in trials)
    if missing <= 0:
        return
    commit = study.user_attrs["commit"]
    console.say(f"{missing} of {space.trials} trials to run, with the code of commit {commit[:7]}")
    retried = {number for trial in trials for number in Retry.retry_history(trial)}
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        if trial.state in (TrialState.RUNNING, TrialState.FAIL) and trial.number not in retried:
            Retry()(study, trial)
    clone = make_clone(commit, folder / "clone")
    for _ in range(missing):
        study.sampler = space.sampler(len(attempts(study)))
        number = study.ask(space.params).number
        name, trial = next(item for item in attempts(study).items() if item[1].number == number)
        console.say(f"{name}  {in_words(trial)}")
        score = None
        try:
            score = run(name, rounded(trial), clone, folder / f"{name}.log", lock)
            console.say(f"{name}  macro-F1 {score:.4f}")
        except UserError as error:
            console.say(f"{name}  failed\n  {error}")
        with suppress(RuntimeError):  # GridSampler's, after the last combination
            study.tell(number, score, TrialState.FAIL if score is None else None)
    shutil.rmtree(clone, ignore_errors=True)


def make_clone(commit: str, clone: Path) -> Path:
    """Clone the repository at a commit, in place of what a killed sweep left; share DVC's cache."""
    shutil.rmtree(clone, ignore_errors=True)
    command("git", "clone", "--quiet", "--shared", "--no-checkout", ".", str(clone))
    command("git", "checkout", "--quiet", "--detach", commit, at=clone)
    cache = str(Path(command(*DVC, "cache", "dir").strip()).resolve())
    command(*DVC, "cache", "dir", "--local", cache, at=clone)
    return clone


def run(name: str, overrides: dict[str, Any], clone: Path, log: Path, lock: TextIO) -> float:
    """Run a trial as the experiment ``name`` and return its score; ``UserError`` if it fails."""
    words = [f"--set-param={key}={json.dumps(value)}" for key, value in overrides.items()]
    with log.open("wb") as output:
        trial = subprocess.Popen(
            [*DVC, "exp", "run", "--temp", "--name", name, *words, "finetune"], cwd=clone,
            stdout=output, stderr=output, process_group=0,
            pass_fds=[lock.fileno()],  # outliving a killed sweep, it makes the next one wait
        )  # fmt: skip
    try:
        failed = trial.wait()
    finally:
        if trial.poll() is None:  # Ctrl-C or SIGTERM, which came to this process alone
            console.say(f"stopping {name}; the same command goes on")
            os.killpg(trial.pid, signal.SIGINT)
            trial.wait()
            sys.exit(130)
    if failed:
        text = log.read_text(errors="replace")
        lines = text.split("\nERROR: failed to reproduce")[0].splitlines()
        first = next((i for i, line in enumerate(lines) if line.startswith("error:")), -4)
        raise UserError("\n  ".join([*lines[first:], f"see {log}"]))
    command(*DVC, "exp", "push", "--force", "--no-cache", "origin", name, at=clone)
    scores = dvc.api.read(str(tables.FINETUNED / "validation.json"), str(clone), name)
    return float(json.loads(scores)["macro_f1"])


def report(study: optuna.Study) -> None:
    """Print all trials, best first, and the command that applies the best."""
    trials = attempts(study)
    done = {name: t.value for name, t in trials.items() if t.value is not None}
    order = sorted(trials, key=lambda name: done.get(name, -1), reverse=True)
    rows = [(x, f"{done[x]:.4f}" if x in done else "failed", in_words(trials[x])) for x in order]
    title = "Trials by macro-F1 on validation, best first"
    console.table(title, ("trial", "macro-F1", "values"), rows, prose=["values"])
    if failed := len(trials) - len(done):
        console.say(f"{failed} failed; the same command tries again what failed.")
    if not done:
        raise UserError("No trial has finished.")
    commit = study.user_attrs["commit"][:7]
    console.say(f"`dvc exp show --rev {commit} --only-changed` lists them.")
    console.say("To apply the best, values and model (`dvc repro` then evaluates it):")
    console.say(f"dvc exp apply {order[0]}")


def attempts(study: optuna.Study) -> dict[str, FrozenTrial]:
    """Return the last attempt at each trial, by the name of its experiment."""
    trials = study.get_trials(deepcopy=False)
    last = {next(iter(Retry.retry_history(trial)), trial.number): trial for trial in trials}
    return {f"{study.study_name}-{i}": trial for i, trial in enumerate(last.values(), 1)}


if __name__ == "__main__":
    console.run(main)
