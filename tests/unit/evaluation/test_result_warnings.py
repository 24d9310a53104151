"""Where a result is bad: a sentence with the parameter that helps, and none where nothing is wrong."""

from typing import Any

import numpy as np
import pytest

from cleantune.evaluation import result_warnings as warn

NAMES = ["world", "sports", "hate"]
AHEAD = {"macro_f1": [0.01, 0.05], "accuracy": [0.01, 0.05]}
BEHIND = {"macro_f1": [-0.2, -0.1], "accuracy": [-0.1, -0.02]}
OWN = {"macro_f1": 0.5, "accuracy": 0.8}


def rows(*macro_f1: float, steps: int = 10) -> list[dict[str, str]]:
    """finetune's history: ``steps`` rows an epoch, macro-F1 in the last of each."""
    return [
        {"validation_macro_f1": str(value) if step == steps - 1 else ""}
        for value in macro_f1
        for step in range(steps)
    ]


def baseline(
    macro_f1: float, accuracy: float, p: float, ahead: dict[str, Any], **more: int
) -> dict[str, Any]:
    return {"macro_f1": macro_f1, "accuracy": accuracy, "mcnemar_p": p, "holm_p": p, "model_ahead_by": ahead,
            "only_model_right": 5, "only_baseline_right": 3} | more  # fmt: skip


def test_a_rate_that_does_not_suit_a_decoder_is_named_with_a_better_one():
    (high,) = warn.decoder_rate(1e-4, adapters=False)
    (low,) = warn.decoder_rate(2e-5, adapters=True)
    assert "lr=2e-5" in high
    assert "lr=2e-4" in low
    assert warn.decoder_rate(2e-5, adapters=False) == warn.decoder_rate(2e-4, adapters=True) == []


def test_a_class_that_is_never_predicted_is_named_with_its_documents():
    counts = np.array([[80, 20, 0], [10, 90, 0], [30, 12, 0]])
    (line,) = warn.of_predictions(NAMES, counts, "test")
    assert line.startswith("hate (0 of 42 found) is never predicted on test")
    assert "class_weights=balanced" in line


def test_a_class_of_which_no_document_is_found_is_named_though_others_are_predicted_as_it():
    counts = np.array([[80, 19, 1], [10, 90, 0], [30, 12, 0]])
    (line,) = warn.of_predictions(NAMES, counts, "test")
    assert "hate (0 of 42 found) is never recognized on test" in line
    counts[2] = [1, 1, 0]  # two documents alone say little
    assert warn.of_predictions(NAMES, counts, "test") == []


def test_of_many_missed_classes_the_largest_are_named_and_the_rest_counted():
    counts = np.zeros((13, 13), int)
    counts[:, 0] = np.arange(20, 33)
    counts[1, 1] = 3
    (line,) = warn.of_predictions([f"c{k}" for k in range(13)], counts, "validation")
    assert line.startswith(
        "11 of 13 classes are never predicted on validation: c12 (0 of 32 found), c11"
    )
    assert "and 6 more" in line


def test_two_classes_are_told_of_the_decision_threshold():
    counts = np.array([[90, 1], [9, 0]])
    (line,) = warn.of_predictions(["ham", "spam"], counts, "test")
    assert "evaluate.threshold=f1" in line


def test_one_answer_for_everything_is_one_sentence():
    counts = np.array([[80, 0, 0], [50, 0, 0], [5, 0, 0]])
    (line,) = warn.of_predictions(NAMES, counts, "test")
    assert line.startswith("all 135 predictions on test are world")
    assert (
        warn.of_predictions(NAMES, np.diag([80, 0, 0]), "test") == []
    )  # nor is there another label


def test_a_good_result_has_no_warnings():
    counts = np.array([[95, 5, 0], [3, 90, 7], [2, 8, 80]])
    assert warn.of_predictions(NAMES, counts, "test") == []
    assert warn.still_rising(rows(0.93, 0.935, 0.92), 4) == []
    assert warn.still_rising(rows(0.9, 0.905), 4) == []
    assert warn.still_rising(rows(0.9), 4) == []
    assert warn.few_documents({"a": 10, "b": 300}) == []
    tokens = {"documents": 100, "tokens": 2000, "unknown_tokens": 100, "truncated": 20,
              "unread_share": 0.01, "fertility": 2.5}  # fmt: skip
    assert warn.of_tokens({"test": tokens}, "test") == []
    assert warn.of_tokens({}, "test") == []
    assert warn.behind_baselines(OWN, {"tfidf": baseline(0.45, 0.7, 1e-9, AHEAD)}) == []
    assert warn.no_better_than_constant("world", OWN, baseline(0.2, 0.5, 1e-9, AHEAD)) == []


