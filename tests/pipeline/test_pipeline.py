"""What a user does with DVC, done in real clones: repro, exp run, queue, push and pull.

The whole pipeline runs twice, with a two-layer model on the corpus in the repository.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from cleantune import files
from cleantune.data import tables
from cleantune.labels import corrections
from cleantune.models import encoder
from cleantune.params.read import read_params
from tests import tiny
from tests.pipeline.conftest import Project

pytestmark = pytest.mark.slow

ALL = ["download", "clean", "fetch_models", "label_noise", "pretrain", "tokenize_text", "finetune", "baselines", "evaluate"]  # fmt: skip


@pytest.fixture(scope="module")
def clones(project: Project, tmp_path_factory: pytest.TempPathFactory) -> list[Project]:
    """Two clones in which `dvc repro` has run, side by side; in one of them without a network."""
    folder = tmp_path_factory.mktemp("clones")
    clones = [project.clone(folder / name) for name in ("clone", "in another folder")]
    commands = ["dvc", "repro"], tiny.without_network("dvc", "repro")
    with ThreadPoolExecutor() as pool:
        outputs = list(pool.map(lambda clone, command: clone.run(*command), clones, commands))
    for output in outputs:
        assert sorted(project.ran(output)) == sorted(ALL)
    return clones


@pytest.fixture(scope="module")
def built(clones: list[Project]) -> Project:
    """One of the clones, its lock and metrics committed."""
    clones[0].git("add", "--all")
    clones[0].git("commit", "--quiet", "--message=Built")
    return clones[0]


def test_two_clones_of_one_commit_give_the_same_lock(built, clones):
    other = clones[1]
    assert (other.path / "dvc.lock").read_text() == (built.path / "dvc.lock").read_text()
    assert (other.path / "metrics/test.json").read_text() == (
        built.path / "metrics/test.json"
    ).read_text()


def test_a_killed_repro_goes_on_and_ends_in_the_same_lock(clones):
    other = clones[1]
    lock, yaml = other.path / "dvc.lock", YAML()
    undisturbed = yaml.load(lock)
    stages = {name: stage for name, stage in undisturbed["stages"].items() if name != "finetune"}
    yaml.dump({**undisturbed, "stages": stages}, lock)
    for path in ("models/finetuned", ".dvc/cache/runs"):  # nothing left to take the result from
        shutil.rmtree(other.path / path)
    running = subprocess.Popen(
        ["dvc", "repro", "finetune"], cwd=other.path, env=other.environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not list(other.path.glob(".checkpoints/finetune/*/step-*")):
        assert running.poll() is None, "over before it could be killed"
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    output = other.dvc("repro", "finetune")
    assert "resuming from the checkpoint of step" in output
    assert yaml.load(lock) == undisturbed


def test_a_second_repro_does_nothing(built):
    assert built.ran(built.dvc("repro")) == []
    assert "up to date" in built.dvc("status")
    assert built.git("status", "--short") == ""


def test_a_reviewed_label_is_one_line_in_git_and_runs_the_stages_that_read_it(built, tmp_path):
    source = files.read_json(built.path / tables.SOURCE)
    document = tables.read_table(built.path / tables.RAW / "train.parquet").head(1)
    old = document["label"].iloc[0]
    names = source["labels"][old], source["labels"][(old + 1) % len(source["labels"])]
    row = source["dataset"], document["id"].iloc[0], *corrections.fingerprints(document), *names, ""
    export = tmp_path / "export.csv"
    export.write_text(f"{','.join(corrections.COLUMNS)}\n{','.join(row)}\n")
    kept = (built.path / corrections.CORRECTIONS).read_text()
    try:
        built.run("python", "-m", "tools.review", "apply", str(export))
        changed = " ".join(built.git("diff", "--stat").split())
        assert changed == "data/corrections.csv | 1 + 1 file changed, 1 insertion(+)"
        stale = [{"changed deps": {"data/corrections.csv": "modified"}}]
        assert json.loads(built.dvc("status", "--json")) == {"clean": stale, "label_noise": stale}
        assert built.ran(built.dvc("repro", "--dry")) == ["clean", "label_noise"]
    finally:
        (built.path / corrections.CORRECTIONS).write_text(kept)


def test_a_base_model_runs_again_only_the_stages_that_use_it(built):
    def stale(*stages: str, **params: object) -> Any:
        tiny.set_params(built.path, **params)
        built.dvc("repro", *stages)
        return json.loads(built.dvc("status", "--json"))

    def changed(path: str) -> list[dict[str, dict[str, str]]]:
        return [{"changed deps": {path: "modified"}}]

    models = read_params(["models"], built.path / "params.yaml").models
    other = {name: entry.model_dump() for name, entry in models.items()}
    other["other"] = other["gpt2"]
    recorded = [(built.path / path).read_bytes() for path in (encoder.MODEL, encoder.ENCODER)]
    try:
        tiny.set_params(built.path, models=other)
        assert built.ran(built.dvc("repro")) == ["fetch_models"]
        assert recorded == [
            (built.path / path).read_bytes() for path in (encoder.MODEL, encoder.ENCODER)
        ]

        assert stale("fetch_models", model="minilm") == {"pretrain": changed(str(encoder.MODEL))}
        after = changed(str(encoder.PRETRAINED))
        assert stale("pretrain") == {"tokenize_text": after, "finetune": after}

        # of tfidf, which has none, to an encoder, and on to another
        tiny.set_params(built.path, label_noise__model="encoder")
        for name in ("tiny-model", "minilm"):
            found = stale("fetch_models", label_noise__encoder=name)
            assert found["label_noise"][0]["changed deps"][str(encoder.ENCODER)] == "modified"
            assert "pretrain" not in found
            assert files.read_json(built.path / encoder.ENCODER)["model"] == name
    finally:
        built.git("checkout", "--quiet", "HEAD", ".")  # `repro` has staged dvc.lock
        built.dvc("checkout", "--quiet")


def test_an_experiment_runs_only_what_depends_on_its_param(built):
    output = built.dvc("exp", "run", "--name", "slower", "-S", "lr=2e-5")
    assert built.ran(output) == ["finetune", "evaluate"]
    assert "lr" in built.dvc("params", "diff")
    assert "accuracy" in built.dvc("metrics", "diff", "--all")
    shown = json.loads(built.dvc("exp", "show", "--json"))
    experiments = shown[1]["experiments"] or []
    names = [row["name"] for experiment in experiments for row in experiment["revs"]]
    assert names == ["slower"]
    score = json.loads((built.path / "metrics/test.json").read_text())["macro_f1"]
    table = built.run("python", "-m", "studies.corpora", "sample")
    assert re.search(rf"sample +│ +\d+ │ +4 │ +{score:.3f} / 0\.\d{{3}} │", table), table
    assert "no experiment on spam" in built.run("python", "-m", "studies.corpora", "spam", status=1)
    built.git("checkout", "--quiet", ".")
    built.dvc("checkout", "--quiet")
    assert built.ran(built.dvc("repro")) == []


def test_a_queued_experiment_runs_its_own_code_in_two_processes(built):
    # The workspace's code is broken after queueing: an experiment that ran it would fail.
    one = pd.read_csv(built.path / "models/finetuned/history.csv")
    built.dvc("exp", "run", "--queue", "--name", "two", "-S", "processes=2", "finetune")
    code = built.path / "stages/finetune.py"
    good = code.read_text()
    code.write_text("raise SystemExit('the code of the workspace')\n")
    built.dvc("queue", "start", "--jobs", "1")
    end = time.monotonic() + 300
    while "Running" in (status := built.dvc("queue", "status")) or "Queued" in status:
        assert time.monotonic() < end, status
        time.sleep(5)  # each of these commands takes two
    assert status.count("Success") == 1, status
    code.write_text(good)
    output = built.dvc("queue", "logs", "two")
    assert built.git("status", "--short") == ""

    # two processes have the loss curve of one
    assert "2 process(es)" in output
    assert output.count("best epoch:") == 1  # only rank 0 speaks
    built.dvc("exp", "apply", "two")
    two = pd.read_csv(built.path / "models/finetuned/history.csv")
    assert len(one) == len(two) > 10
    assert two["loss"].to_numpy() == pytest.approx(one["loss"].to_numpy(), rel=1e-3)
    built.git("checkout", "--quiet", ".")
    built.dvc("checkout", "--quiet")


def test_a_file_of_ones_own_is_found_once_git_or_dvc_tracks_it(project, tmp_path):
    clone = project.clone(tmp_path / "clone")
    rows = [f"{label},the {number} of {label}" for number in range(40) for label in ("a", "b")]
    for name in ("own.csv", "others.csv"):
        (clone.path / name).write_text("\n".join(["label,text", *rows]) + "\n")
    add = ("python", "-m", "tools.data", "add", "own.csv", "--test", "others.csv")
    said = clone.run(*add)
    assert "dvc exp run -S dataset=own" in said
    command = ("exp", "run", "--temp", "download", "-S", "dataset=own")
    clone.git("rm", "--cached", "-q", "data/custom/own/test.csv")
    said = " ".join(clone.dvc(*command, status=255).split())
    path = "data/custom/own/test.csv"
    assert f"run `git add {path}`, or `dvc add {path}`" in said
    clone.dvc("add", path)
    clone.dvc(*command)


def test_a_clone_pulls_what_another_pushed_and_runs_nothing(built, tmp_path):
    built.dvc("remote", "add", "--default", "folder", str(tmp_path / "remote"))
    built.dvc("push")
    fresh = built.clone(tmp_path / "fresh")
    fresh.dvc("remote", "add", "--default", "folder", str(tmp_path / "remote"))
    fresh.dvc("pull")
    assert "up to date" in fresh.dvc("status")
    assert fresh.ran(fresh.dvc("repro")) == []
    assert (fresh.path / "models/finetuned/model.safetensors").is_file()


def test_pictures_are_drawn(built, tmp_path):
    built.dvc("plots", "show", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots/index.html").read_text()
    for picture in ("Confusion_matrix", "ROC_curves", "Macro-F1_compared_with_the_baselines"):
        assert f"#{picture}" in page, picture
    built.dvc("plots", "diff", "--out", str(tmp_path / "diff"), "HEAD")
    assert (tmp_path / "diff/index.html").is_file()


def test_a_wrong_param_stops_the_first_stage_it_reaches(built):
    params = built.path / "params.yaml"
    good = params.read_text()
    weights = built.path / "models/finetuned/model.safetensors"
    params.write_text(good.replace("\nlr: 1.0e-4", "\nlr: -1"))
    try:
        output = built.dvc("repro", status=255)
        assert "lr: -1 is not allowed; allowed: a number > 0 and <= 1" in output
        assert "Traceback" not in output
    finally:
        params.write_text(good)
        built.dvc("checkout", "--quiet")
    assert weights.is_file()
