"""Every architecture of the table in docs/models.md goes through the real stages: two processes, ZeRO-2.

Tiny random models and real tokenizers (tests/architectures.py). The corpus is prepared once; each
architecture then runs pretrain (a pointer), tokenize_text, finetune, evaluate and tools.predict.
"""

import ast
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from cleantune import files
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.evaluation.explanations import explain
from cleantune.models import attention, classifier, encoder, onnx_model
from cleantune.params.sections import Lora
from cleantune.training import (
    acceleration,
    batches,
    language_modeling,
    lora,
    memory,
    optimizers,
    training_arguments,
)
from tests import architectures, tiny
from tests.conftest import REPOSITORY
from tools import export

NAMES = {"World": 12, "Sports": 12, "Business": 12, "Sci/Tech": 12}  # class: training documents
MAX_LENGTH = 48
PARAMS = {
    "max_length": MAX_LENGTH, "precision": "fp32",
    "clean__validation_share": 0.17, "label_noise__model": "tfidf", "label_noise__folds": 2,
    "label_noise__action": "keep", "baselines__models": ["tfidf"], "baselines__flipped_shares": [],
    "epochs": 1, "batch_size": 8, "lr": 1e-3, "zero_stage": 2,
    "evaluate__robustness_documents": 4, "evaluate__explained_mistakes": 1,
}  # fmt: skip
LORA = Lora(rank=2, alpha=4)
ADAPTED = ("bert", "gpt2")  # the others learn whole
TEXTS = ["Oil prices fell again, the bank said on Monday.", "Coach!", "A treaty of the two states"]


def run(runner, folder, module, **request):
    done = runner.start(folder, module=module, **request)
    assert not any(done.statuses), done.output
    return done.output


@pytest.fixture(scope="module")
def prepared(runner, tmp_path_factory):
    """A project up to the labels, and the baseline that evaluate compares with."""
    folder = tmp_path_factory.mktemp("prepared")
    for name in ("params.yaml", "ds_config.json"):
        shutil.copy(REPOSITORY / name, folder)
    (folder / "data/sample").mkdir(parents=True)
    for name in ("corrections", "test_corrections"):
        header = "dataset,id,text_sha256,old_label,new_label,note\n"
        (folder / f"data/{name}.csv").write_text(header)
    for split, each in (("train", 12), ("test", 4)):
        lines = (REPOSITORY / f"data/sample/{split}.csv").read_text("utf-8").splitlines()
        chosen = [x for k in "1234" for x in [y for y in lines if y.startswith(f'"{k}"')][:each]]
        (folder / f"data/sample/{split}.csv").write_text("\n".join(chosen) + "\n", "utf-8")
    tiny.set_params(folder, **PARAMS)
    for stage in ("download", "clean", "label_noise", "baselines"):
        run(runner, folder, f"stages.{stage}")
    return folder


@pytest.fixture(scope="module", params=[*sorted(architectures.ENCODERS), "gpt2"])
def project(request, prepared, runner, tmp_path_factory):
    """The project with one architecture's model fine-tuned, and what the stages said."""
    folder = tmp_path_factory.mktemp(request.param) / "project"
    shutil.copytree(prepared, folder)
    architectures.write(folder / "base", request.param)
    adapters = LORA.model_dump() if request.param in ADAPTED else None
    tiny.set_params(folder, model="base", finetune__lora=adapters)
    stages = ("fetch_models", "pretrain", "tokenize_text")
    said = [run(runner, folder, f"stages.{stage}") for stage in stages]
    said.append(run(runner, folder, "stages.finetune", processes=2))
    return folder, "".join(said)


def test_it_is_tokenized_fine_tuned_evaluated_and_asked(project, runner):
    folder, said = project
    assert "2 process(es), fp32, ZeRO-2" in said
    tokens = tables.read_table(folder / tables.TOKENS / "train.parquet")
    assert tokens["length"].between(1, MAX_LENGTH).all()
    run(runner, folder, "stages.evaluate")
    figures = files.read_json(folder / "metrics/test.json")
    assert figures["n"] == 16
    assert 0 < figures["nll"] < 5
    lines = run(runner, folder, "tools.predict", arguments=("--json", "--explain", *TEXTS))
    answers = [json.loads(line) for line in lines.splitlines() if line.startswith("{")]
    assert [answer["text"] for answer in answers] == TEXTS
    assert {answer["predicted"] for answer in answers} <= set(NAMES)


# ---- the untrained model of each architecture, in this process


