"""Train the models that the fine-tuned one has to beat, on the same documents.

Run: ``python -m stages.baselines`` (or ``dvc repro baselines``), under a minute on the sample.

- ``ngram``: a trigram language model per class, Kneser-Ney smoothing; the likeliest class wins.
- ``tfidf``: TF-IDF of words and word pairs, logistic regression, temperature from held-out folds.
- ``rnn``, ``lstm``: a recurrent layer over word embeddings, best epoch by validation loss.

Each leaves its probabilities for the validation and the test documents, so that evaluate compares
document by document. The labels of the test documents are not read here.
"""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from stages.common import console, corpus, files, metrics, recurrent_model
from stages.common.errors import UserError
from stages.common.ngram_model import NgramClassifier
from stages.common.params import Baselines, read_params

READS = ("seed", "baselines")
TRAIN = corpus.LABELS / "train.parquet"
VALIDATION = corpus.CLEAN / "validation.parquet"
TEST = corpus.CLEAN / "test.parquet"
TERM = r"(?u)\b\w+\b"  # for TF-IDF: words of one letter too
WORD = re.compile(r"\w+|[^\w\s]")

Scores = tuple[np.ndarray, np.ndarray]
"""Log-probabilities or logits of validation and test, each (documents, classes)."""


@dataclass(frozen=True, eq=False)  # the same object or another: what a cache can be keyed by
class Corpus:
    """What every baseline learns from and answers for."""

    texts: dict[str, list[str]]  # train, validation, test
    words: dict[str, list[list[str]]]  # the same in lower case, split into words and signs
    labels: np.ndarray
    groups: np.ndarray  # of near-duplicates in train
    validation_labels: np.ndarray
    classes: int


def main() -> None:
    """Read the documents, train each baseline, write what it says of validation and test."""
    params = read_params(READS)
    settings = params.baselines
    console.title("baselines", "train what the fine-tuned model has to beat")

    # Read
    train, validation = corpus.read_table(TRAIN), corpus.read_table(VALIDATION)
    test = corpus.read_table(TEST, ("id", "title", "text"))
    data = _corpus(train, validation, test, len(corpus.label_names()))
    console.say(
        f"read {len(train):,} training, {len(validation):,} validation and {len(test):,} test texts"
    )

    # Train
    scores: dict[str, Scores] = {}
    for kind in console.track(settings.models, "baselines", len(settings.models)):
        with console.timed(f"{kind}: trained"):
            scores[kind] = FIT[kind](data, settings, params.seed)

    # Write
    summary: dict[str, Any] = {}
    answered = pd.DataFrame({
        "split": ["validation"] * len(validation) + ["test"] * len(test),
        "id": [*validation["id"], *test["id"]],
    })  # fmt: skip
    columns = ("split", "id", *(f"score_{k}" for k in range(data.classes)))
    with files.atomic_folder(corpus.BASELINES) as folder:
        for name, (on_validation, on_test) in scores.items():
            table = answered.copy()
            table[list(columns[2:])] = np.concatenate([on_validation, on_test])
            corpus.write_table(folder / f"{name}.parquet", table, columns)
            right = on_validation.argmax(axis=1) == data.validation_labels
            summary[name] = {
                "about": ABOUT[name].format(s=settings),
                "validation_accuracy": float(right.mean()),
                "validation_nll": metrics.nll(data.validation_labels, metrics.softmax(on_validation)),
            }  # fmt: skip
        files.write_json(folder / "summary.json", summary)
    console.table("on validation", ("baseline", "accuracy", "NLL"), (
        (name, f"{s['validation_accuracy']:.2%}", f"{s['validation_nll']:.3f}")
        for name, s in summary.items()
    ))  # fmt: skip
    console.outputs(corpus.BASELINES)


