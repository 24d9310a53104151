"""Writing a model's folder a shard at a time: no more than that is held, and what is read again is the model."""

import weakref
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from cleantune import files
from cleantune.models import encoder, weights
from cleantune.params.sections import Lora
from cleantune.training import lora, saved_model

SHAPE: dict[str, Any] = {"vocab_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2, "hidden_size": 16,
                         "intermediate_size": 32, "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0,
                         "id2label": {0: "a", 1: "b", 2: "c"}}  # fmt: skip
LARGEST = 4 * 64 * 16  # bytes in fp32: the table of embeddings


def build(kind: str = "ForSequenceClassification", tied: bool = True) -> Any:
    torch.manual_seed(0)
    config = transformers.Qwen3Config(**SHAPE, tie_word_embeddings=tied)
    return getattr(transformers, f"Qwen3{kind}")(config)


class Held:
    """Bytes of all tensors it was shown that are still alive, and the most of it."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        self.now += tensor.nbytes
        self.most = max(self.most, self.now)
        weakref.finalize(tensor, self._drop, tensor.nbytes)
        return tensor

    def _drop(self, size: int) -> None:
        self.now -= size


@pytest.fixture
def held(monkeypatch):
    """What of a model is held at once, where a shard has at most 5 kB."""
    monkeypatch.setattr(weights, "SHARD", "5KB")
    counter, write = Held(), weights.write

    def noted(shapes, value, folder):
        write(shapes, lambda name: counter.add(value(name)), folder)

    monkeypatch.setattr(weights, "write", noted)
    return counter


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["ForSequenceClassification", "ForCausalLM"])
def test_a_model_in_shards_is_the_model_and_only_one_shard_is_held(tmp_path, held, kind, tied):
    model = build(kind, tied)
    saved_model.save(model, tmp_path)
    assert LARGEST <= held.most <= LARGEST + 5000 < sum(p.nbytes for p in model.parameters()) / 3
    shards = weights.shards(tmp_path)
    assert len(shards) > 3
    assert all((tmp_path / name).stat().st_size < LARGEST + 5000 for name in shards)
    assert weights.fault(tmp_path) is None
    again, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_a_model_that_fits_in_one_file_has_the_bytes_that_transformers_writes(tmp_path):
    model = build("ForCausalLM")
    saved_model.save(model, tmp_path / "ours")
    model.save_pretrained(tmp_path / "theirs")
    ours, theirs = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("ours", "theirs")
    )
    assert set(ours) == {"config.json", "generation_config.json", weights.WEIGHTS}
    assert ours == theirs


def test_a_process_that_writes_nothing_gathers_the_same_weights(tmp_path, held, monkeypatch):
    model, gathered = build(), saved_model.gathered
    asked: list[list[int]] = []

    def note(weight):
        asked[-1].append(id(weight))
        return gathered(weight)

    monkeypatch.setattr(saved_model, "gathered", note)
    for folder in (tmp_path, None):
        asked.append([])
        saved_model.save(model, folder)
    assert asked[0] == asked[1] != []
    assert held.most <= LARGEST + 5000


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_adapters_are_merged_a_shard_at_a_time_into_weights_that_stay_in_their_file(
    tmp_path, held, dtype
):
    build().to(dtype).save_pretrained(tmp_path / "base")
    kind: Any = transformers.Qwen3ForSequenceClassification
    assert weights.precision(tmp_path / "base") == str(dtype).removeprefix("torch.")
    base = encoder.load_mapped(kind, tmp_path / "base")
    assert {p.dtype for p in base.parameters()} == {dtype}
    adapted = lora.adapt(encoder.load_model(kind, tmp_path / "base"), Lora(rank=2, alpha=4))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    lora.save(adapted, lora.learned(adapted), tmp_path / "best")
    held.now = held.most = 0
    lora.save_merged(base, tmp_path / "best", tmp_path / "out")
    assert held.most <= LARGEST + 5000
    merged = kind.from_pretrained(tmp_path / "out")
    assert {p.dtype for p in merged.parameters()} == {torch.float32}
    assert files.read_json(tmp_path / "out/config.json")["dtype"] == "float32"
    ids = torch.arange(1, 17).view(2, 8)
    expected = adapted.eval()(input_ids=ids).logits
    torch.testing.assert_close(merged.eval()(input_ids=ids).logits, expected, rtol=0, atol=1e-5)


def test_weights_of_several_precisions_are_loaded_in_fp32(tmp_path):
    model = build()
    model.model.embed_tokens.bfloat16()
    model.save_pretrained(tmp_path)
    assert {w.dtype for w in load_file(tmp_path / weights.WEIGHTS).values()} == {
        torch.float32, torch.bfloat16,
    }  # fmt: skip
    assert weights.precision(tmp_path) is None
    loaded = encoder.load_mapped(transformers.Qwen3ForSequenceClassification, tmp_path)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
