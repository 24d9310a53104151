"""pretrain: off it copies nothing; on it learns to guess hidden tokens, alike in any number of processes."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
)

from cleantune import files
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.labels import fine_tuned_label_model
from cleantune.models import encoder
from cleantune.models.from_scratch import own_config, own_tokenizer
from cleantune.params.read import read_params
from cleantune.training import language_modeling, memory
from cleantune.training.language_modeling import LanguageModelTrainer
from stages import fetch_models
from stages.pretrain import main
from tests import architectures, tiny
from tests.conftest import REPOSITORY

PARAMS = {"model": "base", "precision": "fp32", "pretrain__epochs": 3, "pretrain__batch_size": 8,
          "pretrain__block_length": 32, "pretrain__lr": 1e-2}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    tiny.write(tmp_path)
    rng = np.random.default_rng(0)
    for path, count in ((tables.LABELS / "train", 150), (tables.CLEAN / "validation", 40)):
        starts = rng.integers(0, tiny.WORDS, (count, 10))
        # Every second word follows from the one before it: there is something to learn.
        words = np.stack([starts, (starts + 1) % tiny.WORDS], axis=2).reshape(count, -1)
        table = pd.DataFrame({"id": [f"{path.name}-{i}" for i in range(count)], "label": 0,
                              "title": "", "text": [" ".join(f"w{w}" for w in row) for row in words]})  # fmt: skip
        tables.write_table(tmp_path / f"{path}.parquet", table, ("id", "title", "text", "label"))
    tiny.set_params(tmp_path, **PARAMS)
    return tmp_path


def pretrain(folder, runner, **request):
    run = runner.start(folder, module="stages.pretrain", **request)
    assert not any(run.statuses), run.output
    return run


def contents(folder):
    return {p.name: files.sha256(p) for p in (folder / "models/pretrained").iterdir()}


@pytest.fixture
def tokenizer(tmp_path):
    tiny.write_model(tmp_path / "base", 0.0)
    return AutoTokenizer.from_pretrained(tmp_path / "base")


def masker(tokenizer, **changes):
    data = language_modeling.pack([[2, *range(5, 45), 3]] * 10, 32, 0.15)
    options = {"seed": 1, "masked_share": 0.15, "whole_words": False, **changes}
    return data, language_modeling.Masker(data, tokenizer, **options)


def test_packing_keeps_every_token_in_order():
    documents = [[2, 5, 6, 3], [2, 7, 3], [2, 8, 9, 10, 3]]
    blocks = language_modeling.pack(documents, 5, 0.2).input_ids
    assert [len(b) for b in blocks] == [5, 5, 2]
    assert np.concatenate(blocks).tolist() == [t for document in documents for t in document]


def test_of_next_tokens_each_counts_once_and_documents_end(tokenizer):
    documents = language_modeling.ended([[5, 6, 3], [7], [8, 9, 10]], 3)
    assert documents == [[5, 6, 3], [7, 3], [8, 9, 10, 3]]
    data = language_modeling.pack(documents, 4, None)
    assert [ids.tolist() for ids in data.input_ids] == [[5, 6, 3, 7], [3, 8, 9, 10]], (
        "one token alone is no block"
    )
    assert data.weights.tolist() == [3, 3]
    data = language_modeling.pack([[5, 6, 7, 8, 9]], 3, None)
    batch = language_modeling.NextTokens(data, padding_id=0)([(0, 1.0, 0), (1, 1.0, 0)])
    nothing = language_modeling.IGNORED
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batch["labels"].tolist() == [[6, 7, nothing], [9, nothing, nothing]]


def test_masks_differ_by_epoch_and_not_by_company(tokenizer):
    _, mask = masker(tokenizer)
    together = mask([(0, 1.0, 0), (1, 1.0, 0)])["labels"][1]
    alone = mask([(1, 1.0, 0)])["labels"][0]
    later = mask([(1, 1.0, 1)])["labels"][0]
    assert together.equal(alone)
    assert not together.equal(later)


def test_the_share_asked_for_is_hidden_and_no_special_token(tokenizer):
    data, mask = masker(tokenizer)
    batch = mask([(i, 1.0, 0) for i in range(len(data))])
    for i, (labels, ids) in enumerate(zip(batch["labels"], data.input_ids, strict=True)):
        hidden = labels[labels != language_modeling.IGNORED]
        assert len(hidden) == language_modeling.masked_count(len(ids), 0.15) == data.weights[i]
        assert not set(hidden.tolist()) & {0, 1, 2, 3, 4}


def test_whole_words_hides_all_pieces_of_a_word(tokenizer, monkeypatch):
    # Odd tokens continue the word that the even token before them began.
    monkeypatch.setattr(type(tokenizer), "convert_ids_to_tokens",
                        lambda self, ids: [f"##{i}" if i % 2 and i > 5 else f"{i}" for i in ids])  # fmt: skip
    data = language_modeling.pack([list(range(6, 46))], 40, 0.2)
    mask = language_modeling.Masker(data, tokenizer, seed=1, masked_share=0.2, whole_words=True)
    labels = mask([(0, 1.0, 0)])["labels"][0]
    hidden = set(labels[labels != language_modeling.IGNORED].tolist())
    assert len(hidden) == 8
    assert {i - i % 2 for i in hidden} | {i - i % 2 + 1 for i in hidden} == hidden


def test_off_it_writes_a_pointer_and_no_weights_and_nothing_after_it_reruns(folder, runner):
    pretrain(folder, runner, pretrain__epochs=0)
    pointer = contents(folder)
    assert set(pointer) == {"base_model.json"}
    pretrain(folder, runner, seed=7, pretrain__lr=1e-3, pretrain__masked_share=0.3, zero_stage=1)
    assert contents(folder) == pointer, "what later stages read is the same bytes"


def test_a_base_model_that_changed_since_is_named_with_the_way_on(folder, monkeypatch):
    monkeypatch.chdir(folder)
    tiny.set_params(folder, pretrain__epochs=0)
    (folder / "base/1_Pooling").mkdir()
    weights = folder / "base/model.safetensors"
    whole = weights.read_bytes()
    for name in ("tokenizer.json", "config.json", "1_Pooling/config.json", "model.safetensors"):
        fetch_models.main()
        main()
        assert encoder.pretrained_folder() == Path("base")
        with (folder / "base" / name).open("ab") as file:
            file.write(b" ")
        with pytest.raises(
            UserError,
            match=f"changed: {name}\\. .*dvc repro --force --single-item fetch_models`, then",
        ):
            encoder.pretrained_folder()
    weights.write_bytes(whole)
    (folder / "base/notes.md").write_text("not read")
    fetch_models.main()
    main()
    (folder / "base/notes.md").unlink()
    assert encoder.pretrained_folder() == Path("base")


def test_it_learns_and_finetune_goes_on_from_it(folder, runner):
    run = pretrain(folder, runner)
    assert "a new one is initialised" in run.output
    record = files.read_json(folder / "models/pretrained/pretraining.json")
    assert record["perplexity_after"] < record["perplexity_before"] / 1.2
    assert not list(folder.glob(".checkpoints/pretrain/*"))
    runner.run(folder, epochs=1)
    summary = files.read_json(folder / "models/finetuned/summary.json")
    assert summary["base_model"] == "base, pretrained further"


def test_processes_and_zero_stages_give_the_same_losses_and_perplexity(folder, runner):
    found, losses = [], []
    for processes, stage in ((1, 2), (2, 2), (2, 3)):
        run = pretrain(folder, runner, processes=processes, zero_stage=stage)
        found.append(files.read_json(folder / "models/pretrained/pretraining.json"))
        # Adam hardly shows a loss that grows with the processes; the loss itself does.
        losses.append([float(x) for x in re.findall(r"epoch \d: loss ([\d.]+)", run.output)])
    assert len(losses[0]) == 3
    for i in (1, 2):
        assert losses[i] == pytest.approx(losses[0], rel=1e-3)
        for key in ("perplexity_before", "perplexity_after"):
            assert found[i][key] == pytest.approx(found[0][key], rel=1e-3)


def test_hidden_tokens_alone_are_scored_and_as_ever(tokenizer):
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1,
                        num_attention_heads=2)  # fmt: skip
    model = BertForMaskedLM(config).eval()
    ids = torch.randint(5, 20, (3, 12))
    labels = torch.where(torch.rand(3, 12) < 0.3, ids, language_modeling.IGNORED)
    whole = model(input_ids=ids).logits
    with language_modeling.predicted_only(model, labels):
        few = model(input_ids=ids).logits
    assert few.shape == (int((labels != language_modeling.IGNORED).sum()), len(tokenizer))
    torch.testing.assert_close(few, whole[labels != language_modeling.IGNORED])
    assert model(input_ids=ids).logits.shape == whole.shape


def test_each_stage_names_its_own_params():
    for trainer, section in (
        (LanguageModelTrainer, "pretrain."),
        (fine_tuned_label_model.FoldTrainer, "label_noise."),
    ):
        run = memory.Run(batch=32, length=128, chunks=1, recomputing=False, zero=0, offload="none", bf16=False,
                         model=memory.Size(10**7, 0, 10**6), hidden=384, layers=6, heads=12)  # fmt: skip
        said = memory.out_of_memory(run, trainer.memory_params)
        assert f"{section}batch_size: 16" in said
        assert "finetune" not in said + trainer.instability_hint


def test_the_perplexity_after_is_that_of_the_model_that_was_saved(folder, runner):
    """Measured anew on the validation blocks, with transformers' own loss over all hidden tokens."""
    pretrain(folder, runner)
    out = folder / "models/pretrained"
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForMaskedLM.from_pretrained(out).eval()
    texts = tables.full_text(tables.read_table(folder / tables.CLEAN / "validation.parquet"))
    data = language_modeling.pack(tokenizer(texts)["input_ids"], 32, 0.15)
    mask = language_modeling.Masker(data, tokenizer, seed=42, masked_share=0.15, whole_words=True)
    batch = mask([(i, 1.0, -1) for i in range(len(data))])
    with torch.no_grad():
        loss = model(**{k: batch[k] for k in ("input_ids", "attention_mask", "labels")}).loss
    record = files.read_json(out / "pretraining.json")
    assert record["perplexity_after"] == pytest.approx(loss.exp().item(), rel=1e-4)


