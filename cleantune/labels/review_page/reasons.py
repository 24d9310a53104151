"""Why the label models suggest another class: sentences for the reviewer."""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from cleantune.data.words import LONG_TERM
from cleantune.labels.confident_learning import Ints, Mask

WORDS = 5  # in a sentence
MOST_DOCUMENTS = 20_000  # that the words' weights are learned from


def of_predictions(
    models: Sequence[str], predicted: Ints, rows: Ints, names: Sequence[str]
) -> list[list[str]]:
    """Return for each of ``rows`` what each of several models predicts; nothing where there is one.

    ``predicted`` (models, n) are positions in ``names``, predicted by models that had not learned from the document.
    """
    if len(models) < 2:
        return [[] for _ in rows]
    sentences = []
    for labels in predicted[:, rows].T.tolist():
        by_class = {label: [m for m, found in zip(models, labels, strict=True) if found == label]
                    for label in dict.fromkeys(labels)}  # fmt: skip
        if len(by_class) == 1:
            sentences.append([f"All {len(models)} models predict {names[labels[0]]}"])
            continue
        parts = [f"{' and '.join(of)} predict {names[label]}" for label, of in by_class.items()]
        sentences.append(["; ".join(parts)])
    return sentences


def of_words(
    texts: Sequence[str],
    labels: Ints,
    flagged: Mask,
    rows: Ints,
    suggested: Ints,
    names: Sequence[str],
    seed: int,
) -> list[list[str]]:
    """Return for each of ``rows`` the words that speak most for its suggested class and against the given.

    By logistic regression on TF-IDF, fitted on documents that are not ``flagged``: no flagged label speaks
    for itself. ``texts``, ``labels``, ``flagged`` and ``suggested`` are those of n documents, labels as
    positions in ``names``.
    """
    vectorizer = TfidfVectorizer(min_df=2, sublinear_tf=True, token_pattern=LONG_TERM)
    fit = np.random.default_rng(seed).permutation(np.flatnonzero(~flagged))[:MOST_DOCUMENTS]
    if len(np.unique(labels[fit])) < 2:
        return [[] for _ in rows]
    try:
        features = vectorizer.fit_transform(texts)
    except ValueError:  # no word is in two documents
        return [[] for _ in rows]
    with threadpool_limits(1, user_api="blas"):
        model = LogisticRegression(max_iter=200).fit(features[fit], labels[fit])
    weights = model.coef_ if len(model.classes_) > 2 else np.vstack([-model.coef_, model.coef_])
    place = {label: weights[i] for i, label in enumerate(model.classes_.tolist())}
    terms = vectorizer.get_feature_names_out()
    sentences: list[list[str]] = []
    for row in rows.tolist():
        best, given = int(suggested[row]), int(labels[row])
        found = features[row]
        if best not in place or given not in place:
            sentences.append([])
            continue
        shares = (found.data * (place[best] - place[given])[found.indices]).round(6)
        order = np.lexsort((terms[found.indices], -shares))[:WORDS]
        words = [str(terms[found.indices[i]]) for i in order if shares[i] > 0]
        about = f"Words for {names[best]} rather than {names[given]}: "
        sentences.append([about + ", ".join(words)] if words else [])
    return sentences
