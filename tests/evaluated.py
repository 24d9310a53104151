"""A small corpus, a two-layer classifier trained on it, and all that baselines and evaluate read."""

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import BertWordPieceTokenizer, Tokenizer, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from cleantune import files
from cleantune.data import tables
from cleantune.labels import corrections
from cleantune.training import lora
from stages import baselines, evaluate
from tests import tiny
from tests.conftest import REPOSITORY

NAMES = ["World", "Sports", "Biz <b>&amp;</b>"]
HOSTILE = (
    "</p><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'> {{ names }}"
)
WORDS = {
    0: ["minister", "treaty", "border", "election", "parliament", "embassy", "army", "troops"],
    1: ["coach", "goal", "match", "season", "striker", "league", "tournament", "victory"],
    2: ["shares", "profit", "market", "earnings", "merger", "bank", "quarter", "stocks"],
}
FILLER = [
    "the",
    "a",
    "of",
    "in",
    "on",
    "said",
    "new",
    "after",
    "for",
    "with",
    "monday",
    "report",
    "again",
]
SIZES = {"train": 180, "validation": 45, "test": 60}


def run(folder: Path, mistakes: int) -> None:
    """Run baselines and evaluate in ``folder``, explaining that many mistakes on the page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copy(REPOSITORY / "params.yaml", folder)
        tiny.set_params(folder, baselines__models=["ngram", "tfidf"],
                        evaluate__explained_mistakes=mistakes)  # fmt: skip
        write(folder)
        baselines.main()
        evaluate.main()


def write(folder: Path) -> None:
    """Write data/ and models/finetuned under ``folder``; 15 % of the labels of each split are wrong."""
    rng = np.random.default_rng(0)
    splits = {split: _documents(split, count, rng) for split, count in SIZES.items()}
    hostile = splits["test"].index[3:9]  # wrongly labelled, so that some are surely mistakes
    splits["test"].loc[hostile, "text"] += " " + HOSTILE
    splits["test"].loc[hostile, "label"] = (splits["test"].loc[hostile, "label"] + 1) % 3
    splits["train"].loc[:8, "title"] += " (AFP)"
    splits["train"].loc[9:13, "title"] += " (AP)"
    columns = (*tables.TEXT_COLUMNS, "group")
    for split, table in splits.items():
        tables.write_table(folder / tables.CLEAN / f"{split}.parquet", table, columns)
    train = splits["train"]
    weighted = (*columns, "weight")
    tables.write_table(folder / tables.LABELS / "train.parquet", train, weighted)
    tables.write_table(folder / tables.RAW / "test.parquet", splits["test"], tables.TEXT_COLUMNS)
    leak = train.head(2).assign(
        id=["train-900", "train-901"], split="train", reason="leak", label=[0, 1],
        duplicate_of=["test-0", "test-1"],
    )  # fmt: skip
    kept = ("id", "split", "title", "text", "label", "reason", "duplicate_of")
    tables.write_table(folder / tables.CLEAN / "dropped.parquet", leak, kept)
    example = {"id": "train-1", "before": "<b>bold</b>", "after": "bold"}
    repairs = {"html_tags": {"documents": 1, "examples": [example]}}
    cleaning = {"dropped": {"leak": 2}, "repairs": repairs,
                "near_duplicates": {"groups": 2, "documents": 5, "largest": 3}}  # fmt: skip
    files.write_json(folder / tables.CLEAN / "summary.json", cleaning)
    files.write_json(folder / tables.LABELS / "summary.json", {
        "documents": 180, "flagged": 20, "action": "drop", "labels_changed": 0, "documents_dropped": 7,
    })  # fmt: skip
    source = {
        "dataset": "tiny",
        "labels": NAMES,
        "licence": "CC0",
        "source": "made up",
        "files": {},
    }
    files.write_json(folder / tables.SOURCE, source)
    files.write_text(folder / corrections.TEST_CORRECTIONS, corrections.as_csv([]))
    _train(folder, splits)


def _documents(split: str, count: int, rng: np.random.Generator) -> pd.DataFrame:
    truth = rng.integers(0, 3, count)
    texts = [
        " ".join(rng.permutation([*rng.choice(WORDS[k], 4), *rng.choice(FILLER, rng.integers(4, 12))]))
        for k in truth
    ]  # fmt: skip
    wrong = rng.random(count) < 0.15
    ids = [f"{split}-{i}" for i in range(count)]
    return pd.DataFrame({
        "id": ids, "title": [t.split()[0] for t in texts], "text": texts, "group": ids,
        "label": np.where(wrong, (truth + 1) % 3, truth), "weight": 1.0,
    })  # fmt: skip


def _train(folder: Path, splits: dict[str, pd.DataFrame]) -> None:
    wordpieces = BertWordPieceTokenizer()
    wordpieces.train_from_iterator(tables.full_text(splits["train"]), vocab_size=300)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=wordpieces._tokenizer, model_max_length=48, pad_token="[PAD]",
        unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64,
        id2label=dict(enumerate(NAMES)), label2id={n: i for i, n in enumerate(NAMES)},
    ))  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    encoded = tokenizer(tables.full_text(splits["train"]), padding=True, return_tensors="pt")
    labels = torch.tensor(splits["train"]["label"].to_numpy())
    rows = []
    for step in range(1, 61):  # fewer leave the accuracy to chance
        batch = torch.randperm(len(labels), generator=torch.Generator().manual_seed(step))[:32]
        loss = model(input_ids=encoded["input_ids"][batch], labels=labels[batch],
                     attention_mask=encoded["attention_mask"][batch]).loss  # fmt: skip
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        rows.append(
            f"{step},{step / 30:.3f},0.003,{loss.item():.4f},1.0,{'0.9,0.8,0.79' if step % 30 == 0 else ',,'}"
        )
    out = folder / "models/finetuned"
    model.save_pretrained(out)
    adapter = get_peft_model(deepcopy(model), LoraConfig(r=1, target_modules=["query"]))
    adapter.save_pretrained(out / lora.ADAPTER)  # read by nothing here
    tokenizer.save_pretrained(out)
    head = "step,epoch,learning_rate,loss,gradient_norm,validation_loss,validation_accuracy,validation_macro_f1"
    files.write_text(out / "history.csv", "\n".join([head, *rows]) + "\n")
    files.write_json(out / "summary.json", {
        "base_model": "tiny", "best_epoch": 2, "epochs": 2, "steps": 60,
        "training_documents": dict(zip(NAMES, [60, 60, 60], strict=True)),
    })  # fmt: skip
    for split in SIZES:
        table = splits[split].assign(input_ids=tokenizer(tables.full_text(splits[split]),
                                     truncation=True, max_length=48)["input_ids"])  # fmt: skip
        table["length"] = table["input_ids"].map(len)
        tables.write_table(folder / tables.TOKENS / f"{split}.parquet", table,
                           ("id", "input_ids", "label", "length", "weight"))  # fmt: skip


def shorten(project: Path, folder: Path, method: str) -> None:
    """Copy the model of ``project`` to ``folder``, as one that reads 12 tokens at once, by ``method``.

    Two of the tokens are special ones, which the tokenizer now adds.
    """
    out = folder / "models/finetuned"
    shutil.copytree(project / "models/finetuned", out)
    config = files.read_json(out / "tokenizer_config.json")
    files.write_json(out / "tokenizer_config.json", config | {"model_max_length": 12})
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    special = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    around: Any = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    tokenizer.post_processor = around
    tokenizer.save(str(out / "tokenizer.json"))
    summary = files.read_json(out / "summary.json")
    recorded = {"long_documents": {"method": method, "max_chunks": 3}}
    files.write_json(out / "summary.json", summary | recorded)
