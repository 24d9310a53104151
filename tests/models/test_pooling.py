"""Frozen vectors are pooled as the model's own files say."""

import fnmatch
import json

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModel

from cleantune.errors import UserError
from cleantune.models import encoder
from cleantune.params.sources import Model
from tests import architectures

TEXTS = ["Oil prices fell again, the bank said.", "Coach!"]


@pytest.fixture(scope="module", params=["bert", "llama"])
def model(request, tmp_path_factory):
    return architectures.write(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def folder(model, tmp_path):
    for path in model.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


def write(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def by_hand(folder, pool):
    """Return the vectors of texts read one by one: ``pool`` maps states (tokens, size) to one."""
    reader, model = encoder.load_tokenizer(folder), AutoModel.from_pretrained(folder).eval()
    found = []
    for text in TEXTS:
        with torch.inference_mode():
            states = model(**reader(text, return_tensors="pt")).last_hidden_state[0]
        found.append(torch.nn.functional.normalize(pool(states), dim=0))
    return torch.stack(found).numpy()


WAYS = {
    "cls": ("pooling_mode_cls_token", lambda s: s[0]),
    "lasttoken": ("pooling_mode_lasttoken", lambda s: s[-1]),
    "max": ("pooling_mode_max_tokens", lambda s: s.amax(0)),
    "mean": ("pooling_mode_mean_tokens", lambda s: s.mean(0)),
    "mean_sqrt_len_tokens": (
        "pooling_mode_mean_sqrt_len_tokens",
        lambda s: s.sum(0) / len(s) ** 0.5,
    ),
    "weightedmean": (
        "pooling_mode_weightedmean_tokens",
        lambda s: (s * torch.arange(1, len(s) + 1)[:, None]).sum(0) / sum(range(len(s) + 1)),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_pooling_is_the_one_that_the_config_names(folder, way):
    key, pool = WAYS[way]
    expected = by_hand(folder, pool)
    for config in ({name: name == key for name, _ in WAYS.values()}, {"pooling_mode": way}):
        write(folder / "1_Pooling/config.json", config)
        np.testing.assert_allclose(encoder.vectors(TEXTS, folder, 80), expected, atol=2e-6)


def test_several_ways_are_joined_and_a_dense_layer_follows(folder):
    write(folder / "1_Pooling/config.json", {"pooling_mode_cls_token": True,
                                             "pooling_mode_max_tokens": True})  # fmt: skip
    kinds = ("Transformer", "Pooling", "Dense", "Normalize")
    modules = [{"path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
               for i, kind in enumerate(kinds)]  # fmt: skip
    write(folder / "modules.json", modules)
    torch.manual_seed(0)
    dense = torch.nn.Linear(64, 5)
    config = {"in_features": 64, "out_features": 5, "bias": True,
              "activation_function": "torch.nn.modules.activation.Tanh"}  # fmt: skip
    write(folder / "2_Dense/config.json", config)
    with pytest.raises(UserError, match="2_Dense: needs model"):
        encoder.vectors(TEXTS, folder, 80)
    save_file({f"linear.{n}": p.detach() for n, p in dense.named_parameters()},
              folder / "2_Dense/model.safetensors")  # fmt: skip
    dense.requires_grad_(False)
    expected = by_hand(folder, lambda s: dense(torch.cat([s[0], s.amax(0)])).tanh())
    np.testing.assert_allclose(encoder.vectors(TEXTS, folder, 80), expected, atol=2e-6)


def test_without_a_config_it_is_the_mean(folder):
    expected = by_hand(folder, lambda s: s.mean(0))
    np.testing.assert_allclose(encoder.vectors(TEXTS, folder, 80), expected, atol=2e-6)


def test_what_is_not_known_is_refused(folder):
    write(folder / "1_Pooling/config.json", {"pooling_mode": "oracle"})
    with pytest.raises(UserError, match="no supported kind of pooling"):
        encoder.vectors(TEXTS, folder, 80)
    write(folder / "modules.json", [{"path": "1_CNN", "type": "sentence_transformers.models.CNN"}])
    with pytest.raises(UserError, match="asks for CNN"):
        encoder.vectors(TEXTS, folder, 80)


def test_the_files_that_tell_are_fetched_from_the_hub(folder, monkeypatch):
    fetched: list[str] = []

    def fetch(_name, revision, allow_patterns, **_):
        names = ["1_Pooling/config.json", "modules.json", "2_Dense/model.safetensors",
                 "onnx/model.safetensors", "pytorch_model.bin"]  # fmt: skip
        fetched.extend(n for n in names if any(fnmatch.fnmatch(n, p) for p in allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    entry = Model(hub="owner/name", revision="0" * 40, package=None, sha256=None)
    assert encoder.find("it", {"it": entry}) == folder
    assert fetched == ["1_Pooling/config.json", "modules.json", "2_Dense/model.safetensors"]
