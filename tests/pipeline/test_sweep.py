"""A sweep in a real repository: killed, resumed, its best trial applied; and the test set is never read.

All stages are committed as done, those before finetune on random tokens; whatever holds test documents is
no Parquet at all. A stage that read them would fail, and so would one that was run again.
"""

import json
import os
import shlex
import signal
import subprocess
import time

import pytest

from tests import tiny
from tests.pipeline.conftest import Project

pytestmark = pytest.mark.slow

UNREADABLE = ("raw/test", "clean/test", "tokens/test", "raw/train", "clean/train", "labels/train",
              "clean/validation")  # fmt: skip
OTHERS = ("reports/label_review.html", "reports/evaluation.html", "reports/model_card.md",
          "models/decision.json", "models/baselines/none", "data/labels/summary.json")  # fmt: skip
# Two layers cannot be frozen as 77: the second trial in this seed's order fails.
SPACE = """
name: probe
method: grid
trials: 2
seed: 1
metric: macro_f1
params:
  lr: [3.0e-3]
  finetune.freeze_layers: [0, 77]
"""
SWEEP = ("python", "-m", "tools.sweep", "space.yaml")


@pytest.fixture(scope="module")
def tokenized(project: Project) -> Project:
    """The repository with everything made that finetune reads, and unreadable test sets."""
    tiny.write(project.path)
    project.git("checkout", "--quiet", "--", "params.yaml", "ds_config.json")
    for name in UNREADABLE:
        path = project.path / "data" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not Parquet: nobody may read this")
    for name in (*OTHERS, "models/finetuned/none"):
        (project.path / name).parent.mkdir(parents=True, exist_ok=True)
        (project.path / name).write_text("nothing")
    (project.path / "data/tokens/summary.json").write_text("{}")
    (project.path / "space.yaml").write_text(SPACE)
    project.dvc("commit", "--force")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message=Tokenized")
    return project


def test_a_killed_sweep_keeps_what_finished_and_its_best_trial_is_applied(tokenized):
    sweep = subprocess.Popen(SWEEP, cwd=tokenized.path, env=tokenized.environment)
    log = tokenized.path / ".sweeps/probe/probe-2.log"
    end = time.monotonic() + 1200
    while not (log.is_file() and log.stat().st_size):
        assert sweep.poll() is None, "the sweep ended before its second trial"
        assert time.monotonic() < end
        time.sleep(0.05)
    os.kill(sweep.pid, signal.SIGKILL)  # its trial lives on
    sweep.wait()

    output = tokenized.run(*SWEEP)
    assert "waiting: this sweep runs already, or a trial of it that outlived a kill" in output
    assert "1 of 2 trials to run" in output
    assert "probe-1  lr" not in output  # it is not run again
    assert "error: finetune.freeze_layers: 77 is more than the model's 2 layers." in output
    assert "1 failed" in output
    assert max(len(line) for line in output.splitlines()) <= 80
    assert tokenized.git("status", "--short") == ""  # the working tree is not touched
    assert tokenized.git("symbolic-ref", "HEAD") == "refs/heads/main\n"

    shown = json.loads(tokenized.dvc("exp", "show", "--json"))
    [experiment] = [row for listed in shown[1]["experiments"] for row in listed["revs"]]
    assert experiment["name"] == "probe-1"
    score = experiment["data"]["metrics"]["models/finetuned/validation.json"]["data"]["macro_f1"]
    assert f"{score:.4f}" in output

    apply = shlex.split(output.splitlines()[-1])
    assert apply == ["dvc", "exp", "apply", "probe-1"]
    tokenized.run(*apply)
    assert "lr: 0.003" in (tokenized.path / "params.yaml").read_text()
    assert tokenized.ran(tokenized.dvc("repro", "finetune")) == []  # the model came along
