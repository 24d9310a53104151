"""params.yaml: every wrong value is refused with key, value and what is allowed."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from cleantune.errors import UserError
from cleantune.params.read import read_params
from cleantune.params.sections import Params
from tests.conftest import REPOSITORY

WRONG = [
    ("lr", -1, "lr: -1 is not allowed; allowed: a number > 0 and <= 1"),
    ("lr", "fast", "lr: 'fast' is not allowed; allowed: a number > 0 and <= 1"),
    ("lr", float("nan"), "lr: nan is not allowed; allowed: a number > 0 and <= 1"),
    ("epochs", 0, "epochs: 0 is not allowed; allowed: a whole number >= 1 and <= 1000"),
    ("epochs", 1.5, "epochs: 1.5 is not allowed; allowed: a whole number"),
    ("precision", "fp64", "precision: 'fp64' is not allowed; allowed: auto, bf16, fp32"),
    ("processes", 0, "processes: 0 is not allowed; allowed: auto or a whole number >= 1"),
    ("dataset", "smple", "dataset: 'smple' is not allowed; allowed: sample, ag_news"),
    ("augment.method", "eda", "augment.method: 'eda' is not allowed; allowed: none, swap"),
    ("augment.copies", 0, "augment.copies: 0 is not allowed; allowed: a whole number >= 1"),
    ("augment.share", 1, "augment.share: 1 is not allowed; allowed: a number > 0 and < 1"),
    ("finetune.r_drop", -1, "finetune.r_drop: -1 is not allowed; allowed: a number >= 0"),
    ("finetune.lora", 8, "finetune.lora: 8 is not allowed; allowed: a section or null"),
    ("finetune.lora", {"rank": 8}, "finetune.lora.alpha: missing; allowed: a number > 0"),
    (
        "finetune.lora",
        {"rank": 8, "alpha": 16, "kind": "qlora"},
        "finetune.lora.kind: 'qlora' is not allowed; allowed: lora, dora, rslora",
    ),
    ("sed", 1, "sed: unknown key; did you mean seed?"),
    ("clean.lowercase", 1, "clean.lowercase: 1 is not allowed; allowed: true or false"),
    ("clean.lowrcase", True, "clean.lowrcase: unknown key; did you mean lowercase?"),
    ("clean", 3, "clean: 3 is not allowed; allowed: a section"),
    (
        "finetune.class_weights",
        "balance",
        "finetune.class_weights: 'balance' is not allowed; allowed: none, balanced",
    ),
    (
        "evaluate.threshold",
        0.5,
        "evaluate.threshold: 0.5 is not allowed; allowed: argmax, f1, precision",
    ),
    ("datasets.ag_news.hub.revision", "main", "datasets.ag_news.hub.revision: 'main' is not"),
    (
        "datasets.sample.format",
        "xls",
        "datasets.sample.format: 'xls' is not allowed; allowed: auto",
    ),
]


def write(path: Path, key: str, value: object) -> None:
    yaml = YAML()
    content = yaml.load(path.read_text())
    *parents, last = key.split(".")
    section = content
    for parent in parents:
        section = section[parent]
    section[last] = value
    with path.open("w") as file:
        yaml.dump(content, file)


@pytest.mark.parametrize(("key", "value", "message"), WRONG)
def test_a_wrong_value_is_refused_with_key_value_and_range(workspace, key, value, message):
    write(workspace / "params.yaml", key, value)
    with pytest.raises(UserError, match=re.escape(message)):
        read_params(["seed"])  # a stage that does not even read the wrong key


def test_knobs_that_do_not_go_together_stop_the_first_stage(workspace):
    write(workspace / "params.yaml", "evaluate.threshold", "f1")
    with pytest.raises(UserError, match=r"evaluate\.threshold: 'f1' is not allowed; .* 4 classes"):
        read_params([])
    write(workspace / "params.yaml", "dataset", "spam_sample")
    read_params([])
    for key, value in {"epochs": 1, "block_length": 64, "from_scratch": True}.items():
        write(workspace / "params.yaml", f"pretrain.{key}", value)
    with pytest.raises(UserError, match=r"max_length: 128 .* up to pretrain\.block_length \(64\)"):
        read_params([])


@pytest.mark.parametrize(("rank", "lora"), [(0, "null"), (8, "{rank: 8, alpha: 16}")])
def test_the_former_key_of_adapters_is_answered_with_the_new_one(workspace, rank, lora):
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(
        re.sub("^  lora: null", f"  lora_rank: {rank}", text, flags=re.MULTILINE)
    )
    with pytest.raises(UserError) as said:
        read_params([])
    assert str(said.value) == (
        f"params.yaml:\n  finetune.lora_rank: {rank} is now finetune.lora: {lora}"
    )


def test_adapters_freeze_all_layers_themselves(workspace):
    write(workspace / "params.yaml", "finetune.lora", {"rank": 8, "alpha": 16})
    read_params([])
    write(workspace / "params.yaml", "finetune.freeze_layers", 2)
    with pytest.raises(UserError, match=r"finetune\.freeze_layers: 2 is not allowed; allowed: 0"):
        read_params([])


def test_the_number_dvc_writes_for_2e_5_is_a_float(workspace):
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(re.sub(r"^lr: \S+", "lr: 2e-05", text, flags=re.MULTILINE))
    assert read_params(["lr"]).lr == 2e-5


@pytest.mark.parametrize("key", Params.model_fields)
def test_every_key_is_needed(workspace, key):
    yaml = YAML()
    content = yaml.load((REPOSITORY / "params.yaml").read_text())
    del content[key]
    with Path("params.yaml").open("w") as file:
        yaml.dump(content, file)
    with pytest.raises(UserError, match=f"{key}: missing; allowed: "):
        read_params([])


def test_a_stage_sees_only_the_keys_it_named(workspace):
    params = read_params(["seed"])
    assert params.seed == 42
    with pytest.raises(AttributeError):
        _ = params.lr


def test_a_file_that_is_missing_or_no_yaml_says_so(workspace):
    Path("params.yaml").write_text("lr: [1")
    with pytest.raises(UserError, match=r"(?s)params\.yaml is not YAML: .*line 1"):
        read_params([])
    Path("params.yaml").unlink()
    with pytest.raises(UserError, match=r"params\.yaml is missing"):
        read_params([])


def test_every_knob_is_explained_in_the_file():
    # The comment beside or above a key is its documentation; a key without one is a riddle.
    sections = {"models", "datasets"}  # their fields are explained in cleantune/params/read.py
    bare, section = [], ""
    for line in (REPOSITORY / "params.yaml").read_text().splitlines():
        if re.match(r"\w+:", line):
            section = line.split(":")[0]
        if re.match(r"(  )?\w+: *\S", line) and section not in sections and " #" not in line:
            bare.append(line)
    assert bare == []
