"""Other tasks than news: two and three classes from raw file to answer, class weights, thresholds.

The small corpora in data/sample go through every stage and tool, in real processes, with a
two-layer model.
"""

import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import f1_score, precision_score, recall_score
from transformers import BertConfig, BertModel

from cleantune import files
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.evaluation import metrics, threshold
from cleantune.evaluation.robustness import first_half
from cleantune.models import classifier, onnx_model
from cleantune.models.from_scratch import own_tokenizer
from cleantune.params.read import read_params
from cleantune.training import batches
from stages import evaluate
from tests import tiny
from tests.conftest import REPOSITORY
from tools import explore, export, int8_threshold, predict

STAGES = ("download", "clean", "fetch_models", "label_noise", "pretrain", "tokenize_text", "finetune",
          "baselines", "evaluate")  # fmt: skip
TASKS = {"spam": ["ham", "spam"], "sentiment": ["negative", "neutral", "positive"]}
QUICK: dict[str, Any] = {
    "model": "tiny-model", "max_length": 48, "precision": "fp32", "epochs": 4, "lr": 3e-3,
    "batch_size": 16, "finetune__class_weights": "balanced",
    "label_noise__action": "weight", "label_noise__folds": 3,
    "baselines__models": ["ngram", "tfidf"],
    "evaluate__robustness_documents": 20, "evaluate__explained_mistakes": 1,
}  # fmt: skip
SETTINGS = read_params(["evaluate"], REPOSITORY / "params.yaml").evaluate
COLUMNS = ("id", "input_ids", "label", "length", "weight")


# ---- every stage and tool, on two and on three classes