@pytest.mark.parametrize("stage", [0, 3])
def test_tied_weights_are_saved_once(folder, runner, tmp_path, stage):
    pretrain(folder, runner, pretrain__epochs=1, zero_stage=stage)
    out = folder / "models/pretrained"
    model = AutoModelForMaskedLM.from_pretrained(out)
    assert model.all_tied_weights_keys
    model.save_pretrained(tmp_path / "again")
    once = load_file(tmp_path / "again/model.safetensors")
    saved = load_file(out / "model.safetensors")
    assert {name: tensor.shape for name, tensor in saved.items()} == {
        name: tensor.shape for name, tensor in once.items()
    }
    assert all(saved[name].equal(tensor) for name, tensor in once.items())


def test_a_decoder_predicts_next_tokens_and_its_perplexity_is_that_of_transformers(folder, runner):
    shutil.rmtree(folder / "base")
    architectures.write(folder / "base", "llama", language_head=True)
    fetched = runner.start(folder, module="stages.fetch_models")
    assert fetched.statuses == [0], fetched.output
    found = []
    for processes, stage in ((1, 0), (2, 3)):
        run = pretrain(folder, runner, processes=processes, zero_stage=stage, pretrain__epochs=1)
        assert "perplexity of next validation tokens" in run.output
        found.append(files.read_json(folder / "models/pretrained/pretraining.json"))
    for key in ("perplexity_before", "perplexity_after"):
        assert found[1][key] == pytest.approx(found[0][key], rel=1e-3)
    assert found[0]["perplexity_after"] < found[0]["perplexity_before"]
    out = folder / "models/pretrained"
    tokenizer, model = (
        AutoTokenizer.from_pretrained(out),
        AutoModelForCausalLM.from_pretrained(out).eval(),
    )
    texts = tables.full_text(tables.read_table(folder / tables.CLEAN / "validation.parquet"))
    tokens = [
        token for text in texts for token in (*tokenizer(text)["input_ids"], tokenizer.eos_token_id)
    ]
    losses, counts = [], []
    with torch.no_grad():
        for start in range(0, len(tokens), 32):
            block = torch.tensor([tokens[start : start + 32]])
            losses.append(model(input_ids=block, labels=block).loss.item())
            counts.append(block.shape[1] - 1)
    expected = np.exp(np.average(losses, weights=counts))
    assert found[1]["perplexity_after"] == pytest.approx(expected, rel=1e-4)


