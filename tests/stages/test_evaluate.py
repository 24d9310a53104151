"""The metrics against scikit-learn and by their properties; the stage on a small trained model."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy.stats import binomtest, chi2_contingency
from sklearn import metrics as reference

from cleantune import files
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.evaluation import metrics, predictions, robustness, threshold
from cleantune.evaluation.explanations import explain
from cleantune.evaluation.predictions import Split
from cleantune.evaluation.robustness import perturbed
from cleantune.evaluation.slices import measure_gaps, near_duplicates
from cleantune.labels import corrections
from cleantune.models import classifier
from stages import evaluate
from tests import evaluated
from tools import doubtful_test_labels

seeds = st.integers(0, 2**32 - 1)


def scored(seed: int, n: int = 60, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Labels in which every class occurs, and probabilities with many ties."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    return labels, metrics.softmax(rng.integers(-2, 3, (n, classes)).astype(float))


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_metrics_are_those_of_scikit_learn(seed):
    labels, p = scored(seed)
    found = metrics.headline(labels, p, p.argmax(axis=1), bins=10)
    precision, recall, f1, _ = reference.precision_recall_fscore_support(
        labels, p.argmax(axis=1), average="macro", zero_division=0
    )
    truth = np.eye(3)[labels]
    expected = {
        "accuracy": reference.accuracy_score(labels, p.argmax(axis=1)),
        "macro_precision": precision, "macro_recall": recall, "macro_f1": f1,
        "roc_auc_ovr": reference.roc_auc_score(labels, p, multi_class="ovr"),
        "nll": reference.log_loss(labels, p),
        "brier": ((p - truth) ** 2).sum(axis=1).mean(),
    }  # fmt: skip
    assert {k: found[k] for k in expected} == pytest.approx(expected)
    assert metrics.average_precision(labels == 0, p[:, 0]) == pytest.approx(
        reference.average_precision_score(labels == 0, p[:, 0])
    )


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_an_epoch_is_judged_as_evaluate_measures(seed):
    labels, p = scored(seed)
    measured = metrics.headline(labels, p, p.argmax(axis=1), 10)
    assert metrics.accuracy_and_f1(np.log(p), labels) == {
        k: measured[k] for k in ("accuracy", "macro_f1")
    }


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    p = np.array([[0.8, 0.2]] * 10)
    first, second = np.zeros(10, dtype=int), np.ones(10, dtype=int)
    assert metrics.ece(np.array([0] * 8 + [1] * 2), p, first, 15) == pytest.approx(0)
    assert metrics.ece(np.array([0] * 5 + [1] * 5), p, first, 15) == pytest.approx(0.3)
    assert metrics.ece(np.array([0] * 8 + [1] * 2), p, second, 15) == pytest.approx(0)


def test_the_temperature_found_is_the_one_the_scores_were_heated_by():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 4))
    p = metrics.softmax(logits)
    labels = (rng.random((len(p), 1)) > p.cumsum(axis=1)).sum(axis=1).clip(max=3)
    assert metrics.temperature(labels, logits * 2.5) == pytest.approx(2.5, rel=0.05)
    assert metrics.temperature(logits.argmax(axis=1), logits * 2.5) == 1  # no error to learn from


def test_a_test_document_with_kin_in_train_is_found_there_or_among_the_dropped():
    test = pd.DataFrame({"id": ["t0", "t1", "t2"], "group": ["t0", "g", "t2"], "label": [0, 1, 0]})
    train = pd.DataFrame({"group": ["g", "x"], "label": [1, 0]})
    dropped = pd.DataFrame({"split": "train", "duplicate_of": ["t0", ""], "label": [2, 1]})
    known, doubtful = near_duplicates(test, train, dropped)
    assert known.tolist() == [True, True, False]
    assert doubtful.tolist() == [True, False, False]


def grouped(**right: tuple[int, int]) -> Split:
    """A split with a metadata column of groups, each with so many right answers of so many."""
    values = [name for name, (_, n) in right.items() for _ in range(n)]
    predicted = np.concatenate([np.arange(n) >= hits for hits, n in right.values()]).astype(int)
    texts = [f"text {i}" for i in range(len(values))]
    table = pd.DataFrame({"title": "", "text": texts, f"{tables.METADATA}group": values})
    return Split(table, np.zeros(len(values), dtype=int), np.eye(2)[predicted], ["a", "b"])


def test_the_largest_gap_is_between_the_best_and_the_worst_of_the_larger_groups():
    # the two proportions, and the interval, are those of Newcombe (1998), table II, example a
    split = grouped(high=(56, 70), low=(48, 80), middle=(70, 100), small=(0, 49))
    (found,) = measure_gaps(split).values()
    assert (found["highest"], found["lowest"], found["groups"], found["comparisons"]) == ("high", "low", 3, 3)  # fmt: skip
    assert found["gap"] == pytest.approx(0.2)
    assert found["interval"] == pytest.approx([0.0524, 0.3339], abs=1e-4)
    expected = chi2_contingency([[56, 14], [48, 32], [70, 30]]).pvalue
    assert found["p"] == pytest.approx(expected)


def test_copies_make_no_group_large_and_groups_without_mistakes_are_equal():
    split = grouped(one=(50, 50), other=(50, 50))
    (found,) = measure_gaps(split).values()
    assert (found["gap"], found["p"]) == (0, 1)
    split.table.loc[:1, "text"] = "the same"
    assert measure_gaps(Split(split.table, split.labels, split.logits, split.names)) == {}


# ---- the stage, on a small corpus with a trained model of two layers


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which baselines and evaluate have run."""
    folder = tmp_path_factory.mktemp("evaluated")
    evaluated.run(folder, mistakes=3)
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to change."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outputs(folder: Path) -> dict[str, bytes]:
    paths = [p for top in ("metrics", "reports") for p in (folder / top).rglob("*") if p.is_file()]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


