"""A sweep in a real repository: killed, resumed, pruned, applied; and the test set is never read.

All stages before finetune are committed as done, on random tokens; whatever holds test documents is
no Parquet at all. A stage that read them would fail, and so would one that was run again.
"""

import json
import os
import signal
import subprocess
import time
from typing import Any

import pytest

from tests import tiny
from tests.pipeline.conftest import Project

pytestmark = pytest.mark.slow

UNREADABLE = ("raw/test", "clean/test", "tokens/test", "raw/train", "clean/train", "labels/train",
              "clean/validation")  # fmt: skip
BEFORE = ("download", "clean", "fetch_models", "label_noise", "pretrain", "tokenize_text")
# The seed puts them in the order 3e-3, 1e-8, 0.5; the last one is far too high, and pruned.
SPACE = """
name: probe
method: grid
trials: 3
seed: 1
pruning: {after_trials: 1, after_epochs: 1}
space:
  lr: [3.0e-3, 0.5, 1.0e-8]
"""
CHECKPOINTS = ".sweeps/probe/worker-*/.checkpoints/finetune/*/step-*"
SWEEP = ("python", "-m", "tools.sweep", "space.yaml")


@pytest.fixture(scope="module")
def tokenized(project: Project) -> Project:
    """The repository with everything made that finetune reads, and unreadable test sets."""
    tiny.write(project.path, documents=80)
    project.git("checkout", "--quiet", "--", "params.yaml", "ds_config.json")
    tiny.set_params(project.path, epochs=5, batch_size=8, finetune__checkpoint_steps=2)
    for name in UNREADABLE:
        path = project.path / "data" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not Parquet: nobody may read this")
    (project.path / "reports/label_review.html").write_text("nothing")
    (project.path / "space.yaml").write_text(SPACE)
    project.dvc("commit", "--force", *BEFORE)
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message=Tokenized")
    return project


@pytest.fixture(scope="module")
def killed(tokenized: Project) -> Project:
    """A sweep of which all processes were killed when the second trial had a checkpoint."""
    sweep = subprocess.Popen(
        SWEEP, cwd=tokenized.path, env=tokenized.environment, start_new_session=True
    )
    second = tokenized.path / ".sweeps/probe/probe-2.log"
    end = time.monotonic() + 3000
    while not (second.is_file() and list(tokenized.path.glob(CHECKPOINTS))):
        assert sweep.poll() is None, "the sweep ended before its second trial"
        assert time.monotonic() < end
        time.sleep(0.05)
    os.killpg(sweep.pid, signal.SIGKILL)
    sweep.wait()
    return tokenized


def experiments(project: Project) -> dict[str, dict[str, Any]]:
    """Return the metrics of each experiment that `dvc exp show` lists."""
    shown = json.loads(project.dvc("exp", "show", "--json"))
    found = [row for experiment in shown[1]["experiments"] or [] for row in experiment["revs"]]
    return {row["name"]: row["data"]["metrics"] for row in found}


def test_a_killed_sweep_goes_on_and_its_best_trial_is_applied(killed):
    assert list(experiments(killed)) == ["probe-1"]
    output = killed.run(*SWEEP, "--workers", "2")
    assert "1 ended before, 1 unfinished" in output
    assert "probe-1  lr" not in output  # what had ended is not run again
    assert "probe-3  pruned after epoch 1" in output
    assert max(len(line) for line in output.splitlines()) <= 80
    assert killed.git("status", "--short") == ""  # nobody's working tree is touched

    assert killed.git("tag") == ""  # so that a second sweep can set its own
    # Two workers have fewer threads each than one: the killed one's checkpoint is of no use to them.
    assert not list(killed.path.glob(CHECKPOINTS))

    listed = experiments(killed)
    assert set(listed) == {"probe-1", "probe-2"}
    scores = {}
    for name, metrics in listed.items():
        assert "data" not in metrics.get("metrics/test.json", {})  # nothing was evaluated
        scores[name] = metrics["models/finetuned/validation.json"]["data"]["macro_f1"]
        assert f"{name}  macro-F1 {scores[name]:.4f}" in output or name == "probe-1"
    best = max(scores, key=lambda name: scores[name])

    assert f"the values of {best}," in killed.run(*SWEEP, "--apply")
    output = killed.dvc("repro", "finetune")
    assert "Stage 'finetune' is cached" in output
    assert killed.ran(output) == []


def test_after_a_commit_the_table_says_where_experiments_are_listed(killed):
    killed.git("commit", "--quiet", "--allow-empty", "--message=Another")
    try:
        output = killed.run(*SWEEP)
    finally:
        killed.git("reset", "--quiet", "--soft", "HEAD~1")
    base = killed.git("rev-parse", "--short=7", "HEAD").strip()
    assert f"`dvc exp show --rev {base}` lists those that finished" in output


def test_the_best_of_other_params_is_shown_and_not_applied(killed):
    params = killed.path / "params.yaml"
    before = params.read_text()
    tiny.set_params(killed.path, epochs=4)
    try:
        assert "best first" in killed.run(*SWEEP)
        changed = params.read_text()
        output = killed.run(*SWEEP, "--apply", status=1)
        assert params.read_text() == changed
    finally:
        params.write_text(before)
    assert "params.yaml has changed since the sweep probe began: epochs." in " ".join(
        output.split()
    )


def test_a_changed_space_is_refused_before_any_trial(killed):
    space = killed.path / "space.yaml"
    space.write_text(SPACE.replace("0.5", "0.4"))
    try:
        output = killed.run(*SWEEP, status=1)
    finally:
        space.write_text(SPACE)
    assert "space.yaml has changed since the sweep probe began" in " ".join(output.split())
