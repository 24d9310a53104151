"""augment: copies of training documents alone, traceable and seeded; cutoff, which makes none."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from cleantune import files
from cleantune.augmentation import copies, token_cutoff
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.models import encoder
from cleantune.training import batches
from stages import tokenize_text
from tests import tiny

METHODS = ["swap", "synonyms", "masked"]
DOCUMENTS = 12


def texts(split: str) -> list[str]:
    rng = np.random.default_rng(len(split))
    return [" ".join(f"w{w}" for w in rng.choice(tiny.WORDS, 20, False)) for _ in range(DOCUMENTS)]


@pytest.fixture
def inputs(workspace: Path) -> Path:
    """What tokenize_text reads, and a base model with a head for guessing words."""
    tiny.write(workspace)
    tiny.set_params(workspace, max_length=64)
    for split in ("train", "validation", "test"):
        table = pd.DataFrame({"id": [f"{split}-{i}" for i in range(DOCUMENTS)], "title": "w9 w8",
                              "text": texts(split), "label": [i % 3 for i in range(DOCUMENTS)],
                              "weight": [1.0, 0.5] * (DOCUMENTS // 2)})  # fmt: skip
        columns = (*tables.TEXT_COLUMNS, *(["weight"] if split == "train" else []))
        folder = tables.LABELS if split == "train" else tables.CLEAN
        tables.write_table(folder / f"{split}.parquet", table, columns)
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig.from_pretrained("base")).save_pretrained("base")
    pointer = encoder.pointer_to("base", None, Path("base"))
    files.write_json(Path("models/pretrained/base_model.json"), pointer)
    return workspace


def tokenize(folder: Path, **params: object) -> dict[str, str]:
    """Run the stage; return the hash of each split's tokens."""
    tiny.set_params(folder, **params)
    tokenize_text.main()
    return {path.stem: files.sha256(path) for path in tables.TOKENS.iterdir()}


def train_tokens() -> pd.DataFrame:
    table = tables.read_table(tables.TOKENS / "train.parquet")
    return table.assign(input_ids=[tuple(ids) for ids in table["input_ids"]])


@pytest.mark.parametrize("method", METHODS)
def test_copies_follow_the_training_documents_and_nothing_else_changes(inputs, method):
    plain = tokenize(inputs)
    documents = train_tokens()
    augmented = tokenize(inputs, augment__method=method, augment__copies=2)
    assert (plain["validation"], plain["test"]) == (augmented["validation"], augmented["test"])
    table = train_tokens()
    assert len(table) == 3 * DOCUMENTS
    pd.testing.assert_frame_equal(table[:DOCUMENTS], documents)
    for number in (1, 2):
        copied = table[number * DOCUMENTS :][:DOCUMENTS].reset_index(drop=True)
        assert copied["id"].to_list() == [f"{name}~{number}" for name in documents["id"]]
        assert copied[["label", "weight"]].equals(documents[["label", "weight"]])
        assert (copied["input_ids"] != documents["input_ids"]).all()
    assert tables.originals(table["id"]).to_list() == [True] * DOCUMENTS + [False] * 2 * DOCUMENTS


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_text_and_another_another(inputs, method):
    params = {"augment__method": method, "augment__share": 0.3}
    first, again = (tokenize(inputs, **params)["train"] for _ in range(2))
    assert first == again
    assert tokenize(inputs, seed=7)["train"] != first


@pytest.mark.parametrize("method", METHODS)
def test_a_documents_copy_does_not_depend_on_the_others(inputs, method):
    tokenize(inputs, augment__method=method)
    copied = train_tokens().set_index("id")["input_ids"]
    path = tables.LABELS / "train.parquet"
    columns = (*tables.TEXT_COLUMNS, "weight")
    tables.write_table(path, tables.read_table(path)[5:], columns)
    tokenize(inputs)
    fewer = train_tokens().set_index("id")["input_ids"]
    assert fewer.equals(copied[fewer.index])


@pytest.mark.parametrize("method", ["none", "cutoff"])
def test_what_makes_no_copies_leaves_the_tokens_as_they_are(inputs, method):
    plain = tokenize(inputs)
    assert tokenize(inputs, augment__method=method, augment__copies=3, augment__share=0.5) == plain


def test_swap_says_the_same_words_in_another_order_or_fewer_of_them():
    given = texts("train")
    found = [copies.swap(t, 0.2, np.random.default_rng(i)) for i, t in enumerate(given)]
    for before, after in zip(given, found, strict=True):
        assert Counter(after.split()) <= Counter(before.split())
        assert after != before
    kept = sum(len(text.split()) for text in found) / (20 * DOCUMENTS)
    assert 0.65 < kept < 0.95
    assert copies.swap("alone", 0.9, np.random.default_rng(0)) == "alone"


def test_synonyms_are_neighbours_in_the_case_of_the_word():
    tokens = {word: i for i, word in enumerate(["oil", "petrol", "game", "match", "OPEC", "the"])}
    vectors = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9], [1, 0.0], [1, 0]], np.float32)
    corpus_texts = ["Oil and petrol, the game; a match"]
    near = copies.neighbours(corpus_texts, tokens, vectors)
    assert {word: others[0] for word, others in near.items()} == {
        "oil": "petrol", "petrol": "oil", "game": "match", "match": "game"}  # fmt: skip
    first = {word: others[:1] for word, others in near.items()}
    rng = np.random.default_rng(0)
    changed = copies.replace("OIL: the Game's; Match, don't 3 games!", first, 1.0, rng)
    assert changed == "PETROL: the Game's; Game, don't 3 games!"