def test_headline_metrics_are_the_ones_promised_and_those_of_the_model(project):
    found = json.loads((project / "metrics/test.json").read_text())
    assert list(found) == ["n", "distinct_texts", "accuracy", "macro_precision", "macro_recall", "macro_f1",
                           "roc_auc_ovr", "nll", "ece", "augrc", "labels"]  # fmt: skip
    trained_on = {"action": "drop", "labels_changed": 0, "documents_dropped": 7}
    assert found["labels"] == trained_on
    for report in ("evaluation.html", "model_card.md"):
        text = " ".join((project / "reports" / report).read_text().replace("\\_", "_").split())
        assert "label_noise.action drop, 0 labels changed, 7 documents dropped" in text
    model = classifier.load()
    table = tables.read_table(tables.CLEAN / "test.parquet")
    right = model.logits(model.encode(tables.full_text(table))).argmax(axis=1) == table["label"]
    assert found["n"] == 60
    assert found["accuracy"] == pytest.approx(right.mean(), abs=1e-5)
    # Chance is 0.33, and the wrong labels among these documents leave about 0.75 to reach.
    assert found["accuracy"] > 0.5, "the model learned nothing: nothing here is tested"


def test_metrics_with_corrected_test_labels_stand_beside_those_as_they_came(project, capsys):
    before = json.loads((project / "metrics/test.json").read_text())
    table = tables.read_table(tables.RAW / "test.parquet")
    right = classifier.load()
    predicted = right.logits(right.encode(tables.full_text(table))).argmax(axis=1)
    wrong = table[predicted != table["label"]].head(4)
    new = [
        *predicted[wrong.index[:3]],
        wrong["label"].iloc[3],
    ]  # three are changed, one is confirmed
    rows = wrong.assign(old_label=wrong["label"], new_label=new, note="",
                        text_sha256=corrections.fingerprints(wrong))  # fmt: skip
    corrections.write_corrections(corrections.TEST_CORRECTIONS, rows, evaluated.NAMES, "tiny")
    evaluate.main()
    after = json.loads((project / "metrics/test.json").read_text())
    found = after.pop("corrected_labels")
    assert after == before
    assert (found["reviewed"], found["changed"]) == (4, 3)
    assert found["accuracy"] == pytest.approx(before["accuracy"] + 3 / 60, abs=1e-5)
    said = " ".join(capsys.readouterr().out.split())
    page, card = (
        (project / "reports" / p).read_text() for p in ("evaluation.html", "model_card.md")
    )
    for text in (said, page, card):
        assert "4 test labels were reviewed by a person and 3 corrected" in text
        assert f"{found['accuracy']:.4f}" in text


