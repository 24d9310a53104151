"""A corpus and a two-layer model on which fine-tuning takes a second; what engine tests run on."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from ruamel.yaml import YAML
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from cleantune import files
from cleantune.data import tables
from cleantune.models import encoder
from tests.conftest import REPOSITORY

WORDS = 60
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Bring up the loopback of a network namespace of our own (SIOCSIFFLAGS, IFF_UP), then go on.
LOOPBACK = """
import fcntl, os, socket, struct, sys
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh", b"lo", 1))
os.execvp(sys.argv[1], sys.argv[1:])
"""
CLASSES = ["World", "Sports", "Sci/Tech"]
STEPS = {"repair": True, "ag_news_artifacts": True, "lowercase": False, "strip_punctuation": False,
         "remove_stop_words": False}  # fmt: skip


def without_network(*command: str) -> list[str]:
    """Return what runs ``command`` with loopback alone; ``command`` where the system refuses that."""
    network = ["/usr/bin/unshare", "--user", "--map-root-user", "--net"]
    alone = [*network, sys.executable, "-c", LOOPBACK]
    able = Path(network[0]).exists() and not subprocess.run([*alone, "true"]).returncode
    return [*(alone if able else []), *command]


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
        tables.write_table(folder / tables.TOKENS / f"{split}.parquet", table, columns)
    files.write_json(folder / tables.SOURCE, {"labels": CLASSES})
    files.write_json(folder / tables.TEXT_STEPS, STEPS)
    write_model(folder / "base", dropout)
    record_base(folder)
    for name in ("params.yaml", "ds_config.json"):
        (folder / name).write_bytes((REPOSITORY / name).read_bytes())


def record_base(folder: Path) -> None:
    """Write the records of the base model in ``folder``/base, as fetch_models and pretrain do."""
    pointer = encoder.pointer_to("base", None, folder / "base")
    for path in (encoder.MODEL, encoder.ENCODER, encoder.PRETRAINED / encoder.POINTER):
        files.write_json(folder / path, pointer)


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
    tokenizer: Any = PreTrainedTokenizerFast
    tokenizer(tokenizer_object=words, **names).save_pretrained(folder)


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


def history(folder: Path) -> list[dict[str, float]]:
    """Read the history that finetune left in ``folder``."""
    with (folder / "models/finetuned/history.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def losses(folder: Path) -> list[float]:
    """Return the training loss of every step."""
    return [row["loss"] for row in history(folder)]


@dataclass
class Run:
    """How a run ended."""

    statuses: list[int]
    output: str
    seconds: float


class Runner:
    """Runs stages in real processes; see ``tests.fork_server``."""

    def __init__(self) -> None:
        # One thread a process: equal results, and no fighting for cores.
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server"], cwd=REPOSITORY, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert self._server.stdout and self._server.stdout.readline() == "ready\n"

    def start(
        self,
        folder: Path,
        module: str = "stages.finetune",
        processes: int = 1,
        kill_after: float | None = None,
        victim: int | None = None,
        number: int = signal.SIGKILL,
        before: str | None = None,
        environment: dict[str, str] | None = None,
        arguments: Sequence[str] = (),
        **params: Any,
    ) -> Run:
        """Run a stage with ``params`` changed, however it ends.

        ``victim`` is the rank to be killed; the others then end as they do under torchrun.
        ``before`` names a function of ``tests.sabotage`` to call first in every process.
        """
        set_params(folder, **params)
        request = {"folder": str(folder), "module": module, "processes": processes, "before": before,
                   "kill_after": kill_after, "victim": victim, "signal": int(number),
                   "arguments": list(arguments), "environment": environment or {}}  # fmt: skip
        assert self._server.stdin and self._server.stdout
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return Run(**json.loads(self._server.stdout.readline()))

    def run(self, folder: Path, **request: Any) -> list[float]:
        """Run finetune to its good end and return the loss of every step."""
        run = self.start(folder, **request)
        assert not any(run.statuses), run.output
        return losses(folder)

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin
        self._server.stdin.close()
        self._server.wait()
