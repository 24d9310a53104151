"""Threshold and temperature: chosen on validation, where it helps, and bound to their weights."""

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from cleantune.errors import UserError
from cleantune.evaluation import metrics, threshold
from cleantune.evaluation.threshold import DEFAULT, Decision, from_settings
from cleantune.params.sections import Evaluate

NAMES = ["ham", "spam"]
USUAL: dict[str, Any] = {
    "threshold": "argmax",
    "threshold_precision": 0.9,
    "positive": None,
    "answer_accuracy": None,
}
SETTINGS = Evaluate.model_construct(**USUAL)


def rule(name, positive=None, precision=0.9):
    changes = {"threshold": name, "positive": positive, "threshold_precision": precision}
    return from_settings(SETTINGS.model_copy(update=changes), NAMES)


def logits_of(probabilities):
    """Return two-class logits that give the positive class these probabilities."""
    p = np.array(probabilities)
    return np.log(np.stack([1 - p, p], axis=1))


# ---- the rule from the settings


def test_of_two_classes_the_last_is_positive_unless_another_is_named():
    assert rule("argmax") == Decision("argmax", "spam")
    assert rule("f1", "ham") == Decision("f1", "ham")
    assert rule("precision", precision=0.75) == Decision("precision", "spam", 0.75)
    settings = SETTINGS.model_copy(update={"threshold": "f1"})
    assert from_settings(settings, NAMES, "abc") == Decision("f1", "spam", validation_sha256="abc")


def test_of_more_classes_none_is_positive():
    assert from_settings(SETTINGS, ["a", "b", "c"], "abc") == Decision(validation_sha256="abc")


@pytest.mark.parametrize(
    ("changes", "names", "message"),
    [
        ({"threshold": "f1"}, ["a", "b", "c"],
         "evaluate.threshold: f1 is for two classes; these are 3: a, b, c. Set it to argmax."),
        ({"positive": "a"}, ["a", "b", "c"],
         "evaluate.positive: a is for two classes; these are 3: a, b, c. Set it to null."),
        ({"positive": "Spam"}, NAMES,
         "evaluate.positive: 'Spam' is not a class; allowed: ham, spam, or null for the last of them."),
    ],
)  # fmt: skip
def test_what_the_classes_do_not_have_is_refused(changes, names, message):
    with pytest.raises(UserError) as said:
        from_settings(SETTINGS.model_copy(update=changes), names)
    assert str(said.value) == message


# ---- the classes that follow


P = np.array([[0.8, 0.2], [0.5, 0.5], [0.4, 0.6], [0.7, 0.3]])


def test_argmax_takes_the_likeliest_whatever_the_threshold():
    assert Decision("argmax", "spam", threshold=0.1).predicted(P, NAMES).tolist() == [0, 0, 1, 0]
    assert DEFAULT.predicted(P, NAMES).tolist() == [0, 0, 1, 0]
    assert Decision("f1", "spam").predicted(P, NAMES).tolist() == [0, 0, 1, 0], "not yet chosen"
    three = np.array([[0.2, 0.3, 0.5], [0.4, 0.3, 0.3]])
    assert DEFAULT.predicted(three, ["a", "b", "c"]).tolist() == [2, 0]


def test_over_the_threshold_a_document_is_positive_and_at_it_not():
    assert Decision("f1", "spam", threshold=0.2).predicted(P, NAMES).tolist() == [0, 1, 1, 1]
    assert Decision("f1", "ham", threshold=0.6).predicted(P, NAMES).tolist() == [0, 1, 1, 0]
    assert Decision("f1", "ham", threshold=0.7).predicted(P, NAMES).tolist() == [0, 1, 1, 1]


def test_probabilities_are_those_at_the_temperature():
    logits = np.array([[0.0, 2.0], [1.0, 0.0]])
    assert DEFAULT.probabilities(logits) == pytest.approx(metrics.softmax(logits))
    warm = Decision(temperature=2.0).probabilities(logits)
    assert warm == pytest.approx(metrics.softmax(logits / 2))


# ---- the threshold


def quality(truth, guess):
    """Return precision, recall and F1."""
    hits = (truth & guess).sum()
    sizes = guess.sum(), truth.sum(), guess.sum() + truth.sum()
    return tuple(k * hits / max(n, 1) for k, n in zip((1, 1, 2), sizes, strict=True))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("positive", NAMES)
