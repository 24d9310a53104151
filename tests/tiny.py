"""A corpus and a two-layer model on which fine-tuning takes a second; what engine tests run on."""

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from ruamel.yaml import YAML
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from stages.common import corpus, files
from tests.conftest import REPOSITORY

WORDS = 60
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CLASSES = ["World", "Sports", "Sci/Tech"]


def write(folder: Path, documents: int = 40, validation: int = 21, dropout: float = 0.0) -> None:
    """Write all that finetune reads to ``folder``; class k prefers every third word."""
    rng = np.random.default_rng(0)
    for split, count in {"train": documents, "validation": validation}.items():
        labels = rng.integers(0, len(CLASSES), count)
        lengths = rng.integers(4, 30, count)
        ids = [[2, *(5 + 3 * rng.integers(0, WORDS // 3, n) + label * (rng.random(n) < 0.4)), 3]
               for n, label in zip(lengths, labels, strict=True)]  # fmt: skip
        table = pd.DataFrame({"id": [f"{split}-{i}" for i in range(count)], "label": labels})
        table = table.assign(input_ids=ids, length=lengths + 2, weight=1.0)
        columns = ("id", "input_ids", "label", "length", "weight")
        corpus.write_table(folder / corpus.TOKENS / f"{split}.parquet", table, columns)
    files.write_json(folder / corpus.SOURCE, {"labels": CLASSES})
    write_model(folder / "base", dropout)
    pointer = {"model": "base", "entry": None}
    pointer["sha256"] = files.sha256(folder / "base/model.safetensors")
    files.write_json(folder / "models/pretrained/base_model.json", pointer)
    for name in ("params.yaml", "ds_config.json"):
        (folder / name).write_bytes((REPOSITORY / name).read_bytes())


def write_model(folder: Path, dropout: float) -> None:
    """Write a BERT of two layers with random weights, and a tokenizer that knows ``WORDS`` words."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=WORDS + len(SPECIAL),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(folder)
    vocabulary = SPECIAL + [f"w{i}" for i in range(WORDS)]
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]",
             "sep_token": "[SEP]", "mask_token": "[MASK]"}  # fmt: skip
    PreTrainedTokenizerFast(tokenizer_object=words, **names).save_pretrained(folder)


def set_params(folder: Path, **changes: Any) -> None:
    """Change values in ``folder``'s params.yaml; ``finetune__dropout`` stands for a nested key."""
    yaml = YAML()
    content = yaml.load((folder / "params.yaml").read_text())
    for name, value in changes.items():
        section = content
        *parents, key = name.split("__")
        for parent in parents:
            section = section[parent]
        assert key in section, f"params.yaml has no {name}"
        section[key] = value
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(content, file)


def command(module: str = "stages.finetune") -> list[str]:
    """Return the command of a stage."""
    return [sys.executable, "-m", module]


def environment(**changes: str) -> dict[str, str]:
    """Return an environment with one thread a process: equal results, and no fighting for cores."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **changes}


def finetune(folder: Path, **params: Any) -> list[dict[str, float]]:
    """Run ``python -m stages.finetune`` in ``folder`` and return its history."""
    set_params(folder, **params)
    done = subprocess.run(command(), cwd=folder, env=environment(), capture_output=True, text=True,
                          timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return history(folder)


def history(folder: Path) -> list[dict[str, float]]:
    """Read the history that finetune left in ``folder``."""
    with (folder / "models/finetuned/history.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