@pytest.fixture(scope="module", params=sorted(architectures.KINDS))
def untrained(request, tmp_path_factory):
    """A classifier's folder: random weights, and a tokenizer that wants to pad on the left."""
    folder = tmp_path_factory.mktemp(request.param)
    architectures.write(folder, request.param)
    tokenizer = encoder.load_tokenizer(folder)
    settings = files.read_json(folder / "tokenizer_config.json")
    files.write_json(folder / "tokenizer_config.json", settings | {"padding_side": "left"})
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, id2label=dict(enumerate(NAMES)), label2id={n: i for i, n in enumerate(NAMES)}
    )
    encoder.set_padding(model.config, tokenizer)
    architectures.rounded(model).save_pretrained(folder)
    return request.param, folder


@pytest.mark.parametrize("agree", [True, False])
def test_a_text_is_judged_alike_alone_and_among_longer_ones(untrained, tmp_path, agree):
    architecture, folder = untrained
    assert AutoTokenizer.from_pretrained(folder).padding_side == "left"
    if not agree:  # model and tokenizer name different padding tokens
        folder = shutil.copytree(folder, tmp_path / "base")
        config, reader = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        if architecture == "roberta":  # counts positions from the model's
            reader.pad_token = reader.mask_token
            reader.save_pretrained(folder)
        else:
            config.pad_token_id = reader("a")["input_ids"][
                -1 if len(reader("")["input_ids"]) < 2 else 1
            ]
            config.save_pretrained(folder)
    model = classifier.load(folder)
    reader = model.tokenizer
    tricky = [f"Oil{token} fell{token}" for token in (reader.pad_token, reader.eos_token) if token]
    texts = [*TEXTS, *tricky, (reader.pad_token + " ") * 3, reader.pad_token, "a", "Oil a", ""]
    tokens = model.encode(texts)
    alone = np.concatenate([model.logits([document]) for document in tokens])
    np.testing.assert_allclose(model.logits(tokens), alone, atol=1e-5)
    assert np.abs(alone[0] - alone[1]).max() > 1e-3
    vectors = encoder.vectors(texts, folder, MAX_LENGTH)
    apart = np.concatenate([encoder.vectors([text], folder, MAX_LENGTH) for text in texts])
    np.testing.assert_allclose(vectors, apart, atol=1e-5)
    # In training, and where the saved model is used without this project:
    table = pd.DataFrame({"id": texts, "input_ids": tokens, "label": 0, "weight": 1.0})
    collate = batches.Collator(batches.TokenDataset(table), model.pad_id)
    batch = collate([(i, 1.0, 0) for i in range(len(texts))])
    acceleration.speed_up(model.model)
    with torch.inference_mode():
        found = model.model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    np.testing.assert_allclose(found, alone, atol=1e-5)
    model.model.save_pretrained(tmp_path / "saved")
    reader.save_pretrained(tmp_path / "saved")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    readable = [i for i, ids in enumerate(tokens) if ids]  # to transformers
    given = AutoTokenizer.from_pretrained(tmp_path / "saved")(
        [texts[i] for i in readable], padding=True, return_tensors="pt", return_token_type_ids=False
    )
    with torch.inference_mode():
        np.testing.assert_allclose(plain(**given).logits, alone[readable], atol=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU keeps torch's own")
def test_sped_up_it_says_the_same_and_still_drops(untrained):
    architecture, folder = untrained
    model = classifier.load(folder)
    tokens = model.encode(TEXTS)
    before = model.logits(tokens)
    acceleration.speed_up(model.model)
    np.testing.assert_allclose(model.logits(tokens), before, atol=2e-6)
    uses = model.model.config._attn_implementation == attention.ATTENTION
    assert uses == (not architecture.startswith("deberta")), "DeBERTa's attention is its own"
    optimizers.set_dropout(model.model.config, 0.5)
    again = encoder.load_model(
        AutoModelForSequenceClassification, folder, config=model.model.config
    )
    acceleration.speed_up(again)
    shares = {m.p for m in again.modules() if isinstance(m, torch.nn.Dropout)}
    shares |= {getattr(m, "attention_dropout", 0.5) for m in again.modules()}
    assert shares == {0.5}, "finetune.dropout reaches every layer"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU keeps torch's own")
def test_sped_up_it_learns_as_with_its_own_eager_attention(untrained):
    _, folder = untrained
    losses = {}
    for fast in (False, True):
        config = AutoConfig.from_pretrained(folder)
        optimizers.set_dropout(config, 0.0)
        model = encoder.load_model(
            AutoModelForSequenceClassification, folder, config=config, attn_implementation="eager"
        )
        losses[fast], _ = ten_losses(model, fast)
    assert losses[True] == pytest.approx(losses[False], rel=1e-5)


def test_in_bf16_it_says_nearly_the_same_and_learns_the_same_weights(untrained):
    _, folder = untrained
    plain, half = (classifier.load(folder) for _ in range(2))
    acceleration.speed_up(half.model)
    acceleration.autocast_to_bf16(half.model)
    tokens = plain.encode(TEXTS)
    # Relative, for logits have no unit: bf16 rounds by 2**-8, and processors sum in different orders.
    exact = plain.logits(tokens)
    assert np.linalg.norm(half.logits(tokens) - exact) < 8 * 2**-8 * np.linalg.norm(exact)
    learnt = []
    for each in (plain, half):
        each.model.train()(**each.pad(tokens)).logits.float().square().sum().backward()
        weights = each.model.named_parameters()
        learnt.append({name: p.grad.dtype for name, p in weights if p.grad is not None})
    assert learnt[0] == learnt[1]
    assert set(learnt[1].values()) == {torch.float32}


def test_attributions_add_up_to_the_score_and_cover_every_word(untrained):
    _, folder = untrained
    model = classifier.load(folder)
    found = explain(model, TEXTS[0])
    total = found.special + sum(share for *_, share in found.spans)
    assert total == pytest.approx(found.difference, abs=0.02 * abs(found.difference) + 0.02)
    assert explain(model, "").spans == []
    covered = "".join(TEXTS[0][start:end] for start, end, _ in found.spans)
    assert covered.replace(" ", "") == TEXTS[0].replace(" ", "")


def test_the_longest_text_it_can_read_is_known(untrained, tmp_path):
    architecture, folder = untrained
    model = classifier.load(folder).model
    limit = encoder.position_limit(model.config)
    if architecture.startswith("deberta"):  # places are relative
        assert limit is None
        return
    assert limit == architectures.POSITIONS
    read = [model(input_ids=torch.full((1, n), 9)).logits for n in (limit - 1, limit)]
    assert torch.isfinite(torch.cat(read)).all()
    encoder.refuse_longer("max_length", limit, folder)
    with pytest.raises(UserError, match=f"max_length: {limit + 1} is more than the {limit} tokens"):
        encoder.refuse_longer("max_length", limit + 1, folder)
    if any(isinstance(m, torch.nn.Embedding) and m.num_embeddings < limit + 9
           for m in model.modules()):  # fmt: skip  # others could turn their places on and on
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, limit + 1), 9))