def test_a_split_of_one_token_is_named(folder, runner):
    architectures.write(folder / "base", "gpt2", language_head=True)
    tiny.record_base(folder)
    path = folder / tables.CLEAN / "validation.parquet"
    table = tables.read_table(path).head(1).assign(text="")  # its end alone is left
    tables.write_table(path, table, tuple(table.columns))
    run = runner.start(folder, module="stages.pretrain")
    assert run.statuses == [1]
    said = " ".join(run.output.split())
    assert "pretrain: the documents of data/clean/validation.parquet have too few tokens" in said
    assert "Traceback" not in said
    assert not (folder / "models/pretrained/config.json").exists()


def test_a_killed_run_ends_in_the_same_bytes(folder, runner):
    pretrain(folder, runner)
    undisturbed = contents(folder)
    run = runner.start(folder, module="stages.pretrain", before="signal_at_step",
                       environment={"AT": "5", "SIGNAL": "15"})  # fmt: skip
    assert run.statuses == [143], run.output
    assert "resuming from the checkpoint of step 5" in pretrain(folder, runner).output
    assert contents(folder) == undisturbed


def test_from_scratch_trains_its_own_tokenizer_and_shape(folder, runner):
    shape = {"vocabulary": 400, "layers": 1, "hidden": 32}
    pretrain(folder, runner, pretrain__from_scratch=True, max_length=32,
             **{f"pretrain__{k}": v for k, v in shape.items()})  # fmt: skip
    out = folder / "models/pretrained"
    config = files.read_json(out / "config.json")
    assert (config["num_hidden_layers"], config["hidden_size"]) == (1, 32)
    assert encoder.base_model(out) == "BERT pretrained from scratch"
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert "[UNK]" not in tokenizer.tokenize("w1 w2 w3")
    framed = tokenizer.convert_ids_to_tokens(tokenizer("w1")["input_ids"])
    assert (framed[0], framed[-1]) == ("[CLS]", "[SEP]"), (
        "fine-tuning reads its answer at the first"
    )


