"""Other issues that cleanlab's Datalab finds in documents and labels.

Datalab itself (and the ``datasets`` package that it requires) rather than our own code, because its
thresholds are documented (https://docs.cleanlab.ai/stable/cleanlab/datalab/guide/). It gets our
probabilities and neighbours, computed in blocks so that memory grows linearly.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from cleanlab import Datalab
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from cleantune import console
from cleantune.labels.nearest import EXACT
from cleantune.labels.review_page import neighbours

NEIGHBOURS = 10  # Datalab's default
GROUP = 150  # documents in a cluster, on average: enough for a reliable mean
MOST_GROUPS = EXACT // GROUP  # more would take time that grows with the square of the documents
POOR = 0.8  # a cluster underperforms below this share of the average label probability

MEANING = {
    "label": "label error by cleanlab's default rule (it misses most human errors)",
    "outlier": "unlike every other document",
    "near_duplicate": "nearly the same as another document",
    "class_imbalance": "of a rare class, under a tenth of an equal share",
    "underperforming_group": "in the cluster whose labels the models find least probable",
}


def find_issue_types(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], vectors: Any, seed: int
) -> pd.DataFrame:
    """Return for each document and issue type whether it has the issue, and a score.

    ``labels`` (n,) count from 0, ``probabilities`` (n, classes) come from models that have not seen
    the document. Columns: for each of ``MEANING`` that could be checked, ``is_TYPE`` (bool) and
    ``TYPE_score`` (0, severe, to 1). Without ``vectors`` (n, size), or with few documents, that is
    the label and the class imbalance only. ``nearest`` is the position of the nearest other
    document, with vectors.
    """
    n = len(labels)
    single: dict[str, Any] = {"find_label_issues_kwargs": {"n_jobs": 1}}
    wanted: dict[str, Any] = {"label": {"clean_learning_kwargs": single}, "class_imbalance": {}}
    graph = None
    nearest = {}
    if vectors is not None and n >= 2 * GROUP:
        near, similarity = neighbours.by_vectors(vectors, np.arange(n), NEIGHBOURS)
        k = near.shape[1]
        ends = np.arange(0, k * n + 1, k)
        graph = csr_matrix(((1 - similarity).ravel(), near.ravel(), ends), shape=(n, n))
        # Datalab's own clustering, by density of the graph, finds a single cluster in texts
        means = MiniBatchKMeans(min(n // GROUP, MOST_GROUPS), random_state=seed, n_init=1)
        with threadpool_limits(1):
            clusters = means.fit_predict(getattr(vectors, "vectors", vectors))
        wanted |= {"outlier": {"k": k}, "near_duplicate": {"k": k}}
        wanted |= {"underperforming_group": {"cluster_ids": clusters, "threshold": POOR}}
        nearest = {"nearest": near[:, 0]}
    lab = Datalab({"label": labels}, label_name="label", verbosity=0)
    lab.find_issues(pred_probs=probabilities, knn_graph=graph, issue_types=wanted)
    result = lab.get_issues()
    columns: dict[str, Any] = {}
    for name in MEANING:
        if f"is_{name}_issue" in result:
            columns[f"is_{name}"] = result[f"is_{name}_issue"].to_numpy()
            columns[f"{name}_score"] = result[f"{name}_score"].to_numpy().round(6)
    return pd.DataFrame(columns | nearest)


def counts(issues: pd.DataFrame) -> dict[str, int]:
    """Return how many documents have each issue that was checked."""
    return {name: int(issues[f"is_{name}"].sum()) for name in MEANING if f"is_{name}" in issues}


def show(issues: pd.DataFrame) -> None:
    """Print how many documents have each issue, and what it means."""
    rows = [(name, count, MEANING[name]) for name, count in counts(issues).items()]
    console.table(
        "other issues found by cleanlab's Datalab",
        ("issue", "documents", "meaning"),
        rows,
        ["meaning"],
    )


def in_words(issues: pd.DataFrame, rows: Any, ids: Sequence[str]) -> list[list[str]]:
    """Return for each position in ``rows`` the issues found, as sentences for the reviewer.

    ``issues`` comes from ``find_issue_types``, ``ids`` (n,) names the documents.
    """
    reasons: list[list[str]] = []
    for row in rows:
        issue = issues.iloc[row]
        found = ["It is a label error by cleanlab's default rule"] if issue["is_label"] else []
        if issue.get("is_outlier"):
            found.append("It is an outlier: unlike every other document, so it may fit no class")
        if issue.get("is_near_duplicate"):
            found.append(f"It is nearly the same as {ids[issue['nearest']]}")
        if issue["is_class_imbalance"]:
            found.append("Its class is rare, so the models are less reliable for it")
        if issue.get("is_underperforming_group"):
            share = issue["underperforming_group_score"]
            found.append("It is in the cluster of documents whose labels the models find least "
                         f"probable: {share:.0%} of the average confidence")  # fmt: skip
        reasons.append(found)
    return reasons