def test_what_is_frozen_and_how_fast_the_rest_learns(untrained):
    architecture, folder = untrained
    model = classifier.load(folder).model
    names = {id(p): name for name, p in model.named_parameters()}
    depths = {name: architectures.depth(architecture, name) for name in names.values()}
    rates = {names[id(p)]: group["lr"] for group in optimizers.groups(model, 1.0, 0.0, 0.5)
             for p in group["params"]}  # fmt: skip
    assert rates == {name: 0.5 ** (3 - depth) for name, depth in depths.items()}
    for embeddings, layers, lowest in ((True, 0, 1), (False, 1, 2), (True, 2, 3)):
        options = training_arguments.PLAIN.model_copy(
            update={"freeze_embeddings": embeddings, "freeze_layers": layers}
        )
        expected = memory.size_of(model.config, options)
        optimizers.freeze(model, embeddings, layers)
        learning = {name for name, p in model.named_parameters() if p.requires_grad}
        assert learning == {name for name, depth in depths.items() if depth >= lowest}
        assert memory.size(model) == expected, "counted before there is a model"


def test_lora_learns_low_rank_changes_and_the_whole_head(untrained):
    architecture, folder = untrained
    model = classifier.load(folder).model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adapted = lora.adapt(model, LORA)
    learning = [p for p in adapted.parameters() if p.requires_grad]
    step = torch.optim.SGD(learning, 1.0)
    for _ in range(2):
        ids = torch.arange(9, 21).reshape(2, 6)
        loss = torch.nn.functional.cross_entropy(
            adapted(input_ids=ids).logits, torch.tensor([0, 1])
        )
        step.zero_grad()
        loss.backward()
        step.step()
    after = adapted.merge_and_unload().state_dict()
    assert after.keys() == before.keys()
    ranks = {name: int(torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-3))
             for name in after if after[name].dim() == 2}  # fmt: skip
    heads = [name for name in ranks if name.split(".")[0] != model.base_model_prefix]
    assert heads
    assert all(ranks[name] > 0 for name in heads)
    body = {name: rank for name, rank in ranks.items() if name not in heads}
    assert max(body.values()) == 2, body
    embedded = [n for n in body if architectures.depth(architecture, n) == 0]
    assert embedded
    assert not any(body[n] for n in embedded), body
    assert sum(rank == 2 for rank in body.values()) >= 4, f"too few layers of {architecture} learn"


