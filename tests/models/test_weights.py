"""Weights in shards are found, fetched, recorded, loaded and copied as those in one file are."""

import json
import shutil

import httpx2
import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.errors import GatedRepoError
from transformers import AutoModelForSequenceClassification

from cleantune import files
from cleantune.errors import UserError
from cleantune.evaluation import threshold
from cleantune.models import classifier, encoder, weights
from tests import architectures, tiny
from tests.stages.test_download import Server, serving

COMMIT = "b" * 40
TEXTS = ["w1 w2 w3", "w4"]


def shard(folder, size="40KB"):
    """Write the classifier in ``folder`` again, in shards; return their names."""
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    (folder / weights.WEIGHTS).unlink()
    model.save_pretrained(folder, max_shard_size=size)
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(names) > 1
    return names


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    tiny.write_model(folder, dropout=0)
    AutoModelForSequenceClassification.from_pretrained(folder).save_pretrained(folder)
    return folder


@pytest.fixture
def sharded(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "sharded")
    shard(folder)
    return folder


def test_a_classifier_in_shards_answers_as_in_one_file(whole, sharded, tmp_path):
    one, several = classifier.load(whole), classifier.load(sharded)
    tokens = one.encode(TEXTS)
    np.testing.assert_array_equal(several.logits(tokens), one.logits(tokens))
    decided = threshold.Decision("f1", "LABEL_1", threshold=0.3, documents=5)
    threshold.write(tmp_path / threshold.FILE, [(decided, weights.of(sharded))])
    assert threshold.read(sharded) == decided
    out = tmp_path / "out"
    out.mkdir()
    weights.copy(sharded, out)
    assert {path.name for path in out.iterdir()} == {weights.INDEX, *weights.shards(sharded)}
    assert weights.sha256(out) == weights.sha256(sharded) != weights.sha256(whole)
    assert weights.sha256(whole) == files.sha256(whole / weights.WEIGHTS)
    out = out / "whole"
    out.mkdir()
    weights.copy(whole, out)
    assert [path.name for path in out.iterdir()] == [weights.WEIGHTS]


def test_every_shard_is_recorded_and_pinned(sharded):
    pointer = encoder.pointer_to("base", None, sharded)
    assert pointer["files"].keys() >= {weights.INDEX, *weights.shards(sharded)}
    assert encoder._checked(sharded, weights.sha256(sharded)) == sharded
    (sharded / "surplus.safetensors").write_bytes(b"of another model")
    assert encoder.pointer_to("base", None, sharded) == pointer
    with pytest.raises(UserError, match="not the pinned 000"):
        encoder._checked(sharded, "0" * 64)


def without_a_shard(folder):
    (folder / weights.shards(folder)[1]).unlink()
    return r"index\.json lists \d files, without model-00002-of"


def with_half_a_shard(folder):
    path = folder / weights.shards(folder)[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return "model-00001-of.*safetensors: "


def with_a_weight_elsewhere(folder):
    first, second, *_ = weights.shards(folder)
    shutil.copy(folder / first, folder / second)
    return r"model-00002-of.*lacks .*, which model\.safetensors\.index\.json says it has"


def with_an_index_that_names(name):
    def write(folder):
        index = files.read_json(folder / weights.INDEX)
        index["weight_map"]["classifier.bias"] = name
        files.write_json(folder / weights.INDEX, index)
        return "names .*: only safetensors files beside it"

    return write


def with_an_index_of_another_kind(folder):
    files.write_json(folder / weights.INDEX, ["shards"])
    return r"index\.json is damaged"


@pytest.mark.parametrize("damage", [
    without_a_shard, with_half_a_shard, with_a_weight_elsewhere, with_an_index_of_another_kind,
    with_an_index_that_names("pytorch_model.bin"), with_an_index_that_names("../x.safetensors"),
])  # fmt: skip
def test_what_is_wrong_with_shards_is_named(sharded, damage):
    says = damage(sharded)
    for find in (lambda: encoder.find(str(sharded), {}), lambda: classifier.load(sharded)):
        with pytest.raises(UserError, match=says):
            find()


def test_shards_are_fetched_from_the_hub_and_what_has_come_is_kept(workspace, monkeypatch):
    base = architectures.write(workspace / "made", "llama")
    model = encoder.load_model(AutoModelForSequenceClassification, base)
    (base / weights.WEIGHTS).unlink()
    model.save_pretrained(base, max_shard_size="60KB")
    (base / "pytorch_model.bin").write_bytes(b"a pickle")
    names, place = weights.shards(base), f"/owner/name/resolve/{COMMIT}"
    listed = [{"type": "file", "path": path.name, "size": path.stat().st_size, "oid": path.name}
              for path in base.iterdir()]  # fmt: skip
    content = {f"{place}/{path.name}": path.read_bytes() for path in base.iterdir()}
    content[f"/api/models/owner/name/tree/{COMMIT}?recursive=true&expand=false"] = json.dumps(listed).encode()  # fmt: skip
    server = Server(content, headers={"X-Repo-Commit": COMMIT})
    pinned = f"owner/name@{COMMIT}"
    with serving(server):
        for name, value in (("ENDPOINT", server.url), ("HF_HUB_OFFLINE", False),
                            ("HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"),
                            ("HF_HUB_CACHE", str(workspace / "hub"))):  # fmt: skip
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        late = content.pop(f"{place}/{names[0]}")
        with pytest.raises(UserError, match=f"{pinned} could not be fetched"):
            encoder.find(pinned, {})
        content[f"{place}/{names[0]}"], server.seen = late, []
        folder = encoder.find(pinned, {})
    fetched = [path for method, path, _ in server.seen if method == "GET" and place in path]
    assert fetched == [f"{place}/{names[0]}"]
    record = encoder.pointer_to(pinned, None, folder)
    assert record["files"] == encoder.pointer_to("", None, base)["files"]
    assert set(names) < set(record["files"])
    assert not list((workspace / "hub").rglob("*.bin"))
    assert encoder.find(pinned, {}, fetch=False) == folder, "without the server"


def test_a_gated_model_says_how_to_log_in(monkeypatch):
    def refuse(*_, **__):
        raise GatedRepoError(
            "403", response=httpx2.Response(403, request=httpx2.Request("GET", "http://hub"))
        )

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(UserError, match=r"owner/name is gated.*hf auth login"):
        encoder.find(f"owner/name@{COMMIT}", {})
