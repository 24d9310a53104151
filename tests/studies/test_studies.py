"""studies.text_cleaning, augmentation, pretraining, label_cost: a table's lines are what they say.

Each program runs whole, on made-up words and a model of two layers. The stages it runs are forked
from a process that has paid for the imports; one test starts a stage as the programs do, and
label_cost measures processes of its own.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import label_detection_cost
from cleantune import files
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.labels import corrections
from cleantune.models import encoder
from cleantune.params.read import read_params
from stages import label_noise
from studies import (
    augmentation,
    parameters,
    pretraining,
    reviewed_labels,
    stage_runs,
    text_cleaning,
)
from tests import tiny
from tests.conftest import REPOSITORY

DOCUMENTS = {"train": 60, "validation": 12, "test": 15}
PARAMS = {"epochs": 1, "batch_size": 8, "lr": 1e-2, "max_length": 32, "precision": "fp32",
          "zero_stage": 0, "finetune__early_stopping_patience": 1000,
          "pretrain__batch_size": 8, "pretrain__block_length": 32,
          "label_noise__model": "tfidf", "label_noise__folds": 2, "label_noise__epochs": 1,
          "label_noise__batch_size": 8, "label_noise__action": "keep"}  # fmt: skip


@dataclass
class Stage:
    """What a stage found, and what it left."""

    name: str
    train: pd.DataFrame  # the labelled documents in its folder
    steps: int  # of the optimizer, where it fine-tunes


@pytest.fixture
def project(tmp_path, monkeypatch):
    """What every stage up to fine-tuning leaves; the last six documents of 60 were not kept."""
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "ds_config.json"):
        Path(name).write_bytes((REPOSITORY / name).read_bytes())
    base = tmp_path / "base"
    tiny.write_model(base, dropout=0.0)
    tiny.set_params(tmp_path, model="base", label_noise__encoder="base", study__seeds=[7], **PARAMS)
    pointer = encoder.pointer_to("base", None, base)
    files.write_json(encoder.PRETRAINED / encoder.POINTER, pointer)
    files.write_json(tables.SOURCE, {"dataset": "custom", "labels": tiny.CLASSES})
    files.write_json(tables.TEXT_STEPS, tiny.STEPS)
    rng = np.random.default_rng(0)
    for split, count in DOCUMENTS.items():
        label = np.arange(count) % 3
        # of three words two are the class's own
        words = 3 * rng.integers(0, tiny.WORDS // 3, (count, 12)) + label[:, None]
        words[:, ::3] = rng.integers(0, tiny.WORDS, (count, 4))
        clean = ["The " + ", ".join(f"w{w}" for w in row) for row in words]
        table = pd.DataFrame({"id": [f"{split}-{i}" for i in range(count)], "title": "w1 w2",
                              "text": clean, "label": label, "weight": 1.0})  # fmt: skip
        table["group"] = table["id"]
        raw = table.assign(text=[f"&lt;b&gt;{text}&lt;/b&gt;" for text in clean])
        if split != "validation":
            tables.write_table(tables.RAW / f"{split}.parquet", raw, tables.TEXT_COLUMNS)
        kept = table[:-6] if split == "train" else table
        columns = (*tables.TEXT_COLUMNS, "group")
        tables.write_table(tables.CLEAN / f"{split}.parquet", kept, columns)
        if split == "train":
            path = tables.LABELS / "train.parquet"
            tables.write_table(path, kept, (*columns, "weight"))
    corrections.CORRECTIONS.write_text(",".join(corrections.COLUMNS) + "\n")
    return tmp_path


@pytest.fixture
def ran(runner, monkeypatch):
    """The stages that a study has run, which are forked."""
    stages: list[Stage] = []

    def forked(stage: str, folder: Path) -> None:
        run = runner.start(folder, f"stages.{stage}")
        assert run.statuses == [0], run.output
        if stage == "fetch_models":
            return
        steps = 0
        if stage == "finetune":
            steps = files.read_json(folder / tables.FINETUNED / "summary.json")["steps"]
            assert not (folder / tables.FINETUNED / "seeds").exists(), (
                "the studies vary it themselves"
            )
        train = tables.read_table(folder / tables.LABELS / "train.parquet")
        stages.append(Stage(stage, train, steps))

    for module in (stage_runs, parameters, pretraining, label_detection_cost):
        monkeypatch.setattr(module, "run", forked)
    return stages


@pytest.fixture
def study(project, monkeypatch, capsys):
    """Run a study with these words after its name; return what it says, line by line."""

    def run(module, *words):
        monkeypatch.setattr(sys, "argv", [module.__name__, *words])
        module.main()
        return capsys.readouterr().out.splitlines()

    return run


def cells(lines: list[str]) -> list[list[str]]:
    """Return the cells of the one table among the lines, without its head."""
    return [[c.strip() for c in line.strip("│").split("│")] for line in lines if line[0] == "│"]


def shares(text: str) -> list[float]:
    """Return the accuracies in a text; all have four places."""
    return [float(number) for number in re.findall(r"\d\.\d{4}", text)]


def test_parameters_are_compared_on_the_same_documents_and_seeds(study, ran):
    said = study(parameters, "epochs=1", "epochs=2 lr=1e-3", "--seeds=0,1")
    first, second = cells(said)
    assert [first[0], second[0]] == ["epochs=1", "epochs=2 lr=1e-3"]
    assert first[3] == ""
    found = [line.split(": ", 1) for line in said if line.startswith("seed ")]
    by_run = {name: shares(scores)[0] for name, scores in found}
    gains = [
        100 * (by_run[f"seed {k}, {second[0]}"] - by_run[f"seed {k}, {first[0]}"]) for k in (0, 1)
    ]
    assert float(second[3].split(" ± ")[0]) == pytest.approx(np.mean(gains), abs=0.02)
    trained = [stage for stage in ran if stage.name == "finetune"]
    assert all(stage.train.equals(trained[0].train) for stage in trained)
    assert [stage.steps for stage in trained] == [7, 14, 7, 14]
    with pytest.raises(UserError, match="epochs: a variant is KEY=VALUE"):
        study(parameters, "epochs")


def test_cleaning_differs_in_the_text_alone(study, ran):
    recipes = [*text_cleaning.RECIPES]
    words = ("--models=tfidf,transformer", "--seeds=0", "--documents=40", "--epochs=1")
    said = study(text_cleaning, *words)
    rows = cells(said)
    assert [row[:2] for row in rows] == [[recipe, "40"] for recipe in recipes]
    assert all(0 <= share <= 1 for share in shares(" ".join(said)))
    lines = [f"{name}, seed 0, {model}: {accuracy}" for name, _, *found in rows
             for model, accuracy in zip(("tfidf", "transformer"), found, strict=True)]  # fmt: skip
    assert [line for line in said if ", seed 0, " in line] == lines
    assert study(text_cleaning, *words, "--recipes=raw")[:2] == lines[:2], "the same seed"

    texts = [stage.train for stage in ran if stage.name == "finetune"]
    assert [len(train) for train in texts] == [38] * 5, "a twentieth is held out"
    tuned = dict(zip(recipes, texts, strict=False))
    for recipe in ("repaired", "article"):
        assert tuned[recipe]["id"].equals(tuned["raw"]["id"])
    kept = {f"train-{i}" for i in range(54)}
    assert set(tuned["pipeline"]["id"]) <= kept
    assert not set(tuned["raw"]["id"]) <= kept
    marks = {"&lt;b&gt;": {"raw"}, "The ": {"raw", "repaired", "pipeline"},
             ", ": {"raw", "repaired", "pipeline"}}  # fmt: skip
    for mark, having in marks.items():
        assert {r for r in recipes if mark in tuned[r]["text"].iloc[0]} == having, mark


def test_augmentation_gives_every_method_as_many_documents_and_steps(study, ran):
    methods = ["none", "swap"]
    words = ("--seeds=0", "--documents=16,48", "--epochs=4,2")
    said = study(augmentation, f"--methods={','.join([*methods, 'masked'])}", *words)
    assert "masked is skipped." in " ".join(" ".join(said).split())
    rows = cells(said)
    assert [row[:2] for row in rows] == [[size, m] for size in ("16", "48") for m in methods]
    assert all(0 <= share <= 1 for share in shares(" ".join(said)))
    lines = [f"{size} documents, seed 0, {method}: validation {validation}, test {test}"
             for size, method, validation, test, _ in rows]  # fmt: skip
    assert [line for line in said if ", seed 0, " in line] == lines
    for none, swap in (rows[:2], rows[2:]):
        gain = 100 * (float(swap[3]) - float(none[3]))
        assert float(swap[4]) == pytest.approx(gain, abs=0.02)

    tuned = [stage for stage in ran if stage.name == "finetune"]
    for (none, swap), count in ((tuned[:2], 16), (tuned[2:], 48)):
        assert len(none.train) == count
        assert none.train.equals(swap.train)
        assert none.steps == swap.steps == {16: 8, 48: 12}[count]
    again = study(augmentation, "--methods=swap", "--seeds=0", "--documents=16", "--epochs=4")
    assert lines[1] in again, "the same seed"


def test_pretraining_compares_two_starts_on_the_same_documents(study, ran):
    words = ("--documents=24", "--epochs=1", "--lr=1e-2")
    said = study(pretraining, *words, "--seeds=0,1")
    text = " ".join(" ".join(said).split())
    assert re.search(r"perplexity on validation: [\d.]+ before, [\d.]+ after", text)
    assert "accuracy after fine-tuning on 24 documents, 2 seed(s)" in text
    rows = {name: [shares(cell)[0] for cell in found] for name, *found in cells(said)}
    assert list(rows) == ["base model", "pretrained"]
    assert all(0 <= share <= 1 for share in shares(text))
    for i, split in enumerate(pretraining.SPLITS):
        points = re.search(rf"{split}: ([+-][\d.]+) points \(95 % over seeds", text)
        assert points
        gain = 100 * (rows["pretrained"][i] - rows["base model"][i])
        assert float(points[1]) == pytest.approx(gain, abs=0.02)

    assert [stage.name for stage in ran].count("pretrain") == 1
    assert len(ran[0].train) == 54, "pretraining reads all text"
    tuned = [stage.train for stage in ran if stage.name == "finetune"]
    assert [len(train) for train in tuned] == [24] * 4
    assert tuned[0].equals(tuned[1])
    assert tuned[2].equals(tuned[3])
    assert not tuned[0].equals(tuned[2]), "another seed chooses others"

    once = [line for line in said if line.startswith("seed 0, ")]
    again = study(pretraining, *words, "--seeds=0")
    assert len(once) == 2
    assert [line for line in again if line.startswith("seed 0, ")] == once


@pytest.mark.slow
def test_label_cost_says_how_costs_grow(study):
    said = study(label_detection_cost, "--documents=24,48", "--finetuned=0")
    rows = cells(said)
    assert [row[0] for row in rows] == ["24", "48"]
    assert all(float(row[1]) >= 1 for row in rows), "seconds of a process, its imports among them"
    assert all(0.1 < float(row[2]) < 8 for row in rows), "gigabytes of one with its libraries"
    text = " ".join(" ".join(said).split())
    assert "Cost of stages.label_noise, model tfidf" in text
    grown = r"24 to 48 documents: seconds\^-?[\d.]+, memory\^-?0\.\d\d, no more than linear holds"
    assert re.search(grown, text), text


def test_label_cost_has_a_fine_tuned_label_model_beside_fine_tuning(study, ran, monkeypatch):
    models = []

    def forked(stage, folder):
        params = read_params(label_noise.PARAMS, folder / "params.yaml")
        models.append((stage, params.label_noise.model))
        stage_runs.run(stage, folder)
        return 10**9

    monkeypatch.setattr(label_detection_cost, "peak_memory", forked)
    said = study(label_detection_cost, "--documents=24", "--finetuned=30")
    assert models == [("label_noise", "tfidf"), ("label_noise", "finetuned")]
    judged = re.search(r"finetuned on 30 documents: (\d+) s; fine-tuning on 15: \d+ s; "
                       r"2 times that: ([\d.]+)", " ".join(said))  # fmt: skip
    assert judged
    assert float(judged[2]) > 0
    assert [(stage.name, len(stage.train)) for stage in ran] == [
        ("label_noise", 24), ("label_noise", 30), ("tokenize_text", 15), ("finetune", 15),
    ]  # fmt: skip


def test_a_review_leaves_fewer_errors_and_what_was_true_is_true(study, ran):
    said = study(
        reviewed_labels, "pair:0.2", "none", "--models=tfidf", "--seeds=0,1", "--mistakes=0"
    )
    rows = [row for row in cells(said) if row[0]]
    noisy, clean = rows[:6], rows[6:]
    wrong = {row[0]: int(row[4]) for row in noisy}
    assert (wrong["given"], wrong["true"]) == (round(0.2 * 54), 0)
    assert wrong["auto, 0% mistakes"] <= wrong["review alone"] < wrong["given"]
    changed = {row[0]: [row[1], row[2], row[4]] for row in clean}
    assert changed["auto, 0% mistakes"] == ["0", "0", "0"], "nothing of labels that are right"
    labels = [stage.train["label"].to_list() for stage in ran]
    true = tables.read_table(tables.CLEAN / "train.parquet")["label"].to_list()
    assert labels[0] != true
    assert labels.count(true) >= 2 * 2, (
        "each seed of either noise; equal labels are trained on once"
    )
    assert len(labels) < 2 * 2 * 6


def test_labels_are_mistaken_as_it_says(project):
    for text in ("none:0.2", "pair:1.2", "luck:0.2"):
        with pytest.raises(ValueError, match=text):
            reviewed_labels.noise(text)
    train = tables.read_table(tables.CLEAN / "train.parquet")
    true = train["label"].to_numpy()
    for kind in ("uniform", "pair", "confusion"):
        given = reviewed_labels.given_labels(train, reviewed_labels.Noise(kind, 0.3), 1)
        assert (given != true).sum() == round(0.3 * len(true)), kind
        if kind == "pair":
            assert set(zip(true[given != true], given[given != true], strict=True)) == {
                (0, 1),
                (1, 2),
                (2, 0),
            }
    named = train.assign(**{"metadata.by": [tiny.CLASSES[(label + 1) % 3] for label in true]})
    given = reviewed_labels.given_labels(named, reviewed_labels.noise("metadata.by"), 0)
    assert given.tolist() == ((true + 1) % 3).tolist()
    for table, message in ((train, "has no column metadata.by"),
                           (named.assign(**{"metadata.by": "x"}), "'x' is none of the classes")):  # fmt: skip
        with pytest.raises(UserError, match=message):
            reviewed_labels.given_labels(table, reviewed_labels.noise("metadata.by"), 0)


@pytest.mark.parametrize(
    ("module", "words", "message"),
    [
        (text_cleaning, "--recipes=raw,boiled", "--recipes: boiled; known: raw"),
        (text_cleaning, "--models=oracle", "--models: oracle; known: tfidf"),
        (reviewed_labels, "none --models=oracle", "--models: oracle; known: vectors"),
        (augmentation, "--methods=luck", "--methods: luck; known: none"),
        (augmentation, "--documents=55", "--documents: '55'; allowed: all, or 1 to 54"),
        (augmentation, "--documents=all --epochs=3", "--epochs: an even number"),
        (pretraining, "--epochs=0", "--epochs: 1 or more"),
        (pretraining, "--documents=55", "--documents: 1 to 54"),
        (label_detection_cost, "--documents=20,55", "--documents, --finetuned: .* has 54"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_a_stage_runs(study, ran, module, words, message):
    with pytest.raises(UserError, match=message):
        study(module, *words.split())
    assert ran == []


def test_pretraining_wants_a_base_model_to_compare_with(study, ran):
    (encoder.PRETRAINED / encoder.POINTER).unlink()
    with pytest.raises(UserError, match=r"set pretrain\.epochs to 0"):
        study(pretraining)
    assert ran == []


def test_a_stage_runs_in_a_furnished_folder_and_tells_why_it_fails(project):
    stage_runs.furnish(Path("study"), {"seed": 7})
    assert read_params(["seed"], Path("study/params.yaml")).seed == 7
    with pytest.raises(
        UserError, match=r"(?s)stages\.clean failed .*data/raw/train\.parquet is missing"
    ):
        stage_runs.run("clean", Path("study"))
    raw = [tables.RAW / f"{split}.parquet" for split in ("train", "test")]
    stage_runs.furnish(Path("another"), {}, [*raw, corrections.CORRECTIONS])
    stage_runs.run("clean", Path("another"))
    assert tables.read_table("another" / tables.CLEAN / "train.parquet").shape[0] > 0


def test_a_spread_is_given_of_several():
    assert stage_runs.spread([0.5]) == "0.5000"
    assert stage_runs.spread([0.25, 0.75]) == "0.5000 ± 0.3536"