def test_steps_that_are_enough_grow_with_the_classes():
    assert warn.few_steps(47, 3, 4) == []  # the sample corpus
    (line,) = warn.few_steps(281, 3, 77)
    assert line == "only 843 optimizer steps for 77 classes; epochs=7 would make at least 1,925"
    assert warn.few_steps(281, 7, 77) == []
    assert warn.few_steps(99, 1, 2) and not warn.few_steps(100, 1, 2)


def test_rising_at_the_end_asks_for_twice_the_epochs_or_for_enough_steps():
    (line,) = warn.too_short(rows(0.40, 0.52, 0.57, steps=900), 77, bad=False)
    assert "(0.520, then 0.570)" in line and line.endswith("epochs=6")
    (line,) = warn.still_rising(rows(0.40, 0.52, 0.57, steps=281), 77)
    assert line.endswith("epochs=7")


def test_few_steps_are_said_again_where_the_result_is_bad():
    level = rows(0.659, 0.648, steps=26)
    (line,) = warn.too_short(level, 24, bad=True)
    assert line == "only 52 optimizer steps for 24 classes; epochs=24 would make at least 600"
    assert warn.too_short(level, 24, bad=False) == []
    assert warn.too_short(rows(0.659, 0.648, steps=300), 24, bad=True) == []


def test_classes_with_few_training_documents_are_named_the_rarest_first():
    (line,) = warn.few_documents({"a": 500, "b": 9, "c": 1, "d": 10})
    assert line.startswith("2 of 4 classes have fewer than 10 training documents (c 1, b 9)")
    assert "min_documents" in line


def test_tokens_that_are_unknown_or_cut_are_counted():
    tokens = {"documents": 1018, "tokens": 90_000, "unknown_tokens": 58_500, "truncated": 1017,
              "unread_share": 0.63}  # fmt: skip
    unknown, cut = warn.of_tokens({"train": tokens}, "train")
    assert unknown.startswith("65% of the tokens of train are unknown")
    assert cut.startswith("1,017 of 1,018 documents of train are longer than max_length, 63%")
    (foreign,) = warn.of_tokens({"test": {"documents": 9, "tokens": 90, "fertility": 4.3}}, "test")
    assert foreign.startswith("the base model's tokenizer makes 4.3 tokens of each word of test")


@pytest.mark.parametrize(("macro", "accuracy", "p", "ahead", "worse"), [
    (0.6, 0.85, 3e-8, {"macro_f1": None, "accuracy": [-0.1, -0.02]}, True),  # by McNemar
    (0.6, 0.85, 0.2, BEHIND, True),  # by macro-F1
    (0.6, 0.85, 0.2, {"macro_f1": [-0.2, 0.01], "accuracy": [-0.1, 0.02]}, False),  # by chance
    (0.4, 0.75, 3e-8, AHEAD, False),
    (0.3, 0.85, 3e-8, {"macro_f1": [0.1, 0.3], "accuracy": [-0.1, -0.02]}, False),  # one for the other
])  # fmt: skip
def test_worse_than_a_baseline_is_said_where_a_paired_test_says_it(
    macro, accuracy, p, ahead, worse
):
    said = warn.behind_baselines(OWN, {"tfidf": baseline(macro, accuracy, p, ahead)})
    assert bool(said) == worse
    if worse:
        assert f"worse than tfidf: macro-F1 0.500 against {macro:.3f}" in said[0]
        assert f"McNemar p, Holm = {p:.1g}" in said[0]


def test_the_best_of_several_better_baselines_leads():
    others = {"rnn": baseline(0.6, 0.85, 1e-3, BEHIND), "tfidf": baseline(0.7, 0.86, 1e-4, BEHIND),
              "ngram": baseline(0.4, 0.7, 1e-3, AHEAD)}  # fmt: skip
    (line,) = warn.behind_baselines(OWN, others)
    assert line.startswith("worse than tfidf (and than rnn): macro-F1 0.500 against 0.700")


def test_no_better_than_the_most_frequent_class_unless_one_metric_clearly_is():
    unclear = {"macro_f1": [-0.01, 0.1], "accuracy": [-0.05, 0.05]}
    (line,) = warn.no_better_than_constant("world", OWN, baseline(0.3, 0.81, 0.6, unclear))
    assert "always answering world" in line and "accuracy 0.800 against 0.810" in line
    rarer_found = {"macro_f1": [0.2, 0.3], "accuracy": [-0.05, 0.01]}
    assert warn.no_better_than_constant("world", OWN, baseline(0.3, 0.81, 0.6, rarer_found)) == []
    same = baseline(0.3, 0.8, 1.0, unclear, only_model_right=0, only_baseline_right=0)
    assert warn.no_better_than_constant("world", OWN, same) == []  # said of the predictions already
