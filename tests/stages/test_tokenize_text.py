"""tokenize_text: every document once, in order, as the model will read it, and no padding."""

from pathlib import Path

import pandas as pd
import pytest
from transformers import AutoTokenizer

from cleantune import files
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.models import long_documents
from stages import tokenize_text
from tests import tiny

TEXTS = ["w1 w2 w3", "", "w4 " * 40, "w5 unheard-of w6"]


@pytest.fixture
def inputs(workspace: Path) -> Path:
    tiny.write(workspace)
    table = pd.DataFrame({"title": ["w9", "", "", "w7"], "text": TEXTS, "label": [0, 1, 2, 0]})
    for split in ("train", "validation", "test"):
        named = table.assign(id=[f"{split}-{i}" for i in range(4)], weight=[1.0, 0.5, 1.0, 0.25])
        columns = (*tables.TEXT_COLUMNS, *(["weight"] if split == "train" else []))
        folder = tables.LABELS if split == "train" else tables.CLEAN
        tables.write_table(folder / f"{split}.parquet", named, columns)
    tiny.set_params(workspace, max_length=16)
    return workspace


def test_every_document_comes_out_once_in_order_with_its_label_and_weight(inputs):
    tokenize_text.main()
    for split, weights in (("train", [1.0, 0.5, 1.0, 0.25]), ("test", [1.0] * 4)):
        tokens = tables.read_table(tables.TOKENS / f"{split}.parquet", tokenize_text.COLUMNS)
        assert tokens["id"].to_list() == [f"{split}-{i}" for i in range(4)]
        assert tokens["label"].to_list() == [0, 1, 2, 0]
        assert tokens["weight"].to_list() == weights


def test_soft_labels_reach_the_training_tokens_and_their_changed_copies(inputs):
    tokenize_text.main()
    path = tables.LABELS / "train.parquet"
    table = tables.read_table(path).assign(other_label=[1, 1, 2, 0], other_share=[0, 0.5, 0, 0.25])
    columns = (*tables.TEXT_COLUMNS, "weight", *tables.SOFT_LABELS)
    tables.write_table(path, table, columns)
    tiny.set_params(inputs, augment__method="swap")
    tokenize_text.main()
    tokens = tables.read_table(tables.TOKENS / "train.parquet")
    assert tokens["other_label"].to_list() == [1, 1, 2, 0] * 2
    assert tokens["other_share"].to_list() == [0, 0.5, 0, 0.25] * 2
    assert "other_share" not in tables.read_table(tables.TOKENS / "validation.parquet")


def test_token_numbers_are_those_of_the_models_own_tokenizer_cut_and_unpadded(inputs):
    tokenize_text.main()
    tokens = tables.read_table(tables.TOKENS / "train.parquet")
    tokenizer = AutoTokenizer.from_pretrained("base")
    texts = tables.full_text(tables.read_table(tables.LABELS / "train.parquet"))
    expected = [tokenizer(text, truncation=True, max_length=16)["input_ids"] for text in texts]
    assert [list(ids) for ids in tokens["input_ids"]] == expected
    assert tokens["length"].to_list() == [len(ids) for ids in expected]
    assert tokens["length"].max() == 16
    assert all(tokenizer.pad_token_id not in ids for ids in expected)


def test_two_runs_write_the_same_bytes(inputs):
    hashes = []
    for _ in range(2):
        tokenize_text.main()
        hashes.append([files.sha256(path) for path in sorted(tables.TOKENS.iterdir())])
    assert hashes[0] == hashes[1]


def test_a_base_model_that_changed_since_it_was_chosen_is_refused(inputs):
    weights = Path("base/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"changed: model\.safetensors"):
        tokenize_text.main()
    assert not tables.TOKENS.exists() or "test.parquet" not in [p.name for p in tables.TOKENS.iterdir()]  # fmt: skip


@pytest.mark.parametrize("method", ["head_tail", "chunks"])
def test_long_documents_are_read_as_the_params_say(inputs, method):
    tiny.set_params(inputs, long_documents=method, max_chunks=3)
    tokenize_text.main()
    tokenizer = AutoTokenizer.from_pretrained("base")
    read = [list(ids) for ids in tables.read_table(tables.TOKENS / "train.parquet")["input_ids"]]
    texts = tables.full_text(tables.read_table(tables.LABELS / "train.parquet"))
    whole = [tokenizer(text)["input_ids"] for text in texts]
    before, after = 0, 0  # the tiny tokenizer adds no special tokens
    assert len(whole[2]) == 40
    reading = long_documents.Reading(method, 16, 3, before, after)
    assert read == [reading.select(ids) for ids in whole]
    if method == "chunks":  # 40 tokens in 3 chunks of 13 and 14, all of them read
        assert read == whole
    summary = files.read_json(tables.TOKENS / "summary.json")["train"]
    unread = 24 if method == "head_tail" else 0
    assert summary["truncated"] == (unread > 0)
    assert summary["unread_share"] == pytest.approx(unread / sum(map(len, whole)), abs=1e-6)
    assert summary["documents"] == 4


def test_an_unknown_script_and_cut_documents_are_told_with_what_helps(inputs, capsys):
    tables.write_table(
        tables.LABELS / "train.parquet",
        tables.read_table(tables.LABELS / "train.parquet").assign(text="ที่ดี " * 30),
        (*tables.TEXT_COLUMNS, "weight"),
    )
    tokenize_text.main()
    said = " ".join(capsys.readouterr().out.split())
    assert "of the training tokens are unknown to the tokenizer of base" in said
    assert "dvc exp run -S model=xlm-roberta" in said
    assert "100% of the training documents are too long to be read whole" in said
    assert "-S long_documents=chunks leaves 0% unread" in said
    summary = files.read_json(tables.TOKENS / "summary.json")
    assert summary["train"]["unknown_tokens"] > 50
    assert summary["test"]["unknown_tokens"] == 3, "unheard-of: three tokens"


def noting(monkeypatch, whole):
    """Let the stage tokenize by ``whole``; return a list that grows by the texts."""
    seen: list[str] = []

    def tokenize(tokenizer, texts, reading):
        seen.extend(texts)
        return whole(tokenizer, texts, reading)

    monkeypatch.setattr(tokenize_text, "tokenize", tokenize)
    return seen


def interrupted(monkeypatch, whole):
    """Run the stage until the third part, a document each; the parts are kept."""
    monkeypatch.setattr(tokenize_text, "PART", 1)
    done: list[str] = []

    def tokenize(tokenizer, texts, reading):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.extend(texts)
        return whole(tokenizer, texts, reading)

    monkeypatch.setattr(tokenize_text, "tokenize", tokenize)
    with pytest.raises(KeyboardInterrupt):
        tokenize_text.main()


def test_a_run_that_was_killed_goes_on_after_the_last_part(inputs, monkeypatch):
    tokenize_text.main()
    expected = [files.sha256(path) for path in sorted(tables.TOKENS.iterdir())]
    whole = tokenize_text.tokenize
    interrupted(monkeypatch, whole)
    again = noting(monkeypatch, whole)
    tokenize_text.main()
    assert [files.sha256(path) for path in sorted(tables.TOKENS.iterdir())] == expected
    assert len(again) == 12 - 2, "what was kept is not tokenized again"
    assert not tokenize_text.UNFINISHED.exists()


def test_parts_of_another_run_are_not_used(inputs, monkeypatch):
    whole = tokenize_text.tokenize
    interrupted(monkeypatch, whole)
    tiny.set_params(inputs, max_length=8)
    again = noting(monkeypatch, whole)
    tokenize_text.main()
    assert len(again) == 12
