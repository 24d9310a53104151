"""Train the baselines on the same documents as the fine-tuned model.

Run: ``python -m stages.baselines`` (or ``dvc repro baselines``).

- ``ngram``: a trigram language model per class, Kneser-Ney smoothing; the most probable class wins.
- ``tfidf``: TF-IDF of words, word pairs and letters, logistic regression, calibrated on validation.
- ``rnn``, ``lstm``: a recurrent layer over word embeddings, best epoch by validation loss.

Each writes its predictions for validation and test, so that evaluate makes paired comparisons.
``tfidf`` is also trained with a share of the labels flipped at random, which shows the effect of
label noise. The labels of the test documents are not read here.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.sparse import csr_matrix

from cleantune import console, files
from cleantune.baselines import recurrent, tfidf
from cleantune.baselines.ngram import NgramClassifier
from cleantune.data import tables
from cleantune.data.words import TERM_OR_SIGN
from cleantune.errors import UserError
from cleantune.evaluation import metrics
from cleantune.params.read import read_params
from cleantune.params.sections import Baselines

PARAMS = ("seed", "baselines")
TRAIN = tables.LABELS / "train.parquet"
VALIDATION = tables.CLEAN / "validation.parquet"
TEST = tables.CLEAN / "test.parquet"

Scores = tuple[np.ndarray, np.ndarray]
"""Log-probabilities or logits of validation and test, each (documents, classes)."""


@dataclass(frozen=True, eq=False)  # identity equality, so that it can be a cache key
class Corpus:
    """The texts and labels that every baseline uses."""

    texts: dict[str, list[str]]  # train, validation, test
    words: dict[str, list[list[str]]]  # the same in lower case, split into words and signs
    labels: np.ndarray
    validation_labels: np.ndarray
    classes: int


def main() -> None:
    """Read the documents, train each baseline, write its predictions for validation and test."""
    params = read_params(PARAMS)
    settings = params.baselines
    console.title("baselines", "train the baselines")

    # Read
    train, validation = tables.read_table(TRAIN), tables.read_table(VALIDATION)
    test = tables.read_table(TEST, ("id", "title", "text"))
    data = _corpus(train, validation, test, len(tables.label_names()))
    console.say(
        f"read {len(train):,} training, {len(validation):,} validation and {len(test):,} test texts"
    )

    # Train, the recurrent models in parallel with the others: each uses one core
    shares = settings.flipped_shares if "tfidf" in settings.models else []
    recurrent_scores = _recurrent_scores(data, settings, params.seed)
    scores: dict[str, Scores] = {}
    flipped = []
    with console.Bar("baselines", len(settings.models) + len(shares)) as bar:
        for kind, fit in FIT.items():
            if kind in settings.models:
                scores[kind] = fit(data, settings, params.seed)
                bar.advance()
        for share in shares:  # the effect of label noise
            predicted = _tfidf_on_flipped(data, settings, share, params.seed)
            flipped.append(pd.DataFrame({"id": test["id"], "share": share, "predicted": predicted}))
            bar.advance()
        for kind, pair in recurrent_scores:
            scores[kind] = pair
            bar.advance()

    # Write
    summary: dict[str, Any] = {}
    documents = pd.DataFrame({
        "split": ["validation"] * len(validation) + ["test"] * len(test),
        "id": [*validation["id"], *test["id"]],
    })  # fmt: skip
    columns = ("split", "id", *(f"score_{k}" for k in range(data.classes)))
    with files.atomic_folder(tables.BASELINES) as folder:
        for name in settings.models:
            on_validation, on_test = scores[name]
            table = documents.copy()
            table[list(columns[2:])] = np.concatenate([on_validation, on_test])
            tables.write_table(folder / f"{name}.parquet", table, columns)
            right = on_validation.argmax(axis=1) == data.validation_labels
            summary[name] = {
                "about": ABOUT[name].format(s=settings),
                "validation_accuracy": float(right.mean()),
                "validation_nll": metrics.nll(data.validation_labels, metrics.softmax(on_validation)),
            }  # fmt: skip
        files.write_json(folder / "summary.json", summary)
        if flipped:
            columns = ("share", "id", "predicted")
            tables.write_table(folder / tables.FLIPPED, pd.concat(flipped), columns)
    console.table("on validation", ("baseline", "accuracy", "NLL"), (
        (name, f"{s['validation_accuracy']:.2%}", f"{s['validation_nll']:.3f}")
        for name, s in summary.items()
    ))  # fmt: skip
    console.outputs(tables.BASELINES)


def _corpus(
    train: pd.DataFrame, validation: pd.DataFrame, test: pd.DataFrame, classes: int
) -> Corpus:
    labels = train["label"].to_numpy()
    if len(np.unique(labels)) < 2:
        raise UserError(f"{TRAIN} holds {len(np.unique(labels))} class; two are needed to learn.")
    texts = {"train": tables.full_text(train), "validation": tables.full_text(validation),
             "test": tables.full_text(test)}  # fmt: skip
    words = {
        split: [TERM_OR_SIGN.findall(t.lower()) for t in each] for split, each in texts.items()
    }
    return Corpus(texts, words, labels, validation["label"].to_numpy(), classes)


def _ngram(data: Corpus, settings: Baselines, _seed: int) -> Scores:
    model = NgramClassifier(settings.ngram_order)
    model.fit(data.words["train"], data.labels, data.classes)
    on_validation, on_test = (
        model.log_probabilities(data.words[split]) for split in ("validation", "test")
    )
    return on_validation, on_test


@functools.cache
def _tfidf_inputs(data: Corpus) -> dict[str, csr_matrix]:
    vectorizer = tfidf.vectorizer().fit(data.texts["train"])
    return {split: vectorizer.transform(texts) for split, texts in data.texts.items()}


def _tfidf(data: Corpus, settings: Baselines, seed: int) -> Scores:
    inputs = _tfidf_inputs(data)
    model = tfidf.fit(inputs["train"], data.labels, settings.tfidf_c, seed)
    on_validation, on_test = (
        tfidf.log_probabilities(model, inputs[split], data.classes)
        for split in ("validation", "test")
    )
    temperature = metrics.temperature(data.validation_labels, on_validation)
    return on_validation / temperature, on_test / temperature


def _tfidf_on_flipped(data: Corpus, settings: Baselines, share: float, seed: int) -> np.ndarray:
    """Return the classes that a model trained on ``share`` flipped labels predicts for the test documents."""
    inputs = _tfidf_inputs(data)
    labels = tfidf.flipped(data.labels, share, data.classes, seed)
    model = tfidf.fit(inputs["train"], labels, settings.tfidf_c, seed)
    scores = tfidf.log_probabilities(model, inputs["test"], data.classes)
    return np.asarray(scores.argmax(axis=1))


def _recurrent_scores(data: Corpus, settings: Baselines, seed: int) -> Iterator[tuple[str, Scores]]:
    """Start training rnn and lstm in processes of their own (a single one when its result is requested)."""
    kinds = [kind for kind in settings.models if kind in ("rnn", "lstm")]
    jobs = Parallel(n_jobs=max(1, len(kinds)), return_as="generator_unordered")
    results: Iterator[tuple[str, Scores]] = jobs(
        delayed(recurrent.fit)(
            kind, data.words, data.labels, data.validation_labels, data.classes, settings, seed
        )
        for kind in kinds
    )
    return results


FIT = {"ngram": _ngram, "tfidf": _tfidf}
ABOUT = {
    "ngram": "language model per class, order {s.ngram_order}, interpolated Kneser-Ney",
    "tfidf": "TF-IDF of words, word pairs and letters, logistic regression, calibrated on validation",
    "rnn": "bidirectional RNN of {s.hidden} units over {s.word_vectors} embeddings",
    "lstm": "bidirectional LSTM of {s.hidden} units over {s.word_vectors} embeddings",
}

if __name__ == "__main__":
    console.run(main)