def test_hidden_words_are_whole_ones_whatever_the_tokenizer(untrained):
    _, folder = untrained
    tokenizer = encoder.load_tokenizer(folder)
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    continues = np.array(language_modeling.continuing(pieces))
    text = "Shareholders of Constantinople quarrelled"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) > 8, "the words fall into pieces"
    assert (~continues[ids])[1:].sum() == 3, tokenizer.convert_ids_to_tokens(ids)
    if tokenizer.mask_token_id is not None:
        framed = tokenizer(" ".join([text] * 3))["input_ids"]
        data = language_modeling.pack([framed], len(framed), 0.3)
        mask = language_modeling.Masker(data, tokenizer, seed=1, masked_share=0.3, whole_words=True)
        hidden = mask([(0, 1.0, 0)])["labels"][0].numpy() != language_modeling.IGNORED
        words = np.cumsum(~continues[framed])
        cut = [w for w in set(words[hidden]) if not hidden[(words == w)].all()]
        assert len(cut) <= 1, "only the last word chosen may be cut, to hide as many as asked for"
        assert not hidden[[0, -1]].any()


@pytest.mark.parametrize("large", [False, True])
def test_gpt2_is_exported_with_the_answer_alone(tmp_path, monkeypatch, large):
    if large:  # as beyond 2 GB
        monkeypatch.setattr(export, "PROTOBUF_BYTES", 1000)
    architectures.write(tmp_path / "model", "gpt2")
    tokenizer = encoder.load_tokenizer(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (other,) = tokenizer(".")["input_ids"]  # the model pads with another token
    built = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "model", id2label=dict(enumerate(NAMES)), pad_token_id=other
    )
    built.save_pretrained(tmp_path / "model")
    model = export.load(tmp_path / "model")
    out = tmp_path / "out"
    out.mkdir()
    graphs = (onnx_model.FP32, onnx_model.INT8)
    export.write_onnx(model, out, model.folder, graphs)
    exported = onnx_model.load(out, onnx_model.FP32)
    names = {path.name for graph in graphs for path in export._files(out / graph)}
    assert {path.name for path in (out / "onnx").iterdir()} == names
    assert len(names) == (4 if large else 2)
    texts = [*TEXTS, "", tokenizer.eos_token, f"Oil{tokenizer.eos_token}", "Oil."]
    tokens = exported.encode(texts)
    assert tokens == model.encode(texts)
    np.testing.assert_allclose(exported.logits(tokens), model.logits(tokens), atol=1e-5)
    assert files.read_json(out / "config.json")["pad_token_id"] == tokenizer.pad_token_id
    small = onnx_model.load(out, onnx_model.INT8).logits(tokens)
    assert np.corrcoef(small.ravel(), model.logits(tokens).ravel())[0, 1] > 0.9
    if large:  # the int8 graph alone takes its weights with it
        alone = tmp_path / "alone"
        alone.mkdir()
        export.write_onnx(model, alone, model.folder, (onnx_model.INT8,))
        assert not export._files(alone / onnx_model.FP32)
        np.testing.assert_array_equal(onnx_model.load(alone).logits(tokens), small)


@pytest.mark.parametrize(
    ("architecture", "kind"), [("bert", AutoModelForMaskedLM), ("gpt2", AutoModelForCausalLM)]
)
def test_embeddings_that_a_head_shares_are_embeddings(architecture, kind):
    reader = architectures.tokenizer(*architectures.KINDS[architecture][:2])
    model = kind.from_config(architectures.config(architecture, reader))
    optimizers.freeze(model, True, 0)
    shared = model.get_output_embeddings().weight
    assert shared is model.get_input_embeddings().weight
    assert not shared.requires_grad
    assert all(p.requires_grad for p in model.base_model.parameters() if p.dim() == 2) is False
    rates = {id(p): g["lr"] for g in optimizers.groups(model, 1.0, 0.0, 0.5) for p in g["params"]}
    assert id(shared) not in rates


# ---- checkpoints in half precision


