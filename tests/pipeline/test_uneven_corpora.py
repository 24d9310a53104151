"""Corpora with rare, absent and unlearnable classes and empty texts go through all stages on a tiny model."""

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from cleantune import files
from cleantune.data import tables
from stages import baselines, clean, download, evaluate, label_noise, tokenize_text
from tests import corpus_entry, tiny
from tests.conftest import REPOSITORY

CASES = REPOSITORY / "tests/field_cases"
Row = tuple[str, ...]
"""Label, text, and further values."""


def write_csv(name: str, rows: Sequence[Row], header: Row = ("label", "text")) -> None:
    with Path(name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def write_entry(paths: dict[str, str], metadata: Sequence[str] = (), **entry: Any) -> None:
    """Write params.yaml with the corpus ``custom`` in ``paths``, by split."""
    for name in ("params.yaml", "ds_config.json"):
        shutil.copy(REPOSITORY / name, name)
    columns = {"label": "label", "title": None, "text": "text", "metadata": [*metadata]}
    corpus_entry.choose("custom", **paths, columns=columns, **entry)


def write_base(texts: Sequence[str]) -> None:
    """Write a BERT of two layers with random weights that knows the words of ``texts``."""
    wordpieces = BertWordPieceTokenizer()
    wordpieces.train_from_iterator(texts, vocab_size=300, show_progress=False)
    tokenizer: Any = PreTrainedTokenizerFast
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]",
             "sep_token": "[SEP]", "mask_token": "[MASK]"}  # fmt: skip
    tokenizer(tokenizer_object=wordpieces._tokenizer, **names).save_pretrained("base")
    BertModel(BertConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64,
    )).save_pretrained("base")  # fmt: skip
    tiny.record_base(Path())


def run_all(runner: tiny.Runner, **params: Any) -> dict[str, Any]:
    """Run the stages on the corpus in params.yaml; return the metrics, by file."""
    tiny.set_params(Path(), label_noise__model="tfidf", baselines__models=["ngram", "tfidf"],
                    max_length=48, epochs=2, evaluate__explained_mistakes=1, **params)  # fmt: skip
    for stage in (download, clean, label_noise):
        stage.main()
    write_base(tables.full_text(tables.read_table(tables.LABELS / "train.parquet")))
    tokenize_text.main()
    baselines.main()
    run = runner.start(Path().absolute(), "stages.finetune")
    assert run.statuses == [0], run.output
    evaluate.main()
    return {path.stem: files.read_json(path) for path in Path("metrics").glob("*.json")}


def counts(split: str, folder: Path = tables.CLEAN) -> dict[str, int]:
    names = tables.label_names()
    labels = tables.read_table(folder / f"{split}.parquet")["label"]
    return {names[k]: int(n) for k, n in labels.value_counts().items()}


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_classes_of_one_and_two_documents_are_learned_and_not_checked(workspace, runner, capsys):
    write_entry({"train": str(CASES / "rare_classes.csv")})
    metrics = run_all(runner)
    rare = ["gift card", "spare part", "warranty"]
    assert set(counts("train")) == {"good", "bad", "mixed", *rare}
    out = printed(capsys)
    assert (
        "fewer distinct documents than label_noise.folds: 5: gift card, spare part, warranty" in out
    )
    issues = tables.read_table(tables.LABELS / "issues.parquet")
    names = tables.label_names()
    unchecked = issues["given"].isin([names.index(name) for name in rare])
    assert not issues["flagged"][unchecked].any()
    assert (issues["fold"][unchecked] == -1).all() and (issues["fold"][~unchecked] >= 0).all()
    assert (issues.loc[~unchecked, [f"p_{name}" for name in rare]] == 0).all(axis=None)
    for name in rare:
        assert (metrics["classes"][name]["recall"] is None) == (name not in counts("test"))


