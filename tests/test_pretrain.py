"""pretrain: off it copies nothing; on it learns to guess hidden tokens, alike in any number of processes."""

import numpy as np
import pandas as pd
import pytest
from transformers import AutoTokenizer

from stages.common import corpus, files, masking
from tests import tiny

PARAMS = {"model": "base", "precision": "fp32", "pretrain__epochs": 3, "pretrain__batch_size": 8,
          "pretrain__block_length": 32, "pretrain__lr": 1e-2}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    tiny.write(tmp_path)
    rng = np.random.default_rng(0)
    for path, count in ((corpus.LABELS / "train", 150), (corpus.CLEAN / "validation", 40)):
        starts = rng.integers(0, tiny.WORDS, (count, 10))
        # Every second word follows from the one before it: there is something to learn.
        words = np.stack([starts, (starts + 1) % tiny.WORDS], axis=2).reshape(count, -1)
        table = pd.DataFrame({"id": [f"{path.name}-{i}" for i in range(count)], "label": 0,
                              "title": "", "text": [" ".join(f"w{w}" for w in row) for row in words]})  # fmt: skip
        corpus.write_table(tmp_path / f"{path}.parquet", table, ("id", "title", "text", "label"))
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
    data = masking.pack([[2, *range(5, 45), 3]] * 10, 32, 0.15)
    knobs = {"seed": 1, "masked_share": 0.15, "whole_words": False, **changes}
    return data, masking.Masker(data, tokenizer, **knobs)


def test_packing_keeps_every_token_in_order():
    documents = [[2, 5, 6, 3], [2, 7, 3], [2, 8, 9, 10, 3]]
    blocks = masking.pack(documents, 5, 0.2).input_ids
    assert [len(b) for b in blocks] == [5, 5, 2]
    assert np.concatenate(blocks).tolist() == [t for document in documents for t in document]


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
        hidden = labels[labels != masking.IGNORED]
        assert len(hidden) == masking.hidden_count(len(ids), 0.15) == data.weights[i]
        assert not set(hidden.tolist()) & {0, 1, 2, 3, 4}


def test_whole_words_hides_all_pieces_of_a_word(tokenizer, monkeypatch):
    # Odd tokens continue the word that the even token before them began.
    monkeypatch.setattr(type(tokenizer), "convert_ids_to_tokens",
                        lambda self, ids: [f"##{i}" if i % 2 and i > 5 else f"{i}" for i in ids])  # fmt: skip
    data = masking.pack([list(range(6, 46))], 40, 0.2)
    mask = masking.Masker(data, tokenizer, seed=1, masked_share=0.2, whole_words=True)
    labels = mask([(0, 1.0, 0)])["labels"][0]
    hidden = set(labels[labels != masking.IGNORED].tolist())
    assert len(hidden) == 8
    assert {i - i % 2 for i in hidden} | {i - i % 2 + 1 for i in hidden} == hidden


def test_off_it_writes_a_pointer_and_no_weights(folder, runner):
    pretrain(folder, runner, pretrain__epochs=0)
    assert set(contents(folder)) == {"base_model.json"}


def test_it_learns_and_finetune_goes_on_from_it(folder, runner):
    run = pretrain(folder, runner)
    assert "it gets a new one" in run.output
    record = files.read_json(folder / "models/pretrained/pretraining.json")
    assert record["perplexity_after"] < record["perplexity_before"] / 1.2
    assert not list(folder.glob(".checkpoints/pretrain/*"))
    runner.run(folder, epochs=1)


def test_two_processes_give_the_same_perplexity(folder, runner):
    found = []
    for processes in (1, 2):
        pretrain(folder, runner, processes=processes)
        found.append(files.read_json(folder / "models/pretrained/pretraining.json"))
    for key in ("perplexity_before", "perplexity_after"):
        assert found[0][key] == pytest.approx(found[1][key], rel=1e-3)


def test_a_killed_run_ends_in_the_same_bytes(folder, runner):
    pretrain(folder, runner)
    undisturbed = contents(folder)
    run = runner.start(folder, module="stages.pretrain", before="signal_at_step",
                       environment={"AT": "5", "SIGNAL": "15"})  # fmt: skip
    assert run.statuses == [143], run.output
    assert "going on from the checkpoint of step 5" in pretrain(folder, runner).output
    assert contents(folder) == undisturbed


def test_from_scratch_trains_its_own_tokenizer_and_shape(folder, runner):
    shape = {"vocabulary": 120, "layers": 1, "hidden": 32}
    pretrain(folder, runner, pretrain__from_scratch=True,
             **{f"pretrain__{k}": v for k, v in shape.items()})  # fmt: skip
    out = folder / "models/pretrained"
    config = files.read_json(out / "config.json")
    assert (config["num_hidden_layers"], config["hidden_size"]) == (1, 32)
    assert "[UNK]" not in AutoTokenizer.from_pretrained(out).tokenize("w1 w2 w3")
