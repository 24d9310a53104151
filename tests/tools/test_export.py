"""tools.export: the same answers without PyTorch, and nothing overwritten that is not its own."""

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from cleantune import console, files
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.evaluation import threshold
from cleantune.models import classifier, onnx_model
from tests import evaluated
from tools import export

OUT = Path("models/exported")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project with an export in int8."""
    folder = tmp_path_factory.mktemp("project")
    evaluated.write(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["export", "--int8"])
        shown = io.StringIO()
        patch.setattr(console, "console", Console(file=shown, width=120))
        export.main()
    (folder / "shown.txt").write_text(shown.getvalue())
    return folder


@pytest.fixture
def inside(project, monkeypatch):
    monkeypatch.chdir(project)
    return project


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["export", *arguments])
    export.main()


def test_the_folder_is_what_the_hub_wants_and_the_check_is_printed(inside):
    found = {p.relative_to(OUT).as_posix() for p in OUT.rglob("*") if p.is_file()}
    assert found == {"README.md", "config.json", "export.json", "model.safetensors", "summary.json",
                     "tokenizer.json", "tokenizer_config.json", "onnx/model.onnx",
                     "onnx/model_int8.onnx"}  # fmt: skip
    assert (OUT / "README.md").read_text().startswith("---\nlibrary_name: transformers\n")
    assert files.sha256(OUT / "model.safetensors") == files.sha256(
        tables.FINETUNED / "model.safetensors"
    )
    row = re.search(r"onnx/model\.onnx .*", Path("shown.txt").read_text())
    assert row
    assert "1.0000" in row[0]


def test_the_cards_own_code_runs_without_pytorch_and_says_what_pytorch_says(inside):
    card = (OUT / "README.md").read_text()
    (code,) = (c for c in re.findall(r"```python\n(.*?)```", card, re.DOTALL) if "onnx" in c)
    last = "\nimport sys; assert not {'torch', 'transformers'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code + last], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = {text: label for label, _, text in (x.split(" | ") for x in done.stdout.splitlines())}
    model = classifier.load()
    expected = model.logits(model.encode(list(said))).argmax(axis=1)
    assert list(said.values()) == [model.labels[i] for i in expected]
    assert len(said) == 2


def test_int8_predicts_without_pytorch(inside):
    code = """if True:
        import json, sys
        from tools import predict
        try:
            predict.main()
        finally:
            assert not {"torch", "transformers"} & set(sys.modules), "PyTorch was loaded"
    """
    command = [sys.executable, "-c", code, "--int8", "--json", "--model", str(OUT), "coach goal"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["predicted"] == "Sports"


def test_transformers_reads_the_folder(inside):
    model = AutoModelForSequenceClassification.from_pretrained(OUT)
    tokenizer = AutoTokenizer.from_pretrained(OUT)
    texts = ["coach goal match", "bank"]
    with torch.inference_mode():
        found = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits.numpy()
    ours = classifier.load()
    np.testing.assert_allclose(found, ours.logits(ours.encode(texts)), atol=1e-5)


def test_padding_changes_no_score(inside):
    model = onnx_model.load(OUT, onnx_model.FP32)
    tokens = model.encode(["coach", "bank shares profit market again", "treaty " * 30])
    width = max(map(len, tokens))
    ids = np.zeros((3, width), np.int64)
    mask = np.zeros_like(ids)
    for row, document in enumerate(tokens):
        ids[row, : len(document)], mask[row, : len(document)] = document, 1
    together = model.session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]
    np.testing.assert_allclose(together, model.logits(tokens), atol=1e-5)


def test_a_graph_of_other_weights_is_refused(inside):
    other = classifier.load()
    with torch.no_grad():
        other.model.classifier.weight.mul_(1.01)
    test = tables.read_table(export.TEST)
    with pytest.raises(UserError, match="does not compute what the model does"):
        export.check(other, OUT, (onnx_model.FP32,), test, threshold.DEFAULT)


def test_what_is_not_ours_is_not_replaced(inside, monkeypatch, tmp_path):
    foreign = tmp_path / "notes"
    foreign.mkdir()
    (foreign / "a.txt").write_text("mine")
    with pytest.raises(UserError, match="no export of ours"):
        call(monkeypatch, "--out", str(foreign))
    for overlapping in ("models", "models/finetuned", "models/finetuned/deep"):
        with pytest.raises(UserError, match="overlaps"):
            call(monkeypatch, "--out", overlapping)
    assert [p.name for p in foreign.iterdir()] == ["a.txt"]
    assert classifier.load()


def test_an_export_that_fails_leaves_the_last_one(inside, monkeypatch, tmp_path):
    before = onnx_model.fingerprint(OUT)
    shutil.copytree(tables.FINETUNED, tmp_path / "half")
    (tmp_path / "half/tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer"):
        call(monkeypatch, "--model", str(tmp_path / "half"))
    assert onnx_model.fingerprint(OUT) == before
    assert not list(OUT.parent.glob(".*.part"))


def test_the_card_of_another_model_is_not_taken(inside, monkeypatch, capsys, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tables.FINETUNED, other)
    weights = load_file(other / "model.safetensors")
    weights["classifier.weight"] *= 1.0001  # with the same answers, and so as many of them right
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    files.write_text(
        export.CARD, f"of evaluate, {files.sha256(tables.FINETUNED / 'model.safetensors')}\n"
    )
    files.write_json(export.MEASURED, {"n": 60, "accuracy": 0.75})

    def card(folder: Path, accuracy: float) -> tuple[str, str]:
        text = export.card(folder, ["World", "Sports"], 60, accuracy)
        return text, " ".join(capsys.readouterr().out.split())

    assert card(tables.FINETUNED, 0.75) == (export.CARD.read_text(), "")
    for folder, accuracy, why in ((other, 0.75, "is about other weights than those in"),
                                  (tables.FINETUNED, 0.85, "differs from 0.8500 on 60")):  # fmt: skip
        text, said = card(folder, accuracy)
        assert "of evaluate" not in text
        assert "World" in text
        assert why in said


@pytest.mark.parametrize("method", ["head_tail", "chunks"])
def test_an_export_reads_long_documents_as_the_model_does(project, tmp_path, monkeypatch, method):
    evaluated.shorten(project, tmp_path, method)
    shutil.copytree(project / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    call(monkeypatch)  # which compares all test documents
    model, exported = classifier.load(), onnx_model.load(OUT, onnx_model.FP32)
    texts = ["coach goal " * 30, "bank market " * 9 + "coach goal " * 9, "treaty"]
    tokens = model.encode(texts)
    assert exported.encode(texts) == tokens
    assert max(map(len, tokens)) == (36 if method == "chunks" else 12)
    np.testing.assert_allclose(exported.logits(tokens), model.logits(tokens), atol=1e-4)
    assert f"long_documents: {method}" in (OUT / "README.md").read_text()
