"""A folder that stages.finetune can run in, with a base model of random weights and documents of random tokens.

Memory and speed do not depend on what a model knows: so no weights have to be fetched.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from ruamel.yaml import YAML
from tokenizers import Tokenizer, models
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from cleantune import files
from cleantune.data import tables
from cleantune.models import encoder

COLUMNS = ("id", "input_ids", "label", "length", "weight")
CLASSES = ("World", "Sports", "Business", "Sci/Tech")  # of AG News


class Shape(NamedTuple):
    """The architecture of a random model."""

    model_type: str
    config: dict[str, Any]
    dtype: torch.dtype  # of its weights


def _bert(vocabulary: int, hidden: int, layers: int, heads: int) -> Shape:
    return Shape("bert", {"vocab_size": vocabulary, "hidden_size": hidden, "num_hidden_layers": layers,
                          "num_attention_heads": heads, "intermediate_size": 4 * hidden}, torch.float32)  # fmt: skip


def _qwen3(vocabulary: int, hidden: int, layers: int, heads: int, head: int) -> Shape:
    return Shape("qwen3", {"vocab_size": vocabulary, "hidden_size": hidden, "num_hidden_layers": layers,
                           "num_attention_heads": heads, "num_key_value_heads": heads // 2, "head_dim": head,
                           "intermediate_size": 3 * hidden, "tie_word_embeddings": True}, torch.bfloat16)  # fmt: skip


SHAPES = {
    "tiny encoder": _bert(64, 32, 2, 2),
    "tiny decoder": _qwen3(64, 32, 2, 2, 16),
    "MiniLM": _bert(30_522, 384, 6, 12),
    "BERT-base": _bert(30_522, 768, 12, 12),
    "decoder 0.15 B": _qwen3(32_768, 768, 14, 12, 64),
    "decoder 0.5 B": _qwen3(65_536, 1024, 28, 16, 128),
    "decoder 0.6 B": _qwen3(151_936, 1024, 28, 16, 128),
}
"""By name; the last is Qwen3-0.6B."""


def write(
    folder: Path, shape: Shape, lengths: Sequence[int], validation: int, **params: Any
) -> None:
    """Write all that stages.finetune reads: a training document of each of the ``lengths``, in tokens.

    ``params`` are changes of params.yaml; a nested key as finetune__lora.
    """
    rng = np.random.default_rng(0)
    for split, chosen in (("train", lengths), ("validation", lengths[:validation])):
        ids = [rng.integers(5, shape.config["vocab_size"], n) for n in chosen]
        table = pd.DataFrame({
            "id": [f"{split}-{i}" for i in range(len(ids))], "input_ids": ids, "length": list(chosen),
            "label": np.arange(len(ids)) % len(CLASSES), "weight": 1.0,
        })  # fmt: skip
        tables.write_table(folder / tables.TOKENS / f"{split}.parquet", table, COLUMNS)
    files.write_json(folder / tables.SOURCE, {"labels": list(CLASSES)})
    files.write_json(folder / tables.TEXT_STEPS, {"repair": True})
    if not (folder / "base").exists():
        write_model(folder / "base", shape)
    pointer = encoder.pointer_to("base", None, folder / "base")
    files.write_json(folder / encoder.PRETRAINED / encoder.POINTER, pointer)
    shutil.copy("ds_config.json", folder)
    yaml = YAML()
    content = yaml.load(Path("params.yaml").read_text(encoding="utf-8"))
    for key, value in params.items():
        *parents, name = key.split("__")
        section = content
        for parent in parents:
            section = section[parent]
        section[name] = value
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(content, file)


def write_model(folder: Path, shape: Shape) -> None:
    """Write a base model of random weights, in shards, and a tokenizer that knows its special tokens alone."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(shape.model_type, pad_token_id=0, **shape.config)
    config.dtype = shape.dtype
    build: Any = AutoModel
    build.from_config(config, dtype=shape.dtype).save_pretrained(folder, max_shard_size="500MB")
    special = {"pad_token": "[PAD]", "eos_token": "[SEP]"}
    vocabulary = {token: i for i, token in enumerate(special.values())}
    reader: Any = PreTrainedTokenizerFast
    reader(tokenizer_object=Tokenizer(models.WordLevel(vocabulary)), **special).save_pretrained(
        folder
    )
