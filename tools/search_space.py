"""The space of a sweep: which params it varies, between what, and how values are drawn.

``space.yaml`` in the repository's top folder documents the format. All of it is checked before the
first trial, by the same rules as params.yaml itself.
"""

import itertools
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from optuna.trial import Trial
from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cleantune.errors import UserError
from cleantune.params import messages
from cleantune.params import read as params
from cleantune.params.fields import Section
from cleantune.params.read import PARAMS_FILE

JUDGED = "finetune"  # the last stage of a trial
# These decide which documents validate: figures from other documents could not be compared.
CHOOSE_VALIDATION = ("download", "clean")
DIGITS = 3  # significant ones of a number drawn from an interval: more would suggest a precision there isn't
# Another value of these leaves trials comparable: they are of the machine, or of what is shown.
NOT_COMPARED = ("study.seeds", "processes", "zero_stage", "finetune.tensorboard", "finetune.profiler",
                "finetune.checkpoint_steps")  # fmt: skip
MOST_LISTED = 10_000  # combinations of which none is drawn twice at random
STARTUP = 5  # random trials before TPE has enough to learn from
MOST_CHECKED = 2_000  # combinations of extreme values that are checked for going together

Value = str | int | float | bool | None
Values = dict[str, Value]
FORMS = "a list of values, {uniform: [low, high]}, {log_uniform: [low, high]} or {integers: [low, high]}"


class Interval(Section):
    """The numbers between two: exactly one of the first three is given."""

    uniform: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    log_uniform: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    integers: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    step: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "Interval":
        if sum(x is not None for x in (self.uniform, self.log_uniform, self.integers)) != 1:
            raise ValueError(f"allowed: {FORMS}")
        if not self.low < self.high or not math.isfinite(self.high - self.low):
            raise ValueError(f"{self.low} is not below {self.high}")
        if self.log_uniform and self.low <= 0:
            raise ValueError(f"log_uniform cannot begin at {self.low}: there is no logarithm of it")
        if self.log_uniform and self.step:
            raise ValueError("log_uniform has no step; list the values instead")
        if self.integers and self.step and self.step % 1:
            raise ValueError(f"step: {self.step} is no whole number")
        return self

    @property
    def low(self) -> float:
        """The smallest value."""
        return self._bounds()[0]

    @property
    def high(self) -> float:
        """The largest value."""
        return self._bounds()[1]

    def _bounds(self) -> list[float]:
        return self.uniform or self.log_uniform or [*(self.integers or ())]

    def values(self) -> list[Value]:
        """Return every value, in order; none for an interval without steps."""
        step = self.step or (1 if self.integers else None)
        if step is None:
            return []
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        kind = int if self.integers else float
        return [kind(_rounded(self.low + i * step, 12)) for i in range(count)]

    def extremes(self) -> list[Value]:
        """Return the values that may be out of range if any is."""
        return [*self.values()[:1], *self.values()[-1:]] or [self.low, self.high]

    def draw(self, trial: Trial, key: str) -> Value:
        """Let the trial's sampler choose."""
        if self.integers:
            low, high = self.integers
            return trial.suggest_int(key, low, high, step=int(self.step or 1))
        logarithmic = self.log_uniform is not None
        drawn = trial.suggest_float(key, self.low, self.values()[-1] if self.step else self.high,  # type: ignore[arg-type]
                                    step=self.step, log=logarithmic)  # fmt: skip
        return min(max(_rounded(drawn, 12 if self.step else DIGITS), self.low), self.high)


class Choices(Section):
    """A list of values."""

    of: Annotated[list[Value], Field(min_length=1)]

    @model_validator(mode="after")
    def _differ(self) -> "Choices":
        if len({repr(value) for value in self.of}) < len(self.of):
            raise ValueError("a value stands there twice")
        return self

    def values(self) -> list[Value]:
        """Return every value, in order."""
        return list(self.of)

    def extremes(self) -> list[Value]:
        """Return the values that may be out of range if any is: all."""
        return self.values()

    def draw(self, trial: Trial, key: str) -> Value:
        """Let the trial's sampler choose."""
        chosen: Value = trial.suggest_categorical(key, self.of)
        return chosen


