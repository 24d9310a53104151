"""Adapters, on models small enough to build in no time: what learns, how it is kept, and merged."""

import json
import warnings
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file

from cleantune.errors import UserError
from cleantune.params.sections import Lora
from cleantune.training import lora

SMALL: dict[str, Any] = {"vocab_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2,
         "hidden_size": 8, "intermediate_size": 16, "max_position_embeddings": 16,
         "pad_token_id": 0, "id2label": {0: "a", 1: "b", 2: "c"}}  # fmt: skip
GROUPED = SMALL | {"num_key_value_heads": 1, "head_dim": 4}
MODELS: dict[str, dict[str, Any]] = {
    "Bert": SMALL,
    "DebertaV2": SMALL,
    "Electra": SMALL | {"embedding_size": 4},
    "GPT2": {"vocab_size": 20, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 16,
             "pad_token_id": 0, "id2label": SMALL["id2label"]},
    "Llama": GROUPED | {"tie_word_embeddings": False},
    "Qwen3": GROUPED | {"tie_word_embeddings": True},
}  # fmt: skip
ROWS = torch.arange(1, 17).view(2, 8)


def build(name: str) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**MODELS[name])
    return getattr(transformers, f"{name}ForSequenceClassification")(config)


def learning(model) -> set[str]:
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    return {name.removeprefix("base_model.model.") for name in names}


def test_without_options_there_are_no_adapters():
    bert = build("Bert")
    assert lora.adapt(bert, None) is bert


def test_with_adapters_only_they_and_the_head_learn():
    bert = build("Bert")
    before = {name: p.detach().clone() for name, p in bert.named_parameters()}
    adapted = lora.adapt(bert, Lora(rank=2, alpha=4))
    adapters = {name for name in learning(adapted) if "lora_" in name}
    assert learning(adapted) - adapters == {
        f"classifier.modules_to_save.default.{weight}" for weight in ("weight", "bias")
    }
    # two small matrices for each linear layer below the head: six a block, and the pooler's
    assert len(adapters) == 2 * (2 * 6 + 1)
    sizes = dict(adapted.named_parameters())
    assert all(2 in sizes[f"base_model.model.{name}"].shape for name in adapters)
    # they begin as no change at all
    whole = adapted.merge_and_unload().state_dict()
    assert all(torch.equal(whole[name], before[name]) for name in before)
    assert bert(ROWS).logits.shape == (2, 3)


def test_all_of_the_head_learns_whatever_its_parts_are_called():
    names = learning(lora.adapt(build("DebertaV2"), Lora(rank=2, alpha=4)))
    head = {name for name in names if "lora_" not in name}
    assert head == {f"{part}.modules_to_save.default.{weight}"
                    for part in ("pooler", "classifier")
                    for weight in (("dense.weight", "dense.bias") if part == "pooler" else
                                   ("weight", "bias"))}  # fmt: skip
    assert not any("pooler" in name for name in names - head)


def test_layers_that_the_base_model_lacks_learn_whole():
    new = ("bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight")
    names = learning(lora.adapt(build("Bert"), Lora(rank=2, alpha=4), new=new))
    assert {name for name in names if "lora_" not in name} == {
        f"{layer}.modules_to_save.default.{weight}"
        for layer in ("bert.pooler.dense", "classifier") for weight in ("weight", "bias")
    }  # fmt: skip
    assert not any("pooler" in name and "lora_" in name for name in names)


def test_electras_embeddings_have_no_adapter():
    names = learning(lora.adapt(build("Electra"), Lora(rank=2, alpha=4)))
    assert not any("embeddings" in name for name in names)
    assert any("lora_" in name for name in names)


def test_gpt2_keeps_its_weights_the_other_way_round():
    with warnings.catch_warnings(action="error", category=UserWarning):  # peft would guess it
        (config,) = lora.adapt(build("GPT2"), Lora(rank=2, alpha=4)).peft_config.values()
    assert config.fan_in_fan_out is True


