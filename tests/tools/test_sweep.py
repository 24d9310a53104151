"""A space file is checked in full before any trial, and its draws follow from its seed alone.

Real Optuna studies, in memory. tests/pipeline/test_sweep.py runs a sweep.
"""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from ruamel.yaml import YAML

from cleantune.errors import UserError
from tests import tiny
from tests.conftest import REPOSITORY
from tools import search_space, sweep

SPACE: dict[str, Any] = {
    "name": "probe", "method": "random", "trials": 6, "seed": 7,
    "pruning": {"after_trials": 2, "after_epochs": 1},
    "space": {"lr": {"log_uniform": [1e-5, 1e-3]}, "batch_size": [16, 32],
              "finetune.warmup": {"uniform": [0, 0.25], "step": 0.1},
              "epochs": {"integers": [1, 5], "step": 2}},
}  # fmt: skip


@pytest.fixture
def folder(workspace: Path) -> Path:
    shutil.copy2(REPOSITORY / "dvc.yaml", workspace / "dvc.yaml")
    return workspace


def read(folder: Path, **changes: Any) -> search_space.Space:
    with (folder / "space.yaml").open("w") as file:
        YAML().dump(SPACE | changes, file)
    return search_space.read(Path("space.yaml"))


def draw(
    space: search_space.Space, count: int, study: optuna.Study | None = None
) -> list[dict[str, Any]]:
    """Draw trials as a sweep does, each by a new sampler; the score is the learning rate."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = study or optuna.create_study(direction="maximize")
    drawn: list[dict[str, Any]] = []
    for _ in range(count):
        study.sampler = space.sampler(len(study.trials))
        trial = study.ask()
        drawn.append(space.draw(trial))
        study.sampler = optuna.samplers.RandomSampler()
        study.tell(trial, float(drawn[-1]["lr"]))
    return drawn


def test_the_repository_s_own_space_file_is_valid(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert search_space.read(Path("space.yaml")).trials > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"lr": [1.0e-4, 5.0]}}, "lr: 5.0 is not allowed; allowed: a number > 0 and <= 1"),
        ({"space": {"lr": {"uniform": [0.5, 2]}}}, "lr: 2.0 is not allowed; allowed: a number > 0"),
        ({"space": {"batch_size": [16, "many"]}}, "batch_size: 'many' is not allowed"),
        ({"space": {"learning_rate": [1.0e-4]}}, "space.learning_rate: params.yaml has no such key"),
        ({"space": {"finetune": [1, 2]}}, "space.finetune: a section"),
        ({"space": {"lr": 1.0e-4}}, "space.lr: allowed: a list of values, {uniform"),
        ({"space": {"lr": {"uniform": [0.1]}}}, "space.lr: allowed: a list of values"),
        ({"space": {"lr": {"uniform": [0.2, 0.1]}}}, "space.lr: 0.2 is not below 0.1"),
        ({"space": {"lr": {"log_uniform": [0, 0.1]}}}, "space.lr: log_uniform cannot begin at 0"),
        ({"space": {"lr": [1.0e-4, 1.0e-4]}}, "space.lr: a value stands there twice"),
        ({"space": {}}, "space: .* is not allowed"),
        ({"space": {"finetune.lora_rank": [0, 4], "finetune.freeze_layers": [0, 2]}},
         "finetune.freeze_layers: 2 is not allowed; allowed: 0 when"),
        ({"method": "gird"}, "method: 'gird' is not allowed"),
        ({"method": "grid"}, "space.lr: grid needs a `step`, or a list"),
        ({"method": "grid", "space": {"lr": [1.0e-4, 2.0e-4]}}, "trials: 6 is more than the 2 comb"),
        ({"space": {"lr": [1.0e-4, 2.0e-4]}}, "trials: 6 is more than the 2 combinations"),
        ({"trials": 0}, "trials: 0 is not allowed"),
        ({"trails": 3}, "trails: unknown key; known: name, method, trials"),
        ({"name": "a b/c"}, "name: 'a b/c' is not allowed"),
        ({"pruning": {"after_trials": 0, "after_epochs": 1}}, "pruning.after_trials: 0 is not"),
    ],
)  # fmt: skip
def test_a_wrong_space_file_gives_one_message_that_names_the_key(folder, changes, message):
    with pytest.raises(UserError) as caught:
        read(folder, **changes)
    assert str(caught.value).startswith("space.yaml:\n")
    assert re.search(message, str(caught.value)), caught.value


@pytest.mark.parametrize(
    "key", ["seed", "dataset", "clean.validation_share", "evaluate.explained_mistakes", "study.seeds",
            "baselines.epochs"],
)  # fmt: skip
def test_what_would_change_the_judge_and_not_the_model_cannot_be_varied(folder, key):
    with pytest.raises(UserError, match=f"space.{key}: cannot be varied"):
        read(folder, space={key: [1, 2]})


@pytest.mark.parametrize("content", ["name: [", "", "- 1\n", None])
def test_what_is_no_space_file_is_refused(folder, content):
    if content is not None:
        Path("space.yaml").write_text(content)
    with pytest.raises(UserError, match=r"space\.yaml"):
        search_space.read(Path("space.yaml"))


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_a_sweep_that_was_interrupted_draws_what_it_would_have_drawn(folder, method):
    space = read(folder, method=method)
    whole = draw(space, 12)
    study = optuna.create_study(direction="maximize")
    in_parts = draw(space, 3, study) + draw(read(folder, method=method), 9, study)
    assert in_parts == whole
    assert len({str(values) for values in whole}) == 12  # nothing is drawn again
    assert draw(read(folder, method=method, seed=8), 12) != whole


def test_values_lie_in_the_space_and_are_as_short_as_they_are_precise(folder):
    for values in draw(read(folder), 40):
        assert 1e-5 <= values["lr"] <= 1e-3
        assert values["lr"] == float(f"{values['lr']:.3g}")
        assert values["batch_size"] in (16, 32)
        assert values["finetune.warmup"] in (0, 0.1, 0.2)
        assert values["epochs"] in (1, 3, 5)


@pytest.mark.parametrize("method", ["grid", "random"])
def test_of_so_many_combinations_each_is_tried_once(folder, method):
    knobs = {
        "lr": [1.0e-4, 2.0e-4],
        "finetune.dropout": [None, 0.2],
        "epochs": {"integers": [1, 2]},
    }
    space = read(folder, method=method, trials=8, space=knobs)
    drawn = draw(space, 8)
    assert len({str(values) for values in drawn}) == space.combinations() == 8
    assert draw(space, 8) == drawn


def test_what_trials_share_is_what_decides_their_scores_and_is_not_varied(folder):
    space = read(folder)
    before = search_space.settings(space)
    assert {"dataset", "seed", "clean.repair", "finetune.r_drop"} <= set(before)
    assert not {*space.space, "study.seeds", "processes", "evaluate.explained_mistakes"} & set(
        before
    )
    tiny.set_params(folder, lr=0.5, finetune__warmup=0, finetune__r_drop=1.0, processes=2,
                    datasets__ag_news__licence="other", finetune__tensorboard=True)  # fmt: skip
    after = search_space.settings(space)
    assert {key for key in before if before[key] != after[key]} == {"finetune.r_drop"}


def test_before_a_sweep_there_is_nothing_to_apply(folder, monkeypatch):
    read(folder)
    monkeypatch.setattr(sys, "argv", ["sweep", "space.yaml", "--apply"])
    with pytest.raises(UserError, match="There is no sweep probe yet"):
        sweep.main()
    assert not Path(".sweeps").exists()


def test_applying_values_changes_their_lines_of_params_yaml_alone():
    text = (REPOSITORY / "params.yaml").read_text()
    values = {
        "lr": 2.5e-05,
        "finetune.warmup": 0.05,
        "finetune.dropout": 0.2,
        "batch_size": 32,
        "study.seeds": [1, 2],
    }
    before, after = text.splitlines(), sweep.rewritten(text, values).splitlines()
    assert len(before) == len(after)
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert [b.split("#")[0].strip() for _, b in changed] == [
        "lr: 2.5e-05", "warmup: 0.05", "dropout: 0.2", "seeds: [1, 2]",
    ]  # fmt: skip
    for a, b in changed:
        assert a.partition("#")[2] == b.partition("#")[2] != ""


def test_tpe_looks_where_the_score_was_high(folder):
    space = read(folder, method="tpe", space={"lr": {"log_uniform": [1e-5, 1e-1]}})
    rates = [values["lr"] for values in draw(space, 30)]
    assert sorted(rates[-10:])[5] > sorted(rates[:5])[-2]