def test_masked_replaces_the_share_asked_for_by_other_words(inputs):
    tokenizer = AutoTokenizer.from_pretrained("base")
    guesser = copies.MaskedWordReplacer(Path("base"), tokenizer, share=0.2, max_length=64)
    given = [*texts("train"), "w1, (W2) w3!", "3 4", ""]
    found = guesser(given, [np.random.default_rng(i) for i in range(len(given))])
    for before, after in zip(given[:DOCUMENTS], found[:DOCUMENTS], strict=True):
        pairs = list(zip(before.split(), after.split(), strict=True))
        assert sum(a != b for a, b in pairs) == 4
        assert all(b.startswith("w") for _, b in pairs)
    assert found[DOCUMENTS] != given[DOCUMENTS]
    assert [c for c in found[DOCUMENTS] if not c.isalnum()] == list(", () !")
    assert found[DOCUMENTS + 1 :] == ["3 4", ""]


def test_masked_is_refused_where_the_model_guesses_no_words(inputs):
    before = tokenize(inputs)
    tiny.write_model(inputs / "base", 0.0)
    pointer = encoder.pointer_to("base", None, Path("base"))
    files.write_json(Path("models/pretrained/base_model.json"), pointer)
    with pytest.raises(
        UserError, match=r"(?s)base has no masked-language head.*pretrain\.epochs.*synonyms or swap"
    ):
        tokenize(inputs, augment__method="masked")
    assert {p.stem: files.sha256(p) for p in tables.TOKENS.iterdir()} == before


def test_words_are_found_among_the_pieces_of_byte_level_tokenizers_too():
    pieces = ByteLevelBPETokenizer()
    pieces.train_from_iterator(["the café hunting", "a café hunt hunting"] * 9, vocab_size=400)
    build = PreTrainedTokenizerFast
    words = copies.whole_words(build(tokenizer_object=pieces._tokenizer))
    assert {"café", "hunting"} <= words.keys()
    assert "ing" not in words  # a piece that opens no word


# ---- cutoff


def cutter(folder, ids, chunk_length=None):
    tiny.write_model(folder / "base", 0.0)
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    names = [f"train-{i}" for i in range(len(ids))]
    data = batches.TokenDataset(
        pd.DataFrame({"id": names, "input_ids": ids, "label": 0, "weight": 1.0}),
        chunk_length,
    )
    collate = batches.Collator(data, tokenizer.pad_token_id)
    return token_cutoff.Cutoff(collate, tokenizer, seed=1, share=0.1)


@pytest.fixture
def cut(tmp_path):
    return cutter(tmp_path, [[2, *range(5, 25), 3], [2, *range(5, 45), 3], [2, 5, 3], [2, 3]])


def test_the_share_asked_for_is_cut_and_no_special_token(cut):
    batch = cut([(i, 1.0, 0) for i in range(4)])
    real = batch["input_ids"] != 0
    hidden = real & (batch["attention_mask"] == 0)
    assert hidden.sum(1).tolist() == [2, 4, 0, 0]  # of one word, none can go
    assert not (hidden & (batch["input_ids"] < 5)).any()
    assert not batch["attention_mask"][~real].any()


def test_what_is_cut_differs_by_epoch_and_not_by_company(cut):
    together = cut([(1, 1.0, 0), (0, 1.0, 0)])["attention_mask"][1, :22]
    assert together.equal(cut([(0, 1.0, 0)])["attention_mask"][0])
    assert not together.equal(cut([(0, 1.0, 1)])["attention_mask"][0])


def test_the_token_by_which_a_decoder_answers_is_never_cut(tmp_path):
    cut = cutter(tmp_path, [[*range(5, 15)], [5, 6]])  # GPT-2 opens and closes no text
    hidden = sum(
        1 - cut([(0, 1.0, epoch), (1, 1.0, epoch)])["attention_mask"] for epoch in range(60)
    )
    assert (hidden[0, :9] > 0).all()  # any other is, once
    assert hidden[0, 9] == 0
    assert hidden[1, :2].tolist() == [0, 0]


def test_other_tokens_are_cut_in_each_chunk_whatever_the_company(tmp_path):
    cut = cutter(tmp_path, [[2, *range(5, 25), 3] * 3, [2, 5, 6, 3]], chunk_length=22)
    together = cut([(1, 1.0, 0), (0, 1.0, 0)])
    assert together["chunks"] == [1, 3]
    alone = cut([(0, 1.0, 0)])["attention_mask"]
    assert together["attention_mask"][1:].equal(alone)
    assert (22 - alone.sum(dim=1)).tolist() == [2, 2, 2]
    assert not alone[0].equal(alone[1])


# ---- in training


def test_cutoff_changes_training_alike_in_any_number_of_processes(runner, tmp_path):
    tiny.write(tmp_path, documents=48)
    tiny.set_params(tmp_path, lr=3e-3, epochs=1, batch_size=8, precision="fp32")
    plain = runner.run(tmp_path)
    alone = runner.run(tmp_path, augment__method="cutoff", augment__share=0.3)
    assert alone[0] != pytest.approx(plain[0], rel=1e-3)
    parts = {"processes": 2, "finetune__micro_batch_size": 2}
    assert runner.run(tmp_path, **parts) == pytest.approx(alone, rel=1e-4)


def test_copies_are_learnt_from_and_not_counted_as_documents(runner, tmp_path):
    tiny.write(tmp_path, documents=20)
    path = tmp_path / tables.TOKENS / "train.parquet"
    table = tables.read_table(path)
    copied = table.assign(id=table["id"] + "~1")
    tables.write_table(path, pd.concat([table, copied]), tokenize_text.COLUMNS)
    steps = runner.run(tmp_path, epochs=1, batch_size=8, precision="fp32")
    assert len(steps) == 5
    summary = files.read_json(tmp_path / "models/finetuned/summary.json")
    assert sum(summary["training_documents"].values()) == 20