def test_no_other_threshold_is_better(seed, positive):
    rng = np.random.default_rng(seed)
    labels = (rng.random(80) < 0.2).astype(np.int64)
    labels[:2] = 0, 1
    logits = np.round(rng.normal(labels[:, None] * [-1.0, 1.0], 1.5), 1)
    k = NAMES.index(positive)

    def chosen(*given):
        found = rule(*given).fitted(labels, logits, NAMES)
        p = found.probabilities(logits)
        every = [quality(labels == k, p[:, k] > t) for t in [-1, *np.unique(p[:, k])]]
        return quality(labels == k, found.predicted(p, NAMES) == k), every

    found, every = chosen("f1", positive)
    assert found[2] == pytest.approx(max(f1 for _, _, f1 in every))
    for wanted in (0.6, 1.0):
        found, every = chosen("precision", positive, wanted)
        enough = [recall for precision, recall, _ in every if precision >= wanted]
        assert found[0] >= min(wanted, max(precision for precision, _, _ in every)) - 1e-9
        assert not enough or found[1] == max(enough)


def taken(labels, probabilities, *given):
    """Return the threshold of scores that need no temperature: one error each way."""
    found = rule(*given).fitted(np.array(labels), logits_of(probabilities), NAMES)
    assert found.temperature == 1
    return found.threshold


def test_the_threshold_is_midway_between_two_scores():
    assert taken([1, 1, 0, 1, 0, 0], [0.9, 0.8, 0.5, 0.6, 0.2, 0.1], "f1") == pytest.approx(0.55)
    # below the lowest score is 0
    assert taken([1, 0, 1], [0.9, 0.6, 0.2], "f1") == pytest.approx(0.1)


def test_of_equally_good_thresholds_the_one_nearest_to_a_half():
    # over .85 and over .45 the F1 is 2/3 each
    labels, p = [1, 0, 0, 1, 0], [0.9, 0.8, 0.7, 0.5, 0.4]
    assert f1_score(labels, np.array(p) > 0.85) == pytest.approx(
        f1_score(labels, np.array(p) > 0.45)
    )
    assert taken(labels, p, "f1") == pytest.approx(0.45)
    turned = [1, 0, 0, 1, 0], [0.56, 0.5, 0.4, 0.2, 0.1]
    assert taken(*turned, "f1") == pytest.approx(0.53)


def test_of_thresholds_precise_enough_the_one_that_finds_most():
    labels, p = [1, 1, 0, 1, 1, 0, 1], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
    # precision so far: 1, 1, .67, .75, .8, .67, .71
    assert taken(labels, p, "precision", None, 1.0) == pytest.approx(0.75)
    assert taken(labels, p, "precision", None, 0.8) == pytest.approx(0.45)
    assert taken(labels, p, "precision", None, 0.7) == pytest.approx(0.15)
    # where none is, the most precise
    assert taken([0, 1, 1, 0], [0.9, 0.8, 0.7, 0.6], "precision", None, 0.9) == pytest.approx(0.65)


def test_of_those_that_find_as_many_the_highest():
    labels, p = [1, 1, 0, 0], [0.9, 0.8, 0.7, 0.6]
    assert taken(labels, p, "precision", None, 0.5) == pytest.approx(0.75)


def test_ties_are_all_over_the_threshold_or_none():
    labels = np.array([1, 0, 1, 0])
    found = rule("f1").fitted(labels, logits_of([0.7, 0.7, 0.7, 0.2]), NAMES)
    assert found.predicted(np.array([[0.3, 0.7]] * 2), NAMES).tolist() == [1, 1]


def test_scores_that_are_next_to_each_other_can_be_told_apart():
    high = 0.75
    low = float(np.nextafter(high, 0))
    found = rule("f1")._best(np.array([True, False]), np.array([high, low]))
    assert low <= found < high
    one = rule("f1")._best(np.array([True]), np.array([high]))
    assert one == high / 2


def test_argmax_is_a_threshold_of_a_half_and_with_more_classes_there_is_none():
    labels, logits = np.array([0, 1, 0]), logits_of([0.2, 0.7, 0.6])
    assert rule("argmax").fitted(labels, logits, NAMES).threshold == 0.5
    many = from_settings(SETTINGS, ["a", "b", "c"]).fitted(labels, np.eye(3), ["a", "b", "c"])
    assert many.threshold is None


def test_without_a_positive_document_there_is_nothing_to_go_by():
    labels, logits = np.zeros(3, int), logits_of([0.2, 0.7, 0.6])
    with pytest.raises(UserError) as said:
        rule("f1").fitted(labels, logits, NAMES)
    assert str(said.value) == (
        "No validation document is of the class spam: evaluate.threshold: f1 cannot be fitted. "
        "Raise clean.validation_share, or set argmax."
    )
    assert rule("argmax").fitted(labels, logits, NAMES).threshold == 0.5


# ---- the temperature


