"""A space file is checked in full before any trial, and its draws follow from its seed alone.

Real Optuna studies, in memory. tests/pipeline/test_sweep.py runs a sweep.
"""

import re
from pathlib import Path
from typing import Any

import optuna
import pytest
from ruamel.yaml import YAML

from cleantune.errors import UserError
from cleantune.params import space
from tests.conftest import REPOSITORY

SPACE: dict[str, Any] = {
    "name": "probe", "method": "random", "trials": 4, "seed": 7, "metric": "macro_f1",
    "params": {"lr": {"log_uniform": [1e-5, 1e-3]}, "batch_size": [16, 32],
               "finetune.warmup": {"uniform": [0, 0.25]}, "epochs": {"integers": [1, 3]}},
}  # fmt: skip
LISTS = {"lr": [1.0e-4, 2.0e-4], "finetune.dropout": [None, 0.2]}


def read(folder: Path, **changes: Any) -> space.Space:
    with (folder / "space.yaml").open("w") as file:
        YAML().dump(SPACE | changes, file)
    return space.read_space(Path("space.yaml"))


def draw(read: space.Space, count: int, study: optuna.Study | None = None) -> list[dict[str, Any]]:
    """Draw trials as a sweep does, each by a new sampler; the score is the learning rate."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = study or optuna.create_study(direction="maximize")
    for _ in range(count):
        study.sampler = read.sampler(len(study.trials))
        trial = study.ask(read.params)
        study.sampler = optuna.samplers.RandomSampler()  # GridSampler would end a loop of its own
        study.tell(trial, float(trial.params["lr"]))
    return [space.rounded(trial) for trial in study.trials]


def test_the_repository_s_own_space_file_is_valid(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert space.read_space(Path("space.yaml")).trials > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"params": {"lr": [1e-4, 5.0]}}, "lr: 5.0 is not allowed; allowed: a number > 0 and <= 1"),
        ({"params": {"lr": {"uniform": [0.5, 2]}}}, "lr: 2.0 is not allowed; allowed: a number > 0"),
        ({"params": {"epochs": {"uniform": [1, 3]}}}, "epochs: 1.0 is not allowed; allowed: a whole"),
        ({"params": {"batch_size": [16, "many"]}}, "batch_size: 'many' is not allowed"),
        ({"params": {"learning_rate": [1e-4]}}, "learning_rate: unknown key"),
        ({"params": {"lr.peak": [1e-4]}}, "lr: {'peak': 0.0001} is not allowed; allowed: a number"),
        ({"params": {"finetune": [1, 2]}}, "finetune: 1 is not allowed; allowed: a section"),
        ({"params": {"pretrain.epochs": [1], "pretrain.from_scratch": [False, True],
                     "max_length": [64, 4096]}},
         "max_length: 4096 is not allowed; allowed: up to"),
        ({"params": {}}, "params: dictionary should have at least 1 item"),
        ({"method": "gird"}, "method: input should be 'grid', 'random' or 'tpe'"),
        ({"method": "grid"}, "params.lr: the method grid needs a list of values"),
        ({"method": "grid", "trials": 5, "params": LISTS}, "trials: 5 is more than the 4 comb"),
        ({"metric": "test_accuracy"}, "metric: input should be 'macro_f1'"),
        ({"trials": 0}, "trials: input should be greater than or equal to 1"),
        ({"trails": 3}, "trails: unknown key; known: name, method, trials"),
        ({"name": "a b/c"}, "name: string should match"),
    ],
)  # fmt: skip
def test_a_wrong_space_file_gives_one_message_that_names_the_key(workspace, changes, message):
    with pytest.raises(UserError) as caught:
        read(workspace, **changes)
    assert str(caught.value).startswith("space.yaml:\n")
    assert re.search(message, str(caught.value)), caught.value


@pytest.mark.parametrize(
    "option",
    [1e-4, [], {}, {"uniform": [0.1]}, {"uniform": [0.2, 0.1]}, {"log_uniform": [0, 0.1]}, {"normal": [0, 1]},
     {"uniform": [0, float("inf")]}, {"integers": [1.5, 3]}, {"uniform": ["a", "b"]},
     {"uniform": [0, 1], "integers": [0, 1]}],
)  # fmt: skip
def test_what_describes_no_values_is_refused_with_what_would(workspace, option):
    with pytest.raises(
        UserError, match=r"params\.lr: .* is not allowed; allowed: a list of values, {"
    ):
        read(workspace, params={"lr": option})


@pytest.mark.parametrize(
    "key", ["seed", "dataset", "clean.repair", "evaluate.positive", "study.seeds"]
)
def test_what_would_change_the_validation_set_and_not_the_model_cannot_be_varied(workspace, key):
    with pytest.raises(UserError, match=f"params.{key}: cannot be varied"):
        read(workspace, params={key: [1, 2]})


def test_every_param_that_stages_before_training_read_is_known_to_choose_the_validation_set():
    stages = YAML(typ="safe").load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    read = {key.split(".")[0] for stage in ("download", "clean") for key in stages[stage]["params"]}
    assert read <= set(space.NOT_VARIED)


@pytest.mark.parametrize("content", ["name: [", "", "- 1\n", None])
def test_what_is_no_space_file_is_refused(workspace, content):
    if content is not None:
        Path("space.yaml").write_text(content)
    with pytest.raises(UserError, match=r"space\.yaml"):
        space.read_space(Path("space.yaml"))


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_a_sweep_that_was_interrupted_draws_what_it_would_have_drawn(workspace, method):
    whole = draw(read(workspace, method=method), 9)
    study = optuna.create_study(direction="maximize")
    draw(read(workspace, method=method), 3, study)
    assert draw(read(workspace, method=method), 6, study) == whole
    assert len({str(values) for values in whole}) == 9  # nothing is drawn again
    assert draw(read(workspace, method=method, seed=8), 9) != whole


def test_values_lie_in_the_space_and_are_as_short_as_they_are_precise(workspace):
    for values in draw(read(workspace), 40):
        assert 1e-5 <= values["lr"] <= 1e-3
        assert values["lr"] == float(f"{values['lr']:.3g}")
        assert values["batch_size"] in (16, 32)
        assert 0 <= values["finetune.warmup"] <= 0.25
        assert values["epochs"] in (1, 2, 3)


def test_a_grid_tries_each_combination_once(workspace):
    drawn = draw(read(workspace, method="grid", params=LISTS), 4)
    assert len({str(values) for values in drawn}) == 4


def test_tpe_draws_where_the_score_was_high(workspace):
    wide = read(workspace, method="tpe", params={"lr": {"log_uniform": [1e-5, 1e-1]}})
    rates = [values["lr"] for values in draw(wide, 30)]
    assert sorted(rates[-10:])[5] > sorted(rates[:5])[-2]
