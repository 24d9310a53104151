"""Where a result is bad: one sentence each, with the parameter that helps.

finetune and evaluate print these sentences last; the report page and the model card repeat them. The
functions take counts and metrics, and return no sentence where nothing is wrong.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cleantune.data.class_tables import listed, smallest
from cleantune.models.token_counts import MANY_CUT, MANY_PER_WORD, MANY_UNKNOWN

MIN_STEPS = 100  # optimizer steps: with fewer, models may predict the majority class only
STEPS_PER_CLASS = 25  # as many for each of 4 classes are MIN_STEPS; 11 each left 77 classes at macro-F1 .57, 55 each at .84
MIN_DOCUMENTS = 10  # of a class in training
# learning rates; published ones are 1e-5 to 5e-5 for all weights of .1 to 8 B parameters, 1e-4 to 3e-4 for adapters
MOST_OF_DECODER = 5e-5
LEAST_OF_ADAPTERS = 5e-5
RISE = 0.01  # of macro-F1 in the last epoch
SIGNIFICANT = 0.05  # p-value
NAMED = 5  # classes in a sentence
ENOUGH_TO_FIND = 5  # documents, of which one by chance should be right


def enough_steps(classes: int) -> int:
    """Return how many optimizer steps fine-tuning needs at least: they grow with the classes."""
    return max(MIN_STEPS, STEPS_PER_CLASS * classes)


def decoder_rate(lr: float, adapters: bool) -> list[str]:
    """Tell before training that ``lr`` is too high for all of a decoder, or too low for ``adapters`` alone."""
    if not adapters and lr > MOST_OF_DECODER:
        return [
            f"lr: {lr:g} may undo what a decoder has learned, until it predicts one class: lr=2e-5 is usual, "
            "or finetune.lora with lr=2e-4"
        ]
    if adapters and lr < LEAST_OF_ADAPTERS:
        return [f"lr: {lr:g} is low for a decoder's adapters: lr=2e-4 is usual"]
    return []


def few_steps(steps_per_epoch: int, epochs: int, classes: int) -> list[str]:
    """Tell before training that it will be too short for this number of classes."""
    steps, enough = steps_per_epoch * epochs, enough_steps(classes)
    if steps >= enough:
        return []
    return [
        f"only {steps:,} optimizer steps for {classes:,} classes; "
        f"epochs={math.ceil(enough / steps_per_epoch)} would make at least {enough:,}"
    ]


def too_short(history: Sequence[Mapping[str, str]], classes: int, bad: bool) -> list[str]:
    """Tell that training was too short: macro-F1 was still rising, or steps were few and it is ``bad``.

    ``history`` is finetune's: a row for each step, with ``validation_macro_f1`` at an epoch's end.
    """
    epochs = sum(bool(row["validation_macro_f1"]) for row in history)
    few = few_steps(len(history) // epochs, epochs, classes) if bad and epochs else []
    return still_rising(history, classes) or few


def still_rising(history: Sequence[Mapping[str, str]], classes: int) -> list[str]:
    """Tell that macro-F1 on validation was still rising when training ended.

    ``history`` is finetune's: a row for each step, with ``validation_macro_f1`` at an epoch's end.
    """
    macro_f1 = [float(row["validation_macro_f1"]) for row in history if row["validation_macro_f1"]]
    if len(macro_f1) < 2 or macro_f1[-1] - max(macro_f1[:-1]) < RISE:
        return []
    steps_per_epoch = len(history) / len(macro_f1)
    epochs = max(2 * len(macro_f1), math.ceil(enough_steps(classes) / steps_per_epoch))
    return [
        f"macro-F1 on validation was still rising at the last epoch ({macro_f1[-2]:.3f}, then "
        f"{macro_f1[-1]:.3f}): train longer, epochs={epochs}"
    ]


def of_predictions(names: Sequence[str], counts: np.ndarray, split: str) -> list[str]:
    """Tell that all predictions are one class, or of which classes no document was recognized.

    ``counts`` (classes, classes) is the confusion matrix of ``split``, labels by predictions.
    """
    documents, predicted, right = counts.sum(axis=1), counts.sum(axis=0), np.diag(counts)
    n = int(documents.sum())
    if (documents > 0).sum() > 1 and (predicted > 0).sum() == 1:
        return [
            f"all {n:,} predictions on {split} are {names[int(predicted.argmax())]}: the model has learned "
            "nothing else; train longer (epochs), with another lr, or with finetune.class_weights=balanced"
        ]
    missed = [k for k in range(len(names)) if documents[k] and not right[k]
              and (not predicted[k] or documents[k] >= ENOUGH_TO_FIND)]  # fmt: skip
    if not missed:
        return []
    missed.sort(key=lambda k: -documents[k])
    never = not predicted[missed].any()
    what = "never predicted" if never else "never recognized"
    by_name = listed([f"{names[k]} (0 of {documents[k]:,} found)" for k in missed], NAMED)
    threshold = ", evaluate.threshold=f1" if len(names) == 2 else ""
    of = f"{len(missed):,} of {int((documents > 0).sum()):,} classes " if len(missed) > 1 else ""
    verb = "are" if len(missed) > 1 else "is"
    subject = (
        f"{of}{verb} {what} on {split}: {by_name}" if of else f"{by_name} {verb} {what} on {split}"
    )
    return [f"{subject}; finetune.class_weights=balanced{threshold} or more epochs may help"]


def few_documents(training_documents: Mapping[str, int]) -> list[str]:
    """Tell which classes have too few training documents to be learned."""
    rare = {name: n for name, n in training_documents.items() if n < MIN_DOCUMENTS}
    if not rare:
        return []
    names = list(rare)
    order = smallest(list(rare.values()), len(rare))
    by_name = listed([f"{names[k]} {rare[names[k]]:,}" for k in order], NAMED)
    verb = "have" if len(rare) > 1 else "has"
    return [
        f"{len(rare):,} of {len(training_documents):,} classes {verb} fewer than {MIN_DOCUMENTS} training "
        f"documents ({by_name}): add documents, or leave out or merge such classes with "
        "min_documents in the corpus' entry of datasets"
    ]


def of_tokens(summary: Mapping[str, Mapping[str, float]], split: str) -> list[str]:
    """Tell that a split is unknown or foreign to the tokenizer, or that much is beyond max_length.

    ``summary`` is that of tokenize_text: of each split the number of ``documents``, ``tokens``,
    ``unknown_tokens`` and ``truncated`` documents, the ``unread_share`` and the ``fertility``.
    """
    of = summary.get(split, {})
    result = []
    unknown = of.get("unknown_tokens", 0) / max(of.get("tokens", 0), 1)
    if unknown > MANY_UNKNOWN:
        result.append(
            f"{unknown:.0%} of the tokens of {split} are unknown to the base model's tokenizer: set "
            "model to a multilingual one; tokenize_text names one"
        )
    elif of.get("fertility", 0) > MANY_PER_WORD:
        result.append(
            f"the base model's tokenizer makes {of['fertility']:.1f} tokens of each word of {split}: set model to "
            "one for this language; tokenize_text names a multilingual one"
        )
    if of.get("truncated", 0) > MANY_CUT * of.get("documents", 0):
        unread = of.get("unread_share")
        share = f", {unread:.0%} of their text is unread" if unread else ""
        result.append(
            f"{of['truncated']:,} of {of['documents']:,} documents of {split} are longer than max_length"
            f"{share}: raise max_length, or set long_documents=chunks"
        )
    return result


def behind_baselines(own: Mapping[str, float], baselines: Mapping[str, Any]) -> list[str]:
    """Tell that the model is significantly worse than baselines, the best of them first.

    Each has the metrics, ``model_ahead_by``, the intervals of the paired differences in accuracy and
    macro-F1, and ``holm_p``, as in metrics/baselines.json.
    """
    ahead = {
        name: b for name, b in baselines.items()
        if _worse(own, b) and not (b["model_ahead_by"]["macro_f1"] or (0,))[0] > 0
    }  # fmt: skip
    if not ahead:
        return []
    first, *others = sorted(ahead, key=lambda name: -ahead[name]["macro_f1"])
    best = ahead[first]
    ends = best["model_ahead_by"]["macro_f1"]
    apart = f" (difference {ends[0]:+.3f} to {ends[1]:+.3f})" if ends else ""
    also = f" (and than {', '.join(others)})" if others else ""
    return [
        f"worse than {first}{also}: macro-F1 {own['macro_f1']:.3f} against {best['macro_f1']:.3f}{apart}, accuracy "
        f"{own['accuracy']:.3f} against {best['accuracy']:.3f} (McNemar p, Holm = {best['holm_p']:.1g}); train "
        f"longer (epochs) or with another lr, or use {first}"
    ]


def _worse(own: Mapping[str, float], baseline: Mapping[str, Any]) -> bool:
    """Tell whether accuracy, by McNemar's test, or macro-F1, by its interval, is significantly lower."""
    difference = baseline["model_ahead_by"]["macro_f1"]
    accuracy = own["accuracy"] < baseline["accuracy"] and baseline["holm_p"] < SIGNIFICANT
    return accuracy or bool(difference and difference[1] < 0)


def no_better_than_constant(
    name: str, own: Mapping[str, float], constant: Mapping[str, Any]
) -> list[str]:
    """Tell that always answering ``name``, the most frequent class, is not significantly worse.

    ``constant`` is the comparison with that, as one of ``behind_baselines``.
    """
    if not constant["only_model_right"] and not constant["only_baseline_right"]:
        return []  # the same predictions: `of_predictions` tells that
    difference = constant["model_ahead_by"]["macro_f1"]
    more_right = own["accuracy"] > constant["accuracy"] and constant["mcnemar_p"] < SIGNIFICANT
    if more_right or (difference and difference[0] > 0):
        return []
    return [
        f"not significantly better than always answering {name}, the most frequent class: macro-F1 "
        f"{own['macro_f1']:.3f} against {constant['macro_f1']:.3f}, accuracy {own['accuracy']:.3f} against "
        f"{constant['accuracy']:.3f}; train longer (epochs) or with another lr, and check that the labels "
        "follow from the texts"
    ]