class Pruning(Section):
    """When a trial is ended early: see space.yaml."""

    after_trials: Annotated[int, Field(ge=1)]
    after_epochs: Annotated[int, Field(ge=1)]


class Space(Section):
    """All of a space file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=40)]
    method: Literal["grid", "random", "tpe"]
    trials: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)]
    pruning: Pruning | None
    space: Annotated[dict[str, Interval | Choices], Field(min_length=1)]

    @property
    def identity(self) -> str:
        """What must stay the same for a sweep to go on: all but the number of trials."""
        # `listed` follows from the rest: a sweep begun when random spaces were not listed cannot go on.
        drawn = self.model_dump(exclude={"trials"}) | {"listed": self.listed}
        return json.dumps(drawn, sort_keys=True)

    def grid(self) -> dict[str, list[Value]]:
        """Return every value of every key."""
        return {key: knob.values() for key, knob in self.space.items()}

    def combinations(self) -> int:
        """Return how many different trials there are; 0 for an unlimited number."""
        return math.prod(len(values) for values in self.grid().values())

    @property
    def listed(self) -> bool:
        """Whether trials are taken from a list of all combinations, in random order, each once."""
        few = 0 < self.combinations() <= MOST_LISTED
        return self.method == "grid" or (self.method == "random" and few)

    def sampler(self, number: int) -> BaseSampler:
        """Return what draws the values of trial ``number``.

        A sampler of its own for each trial, so that a resumed sweep draws what it would have drawn
        without the interruption, and not what it has drawn before.
        """
        if self.listed:
            return GridSampler(self.grid(), seed=self.seed)
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        if self.method == "random":
            return RandomSampler(seed)
        return TPESampler(n_startup_trials=STARTUP, seed=seed)

    def pruner(self) -> BasePruner:
        """Return what says whether a trial is to be ended."""
        if self.pruning is None:
            return NopPruner()
        return MedianPruner(self.pruning.after_trials, self.pruning.after_epochs)

    def draw(self, trial: Trial) -> Values:
        """Return the values of a trial, by their keys in params.yaml."""
        if self.listed:
            return {key: trial.suggest_categorical(key, of) for key, of in self.grid().items()}
        return {key: knob.draw(trial, key) for key, knob in self.space.items()}


def read(path: Path, graph: Path = Path("dvc.yaml")) -> Space:
    """Read and check a space file against params.yaml and the graph.

    Raises ``UserError`` with one line for every wrong key or value.
    """
    space = _parse(path)
    params.read_params([])
    content = YAML(typ="safe").load(PARAMS_FILE.read_text(encoding="utf-8"))
    tunable = _tunable(_stages(graph))
    problems = [f"space.{key}: {why}" for key in space.space
                for why in [_why_not(key, content, tunable)] if why]  # fmt: skip
    if space.method == "grid":
        problems += [f"space.{key}: grid needs a `step`, or a list of values"
                     for key, values in space.grid().items() if not values]  # fmt: skip
    if not problems:
        problems = sorted({p for values in _to_check(space)
                           for p in messages.problems(with_values(content, values))})  # fmt: skip
    if not problems and 0 < space.combinations() < space.trials:
        problems = [f"trials: {space.trials} is more than the {space.combinations()} combinations"]
    if problems:
        raise UserError(f"{path}:\n" + "\n".join(f"  {p}" for p in problems))
    return space


def settings(space: Space, graph: Path = Path("dvc.yaml")) -> Values:
    """Return what trials have in common: the params that decide their scores and are not varied.

    Nested keys are joined by dots; a list is its JSON.
    """
    content = YAML(typ="safe").load(PARAMS_FILE.read_text(encoding="utf-8"))
    for key, section in (("dataset", "datasets"), ("model", "models")):
        if key not in space.space:  # else any entry may be a trial's
            content[section] = {k: v for k, v in content[section].items() if k == content[key]}
    stages = _stages(graph)
    found = _flat({key: content[key] for key in sorted(_keys(stages, _needed(stages)))})
    return {k: v for k, v in found.items() if k not in space.space and k not in NOT_COMPARED}


def with_values(content: Any, values: Values) -> Any:
    """Return params.yaml's ``content`` with other values, leaving out of it what is not on the way."""
    changed = dict(content)
    for key, value in values.items():
        *parents, last = key.split(".")
        section = changed
        for parent in parents:
            section[parent] = section = dict(section[parent])
        section[last] = value
    return changed