def _corpus(
    train: pd.DataFrame, validation: pd.DataFrame, test: pd.DataFrame, classes: int
) -> Corpus:
    labels = train["label"].to_numpy()
    if len(np.unique(labels)) < 2:
        raise UserError(f"{TRAIN} holds {len(np.unique(labels))} class; two are needed to learn.")
    texts = {"train": corpus.full_text(train), "validation": corpus.full_text(validation),
             "test": corpus.full_text(test)}  # fmt: skip
    words = {split: [WORD.findall(t.lower()) for t in each] for split, each in texts.items()}
    groups, on_validation = train["group"].to_numpy(), validation["label"].to_numpy()
    return Corpus(texts, words, labels, groups, on_validation, classes)


def _ngram(data: Corpus, settings: Baselines, _seed: int) -> Scores:
    model = NgramClassifier(settings.ngram_order)
    model.fit(data.words["train"], data.labels, data.classes)
    return model.log_probabilities(data.words["validation"]), model.log_probabilities(
        data.words["test"]
    )


def _tfidf(data: Corpus, settings: Baselines, seed: int) -> Scores:
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=TERM, dtype=np.float32
    )
    inputs = vectorizer.fit_transform(data.texts["train"])
    model = LogisticRegression(C=settings.tfidf_c, max_iter=1000)
    smallest = np.unique(data.labels, return_counts=True)[1].min()
    if smallest >= 3:  # fewer cannot be held out in turn, and the model stays uncalibrated
        parts = StratifiedGroupKFold(3, shuffle=True, random_state=seed)
        folds = list(parts.split(inputs, data.labels, data.groups))
        model = CalibratedClassifierCV(model, method="temperature", cv=folds, ensemble=False)
    model.fit(inputs, data.labels)

    def log_probabilities(split: str) -> np.ndarray:
        scores = np.full((len(data.texts[split]), data.classes), np.log(metrics.TINY))
        shares = model.predict_proba(vectorizer.transform(data.texts[split]))
        scores[:, model.classes_] = np.log(np.maximum(shares, metrics.TINY))
        return scores

    return log_probabilities("validation"), log_probabilities("test")


@functools.cache
def _vectors(
    data: Corpus, kind: Literal["word2vec", "random"], dimensions: int, seed: int
) -> recurrent_model.Vectors:
    return recurrent_model.word_vectors(data.words["train"], kind, dimensions, seed)


def _recurrent(kind: Literal["rnn", "lstm"]) -> Callable[[Corpus, Baselines, int], Scores]:
    def fit(data: Corpus, settings: Baselines, seed: int) -> Scores:
        vectors = _vectors(data, settings.word_vectors, settings.dimensions, seed)
        encoded = {split: vectors.encode(words) for split, words in data.words.items()}
        # The steps of a recurrent layer are too small to share: two threads wait for one another.
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        model = recurrent_model.RecurrentClassifier(
            kind, vectors.start, settings.hidden, data.classes
        )

        def validation_loss() -> float:
            scores = model.scores(encoded["validation"])
            return metrics.nll(data.validation_labels, metrics.softmax(scores))

        recurrent_model.train(
            model, encoded["train"], data.labels, validation_loss, settings.epochs, seed
        )
        return model.scores(encoded["validation"]), model.scores(encoded["test"])

    return fit


FIT: dict[str, Callable[[Corpus, Baselines, int], Scores]] = {
    "ngram": _ngram, "tfidf": _tfidf, "rnn": _recurrent("rnn"), "lstm": _recurrent("lstm"),
}  # fmt: skip
ABOUT = {
    "ngram": "language model per class, order {s.ngram_order}, interpolated Kneser-Ney",
    "tfidf": "TF-IDF of words and word pairs, logistic regression, calibrated on held-out folds",
    "rnn": "bidirectional RNN of {s.hidden} units over {s.word_vectors} embeddings",
    "lstm": "bidirectional LSTM of {s.hidden} units over {s.word_vectors} embeddings",
}

if __name__ == "__main__":
    console.run(main)