@pytest.mark.parametrize(
    ("targets", "adapted"),
    [
        (["query", "value"], {"attention.self.query", "attention.self.value"}),
        (["attention.output.dense"], {"attention.output.dense"}),
        (["layer.1.attention.self.key"], {"attention.self.key"}),
    ],
)
def test_targets_are_the_ends_of_names(targets, adapted):
    names = learning(lora.adapt(build("Bert"), Lora(rank=2, alpha=4, targets=targets)))
    layers = {name.partition(".lora_")[0] for name in names if "lora_" in name}
    assert {layer.split(".", 4)[4] for layer in layers} == adapted
    assert len(layers) == (1 if "1" in targets[0] else 2 * len(adapted))


@pytest.mark.parametrize("wrong", ["q_proj", "classifier", "uery", "word_embeddings"])
def test_a_target_that_is_no_layer_is_named_with_those_there_are(wrong):
    with pytest.raises(UserError) as said:
        lora.adapt(build("Bert"), Lora(rank=2, alpha=4, targets=["query", wrong]))
    assert str(said.value) == (
        f"finetune.lora.targets: {wrong!r} is the name of no linear layer below the head; there are: "
        "dense, key, query, value."
    )


@pytest.mark.parametrize(("kind", "scaling"), [("lora", 6 / 4), ("dora", 6 / 4), ("rslora", 6 / 2)])
def test_the_kind_decides_scale_and_norms(kind, scaling):
    adapted = lora.adapt(build("Bert"), Lora(rank=4, alpha=6, dropout=0.25, kind=kind))
    layer: Any = adapted.base_model.model.bert.encoder.layer[0].attention.self.query
    assert layer.scaling["default"] == scaling
    assert layer.lora_dropout["default"].p == 0.25
    assert any("magnitude" in name for name in learning(adapted)) == (kind == "dora")


def test_frozen_weights_are_kept_in_bf16_and_the_others_are_not():
    model = lora.adapt(build("Bert"), Lora(rank=2, alpha=4, kind="dora"), bf16=True)
    widths = {p.requires_grad: p.dtype for p in model.parameters()}
    assert widths == {True: torch.float32, False: torch.bfloat16}
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize("kind", ["lora", "dora", "rslora"])
@pytest.mark.parametrize("name", MODELS)
def test_the_merged_model_and_the_adapter_on_the_base_are_the_trained_model(tmp_path, name, kind):
    base, options = build(name), Lora(rank=2, alpha=4, kind=kind)
    if name == "Bert":
        base.bert.pooler = None  # as masked-language-model pretraining leaves it
    base.base_model.save_pretrained(tmp_path / "base")  # without the head
    type_of_model: Any = type(base)
    heads = iter(range(9))

    def load(**options: Any) -> Any:
        torch.manual_seed(next(heads))  # what the files lack is another each time
        return type_of_model.from_pretrained(
            tmp_path / "base", id2label=SMALL["id2label"], dtype=torch.float32, **options
        )

    model, loading = load(output_loading_info=True)
    model = lora.adapt(model, options, "tiny", new=loading["missing_keys"]).eval()
    step = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.5)
    for _ in range(3):
        loss = torch.nn.functional.cross_entropy(model(input_ids=ROWS).logits, torch.tensor([0, 2]))
        step.zero_grad()
        loss.backward()
        step.step()
    lora.save(model, lora.learned(model), tmp_path / "best")
    lora.save_merged(load(), tmp_path / "best", tmp_path / "out")
    kept = tmp_path / "out" / lora.ADAPTER
    assert {p.name for p in kept.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    weights = load_file(kept / "adapter_model.safetensors")
    assert len(weights) == len(learning(model))
    assert all("lora_" in name or not name.startswith(f"base_model.model.{base.base_model_prefix}.")
               or "pooler" in name for name in weights)  # fmt: skip
    expected = model(input_ids=ROWS).logits
    merged = type_of_model.from_pretrained(tmp_path / "out").eval()
    adapted = PeftModel.from_pretrained(load(), kept).eval()
    torch.testing.assert_close(merged(input_ids=ROWS).logits, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(adapted(input_ids=ROWS).logits, expected, rtol=0, atol=1e-5)
    config = json.loads((kept / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"
    assert config["task_type"] == "SEQ_CLS"
    assert config["target_modules"] == sorted(config["target_modules"])
    assert str(tmp_path) not in json.dumps(config)
