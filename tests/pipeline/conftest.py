"""Real git and DVC repositories in temporary folders, holding this project and a tiny model."""

import csv
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML
from transformers import AutoTokenizer, BertConfig, BertModel

from cleantune.models import encoder
from cleantune.params.read import read_params
from tests.conftest import REPOSITORY

# What makes the whole pipeline run in half a minute, on a third of the sample corpus: a two-layer model,
# one epoch of everything.
QUICK: dict[str, Any] = {
    "model": "tiny-model",
    "epochs": 1,
    "max_length": 48,
    "precision": "fp32",  # in which processes agree to the last digits
    "baselines": {"models": ["tfidf", "rnn"], "epochs": 1, "word_vectors": "random"},
    "finetune": {"checkpoint_steps": 5},
    "label_noise": {"model": "tfidf", "folds": 2},
    "evaluate": {"robustness_documents": 20, "explained_mistakes": 1},
}


@dataclass
class Project:
    """A repository of this project, and the commands a user would type in it."""

    path: Path

    @property
    def environment(self) -> dict[str, str]:
        """What every command sees of the environment."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = os.environ | {"PATH": path, "COLUMNS": "80", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
        env.pop("PYTHONPATH", None)  # each repository runs its own code
        return env

    def run(self, *command: str, status: int = 0) -> str:
        """Run a command, check its exit status, return what it printed."""
        done = subprocess.run(
            command,
            cwd=self.path,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == status, f"{' '.join(command)}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def dvc(self, *arguments: str, status: int = 0) -> str:
        return self.run("dvc", *arguments, status=status)

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
        return self.run("git", *identity, *arguments)

    def ran(self, output: str) -> list[str]:
        """Return the stages that DVC ran, in order, from what it printed."""
        return re.findall(r"^(?:> )?Running stage '(\w+)'", output, flags=re.MULTILINE)

    def clone(self, path: Path) -> "Project":
        self.run("git", "clone", "--quiet", str(self.path), str(path))
        return Project(path)


def _thin(path: Path) -> None:
    """Keep a third of a table's rows, so that stages take little longer than their imports."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [*csv.reader(file)]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows[::3])  # as git checks it out


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with random weights, no dropout, and MiniLM's tokenizer."""
    folder = tmp_path_factory.mktemp("model") / "tiny-model"
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    models = read_params(["models"], REPOSITORY / "params.yaml").models
    AutoTokenizer.from_pretrained(encoder.find("minilm", models)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Project:
    """This project as it stands in the working tree, committed in a repository of its own."""
    path = tmp_path_factory.mktemp("project") / "origin"
    listed = ("git", "ls-files", "--cached", "--others", "--exclude-standard")
    names = subprocess.run(
        listed, cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    for name in names.splitlines():
        if (REPOSITORY / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, path / name)
    (path / "dvc.lock").unlink(missing_ok=True)
    for split in ("train", "test"):
        _thin(path / f"data/sample/{split}.csv")
    shutil.copytree(tiny_model, path / "tiny-model")
    yaml = YAML()
    params = yaml.load(path / "params.yaml")
    for key, value in QUICK.items():
        if isinstance(value, dict):
            params[key].update(value)
        else:
            params[key] = value
    yaml.dump(params, path / "params.yaml")
    project = Project(path)
    project.git("init", "--quiet", "--initial-branch=main")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message=As in the working tree")
    return project