def heated(by, n, seed=0):
    """Labels, and scores ``by`` times as steep as calibrated ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 3))
    p = metrics.softmax(logits)
    labels = (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(max=2)
    return labels, logits * by


THREE = ["a", "b", "c"]


@pytest.mark.parametrize("by", [0.4, 2.5])
def test_scores_too_sure_or_not_sure_enough_get_a_temperature(by):
    labels, logits = heated(by, 1000)
    found = from_settings(SETTINGS, THREE).fitted(labels, logits, THREE)
    assert found.calibrated
    assert found.temperature == found.tried_temperature == pytest.approx(by, rel=0.15)
    assert found.temperature == round(found.temperature, 4)
    assert found.nll_gain > 2 * found.nll_gain_error > 0
    assert found.documents == 1000


def test_scores_that_hold_are_left_alone():
    labels, logits = heated(1.0, 300)
    found = from_settings(SETTINGS, THREE).fitted(labels, logits, THREE)
    assert (found.temperature, found.calibrated) == (1.0, False)
    assert found.tried_temperature != 1, "what was tried is on record"
    assert found.nll_gain <= 2 * found.nll_gain_error


def test_the_threshold_is_one_of_the_probabilities_at_the_temperature():
    labels, logits = heated(3.0, 1000)
    labels, logits = labels[labels < 2], logits[labels < 2, :2]
    found = rule("f1").fitted(labels, logits, NAMES)
    assert found.calibrated
    p = metrics.softmax(logits, found.temperature)
    other = replace(found, threshold=None).fitted(labels, logits / found.temperature, NAMES)
    assert found.threshold == pytest.approx(other.threshold, abs=1e-3)
    assert f1_score(labels, found.predicted(p, NAMES)) == f1_score(
        labels, p[:, 1] > found.threshold
    )


def test_the_gain_is_measured_on_documents_the_temperature_was_not_fitted_on():
    labels, logits = heated(2.5, 1000)
    gain, error = threshold.temperature_gain(labels, logits)
    plain = metrics.losses(labels, metrics.softmax(logits))
    cooled = metrics.losses(labels, metrics.softmax(logits, 2.5))
    assert gain == pytest.approx((plain - cooled).mean(), rel=0.02)
    assert error == pytest.approx((plain - cooled).std(ddof=1) / 1000**0.5, rel=0.1)
    # of few documents the fit itself gains, and the documents left out do not
    losses = []
    for seed in range(20):
        labels, logits = heated(1.0, 12, seed)
        losses.append(threshold.temperature_gain(labels, logits)[0])
    assert np.mean(losses) < 0


def test_every_document_is_left_out_as_often_and_the_same_each_time():
    labels, logits = heated(2.0, 52)
    first = threshold.temperature_gain(labels, logits)
    assert first == threshold.temperature_gain(labels, logits)
    assert first == pytest.approx((0.14196, 0.10408), rel=1e-3), "of these five times five splits"


def test_one_document_says_nothing_of_a_temperature():
    found = from_settings(SETTINGS, THREE).fitted(np.array([0]), np.array([[0.0, 1.0, 0.0]]), THREE)
    assert found.temperature == 1
    assert threshold.temperature_gain(np.array([0]), np.array([[0.0, 1.0]])) == (0.0, 0.0)
    # of two that are as wrong, each gains by the other's temperature
    gain, error = threshold.temperature_gain(np.array([0, 0]), np.array([[0.0, 5.0], [0.0, 5.0]]))
    assert gain > 1
    assert error == pytest.approx(0)


# ---- abstention and prediction sets


def test_abstention_and_sets_are_fitted_at_the_temperature_and_for_the_predicted_class():
    labels, logits = heated(3.0, 3000)
    labels, logits = labels[labels < 2], logits[labels < 2, :2]
    required = replace(rule("f1"), answer_accuracy=0.9)
    found = required.fitted(labels, logits, NAMES)
    p = found.probabilities(logits)
    predicted = found.predicted(p, NAMES)
    confidence = p[np.arange(len(p)), predicted]
    assert found.answer_above in confidence
    answered = found.answered(confidence)
    assert (predicted == labels)[answered].mean() > 0.9
    assert 0.2 < answered.mean() < 1
    for level, within in found.sets(p).items():
        assert within[np.arange(len(p)), labels].mean() == pytest.approx(float(level), abs=0.01)


def test_without_a_threshold_nothing_is_answered():
    assert not DEFAULT.answered(np.ones(3)).any()
    assert Decision(answer_above=0.0).answered(np.array([0.1, 1.0])).all()
    assert DEFAULT.sets(P) == {}


# ---- in words, and on disk


def test_words_say_what_is_unusual_and_whether_probabilities_are_calibrated():
    assert DEFAULT.describe() == [
        "probabilities are not calibrated: nothing was fitted for these weights"
    ]
    chosen = Decision("f1", "spam", threshold=0.12345, temperature=1.25, documents=1234)
    assert chosen.describe() == [
        "decision threshold for spam: 0.123 (best F1 on validation)",
        "probabilities are calibrated: temperature 1.25, fitted on 1,234 validation documents",
    ]
    left = Decision("precision", "ham", 0.9, 0.5, documents=50)
    assert left.describe() == [
        "decision threshold for ham: 0.500 (the required precision on validation)",
        "probabilities are not calibrated: on 50 validation documents no temperature clearly improves the NLL",
    ]
    assert replace(chosen, rule="argmax").describe() == chosen.describe()[1:]


def test_two_decisions_follow_one_another_by_rule_and_documents():
    one = Decision("f1", "spam", 0.9, 0.3, 1.5, 1.5, 0.1, 0.01, 50, "abc")
    assert one.follows(replace(one, threshold=0.7, temperature=1.0, nll_gain=0.0))
    for changes in ({"rule": "argmax"}, {"positive": "ham"}, {"precision": 0.8}, {"documents": 51},
                    {"validation_sha256": "abd"}, {"answer_accuracy": 0.9}):  # fmt: skip
        assert not one.follows(replace(one, **changes))


ONE = Decision("f1", "spam", None, 0.3, 1.5, 1.5, 0.1, 0.01, 50, "abc")
TWO = replace(ONE, threshold=0.4)


@pytest.fixture
def models(tmp_path):
    for name in ("a", "b", "deep/er/c"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.safetensors").write_text(f"weights of {name}")
    return tmp_path


def weights(models, *names):
    return [models / name / "model.safetensors" for name in names]


def test_a_decision_is_found_by_the_weights_that_it_is_of(models):
    threshold.write(models / "decision.json", [
        (ONE, weights(models, "a")), (TWO, weights(models, "deep/er/c"))
    ])  # fmt: skip
    assert threshold.read(models / "a") == ONE
    assert threshold.read(models / "deep/er/c") == TWO
    assert threshold.read(models / "b") == DEFAULT
    assert threshold.read(models / "b", *weights(models, "a")) == ONE
    (models / "a/model.safetensors").write_text("others")
    assert threshold.read(models / "a") == DEFAULT
    written = json.loads((models / "decision.json").read_text())
    assert list(written) == ["decisions"]
    assert [set(record) for record in written["decisions"]] == [
        {"weights_sha256", *(field.name for field in fields(Decision))}
    ] * 2
    assert Decision(**{k: v for k, v in written["decisions"][0].items() if k in asdict(ONE)}) == ONE


def test_several_weights_together_are_found_in_any_order(models):
    threshold.write(models / "decision.json", [(TWO, weights(models, "b", "a"))])
    assert threshold.read(models / "a", *weights(models, "a", "b")) == TWO
    assert threshold.read(models / "a", *weights(models, "b", "a")) == TWO
    assert threshold.read(models / "a") == DEFAULT, "one of them alone is another model"


def test_the_record_within_a_folder_comes_before_those_above(models):
    threshold.write(models / "decision.json", [(ONE, weights(models, "a"))])
    threshold.write(models / "a/decision.json", [(TWO, weights(models, "a"))])
    assert threshold.read(models / "a") == TWO
    threshold.write(models / "a/decision.json", [(TWO, weights(models, "b"))])
    assert threshold.read(models / "a") == ONE, "one of other weights is passed over"


def test_a_record_is_looked_for_three_folders_up_and_no_further(models, monkeypatch):
    path = models / "deep/er/c"
    threshold.write(models / "decision.json", [(ONE, weights(models, "deep/er/c"))])
    assert threshold.read(path) == ONE
    monkeypatch.chdir(path)
    assert threshold.read(Path()) == ONE, "also from within"
    deeper = path / "d"
    deeper.mkdir()
    assert threshold.read(deeper, path / "model.safetensors") == DEFAULT


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"decisions": [3]}', '{"decisions": [{"rule": "f1"}]}', "{", "null"]
)
def test_a_record_that_cannot_be_read_is_named(models, content):
    (models / "a/decision.json").write_text(content)
    with pytest.raises(UserError, match=r"decision\.json is damaged"):
        threshold.read(models / "a")


def test_a_record_of_another_version_is_damaged(models):
    threshold.write(models / "decision.json", [(ONE, weights(models, "a"))])
    record = json.loads((models / "decision.json").read_text())
    record["decisions"][0]["more"] = 1
    (models / "decision.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"decision\.json is damaged \(.*more"):
        threshold.read(models / "a")