def _parse(path: Path) -> Space:
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {error}") from None
    try:
        knobs = content.get("space") if isinstance(content, dict) else None
        if isinstance(knobs, dict):
            wrapped = {k: {"of": v} if isinstance(v, list) else v for k, v in knobs.items()}
            content = content | {"space": wrapped}
        return Space.model_validate(content)
    except ValidationError as error:
        problems = dict.fromkeys(_explain(e) for e in error.errors())
        raise UserError(f"{path}:\n" + "\n".join(f"  {p}" for p in problems)) from None


def _explain(error: Any) -> str:
    """Turn one pydantic error into ``key: what is wrong``."""
    keys = [str(key) for key in error["loc"]]
    where = ".".join(keys[:2] if keys[:1] == ["space"] else keys) or "the file"
    if keys[:1] == ["space"] and len(keys) > 1 and error["type"] != "value_error":
        return f"{where}: allowed: {FORMS}"
    why = {"extra_forbidden": f"unknown key; known: {', '.join(Space.model_fields)}",
           "missing": "missing",
           "value_error": str(error.get("ctx", {}).get("error"))}.get(error["type"])  # fmt: skip
    return f"{where}: {why or repr(error['input']) + ' is not allowed; ' + error['msg'].lower()}"


def _why_not(key: str, content: Any, tunable: set[str]) -> str | None:
    """Say why a key cannot be varied, None if it can."""
    known = content
    for part in key.split("."):
        if not isinstance(known, dict) or part not in known:
            return "params.yaml has no such key"
        known = known[part]
    if isinstance(known, dict):
        return "a section of params.yaml; name one of its keys"
    if key.split(".")[0] not in tunable:
        return "cannot be varied: it decides the validation documents, or only what is evaluated"
    return None


def _stages(graph: Path) -> Any:
    """Return what dvc.yaml says of each stage."""
    return YAML(typ="safe").load(graph.read_text(encoding="utf-8"))["stages"]


def _tunable(stages: Any) -> set[str]:
    """Return the top-level params that change the model and not the documents it is judged by."""
    return _keys(stages, _needed(stages)) - _keys(stages, CHOOSE_VALIDATION) - {"study"}


def _needed(stages: Any) -> set[str]:
    """Return the stages of a trial: the judged one and all that it needs."""
    made = {out: name for name, stage in stages.items() for out in stage["outs"] if isinstance(out, str)}  # fmt: skip
    needed, new = set[str](), {JUDGED}
    while new:
        needed |= new
        deps = [dep for name in new for dep in stages[name]["deps"]]
        new = {name for out, name in made.items() for dep in deps
               if dep == out or dep.startswith(f"{out}/")} - needed  # fmt: skip
    return needed


def _keys(stages: Any, names: Iterable[str]) -> set[str]:
    """Return the top-level params that the named stages depend on."""
    return {str(param).split(".")[0] for name in names for param in stages[name]["params"]}


def _flat(section: Any, prefix: str = "") -> Values:
    if not isinstance(section, dict):
        return {prefix: json.dumps(section) if isinstance(section, list) else section}
    parts = [
        _flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in section.items()
    ]
    return {key: value for part in parts for key, value in part.items()}


def _to_check(space: Space) -> Iterator[Values]:
    """Yield every extreme value alone, then together."""
    ends = {key: knob.extremes() for key, knob in space.space.items()}
    yield from ({key: value} for key, values in ends.items() for value in values)
    together = itertools.product(*ends.values())
    for values in itertools.islice(together, MOST_CHECKED):
        yield dict(zip(ends, values, strict=True))


def _rounded(number: float, digits: int) -> float:
    return float(f"{number:.{digits}g}")
