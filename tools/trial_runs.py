"""Where the trials of a sweep run: clones of the repository, in ``.sweeps/NAME/worker-N``.

A trial is ``dvc exp run finetune`` in a clone that shares DVC's cache, and its experiment is fetched
into the repository when it has ended well. So nobody's working tree is touched while a sweep runs,
all trials run the code the sweep began with (uncommitted changes included), a killed trial finds
its checkpoint again, and a clone can be thrown away. In the clones the figures of ``evaluate`` are
deleted: else ``dvc exp show`` would list the old model's as the trial's.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from cleantune import files
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.training import checkpoints, training_logs
from tools.search_space import JUDGED, Values

SWEEPS = Path(".sweeps")
BASE, SNAPSHOT = "sweep-base", "sweep-snapshot"  # tags in a clone: the commit, and what is changed
NOBODY = ("-c", "user.name=sweep", "-c", "user.email=sweep@localhost", "-c", "commit.gpgsign=false")


class Worker:
    """A clone in which trials run one after the other."""

    def __init__(self, sweep: Path, number: int) -> None:
        self.number = number
        self.path = sweep / f"worker-{number}"
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Make the clone if it is not there: the first of this repository, others of the first.

        Raises ``UserError`` outside a git and DVC repository with a commit.
        """
        if self.path.is_dir():
            return
        first = self.path.with_name("worker-1")
        with files.atomic_folder(self.path) as clone:
            if self.number == 1:
                git("clone", "--quiet", "--no-tags", ".", str(clone))
                git("checkout", "--quiet", "--detach", at=clone)
                _copy_changes(clone)
                shutil.rmtree(clone / "metrics", ignore_errors=True)
                git("tag", BASE, at=clone)
                git("add", "--all", at=clone)
                git(*NOBODY, "commit", "--quiet", "--no-verify", "--allow-empty", "--message=Snapshot", at=clone)  # fmt: skip
                git("tag", SNAPSHOT, at=clone)
                _share_cache(clone)
            else:
                git("clone", "--quiet", str(first), str(clone))
                shutil.copy2(first / ".dvc/config.local", clone / ".dvc/config.local")

    def start(self, name: str, values: Values, log: Path, environment: dict[str, str]) -> None:
        """Run the experiment ``name`` with ``values`` set, from the sweep's snapshot.

        What else runs here, left by a process that was killed, is stopped first.
        """
        while self.running():
            self.stop()
            time.sleep(1)
        self._reset()
        overrides = [word for key, value in values.items() for word in ("-S", f"{key}={_as_hydra(value)}")]  # fmt: skip
        command = ["dvc", "exp", "run", "--name", name, *overrides, JUDGED]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=self.path,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def running(self, name: str | None = None) -> bool:
        """Tell whether a trial (the one called so) runs here, though the sweep that began it be gone."""
        if self._process:
            if self._process.poll() is None:
                return True
            self._process = None
        found = self._processes(_is_dvc) + ([] if name else self._processes(_is_stage))
        return any(name is None or name in process.info["cmdline"] for process in found)

    def stop(self) -> None:
        """Ask the trial to end: a stage that trains writes a checkpoint first."""
        found = self._processes(_is_stage) or self._processes(_is_dvc)
        ids = {process.pid for process in found}
        for process in found:
            try:
                if process.ppid() not in ids:  # not torchrun's workers, which it ends itself
                    process.send_signal(signal.SIGTERM)
            except psutil.NoSuchProcess:
                continue

    def epochs(self) -> tuple[list[float], int]:
        """Return the validation macro-F1 of each epoch that has ended, and the number of all."""
        try:
            record = json.loads((self.path / training_logs.epochs_file(JUDGED)).read_text())
        except FileNotFoundError:
            return [], 0
        return [row["validation_macro_f1"] for row in record["ended"]], record["of"]

    def experiment(self, name: str) -> str | None:
        """Return the git reference of the experiment, None if it has not ended well."""
        refs = git("for-each-ref", "--format=%(refname)", "refs/exps", at=self.path).splitlines()
        return next((ref for ref in refs if ref.endswith(f"/{name}")), None)

    def deliver(self, reference: str) -> float:
        """Bring an experiment into the repository; return its validation macro-F1."""
        git("fetch", "--quiet", "--no-tags", str(self.path), f"{reference}:{reference}")
        figures = files.read_json(self.path / tables.FINETUNED / "validation.json")
        return float(figures["macro_f1"])

    def discard(self) -> None:
        """Remove the checkpoints of the trial that ran here last and is over.

        One that ended well can leave some, too: from before a kill, with another number of threads.
        """
        shutil.rmtree(self.path / checkpoints.ROOT, ignore_errors=True)

    def base(self) -> str:
        """Return the commit that the sweep began with; ``dvc exp show`` lists its trials there."""
        return git("rev-parse", BASE, at=self.path).strip()

    def _reset(self) -> None:
        """Return to the snapshot, and remove what a killed trial has left of DVC's and git's own."""
        shutil.rmtree(self.path / ".dvc/tmp", ignore_errors=True)
        (self.path / ".git/index.lock").unlink(missing_ok=True)
        (self.path / training_logs.epochs_file(JUDGED)).unlink(missing_ok=True)
        for ref in git("for-each-ref", "--format=%(refname)", "refs/exps", at=self.path).split():
            if ref.startswith(("refs/exps/exec/", "refs/exps/stash", "refs/exps/workspace")):
                git("update-ref", "-d", ref, at=self.path)
        git("checkout", "--quiet", "--force", "--detach", BASE, at=self.path)
        git("read-tree", "--reset", "-u", SNAPSHOT, at=self.path)
        git("reset", "--quiet", at=self.path)

    def _processes(self, wanted: Callable[[list[str]], bool]) -> list[psutil.Process]:
        """Return the processes that run in this clone and whose commands are wanted."""
        here = str(self.path.resolve())
        found = []
        for process in psutil.process_iter(["cwd", "cmdline"]):
            if process.info["cwd"] == here and wanted(process.info["cmdline"] or []):
                found.append(process)
        return found


