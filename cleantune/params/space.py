"""The space file of a sweep: which keys of params.yaml it varies, and between what.

space.yaml in the repository's top folder shows the format. All of a file is checked before the first
trial, the values by the schema of params.yaml.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial
from pydantic import AfterValidator, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cleantune.errors import UserError
from cleantune.params import read
from cleantune.params.fields import Section
from cleantune.params.messages import problems
from cleantune.params.overrides import with_overrides

# The first four choose the validation documents; the model does not depend on the others.
NOT_VARIED = ("dataset", "datasets", "seed", "clean", "study", "baselines", "evaluate")
STARTUP = 5  # random trials before TPE models the scores
DIGITS = 3  # more would suggest a precision that a search does not have
CHECKED = 1000  # combinations of extreme values that are checked for going together
RANGES: dict[str, Callable[..., FloatDistribution | IntDistribution]] = {
    "uniform": FloatDistribution,
    "log_uniform": partial(FloatDistribution, log=True),
    "integers": IntDistribution,
}

Distribution = CategoricalDistribution | FloatDistribution | IntDistribution


def distribution(option: Any) -> Distribution:
    """Return Optuna's distribution for an entry of ``params``; ``ValueError`` if it describes none."""
    with suppress(AttributeError, KeyError, TypeError, ValueError):
        if isinstance(option, list):
            return CategoricalDistribution(option)
        [(form, (low, high))] = option.items()
        found = RANGES[form](low, high)
        if (found.low, found.high) == (low, high) and math.isfinite(high - low):
            return found
    forms = ", ".join(f"{{{form}: [low, high]}}" for form in RANGES)
    raise ValueError(f"{option} is not allowed; allowed: a list of values, {forms}")


class Space(Section):
    """All of a space file, the entries of ``params`` as Optuna's distributions."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=40)]
    method: Literal["grid", "random", "tpe"]
    trials: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    metric: Literal["macro_f1"]
    params: Annotated[dict[str, Annotated[Any, AfterValidator(distribution)]], Field(min_length=1)]

    def sampler(self, number: int) -> BaseSampler:
        """Return what draws trial ``number``: the same values, however often the sweep was stopped."""
        if self.method == "grid":
            return GridSampler({key: d.choices for key, d in self.params.items()}, self.seed)
        seed = self.seed + number
        if self.method == "random":
            return RandomSampler(seed)
        return TPESampler(n_startup_trials=STARTUP, seed=seed)


def read_space(path: Path) -> Space:
    """Read and check a space file.

    Raises ``UserError`` with a line for each wrong key or value.
    """
    read.read_params([])
    yaml = YAML(typ="safe")
    try:
        space = Space.model_validate(yaml.load(path.read_text(encoding="utf-8")))
        base = yaml.load(read.PARAMS_FILE.read_text(encoding="utf-8"))
        wrong = list(_problems(space, base))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    except ValidationError as error:
        wrong = [_explain(e) for e in error.errors()]
    if wrong:
        raise UserError("\n  ".join([f"{path}:", *dict.fromkeys(wrong)]))
    return space


def rounded(trial: FrozenTrial) -> dict[str, Any]:
    """Return the values of a trial by key, those from ranges to ``DIGITS`` significant digits."""
    values = dict(trial.params)
    for key, drawn in trial.distributions.items():
        if isinstance(drawn, FloatDistribution):
            values[key] = min(max(float(f"{values[key]:.{DIGITS}g}"), drawn.low), drawn.high)
    return values


def in_words(trial: FrozenTrial) -> str:
    """Return the values of a trial on one line."""
    return " ".join(f"{key}={value}" for key, value in rounded(trial).items())


def _problems(space: Space, base: Any) -> Iterator[str]:
    """Yield what pydantic does not know of: keys that may not vary, and values out of range."""
    for key in space.params:
        if key.split(".")[0] in NOT_VARIED:
            yield f"params.{key}: cannot be varied, or trials could not be compared on validation"
    ends = [getattr(d, "choices", None) or (d.low, d.high) for d in space.params.values()]
    if space.method == "grid":
        ranges = [key for key, d in space.params.items() if not hasattr(d, "choices")]
        yield from (f"params.{key}: the method grid needs a list of values" for key in ranges)
        count = math.prod(map(len, ends))
        if space.trials > count and not ranges:
            yield f"trials: {space.trials} is more than the {count} combinations of the grid"
    for values in itertools.islice(itertools.product(*ends), CHECKED):
        yield from problems(with_overrides(base, dict(zip(space.params, values, strict=True))))


def _explain(error: Any) -> str:
    """Turn one pydantic error into ``key: what is wrong``."""
    where = ".".join(map(str, error["loc"])) or "the file"
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key; known: {', '.join(Space.model_fields)}"
    if error["type"] == "value_error":
        return f"{where}: {error['ctx']['error']}"
    return f"{where}: {error['msg'].lower()}"