def test_the_page_of_test_labels_lists_what_some_model_contradicts_and_errors_first(project):
    raw = tables.read_table(tables.RAW / "test.parquet")
    none = corrections.read_corrections(corrections.TEST_CORRECTIONS, raw, evaluated.NAMES, "tiny")
    assert 0 < (count := doubtful_test_labels.write_page(raw, none, 0)) < 60
    text = doubtful_test_labels.PAGE.read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert found
    data = json.loads(found[1])
    listed = [entry["id"] for entry in data["flagged"]]
    assert len(set(listed)) == count
    quality = [entry["quality"] for entry in data["flagged"]]
    assert quality == sorted(quality)
    model = classifier.load()
    predicted = model.logits(model.encode(tables.full_text(raw))).argmax(axis=1)
    assert set(raw["id"][predicted != raw["label"]]) <= set(listed)
    planted = {f"test-{i}" for i in range(3, 9)}
    assert planted & set(listed[: count // 2]), "labels made wrong are among the most doubtful"
    assert any("fine-tuned" in line for entry in data["flagged"] for line in entry["why"])
    done = pd.DataFrame({"id": listed[:1], "old_label": 0, "new_label": 0})
    assert doubtful_test_labels.write_page(raw, done, 0) == count - 1


def test_macro_f1_leads_and_the_corpus_has_its_own_name(project, capsys):
    files.write_json(tables.SOURCE, files.read_json(tables.SOURCE) | {"dataset": "tickets"})
    evaluate.main()
    said = capsys.readouterr().out
    page, card = (
        (project / "reports" / p).read_text() for p in ("evaluation.html", "model_card.md")
    )
    for text in (said.lower().replace("_", "-"), page.lower(), card.lower()):
        assert 0 < text.index("macro-f1") < text.index("accuracy", text.index("macro-f1"))
    assert "<h1>Evaluation of the tickets classifier</h1>" in page
    assert card.splitlines()[6] == "# tickets classifier"
    baselines = json.loads((project / "metrics/baselines.json").read_text()).values()
    ahead = [b["model_ahead_by"]["macro_f1"] for b in baselines if "model_ahead_by" in b]
    low, high = (100 * end for end in next(filter(None, ahead)))
    assert f"{low:+.1f} to {high:+.1f}" in said
    assert f"| {low:.2f} to {high:.2f} |" in card


def test_where_the_result_is_bad_is_said_last_and_on_top_of_page_and_card(project, capsys):
    path = project / "models/finetuned/model.safetensors"
    weights = load_file(path)
    weights["classifier.bias"] += torch.tensor([9.0, 9.0, -99.0])  # "Biz" is never predicted
    save_file(weights, path, {"format": "pt"})
    tokens = {"documents": 60, "tokens": 900, "unknown_tokens": 90, "truncated": 45,
              "unread_share": 0.5}  # fmt: skip
    files.write_json(tables.TOKENS / "summary.json", {"test": tokens})
    evaluate.main()
    said = [part.replace("\n", " ") for part in capsys.readouterr().out.split("warning: ")][1:]
    missed = r"Biz <b>&amp;</b> \(0 of \d+ found\) is never predicted on test"
    assert re.match(missed, said[0])
    assert said[1].startswith("worse than ")
    assert said[2].startswith("only 60 optimizer steps for 3 classes")
    assert [part.split(" of ")[0] for part in said[3:]] == ["10%", "45"]
    page, card = (
        (project / "reports" / p).read_text() for p in ("evaluation.html", "model_card.md")
    )
    top = page[: page.index("<dl")]
    assert "Biz &lt;b&gt;&amp;amp;&lt;/b&gt; (0 of" in top
    assert top.count("<li>") == len(said)
    assert card.index("45 of 60 documents of test") < card.index("## Results on")


def test_a_model_with_nothing_wrong_has_no_warnings(project, capsys):
    evaluate.main()
    assert "warning" not in capsys.readouterr().out
    assert "Warnings" not in (project / "reports/evaluation.html").read_text()


def test_the_confusions_in_the_metrics_are_those_of_the_predictions(project):
    classes = json.loads((project / "metrics/classes.json").read_text())
    confusion = pd.read_csv(project / "metrics/plots/confusion.csv")
    for name in evaluated.NAMES:
        own = confusion[confusion["actual"] == name]["predicted"]
        assert classes[name]["predicted_as"] == own.value_counts().to_dict()


def _without(project: Path, label: int) -> None:
    """Take the documents of a class out of test, and out of all that is said of them."""
    test = tables.read_table(tables.CLEAN / "test.parquet")
    gone = set(test["id"][test["label"] == label])
    for path in (tables.CLEAN / "test.parquet", tables.TOKENS / "test.parquet",
                 *tables.BASELINES.glob("*.parquet")):  # fmt: skip
        table = tables.read_table(path)
        tables.write_table(path, table[~table["id"].isin(gone)], tuple(table.columns))


def test_classes_without_test_documents_and_copies_are_told_and_taken_for_what_they_are(
    project, capsys
):
    _without(project, 1)
    path = tables.CLEAN / "test.parquet"
    table = tables.read_table(path)
    table.loc[10:29, ["title", "text"]] = ["", "Oil prices  rose"]
    table.loc[12, "text"] = "oil PRICES rose "
    tables.write_table(path, table, tuple(table.columns))  # tokens and so all predictions stay
    evaluate.main()
    read = {p.stem: json.loads(p.read_text()) for p in (project / "metrics").glob("*.json")}
    classes, figures = read["classes"], read["test"]
    assert classes["Sports"].pop("predicted_as") == {}
    assert classes["Sports"] == {"n": 0} | dict.fromkeys(list(classes["Sports"])[1:])
    assert classes["(macro)"]["classes"] == 2
    for name in ("precision", "recall", "f1"):
        values = [classes[k][name] for k in evaluated.NAMES if k != "Sports"]
        assert figures[f"macro_{name}"] == pytest.approx(np.mean(values), abs=1e-5)
    assert "Sports" not in set(pd.read_csv(project / "metrics/plots/roc.csv")["series"])
    assert (figures["n"], figures["distinct_texts"]) == (len(table), len(table) - 19)
    alone = proportion(round(figures["accuracy"] * len(table)), len(table))
    for part in (
        read["intervals"]["accuracy"],
        read["slices"]["test set"]["as released"]["interval"],
    ):
        assert np.diff(part) > 1.5 * np.diff(alone)
    page, card = (
        (project / "reports" / p).read_text() for p in ("evaluation.html", "model_card.md")
    )
    assert re.search('<td class="name">Sports</td><td>0</td>' + "<td>–</td>" * 5, page)
    assert "| Sports | 0 | – | – | – | – |" in card
    for text in (page, card, capsys.readouterr().out):
        said = " ".join(text.split())
        assert "the 2 of 3 classes" in said
        assert re.search("20 .*test documents are copies of one another, 1 different text", said)


def proportion(right: int, n: int) -> list[float]:
    """Wilson's interval."""
    return list(binomtest(right, n).proportion_ci(method="wilson"))


def test_a_test_set_of_one_class_is_measured_as_far_as_that_goes(project):
    _without(project, 1)
    _without(project, 2)
    evaluate.main()
    figures, intervals = (
        json.loads((project / f"metrics/{name}.json").read_text()) for name in ("test", "intervals")
    )
    assert figures["roc_auc_ovr"] is None
    assert intervals["roc_auc_ovr"] is None
    assert figures["macro_recall"] == figures["accuracy"]
    assert intervals["accuracy"]


def test_metrics_of_several_seeds_are_averaged_and_their_spread_is_told(project):
    alone = json.loads((project / "metrics/seeds.json").read_text())
    assert list(alone["seeds"]) == ["42"]
    assert "standard_deviation" not in alone
    other = project / "models/finetuned" / classifier.SEEDS / "7"
    shutil.copytree(project / "models/finetuned", other)
    weights = load_file(other / "model.safetensors")
    weights["classifier.weight"][0] = 0  # a model that is worse, but not of chance
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    evaluate.main()
    found = json.loads((project / "metrics/seeds.json").read_text())
    a, b = (found["seeds"][seed]["accuracy"] for seed in ("42", "7"))
    assert a == alone["seeds"]["42"]["accuracy"] > b
    assert found["mean"]["accuracy"] == pytest.approx((a + b) / 2, abs=1e-5)
    deviation = found["standard_deviation"]["accuracy"]
    assert deviation == pytest.approx(abs(a - b) / 2**0.5, abs=1e-5)
    models = [classifier.load(folder) for folder in (other.parents[1], other)]
    mean, labels = {}, {}
    for split in ("validation", "test"):
        table = tables.read_table(tables.CLEAN / f"{split}.parquet")
        tokens = models[0].encode(tables.full_text(table))
        mean[split] = np.mean([metrics.softmax(model.logits(tokens)) for model in models], axis=0)
        labels[split] = table["label"].to_numpy()
    right = mean["test"].argmax(axis=1) == labels["test"]
    assert found["ensemble"]["accuracy"] == pytest.approx(right.mean(), abs=1e-5)
    rule = threshold.Decision("argmax")
    decision = rule.fitted(labels["validation"], np.log(mean["validation"]), evaluated.NAMES)
    loss = metrics.nll(labels["test"], decision.probabilities(np.log(mean["test"])))
    assert found["ensemble"]["nll"] == pytest.approx(loss, abs=1e-5)
    low, high = found["ensemble_intervals"]["accuracy"]
    assert low < right.mean() < high
    for page in ("evaluation.html", "model_card.md"):
        assert "Trained 2 times" in (project / "reports" / page).read_text()


def test_what_flipped_labels_cost_is_counted_on_the_test_labels(project):
    found = json.loads((project / "metrics/robustness.json").read_text())
    by_share = found["tfidf_by_share_of_flipped_labels"]
    labels = tables.read_table(tables.CLEAN / "test.parquet")["label"].to_numpy()
    table = tables.read_table(tables.BASELINES / tables.FLIPPED)
    for share, part in table.groupby("share"):
        right = (part["predicted"].to_numpy() == labels).mean()
        assert by_share[f"{share:g}"] == pytest.approx(right, abs=1e-5)
    against = json.loads((project / "metrics/baselines.json").read_text())
    assert by_share["0"] == against["tfidf"]["accuracy"]


def test_the_page_counts_the_documents_that_were_learned_from(project):
    text = (project / "reports/evaluation.html").read_text()
    learned = pd.concat([tables.read_table(tables.LABELS / "train.parquet"),
                         tables.read_table(tables.CLEAN / "validation.parquet")])  # fmt: skip
    assert f"The {len(learned)} documents of train and validation" in text
    for k, name in enumerate(evaluated.NAMES[:2]):
        count = (learned["label"] == k).sum()
        assert re.search(rf'<td class="name">{name}</td><td>{count}</td><td>60</td>', text), name


def test_frequent_words_agencies_and_duplicates_on_the_page_are_those_of_the_documents(project):
    text = (project / "reports/evaluation.html").read_text()
    learned = pd.concat([tables.read_table(tables.LABELS / "train.parquet"),
                         tables.read_table(tables.CLEAN / "validation.parquet")])  # fmt: skip
    for k, name in enumerate(evaluated.NAMES[:2]):
        own = learned[learned["label"] == k]
        said = [set(document.split()) for document in tables.full_text(own)]
        shown = re.search(rf"Most frequent words in {name}: (\w+) ([\d.]+)%, (\w+) ([\d.]+)%", text)
        assert shown
        shares = [np.mean([word in document for document in said]) for word in shown.group(1, 3)]
        assert [f"{100 * share:.1f}" for share in shares] == list(shown.group(2, 4))
        assert shares[0] >= max(np.mean([w in d for d in said]) for w in evaluated.WORDS[k])
        reported = own["title"].str.endswith("(AFP)").sum()
        assert re.search(rf"by class\. AFP: [^;]*{name} {reported}\b", text)
    assert re.search("<td>leak</td><td>2</td><td[^>]*>a near-duplicate of a test document", text)
    assert re.search("<td>5</td><td[^>]*>2 groups, the largest of 3", text)


def test_every_run_writes_the_same_bytes(project):
    before = outputs(project)
    shutil.rmtree(project / "metrics")
    shutil.rmtree(project / "reports")
    evaluate.main()
    assert outputs(project) == before
    assert len(before) > 12


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("what", ["id", "text"])
def test_a_test_document_that_was_learned_from_stops_the_evaluation(project, split, what):
    path = (
        tables.LABELS / "train.parquet" if split == "train" else tables.CLEAN / "validation.parquet"
    )
    table, test = tables.read_table(path), tables.read_table(tables.CLEAN / "test.parquet")
    if what == "id":
        table.loc[7, "id"] = test.loc[5, "id"]
    else:
        table.loc[7, ["title", "text"]] = test.loc[5, ["title", "text"]].str.upper().to_numpy()
    tables.write_table(path, table, tuple(table.columns))
    before = outputs(project)
    with pytest.raises(
        UserError, match=rf"test-5 .*{split}|leakage: 1 test documents also appear in {split}"
    ):
        evaluate.main()
    assert outputs(project) == before


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(("damage", "says"), [
    (lambda: shutil.rmtree("models/finetuned"), "models/finetuned is missing"),
    (lambda: _cut(Path("models/finetuned/model.safetensors")), "half-written.*model.safetensors"),
    (lambda: Path("models/finetuned/model.safetensors").unlink(), "no model.safetensors"),
    (lambda: _cut(Path("models/finetuned/config.json")), "config.json is damaged"),
    (lambda: Path("models/baselines/tfidf.parquet").unlink(), "tfidf.parquet is missing"),
    (lambda: _cut(Path("data/clean/test.parquet")), "test.parquet is damaged"),
    (lambda: files.write_json(tables.SOURCE, {"labels": ["a", "b", "c"]}), "another corpus"),
])  # fmt: skip
def test_a_missing_or_damaged_input_is_named(project, damage, says):
    damage()
    with pytest.raises(UserError, match=says):
        evaluate.main()


def test_perturbed_texts_are_scored_as_if_each_were_predicted_alone(project):
    model = classifier.load()
    with (
        torch.no_grad()
    ):  # changes no class in fp32; in bf16 the scores of all classes become equal
        model.model.classifier.weight.mul_(0.1)
        model.model.classifier.bias.mul_(0.1).add_(100)
    table = tables.read_table(tables.CLEAN / "test.parquet")
    texts, labels = tables.full_text(table), table["label"].to_numpy()
    alone = np.array([model.logits(model.encode([text]))[0] for text in texts])
    test = predictions.Split(table, labels, alone, model.labels)
    found = robustness.measure_robustness(model, test, texts, 1000, seed=3)
    assert found["n"] == len(texts)
    for name, version in perturbed(texts, seed=3).items():
        guesses = [model.logits(model.encode([text]))[0].argmax() for text in version]
        assert found["accuracy"][name] == pytest.approx(np.mean(guesses == labels)), name
        low, high = found["intervals"][name]
        assert low < found["accuracy"][name] < high


def test_attributions_sum_to_the_difference_in_score(made):
    model = classifier.load(made / "models/finetuned")
    texts = tables.full_text(tables.read_table(made / tables.CLEAN / "test.parquet"))[4:9]
    for text in texts:
        found = explain(model, text)
        total = sum(share for _, _, share in found.spans) + found.special
        assert total == pytest.approx(found.difference, abs=0.02 * abs(found.difference) + 0.01)
        whole = found.spans[:-1]  # a text longer than max_length may end within a word
        assert {text[a:b] for a, b, _ in whole} <= set(re.findall(r"\w+|[^\w\s]", text))


def test_a_model_with_random_weights_gives_other_attributions(made):
    model = classifier.load(made / "models/finetuned")
    text = "the minister said troops moved after the election"
    before = np.array([share for _, _, share in explain(model, text, 0).spans])
    alike = []
    for seed in range(5):  # nine words of one draw may be alike by chance
        torch.manual_seed(seed)
        for layer in model.model.modules():
            if isinstance(layer, torch.nn.Linear | torch.nn.Embedding):
                torch.nn.init.normal_(layer.weight, std=0.1)
        after = np.array([share for _, _, share in explain(model, text, 0).spans])
        alike.append(abs(np.corrcoef(before, after)[0, 1]))
    assert np.median(alike) < 0.8