def write_project(folder: Path, name: str) -> None:
    """Write what the first stage reads, and a two-layer model whose tokenizer knows the corpus."""
    sample = f"data/sample/{name}.csv"
    for path in (
        "params.yaml",
        "ds_config.json",
        "data/corrections.csv",
        "data/test_corrections.csv",
        sample,
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / path, folder / path)
    with (folder / sample).open(newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    own_tokenizer(texts, 1000, 48).save_pretrained(folder / "tiny-model")
    torch.manual_seed(0)
    BertModel(BertConfig(
        vocab_size=1000, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64,
    )).save_pretrained(folder / "tiny-model")  # fmt: skip
    tiny.set_params(folder, dataset=f"{name}_sample", **QUICK)


@pytest.fixture(scope="module")
def made(runner, tmp_path_factory):
    """A folder for each task, in which the whole pipeline has run."""
    folders = {}
    for name in TASKS:
        folders[name] = tmp_path_factory.mktemp(name)
        write_project(folders[name], name)
        for stage in STAGES:
            run = runner.start(folders[name], module=f"stages.{stage}",
                               evaluate__threshold="f1" if name == "spam" else "argmax")  # fmt: skip
            assert run.statuses == [0], f"{stage}: {run.output}"
    return folders


@pytest.fixture
def spam(made, tmp_path, monkeypatch):
    """A copy of the spam project, to change."""
    shutil.copytree(made["spam"], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tool(monkeypatch, capsys):
    """Call a tool in a folder as a user would; return stdout and stderr."""

    def call(folder: Path, module: ModuleType, *arguments: str) -> tuple[str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["tool", *arguments])
        capsys.readouterr()
        module.main()
        out, err = capsys.readouterr()
        return out, err

    return call


@pytest.mark.parametrize("name", TASKS)
def test_the_pipeline_ends_with_the_classes_of_the_task_and_no_others(made, name):
    folder, names = made[name], TASKS[name]
    classes = files.read_json(folder / "metrics/classes.json")
    assert list(classes) == [*names, "(macro)", "(weighted)"]
    assert ("positive" in files.read_json(folder / "metrics/test.json")) == (len(names) == 2)
    with (folder / "metrics/plots/confusion.csv").open() as file:
        assert {row["actual"] for row in csv.DictReader(file)} == set(names)
    summary = files.read_json(folder / "models/finetuned/summary.json")
    assert list(summary["training_documents"]) == names
    for page in ("evaluation.html", "model_card.md", "label_review.html"):
        text = (folder / "reports" / page).read_text()
        assert all(n in text for n in names), page
        assert not any(n in text for n in ("World", "Sports", "Sci/Tech")), page
    assert ("Positive class: spam" in (folder / "reports/evaluation.html").read_text()) == (
        name == "spam"
    )


@pytest.mark.parametrize("name", TASKS)
def test_the_tools_speak_of_the_classes_of_the_task(made, tool, name):
    folder, names = made[name], TASKS[name]
    explored, _ = tool(folder, explore)
    assert all(n in explored for n in names)
    answer = json.loads(tool(folder, predict, "--json", "a free prize")[0])
    assert list(answer["probabilities"]) == names


def scale_head(folder: Path, by: float) -> None:
    """Make a model surer than it should be, and its classes other ones near the middle."""
    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"] *= by
    weights["classifier.bias"] += torch.tensor([0.0, 3.0])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_every_figure_counts_the_answers_of_predict(spam, tool):
    other = tables.FINETUNED / "seeds/7"
    shutil.copytree(tables.FINETUNED, other)
    scale_head(tables.FINETUNED, 8)
    scale_head(other, 1)
    test = tables.read_table(tables.CLEAN / "test.parquet")
    test[["title", "text"]].to_csv("texts.csv", index=False)
    tiny.set_params(spam, evaluate__robustness_documents=len(test), evaluate__answer_accuracy=0.6)
    evaluate.main()
    truth = test["label"].to_numpy()

    def answered(*arguments: str) -> tuple[np.ndarray, np.ndarray]:
        _, said = tool(spam, predict, "--file", "texts.csv", "--out", "answers.jsonl", *arguments)
        rows = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
        assert all(row["confidence"] == row["probabilities"][row["predicted"]] for row in rows)
        assert {row["calibrated"] for row in rows} == {"probabilities are calibrated" in said}
        found = [[row["probabilities"][name] for name in TASKS["spam"]] for row in rows]
        return np.array([row["predicted"] == "spam" for row in rows]), np.array(found)

    def measured(name: str) -> Any:
        return files.read_json(evaluate.METRICS / f"{name}.json")

    decided = threshold.read(tables.FINETUNED)
    assert decided.calibrated
    guesses, shares = answered()
    assert (guesses != (shares[:, 1] > 0.5)).any(), "as the likeliest class: nothing is tested"
    pairs = pd.read_csv(evaluate.PLOTS / "confusion.csv")
    assert (pairs["predicted"] == np.where(guesses, "spam", "ham")).all()
    right = (guesses == truth).mean()
    baselines = measured("baselines")
    for name, accuracy in {
        "test": measured("test")["accuracy"],
        "seed": measured("seeds")["seeds"]["42"]["accuracy"],
        "slices": measured("slices")["test set"]["as released"]["accuracy"],
        "robustness": measured("robustness")["accuracy"]["original"],
        "plots": pd.read_csv(evaluate.PLOTS / "baselines.csv").set_index("model")["accuracy"]["fine-tuned"],
        "McNemar": baselines["tfidf"]["accuracy"] + (
            baselines["tfidf"]["only_model_right"] - baselines["tfidf"]["only_baseline_right"]
        ) / len(test),
    }.items():  # fmt: skip
        assert accuracy == pytest.approx(right, abs=2e-6), name
    slices = measured("slices")["confidence"].values()
    assert sum(part["n"] * part["accuracy"] for part in slices) == pytest.approx(right * len(test), abs=1e-3)  # fmt: skip
    for figures in (measured("classes")["spam"], measured("test")["positive"]):
        for f in (precision_score, recall_score, f1_score):
            assert figures[f.__name__.removesuffix("_score")] == pytest.approx(f(truth, guesses), abs=1e-5)  # fmt: skip
    assert measured("test")["nll"] == pytest.approx(metrics.nll(truth, shares), abs=1e-3)
    page = (spam / "reports/evaluation.html").read_text()
    assert page.count('<article class="mistake">') == min(1, (guesses != truth).sum())

    tool(spam, predict, "--file", "texts.csv", "--out", "answers.jsonl", "--abstain")
    rows = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    sure = np.array([not row["unsure"] for row in rows])
    of_test = measured("confidence")["test"]
    assert 0 < sure.mean() == pytest.approx(of_test["answered"], abs=2e-6)
    assert (guesses == truth)[sure].mean() == pytest.approx(of_test["accuracy"], abs=2e-6)

    half = [first_half(text) for text in tables.full_text(test)]
    pd.DataFrame({"text": half}).to_csv("texts.csv", index=False)
    cut = (answered()[0] == truth).mean()
    assert measured("robustness")["accuracy"]["first half of the words"] == pytest.approx(cut, abs=2e-6)  # fmt: skip
    test[["title", "text"]].to_csv("texts.csv", index=False)

    # Each seed and all together by what was chosen for them
    for arguments, figures in ((("--model", str(other)), measured("seeds")["seeds"]["7"]),
                               (("--seeds",), measured("seeds")["ensemble"])):  # fmt: skip
        guesses, shares = answered(*arguments)
        assert figures["accuracy"] == pytest.approx((guesses == truth).mean(), abs=2e-6)
        assert figures["nll"] == pytest.approx(metrics.nll(truth, shares), abs=1e-3)
    weights = [folder / "model.safetensors" for folder in (tables.FINETUNED, other)]
    chosen = [threshold.read(tables.FINETUNED, *w) for w in (weights[:1], weights[1:], weights)]
    assert len({found.threshold for found in chosen}) == 3


def test_int8_has_a_choice_of_its_own_where_the_same_validation_is_at_hand(spam, tool):
    main = threshold.read(tables.FINETUNED)
    command = [spam, predict, "--json", "--int8", "a free prize"]
    assert "choosing for int8" in tool(*command)[1]
    graph = Path("models/int8") / onnx_model.INT8
    own = threshold.read(graph.parent, graph)
    model, table = (
        onnx_model.load(Path("models/int8")),
        tables.read_table(int8_threshold.VALIDATION),
    )
    logits = model.logits(model.encode(tables.full_text(table)))
    assert own == main.fitted(table["label"].to_numpy(), logits, model.labels)
    assert own.threshold != main.threshold

    answer, said = tool(*command)
    assert "choosing" not in said
    shares = own.probabilities(model.logits(model.encode(["a free prize"])))[0]
    assert list(json.loads(answer)["probabilities"].values()) == pytest.approx(shares, abs=1e-5)

    other = replace(main, rule="precision", precision=0.9)
    threshold.write(tables.DECISION, [(other, [tables.FINETUNED / "model.safetensors"])])
    assert "choosing for int8" in tool(*command)[1], "the rule is another one"
    tables.write_table(int8_threshold.VALIDATION, table.head(10), tuple(table.columns))
    assert "choosing" not in tool(*command)[1], "what was chosen stays"
    (graph.parent / threshold.FILE).unlink()
    answer, said = tool(*command)
    assert "is not at hand: no threshold and no temperature is chosen for int8" in said
    assert "probabilities are not calibrated: nothing was fitted" in said
    assert not json.loads(answer)["calibrated"]


def test_the_threshold_is_of_validation_alone_and_goes_with_its_model(spam):
    before = tables.DECISION.read_bytes(), files.read_json(evaluate.METRICS / "test.json")
    path = tables.CLEAN / "test.parquet"
    table = tables.read_table(path)
    table["label"] = 1 - table["label"]
    tables.write_table(path, table, tuple(table.columns))
    evaluate.main()
    assert tables.DECISION.read_bytes() == before[0]
    assert files.read_json(evaluate.METRICS / "test.json") != before[1]

    assert threshold.read(tables.FINETUNED).rule == "f1"
    shutil.copytree(tables.FINETUNED, "models/other")
    assert threshold.read(Path("models/other")).rule == "f1"
    weights = Path("models/other/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    assert threshold.read(Path("models/other")).rule == "argmax"

    path = tables.CLEAN / "validation.parquet"
    table = tables.read_table(path)
    table["label"] = 1 - table["label"]
    tables.write_table(path, table, tuple(table.columns))
    evaluate.main()
    assert tables.DECISION.read_bytes() != before[0]


def test_an_export_takes_the_decision_and_its_card_along(spam, tool):
    tool(spam, export)
    exported = Path("models/exported")
    assert threshold.read(exported) == threshold.read(tables.FINETUNED)
    text = (exported / "README.md").read_text()
    assert text.startswith(export.CARD.read_text())
    assert f"best = 1 if shares[1] > {threshold.read(exported).threshold} else 0" in text


def test_a_threshold_or_class_that_the_task_does_not_have_is_refused(made, tmp_path, monkeypatch):
    shutil.copytree(made["sentiment"], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    tiny.set_params(tmp_path, evaluate__positive="neutral")
    with pytest.raises(UserError, match=r"neutral is for two classes; these are 3: negative, neu"):
        evaluate.main()
    with pytest.raises(UserError, match="'Spam' is not a class; allowed: ham, spam, or null"):
        threshold.from_settings(SETTINGS.model_copy(update={"positive": "Spam"}), ["ham", "spam"])
    with pytest.raises(UserError, match=r"threshold: f1 is for two classes; these are 3: a, b, c"):
        threshold.from_settings(SETTINGS.model_copy(update={"threshold": "f1"}), ["a", "b", "c"])


# ---- class weights


def rare(folder: Path, weights: bool = False) -> None:
    """Write a task of three classes, of which the first has few documents in train."""
    tiny.write(folder, documents=330, validation=240)
    path = folder / tables.TOKENS / "train.parquet"
    table = tables.read_table(path)
    few = table["label"].ne(0) | (table.groupby("label").cumcount() < 12)
    table = table[few].reset_index(drop=True)
    if weights:
        table["weight"] = np.random.default_rng(1).random(len(table))
    tables.write_table(path, table, COLUMNS)
    tiny.set_params(folder, lr=3e-3, epochs=3, batch_size=16, precision="fp32",
                    finetune__early_stopping_patience=9)  # fmt: skip


def test_balanced_classes_weigh_the_same_with_and_without_document_weights(tmp_path):
    for weights in (False, True):
        rare(tmp_path, weights)
        data = batches.TokenDataset(tables.read_table(tmp_path / tables.TOKENS / "train.parquet"))
        data.balance()
        counted = data.weights * data.class_weights
        sums = np.bincount(data.labels, counted)
        assert sums == pytest.approx([data.weights.sum() / 3] * 3)


def test_the_balanced_loss_is_the_mean_of_the_classes_losses(runner, tmp_path):
    rare(tmp_path, weights=True)
    path = tmp_path / tables.TOKENS / "train.parquet"
    table = tables.read_table(path)
    whole = {"batch_size": len(table), "epochs": 1}
    unweighted = runner.run(tmp_path, **whole)[0]
    balanced = runner.run(tmp_path, finetune__class_weights="balanced", **whole)[0]
    each = []
    for label in range(3):
        tables.write_table(
            path, table.assign(weight=table["weight"] * (table["label"] == label)), COLUMNS
        )
        each.append(runner.run(tmp_path, finetune__class_weights="none")[0])
    assert balanced == pytest.approx(np.mean(each), rel=1e-5)
    assert balanced != pytest.approx(unweighted, rel=1e-3)


def test_the_balanced_loss_does_not_depend_on_processes_and_accumulation(runner, tmp_path):
    rare(tmp_path, weights=True)
    alone = runner.run(tmp_path, epochs=1, finetune__class_weights="balanced")
    split = runner.run(tmp_path, processes=2, zero_stage=2, finetune__micro_batch_size=3)
    assert split == pytest.approx(alone, rel=1e-4)


def test_balanced_classes_raise_the_recall_of_a_rare_one(runner, tmp_path):
    rare(tmp_path)
    validation = tables.read_table(tmp_path / tables.TOKENS / "validation.parquet")
    recalls = {}
    for kind in ("none", "balanced"):
        runner.run(tmp_path, finetune__class_weights=kind)
        model = classifier.load(tmp_path / tables.FINETUNED)
        found = model.logits([list(ids) for ids in validation["input_ids"]]).argmax(axis=1)
        recalls[kind] = recall_score(validation["label"], found, average=None)[0]
    assert recalls["balanced"] > recalls["none"] + 0.1, recalls


def test_the_corpora_are_as_described():
    for name, classes in TASKS.items():
        with (REPOSITORY / f"data/sample/{name}.csv").open(newline="") as file:
            table = pd.DataFrame(csv.DictReader(file))
        assert sorted(table["label"].unique()) == classes
        assert table["text"].is_unique
    share = pd.read_csv(REPOSITORY / "data/sample/spam.csv")["label"].eq("spam").mean()
    assert 0.13 <= share <= 0.15
