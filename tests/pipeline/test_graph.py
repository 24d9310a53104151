"""dvc.yaml says exactly what each stage reads: the modules it imports and the params it names."""

import importlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo

from cleantune.params.read import read_params
from tests.conftest import REPOSITORY
from tools import deps

# From the ground: a module imports from the floors below and from its own room; a stage, no other.
FLOORS = (
    {"errors"},
    {"files", "machine"},
    {"params", "console"},
    {"data", "distributed"},
    {"models"},
    {"training", "evaluation"},
    {"labels", "baselines", "augmentation"},
    {"stages"},
    {"tools"},
    {"studies"},
    {"benchmarks"},
)
PIPELINE = {stage.name: stage for stage in Repo(str(REPOSITORY)).index.stages}


def dependencies(stage: Any) -> set[str]:
    return {dep.def_path for dep in stage.deps if not isinstance(dep, ParamsDependency)}


def stage_modules() -> list[Path]:
    return [p for p in sorted((REPOSITORY / "stages").glob("*.py")) if p.stem != "__init__"]


def room(path: Path) -> str:
    """Return which part of the house a module belongs to."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return parts[1] if parts[0] == "cleantune" else parts[0]


def test_every_stage_module_is_a_stage_and_every_stage_a_module():
    assert sorted(PIPELINE) == [path.stem for path in stage_modules()]
    for name, stage in PIPELINE.items():
        assert stage.cmd == f"python -m stages.{name}"


@pytest.mark.parametrize("name", PIPELINE)
def test_a_stage_lists_the_modules_it_imports_and_no_others(name):
    listed = {dep for dep in dependencies(PIPELINE[name]) if dep.startswith(deps.CODE)}
    assert listed == set(deps.code(REPOSITORY, f"stages.{name}")), "run `make deps`"


@pytest.mark.parametrize("name", PIPELINE)
def test_a_stage_runs_again_when_its_libraries_change(name):
    assert "requirements.lock" in dependencies(PIPELINE[name])


def test_a_base_model_of_ones_own_is_watched_by_the_stages_that_look_for_one():
    looks = {
        name
        for name in PIPELINE
        for path in deps.closure(REPOSITORY, REPOSITORY / f"stages/{name}.py")
        if "encoder.find(" in path.read_text()
    }
    assert {n for n, stage in PIPELINE.items() if "models/local" in dependencies(stage)} == looks


@pytest.mark.parametrize("name", PIPELINE)
def test_a_stage_lists_the_params_it_reads_and_no_others(name):
    listed = {
        key.split(".")[0]
        for dep in PIPELINE[name].deps
        if isinstance(dep, ParamsDependency)
        for key in dep.params
    }
    assert listed == set(importlib.import_module(f"stages.{name}").PARAMS)


def test_a_module_imports_from_its_own_room_or_from_floors_below():
    level = {name: number for number, floor in enumerate(FLOORS) for name in floor}
    modules = [p for top in ("cleantune", "stages", "tools", "studies", "benchmarks")
               for p in (REPOSITORY / top).rglob("*.py") if p.stem != "__init__"]  # fmt: skip
    assert len(modules) > 60
    wrong = [
        f"{path.relative_to(REPOSITORY)} imports {other.relative_to(REPOSITORY)}"
        for path in modules
        for other in deps.imports(REPOSITORY, path) - {path}
        if level[room(other)] >= level[room(path)]
        and (room(other) != room(path) or room(path) == "stages")
    ]
    assert wrong == []


def test_every_stage_reads_only_what_is_in_git_or_made_by_a_stage():
    made = {out.def_path for stage in PIPELINE.values() for out in stage.outs}
    for stage in PIPELINE.values():
        for dep in dependencies(stage):
            below_an_out = any(dep == out or dep.startswith(f"{out}/") for out in made)
            assert below_an_out or (REPOSITORY / dep).exists(), f"{stage.name} reads {dep}"


def test_only_evaluate_keeps_outputs_out_of_the_cache():
    # One `cache: false` out switches DVC's run-cache off for the whole stage.
    for name, stage in PIPELINE.items():
        uncached = [out.def_path for out in stage.outs if not out.use_cache]
        assert name == "evaluate" or uncached == [], name


def test_the_params_in_the_repository_are_valid():
    read_params([], REPOSITORY / "params.yaml")


def test_a_clone_with_the_line_endings_of_windows_has_the_same_bytes(tmp_path):
    def git(*arguments: object, at: Path = REPOSITORY) -> str:
        command = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.org"]
        return subprocess.run([*command, *map(str, arguments)], cwd=at, check=True,
                              capture_output=True, text=True).stdout  # fmt: skip

    def clone(origin: Path, path: Path) -> list[str]:
        git("clone", "--quiet", "--config=core.autocrlf=true", origin, path)
        return git("ls-files", "-z", at=path).rstrip("\0").split("\0")

    git("init", "--quiet", "--bare", tmp_path / "origin")
    stored = (f"--git-dir={tmp_path / 'origin'}", f"--work-tree={REPOSITORY}")
    git(*stored, "add", "--all")  # the working tree, committed or not
    git(*stored, "commit", "--quiet", "--message=As in the working tree")
    names = clone(tmp_path / "origin", tmp_path / "clone")
    assert "dvc.yaml" in names
    for name in names:
        assert (tmp_path / "clone" / name).read_bytes() == (REPOSITORY / name).read_bytes(), name
    corpus = b'label,text\r\nham,"a\r\nb"\n'
    (tmp_path / "clone/data/custom/corpus.csv").write_bytes(corpus)
    git("add", "--all", at=tmp_path / "clone")
    git("commit", "--quiet", "--message=A corpus", at=tmp_path / "clone")
    clone(tmp_path / "clone", tmp_path / "second")
    assert (tmp_path / "second/data/custom/corpus.csv").read_bytes() == corpus