def test_empty_texts_are_counted_and_in_test_apart(workspace, runner, capsys):
    text = (CASES / "empty_texts.tsv").read_text(encoding="utf-8-sig")
    Path("t.tsv").write_text("label\ttext" + text[text.index("\n") :], encoding="utf-8")
    write_entry({"train": "t.tsv"})
    metrics = run_all(runner)
    summary = files.read_json(tables.CLEAN / "summary.json")
    train = tables.read_table(tables.CLEAN / "train.parquet")
    test = tables.read_table(tables.CLEAN / "test.parquet")
    assert (train["text"] != "").all()
    empty = int((test["text"] == "").sum())
    assert empty == summary["empty_test_documents"] == summary["nearly_empty"]["test"] > 0
    of_test = metrics["slices"]["test set"]
    assert of_test["empty or nearly empty texts"]["n"] == empty
    without = of_test["without empty or nearly empty texts"]
    assert without["n"] == len(test) - empty
    out = printed(capsys)
    assert (
        f"empty or nearly so (fewer than two letters or digits) and kept: 0 in train, 0 in validation, {empty} in test"
        in out
    )
    assert (
        f"{empty} test documents are empty or nearly so; accuracy without them {without['accuracy']:.4f}"
        in out
    )


def test_a_validation_file_is_the_validation_set(workspace, runner):
    content = json.loads((CASES / "splits.json").read_text())
    rows = {split: [(label, text) for text, label in content[split]] for split in content}
    names = dict(zip(rows, ("train", "validation", "test"), strict=True))
    for split, of in rows.items():
        write_csv(f"{names[split]}.csv", of)
    write_entry({name: f"{name}.csv" for name in names.values()})
    metrics = run_all(runner)
    assert metrics["validation"]["n"] == len(rows["val"]) - sum(
        files.read_json(tables.CLEAN / "summary.json")["dropped_from_validation"].values()
    )
    raw = tables.read_table(tables.RAW / "validation.parquet")
    assert [*raw["text"]] == [text for _, text in rows["val"]]
    assert raw["id"].str.startswith("validation-").all()


TOPICS = {"oil": "barrel price refinery drill", "cup": "goal match coach team",
          "tax": "budget law minister vote", "sea": "wave shore tide harbour"}  # fmt: skip


def documents(topic: str, count: int, start: int = 0) -> list[Row]:
    words = TOPICS[topic].split()
    return [(topic, f"{words[i % 4]} {words[i // 4 % 4]} {topic} number n{topic}{i} m{i}", f"paper {i % 2}",
             f"{2020 + i % 2}-01-05") for i in range(start, start + count)]  # fmt: skip


@pytest.mark.parametrize("absent_from", ["train", "validation", "test"])
def test_a_class_that_a_split_lacks_stops_nothing_and_has_no_values_there(
    workspace, runner, capsys, absent_from
):
    for number, split in enumerate(("train", "validation", "test")):
        topics = [t for t in TOPICS if not (t == "sea" and split == absent_from)]
        rows = [row for t in topics for row in documents(t, 24, 100 * number)]
        write_csv(f"{split}.csv", rows, ("label", "text", "source", "date"))
    write_entry({s: f"{s}.csv" for s in ("train", "validation", "test")}, ["source", "date"])
    metrics = run_all(runner)
    assert "sea" not in counts(absent_from)
    assert tables.label_names() == sorted(TOPICS)
    assert f"no document of sea in {absent_from}" in printed(capsys)
    sea = metrics["classes"]["sea"]
    assert sea["n"] == (0 if absent_from == "test" else 24)
    assert (sea["f1"] is None) == (absent_from == "test")
    assert metrics["classes"]["(macro)"]["classes"] == (3 if absent_from == "test" else 4)
    assert set(metrics["slices"]["metadata.source"]) == {"paper 0", "paper 1"}
    assert set(metrics["slices"]["metadata.date"]) == {"2020", "2021"}
    n = metrics["test"]["n"]
    assert sum(part["n"] for part in metrics["slices"]["metadata.date"].values()) == n
    page = Path("reports/evaluation.html").read_text()
    assert "metadata.source: paper 0" in page
    for folder, name in (
        (tables.CLEAN, "test"),
        (tables.LABELS, "train"),
        (tables.LABELS, "issues"),
    ):
        table = tables.read_table(folder / f"{name}.parquet")
        assert [*table.columns[-2:]] == ["metadata.source", "metadata.date"]
        assert pd.api.types.is_string_dtype(table["metadata.date"])