def test_the_same_texts_give_the_same_tokenizer():
    texts = (REPOSITORY / "data/sample/train.csv").read_text(encoding="utf-8").splitlines()
    trained = [own_tokenizer(texts, 2000, 128) for _ in range(3)]
    contents = {each.backend_tokenizer.to_str() for each in trained}
    assert len(contents) == 1, "ties are not broken by the texts alone"
    read = trained[0](texts[0])["input_ids"]
    assert texts[0].lower() in trained[0].decode(read)


def test_from_scratch_without_an_epoch_is_refused(folder):
    tiny.set_params(folder, pretrain__from_scratch=True, pretrain__epochs=0)
    with pytest.raises(UserError, match="from_scratch: True is not allowed"):
        read_params(["pretrain"], folder / "params.yaml")


@pytest.mark.parametrize(("hidden", "heads"), [(8, 1), (104, 2), (256, 8)])
def test_heads_share_the_width_evenly(folder, hidden, heads):
    tiny.set_params(folder, pretrain__hidden=hidden)
    shape = own_config(read_params(["pretrain"], folder / "params.yaml").pretrain, 100)
    assert shape.num_attention_heads == heads


def test_a_model_from_scratch_has_no_place_that_pretraining_never_saw(folder):
    tiny.set_params(folder, pretrain__block_length=48)
    shape = own_config(read_params(["pretrain"], folder / "params.yaml").pretrain, 100)
    assert encoder.position_limit(shape) == 48
