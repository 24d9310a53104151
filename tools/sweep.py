"""Look for better hyper-parameters: many trials of fine-tuning, judged on validation alone.

python -m tools.sweep space.yaml               # begin, or go on where it was stopped or killed
python -m tools.sweep space.yaml --workers 2   # two trials at a time
python -m tools.sweep space.yaml --apply       # put the best trial's values into params.yaml

The space file says what is varied and how (space.yaml is one, with comments). A trial runs the
pipeline up to `finetune`: nothing is measured on the test set. Those that end well are DVC
experiments.
"""

import argparse
import fcntl
import io
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from cleantune import console, files
from cleantune.errors import UserError
from cleantune.params import read
from tools import search_space
from tools.search_space import Space, Values
from tools.trial_runs import SWEEPS, Worker, experiments, git

POLL = 0.2  # seconds between two looks at the running trials
MOST_COLUMNS = 4  # params with a column of their own in the table
SHOWN_LOG = 15  # lines of a failed trial


def main() -> None:
    """Run the trials that are left, or apply the best."""
    parser = argparse.ArgumentParser(prog="python -m tools.sweep", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("space", type=Path, help="the space file")
    parser.add_argument("--workers", type=int, default=1, help="trials at a time (default 1)")
    parser.add_argument("--apply", action="store_true", help="run nothing; apply the best trial")
    arguments = parser.parse_args()
    if arguments.workers < 1:
        raise UserError(f"--workers {arguments.workers}: at least 1 is needed.")
    space = search_space.read(arguments.space)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    sweep = Sweep(space, arguments.space)
    if arguments.apply and not sweep.folder.is_dir():
        raise UserError(f"There is no sweep {space.name} yet. Run it first, without --apply.")
    with sweep.alone():
        if arguments.apply:
            sweep.apply()
            return
        try:
            sweep.run(arguments.workers)
        except KeyboardInterrupt:  # all is said; console.run would say that it starts again
            sys.exit(130)


class Run:
    """A trial that is running."""

    def __init__(self, trial: Trial, worker: Worker) -> None:
        self.trial = trial
        self.worker = worker

    @property
    def pruned(self) -> bool:
        """Whether the trial was told to end; in the storage, so that a later sweep knows too."""
        return "pruned" in self.trial.user_attrs


class Sweep:
    """A sweep and its record in ``.sweeps/NAME/trials.db``."""

    def __init__(self, space: Space, path: Path) -> None:
        self.space = space
        self.path = path
        self.folder = SWEEPS / space.name
        self.running: list[Run] = []

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Open the record, for one process at a time.

        Raises ``UserError`` when another has it, or when the space has changed since it was begun.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel's: it ends with us
            except BlockingIOError:
                raise UserError(f"The sweep {self.space.name} is running already.") from None
            # SQLite: a kill in the middle of a write leaves the record as it was before.
            storage = optuna.storages.RDBStorage(f"sqlite:///{self.folder / 'trials.db'}")
            self.study = optuna.create_study(
                storage=storage,
                study_name=self.space.name,
                direction="maximize",
                pruner=self.space.pruner(),
                load_if_exists=True,
            )
            begun = self.study.user_attrs.get("space")
            if begun not in (None, self.space.identity):
                raise UserError(
                    f"{self.path} has changed since the sweep {self.space.name} began. Only `trials` "
                    f"may: undo the change, or begin another sweep by another `name`."
                )
            self.study.set_user_attr("space", self.space.identity)
            yield

    def check_settings(self) -> None:
        """Raise ``UserError`` when what all trials share has changed in params.yaml since they began."""
        shared = search_space.settings(self.space)
        before = self.study.user_attrs.get("settings", shared)
        if changed := sorted(k for k in {**before, **shared} if before.get(k) != shared.get(k)):
            raise UserError(
                f"params.yaml has changed since the sweep {self.space.name} began: "
                f"{', '.join(changed)}. Its trials hold for what was there: undo the change, begin "
                f"another sweep by another `name`, or remove {self.folder} to begin this one again."
            )
        self.study.set_user_attr("settings", shared)

    # ---- trials --------------------------------------------------------------------------------

    def name(self, number: int) -> str:
        """Return the name of a trial's experiment; Optuna counts from 0, people from 1."""
        return f"{self.space.name}-{number + 1}"

    def trials(self) -> list[FrozenTrial]:
        """Return the trials; one that was killed before it had values is none."""
        return [t for t in self.study.get_trials(deepcopy=False) if "values" in t.user_attrs]

    def run(self, workers: int) -> None:
        """Run what is left, ``workers`` trials at a time, and print the table of all.

        Raises ``UserError`` when a trial fails and none has ever ended well: then all would.
        """
        left = [t for t in self.trials() if t.state == TrialState.RUNNING]
        ended = len(self.trials()) - len(left)
        if left or ended < self.space.trials:
            self.check_settings()
        self._open(workers, ended, len(left))
        waiting = self._take_up([Trial(self.study, t._trial_id) for t in left])
        busy = {run.worker.number for run in self.running}
        free = [Worker(self.folder, n) for n in range(1, workers + 1) if n not in busy]
        for worker in free:
            worker.prepare()
        if "base" not in self.study.user_attrs:
            self.study.set_user_attr("base", Worker(self.folder, 1).base())
        try:
            while True:
                while free and (waiting or len(self.trials()) < self.space.trials):
                    worker = free.pop(0)
                    here = [t for t in waiting if t.user_attrs.get("worker") == worker.number]
                    trial = (here or waiting or [self._new()])[0]  # where its checkpoint is
                    waiting = [t for t in waiting if t is not trial]
                    self._start(trial, worker, workers)
                if not self.running:
                    break
                time.sleep(POLL)
                for run in self.running[:]:
                    self._look(run)
                    if not run.worker.running():
                        self.running.remove(run)
                        if run.worker.number <= workers:
                            free.append(run.worker)
                        self._end(run)
        finally:
            self._stop_all()
        self.table()

    def _take_up(self, trials: list[Trial]) -> list[Trial]:
        """Take up what a killed sweep has left running or ended; return what must run again."""
        again = []
        for trial in trials:
            name, number = self.name(trial.number), trial.user_attrs.get("worker")
            run = Run(trial, Worker(self.folder, number or 1))
            if number and run.worker.running(name):
                console.say(f"{name}  is still running")
                self.running.append(run)
            elif number and (run.pruned or run.worker.experiment(name)):
                self._end(run)
            else:
                again.append(trial)
        return again

    def _open(self, workers: int, ended: int, left: int) -> None:
        keys = ", ".join(self.space.space)
        console.title("sweep", f"{self.space.method} over {keys}")
        said = f"{self.space.trials} trials, {workers} at a time" if workers > 1 else f"{self.space.trials} trials"  # fmt: skip
        if ended or left:
            said += f"; {ended} ended before" + (f", {left} unfinished" if left else "")
        elif taken := experiments() & {self.name(n) for n in range(self.space.trials)}:
            raise UserError(
                f"There are experiments called {', '.join(sorted(taken))} already. Give the sweep "
                f"another `name` in {self.path}, or remove them: dvc exp remove {' '.join(sorted(taken))}"
            )
        console.say(said)

    def _new(self) -> Trial:
        """Draw the values of a new trial and note them."""
        self.study.sampler = self.space.sampler(len(self.study.get_trials(deepcopy=False)))
        trial = self.study.ask()
        trial.set_user_attr("values", self.space.draw(trial))
        # GridSampler, told of a trial's end, would stop an optimization loop that we haven't.
        self.study.sampler = optuna.samplers.RandomSampler()
        return trial

    def _start(self, trial: Trial, worker: Worker, workers: int) -> None:
        """Start a trial in a worker's clone."""
        name = self.name(trial.number)
        console.say(f"{name}  {_in_words(trial.user_attrs['values'])}")
        trial.set_user_attr("worker", worker.number)
        log = self.folder / f"{name}.log"
        worker.start(name, trial.user_attrs["values"], log, _share(worker.number, workers))
        self.running.append(Run(trial, worker))

    def _look(self, run: Run) -> None:
        """Note each epoch that has ended; end the trial if the pruner says so, and it is not over."""
        scores, epochs = run.worker.epochs()
        noted = self.study.get_trials(deepcopy=False)[run.trial.number].intermediate_values
        for epoch, score in enumerate(scores, 1):
            if epoch in noted:
                continue
            run.trial.report(score, epoch)
            if epoch < epochs and not run.pruned and run.trial.should_prune():
                run.trial.set_user_attr("pruned", epoch)
                run.worker.stop()

    def _end(self, run: Run) -> None:
        """Note how a trial ended, and say so."""
        name, number = self.name(run.trial.number), run.trial.number
        self._look(run)
        reference = run.worker.experiment(name)
        if reference:
            score = run.worker.deliver(reference)
            best = all(score > t.value for t in self._finished() if t.value is not None)
            self.study.tell(number, score)
            console.say(f"{name}  macro-F1 {score:.4f}" + (", the best so far" if best else ""))
        elif run.pruned:
            self.study.tell(number, state=TrialState.PRUNED)
            console.say(f"{name}  pruned after epoch {run.trial.user_attrs['pruned']}")
        elif not self._finished():
            log = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
            raise UserError(
                f"{name} failed, and none has ended well before. Its last lines "
                f"({self.folder / name}.log):\n" + "\n".join(f"  {x}" for x in log[-SHOWN_LOG:])
                + f"\nThe sweep keeps the code it began with: remove {self.folder} after a change."
            )  # fmt: skip
        else:
            self.study.tell(number, state=TrialState.FAIL)
            console.say(f"{name}  failed; see {self.folder / name}.log")
        run.worker.discard()

    def _finished(self) -> list[FrozenTrial]:
        return [t for t in self.trials() if t.state == TrialState.COMPLETE]

    def _stop_all(self) -> None:
        """Stop what runs, when the sweep is interrupted: the same command goes on from there."""
        if not self.running:
            return
        console.say(f"stopping {', '.join(self.name(run.trial.number) for run in self.running)}")
        for run in self.running:
            run.worker.stop()
        while any(run.worker.running() for run in self.running):
            time.sleep(POLL)
        console.say("the same command goes on from there")

    # ---- results -------------------------------------------------------------------------------

    def best(self) -> FrozenTrial | None:
        """Return the trial with the highest macro-F1, the earliest of several."""
        return max(self._finished(), key=lambda t: (t.value, -t.number), default=None)

    def table(self) -> None:
        """Print all trials, best first, and what to do next."""
        keys, best = list(self.space.space), self.best()
        headers = _short(keys) if len(keys) <= MOST_COLUMNS else ["params"]
        rows = []
        order = {TrialState.COMPLETE: 0, TrialState.PRUNED: 1}
        for trial in sorted(
            self.trials(), key=lambda t: (order.get(t.state, 2), -(t.value or 0), t.number)
        ):
            values = trial.user_attrs["values"]
            shown = [_short_value(values[key]) for key in keys]
            if len(keys) > MOST_COLUMNS:
                shown = [_in_words(values)]
            score = "" if trial.value is None else f"{trial.value:.4f}"
            rows.append((self.name(trial.number), *shown, score, _state(trial, best)))
        console.table(
            "Trials by macro-F1 on validation, best first",
            ("trial", *headers, "macro-F1", "state"),
            rows,
            prose=["params", "state"],
        )
        if best is None:
            console.say("No trial has ended well.")
            return
        base = self.study.user_attrs["base"]
        at = "" if git("rev-parse", "HEAD").strip() == base else f" --rev {base[:7]}"
        console.say(f"`dvc exp show{at}` lists those that finished.")
        console.say("To put the best one's values into params.yaml:")
        console.say(f"python -m tools.sweep {self.path} --apply")

    def apply(self) -> None:
        """Write the best trial's values into params.yaml; its comments and order stay.

        Raises ``UserError`` when no trial has ended well, or params.yaml says other things than when
        trials began, and then changes nothing.
        """
        best = self.best()
        if best is None:
            raise UserError(f"The sweep {self.space.name} has no finished trial. Run it first.")
        self.check_settings()
        values: Values = best.user_attrs["values"]
        text = rewritten(read.PARAMS_FILE.read_text(encoding="utf-8"), values)
        files.write_text(read.PARAMS_FILE, text)
        done = sum(t.state.is_finished() for t in self.trials())
        console.say(f"params.yaml: {_in_words(values)}")
        console.say(
            f"the values of {self.name(best.number)}, macro-F1 {best.value:.4f} on validation, "
            f"best of {done} trials"
        )
        console.say(
            "Next: `dvc repro` takes its model from the cache, if the code is what it was, and "
            "evaluates it once."
        )


def rewritten(text: str, values: Mapping[str, Any]) -> str:
    """Return params.yaml's text with other values; comments, order and other lines stay."""
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 4096
    yaml.representer.add_representer(
        type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    content = yaml.load(text)
    for key, value in values.items():
        *parents, last = key.split(".")
        section = content
        for parent in parents:
            section = section[parent]
        if isinstance(value, list):  # on the key's line, before its comment
            value = CommentedSeq(value)
            value.fa.set_flow_style()
        section[last] = value
    out = io.StringIO()
    yaml.dump(content, out)
    return out.getvalue()


def _share(number: int, workers: int) -> dict[str, str]:
    """Return the environment that gives worker ``number`` its part of the processors and GPUs."""
    if workers == 1:
        return {}
    import torch  # late: it takes seconds, and one worker takes what there is

    share = {}
    if "OMP_NUM_THREADS" not in os.environ:
        share["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // workers))
    every = [str(i) for i in range(torch.cuda.device_count())]
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        every = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
    if every:
        mine = every[number - 1 :: workers] or [every[(number - 1) % len(every)]]
        share["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
    return share


def _state(trial: FrozenTrial, best: FrozenTrial | None) -> str:
    if best and trial.number == best.number:
        return "best"
    if trial.state == TrialState.PRUNED:
        return f"pruned, epoch {trial.user_attrs['pruned']}"
    return {TrialState.COMPLETE: "finished", TrialState.FAIL: "failed"}.get(trial.state, "unfinished")  # fmt: skip


def _short(keys: list[str]) -> list[str]:
    """Return the last part of each key, or all of it where that is not clear."""
    last = [key.rsplit(".", 1)[-1] for key in keys]
    return [x if last.count(x) == 1 else key for x, key in zip(last, keys, strict=True)]


def _short_value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _in_words(values: Values) -> str:
    return " ".join(f"{key}={_short_value(value)}" for key, value in values.items())


if __name__ == "__main__":
    console.run(main)