def _is_dvc(command: list[str]) -> bool:
    return "exp" in command and JUDGED in command


def _is_stage(command: list[str]) -> bool:
    return any(word.startswith("stages.") for word in command)


def git(*arguments: str, at: Path = Path()) -> str:
    """Run git in a folder and return what it prints; ``UserError`` with its message if it fails."""
    return _command("git", *arguments, at=at)


def experiments() -> set[str]:
    """Return the names of all experiments in the repository."""
    refs = git("for-each-ref", "--format=%(refname)", "refs/exps").split()
    return {ref.rsplit("/", 1)[-1] for ref in refs}


def _command(*command: str, at: Path = Path()) -> str:
    try:
        done = subprocess.run(command, cwd=at, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise UserError(f"{command[0]} not found. `source .venv/bin/activate` first.") from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"`{' '.join(command)}` failed: {error.stderr.strip()}") from None
    return done.stdout


def _copy_changes(clone: Path) -> None:
    """Bring what is not committed into a clone: changed, deleted and new files."""
    changed = git("diff", "--name-only", "--no-renames", "-z", "HEAD")
    new = git("ls-files", "--others", "--exclude-standard", "-z")
    for name in (changed + new).split("\0")[:-1]:
        source, target = Path(name), clone / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
        else:
            target.unlink(missing_ok=True)


def _share_cache(clone: Path) -> None:
    """Let a clone use this repository's DVC cache, and its remotes."""
    settings = Path(".dvc/config.local")
    if settings.is_file():
        shutil.copy2(settings, clone / settings)
    cache = Path(_command("dvc", "cache", "dir").strip()).resolve()
    _command("dvc", "cache", "dir", "--local", str(cache), at=clone)


def _as_hydra(value: object) -> str:
    """Write a value as an override for ``dvc exp run -S``, whose grammar is Hydra's."""
    if isinstance(value, str):
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{quoted}'"
    return json.dumps(value)