def ten_losses(model, fast=True):
    """Fine-tune for ten steps, as finetune does; return the losses and the model."""
    torch.manual_seed(0)
    model.train()
    if fast:
        acceleration.speed_up(model)
    step = optimizers.build(model, 1e-3, training_arguments.PLAIN)
    draw = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(10):
        ids = torch.randint(5, 300, (4, 24), generator=draw)
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        loss = torch.nn.functional.cross_entropy(logits, ids[:, 3] % 4)
        step.zero_grad()
        loss.backward()
        step.step()
        losses.append(loss.item())
    return losses, model


def test_a_checkpoint_in_half_precision_learns_as_the_same_one_in_fp32(untrained, tmp_path):
    _, folder = untrained
    expected, _ = ten_losses(encoder.load_model(AutoModelForSequenceClassification, folder))
    assert expected[-1] != pytest.approx(expected[0], rel=1e-3)
    for dtype in (torch.bfloat16, torch.float16):
        half = tmp_path / str(dtype)
        AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).save_pretrained(
            half
        )
        assert files.read_json(half / "config.json")["dtype"] == str(dtype).removeprefix("torch.")
        losses, model = ten_losses(encoder.load_model(AutoModelForSequenceClassification, half))
        assert losses == pytest.approx(expected, rel=1e-6)
        model.save_pretrained(tmp_path / "saved")
        assert files.read_json(tmp_path / "saved/config.json")["dtype"] == "float32"
        weights = load_file(tmp_path / "saved/model.safetensors")
        assert {weight.dtype for weight in weights.values()} == {torch.float32}
        adapted = lora.adapt(encoder.load_model(AutoModelForSequenceClassification, half), LORA)
        assert {p.dtype for p in adapted.parameters() if p.requires_grad} == {torch.float32}


def test_models_are_loaded_by_one_function():
    """Which gives the precision; configs and tokenizers have none, and adapters go onto a model that has one."""
    loads = set()
    for path in (p for room in ("cleantune", "stages", "tools", "studies", "benchmarks")
                 for p in (REPOSITORY / room).rglob("*.py")):  # fmt: skip
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "from_pretrained":
                loads.add((path.name, ast.unparse(node.value)))
    loads = {
        load for load in loads if load[1] not in ("AutoConfig", "reader", "PeftModel", "LoraConfig")
    }
    assert loads == {("encoder.py", "kind")}, "cleantune.models.encoder.load_model"


# ---- pretraining


@pytest.mark.parametrize(
    "architecture", ["deberta-v2", "electra", "llama", "modernbert", "roberta"]
)
def test_pretraining_goes_on_from_a_head_or_makes_one(architecture, prepared, runner, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(prepared, folder)
    with_head = architecture in ("llama", "roberta")
    architectures.write(folder / "base", architecture, with_head, torch.bfloat16)
    tiny.set_params(folder, model="base", pretrain__epochs=1, pretrain__block_length=48,
                    pretrain__batch_size=8, pretrain__lr=3e-3)  # fmt: skip
    run(runner, folder, "stages.fetch_models")
    said = run(runner, folder, "stages.pretrain", processes=2)
    assert ("a new one is initialised" in said) != with_head
    record = files.read_json(folder / "models/pretrained/pretraining.json")
    assert record["perplexity_after"] < record["perplexity_before"]
    assert files.read_json(folder / "models/pretrained/config.json")["dtype"] == "float32"
    weights = load_file(folder / "models/pretrained/model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    run(runner, folder, "stages.tokenize_text")
    run(runner, folder, "stages.finetune")


def test_a_model_that_cannot_predict_tokens_is_refused(prepared, runner, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(prepared, folder)
    architectures.write(folder / "base", "bert")
    settings = folder / "base/tokenizer_config.json"
    files.write_json(settings, {**files.read_json(settings), "mask_token": None})
    run(runner, folder, "stages.fetch_models", model="base")
    done = runner.start(folder, module="stages.pretrain", pretrain__epochs=1)
    assert done.statuses == [1]
    assert "pretrain.epochs: 1 needs a language model, and base (bert) has neither" in done.output
    assert not (folder / "models/pretrained").exists()


# ---- what the Hub calls a model


def test_a_model_of_the_hub_has_to_be_pinned(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="owner/name@commit"):
        encoder.find("google/electra-base-discriminator", {})
    with pytest.raises(UserError, match=rf"model google/electra@{'a' * 40} could not be fetched"):
        encoder.find(f"google/electra@{'a' * 40}", {})
