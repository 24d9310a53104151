"""The fine-tuned judge of labels says what is wrong with a base model that it cannot load.

tests/stages/test_label_noise.py covers what it says of the labels.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cleantune import files
from cleantune.data import tables
from cleantune.labels import corrections
from cleantune.models import encoder
from tests import tiny
from tests.conftest import REPOSITORY


def cut_short(base: Path) -> None:
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def of_pictures(base: Path) -> None:
    config = files.read_json(base / "config.json")
    files.write_json(base / "config.json", config | {"model_type": "vit"})


def of_no_known_kind(base: Path) -> None:
    config = files.read_json(base / "config.json")
    files.write_json(base / "config.json", config | {"model_type": "nobody's"})


@pytest.mark.parametrize("damage", [cut_short, of_pictures, of_no_known_kind])
def test_a_base_model_that_cannot_be_loaded_gives_one_message(runner, tmp_path, damage):
    for name in ("params.yaml", "ds_config.json"):
        (tmp_path / name).write_bytes((REPOSITORY / name).read_bytes())
    tiny.write_model(tmp_path / "base", dropout=0.0)
    damage(tmp_path / "base")
    base = encoder.pointer_to("base", None, tmp_path / "base")
    files.write_json(tmp_path / encoder.ENCODER, base)
    table = pd.DataFrame({"id": [f"train-{i}" for i in range(12)], "title": "", "text": "w1 w2",
                          "label": np.arange(12) % 3})  # fmt: skip
    table = table.assign(group=table["id"])
    tables.write_table(tmp_path / tables.RAW / "train.parquet", table, tables.TEXT_COLUMNS)
    columns = (*tables.TEXT_COLUMNS, "group")
    tables.write_table(tmp_path / tables.CLEAN / "train.parquet", table, columns)
    files.write_json(tmp_path / tables.SOURCE, {"dataset": "custom", "labels": tiny.CLASSES})
    (tmp_path / corrections.CORRECTIONS).write_text(",".join(corrections.COLUMNS) + "\n")
    run = runner.start(tmp_path, "stages.label_noise", label_noise__model="finetuned",
                       label_noise__encoder="base", label_noise__folds=3)  # fmt: skip
    assert run.statuses == [1], run.output
    assert "error: base cannot be loaded" in run.output
    assert "Traceback" not in run.output
