"""Nothing of a base model or a classifier is executed: no pickle, and no code of its own.

Each folder here holds code and pickles that would leave a file behind if anything ran them.
"""

import json
import pickle
import shutil
from pathlib import Path

import pytest
from transformers import AutoModelForMaskedLM, AutoTokenizer

from cleantune.errors import UserError
from cleantune.models import classifier, encoder
from tests import tiny

CODE = """
from pathlib import Path
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
Path({trace!r}).touch()
class Config(PretrainedConfig): model_type = "own"
class Model(PreTrainedModel): config_class = Config
class Tokenizer(PreTrainedTokenizerFast): pass
"""
READERS = ("AutoModel", "AutoModelForMaskedLM", "AutoModelForSequenceClassification")


class Payload:
    """A pickle that creates a file when it is read."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.fixture
def trace(tmp_path, monkeypatch):
    # transformers asks on the terminal unless told no.
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    return tmp_path / "executed"


def plant(folder: Path, trace: Path, architecture: str) -> None:
    """Put code and pickles into a model's folder, and name the code wherever transformers looks."""
    (folder / "own.py").write_text(CODE.format(trace=str(trace)))
    for name in ("pytorch_model.bin", "training_args.bin"):
        (folder / name).write_bytes(pickle.dumps(Payload(trace)))
    maps = {
        "config.json": {"AutoConfig": "own.Config"} | dict.fromkeys(READERS, "own.Model"),
        "tokenizer_config.json": {"AutoTokenizer": [None, "own.Tokenizer"]},
    }
    for name, auto_map in maps.items():
        path = folder / name
        changed = json.loads(path.read_text()) | {"auto_map": auto_map}
        if name == "config.json":
            changed["model_type"] = architecture
        path.write_text(json.dumps(changed))


def test_what_is_planted_would_run_where_it_is_trusted(tmp_path, trace):
    tiny.write_model(tmp_path / "base", dropout=0)
    plant(tmp_path / "base", trace, "own")
    AutoTokenizer.from_pretrained(tmp_path / "base", trust_remote_code=True)
    assert trace.exists()
    trace.unlink()
    pickle.loads((tmp_path / "base/pytorch_model.bin").read_bytes())  # noqa: S301
    assert trace.exists()


def test_a_model_of_a_known_architecture_runs_none_of_its_own_code(runner, tmp_path, trace):
    tiny.write(tmp_path)
    base = tmp_path / "base"
    plant(base, trace, "bert")
    tiny.record_base(tmp_path)
    assert encoder.vectors(["w1 w2"], encoder.find(str(base), {}), 32).shape == (1, 32)
    encoder.load_model(AutoModelForMaskedLM, base)
    encoder.refuse_longer("max_length", 32, base)
    runner.run(tmp_path, epochs=1)
    with pytest.raises(UserError, match="not a fine-tuned classifier"):
        classifier.load(base)
    assert not trace.exists()


def test_a_model_of_an_architecture_of_its_own_is_refused(runner, tmp_path, trace):
    tiny.write(tmp_path)
    base = tmp_path / "base"
    plant(base, trace, "own")
    tiny.record_base(tmp_path)
    for read in (
        lambda: encoder.vectors(["w1 w2"], base, 32),
        lambda: encoder.refuse_longer("max_length", 32, base),
        lambda: classifier.load(base),
    ):
        with pytest.raises(UserError):
            read()
    assert runner.start(tmp_path).statuses != [0]
    assert not trace.exists()


def test_weights_that_are_pickles_alone_are_refused(tmp_path, trace):
    tiny.write_model(tmp_path / "base", dropout=0)
    plant(tmp_path / "base", trace, "bert")
    (tmp_path / "base/model.safetensors").unlink()
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        encoder.find(str(tmp_path / "base"), {})
    shutil.copy(tmp_path / "base/pytorch_model.bin", tmp_path / "base/model.safetensors")
    with pytest.raises(UserError):
        encoder.vectors(["w1"], tmp_path / "base", 32)
    assert not trace.exists()
