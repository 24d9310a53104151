"""Find the labels that are probably wrong, and act on them.

Run: ``python -m stages.label_noise`` (or ``dvc repro label_noise``), a few seconds on the sample.

Every training document is judged by a model that has not seen it: out-of-fold probabilities, with
near-duplicates kept in one fold. cleanlab's confident learning (Northcutt et al., 2021,
https://arxiv.org/abs/1911.00068) turns them into a quality score for each label and a list of
suspects; ``label_noise.action`` says what becomes of these.
"""

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline

from stages.common import console, corpus, corrections, files
from stages.common.errors import UserError
from stages.common.label_review import neighbours, page
from stages.common.params import read_params

READS = ("seed", "label_noise")
TRAIN = corpus.CLEAN / "train.parquet"


def main() -> None:
    """Read the clean training documents, judge their labels, write what training will use."""
    params = read_params(READS)
    settings = params.label_noise
    console.title("label_noise", "find labels that are probably wrong")
    train = corpus.read_table(TRAIN)
    names = corpus.label_names()
    raw = corpus.read_table(corpus.RAW / "train.parquet", corpus.TEXT_COLUMNS)
    reviewed = corrections.read_corrections(corrections.CORRECTIONS, raw, names)
    console.say(f"read {len(train):,} documents from {TRAIN}, {len(reviewed):,} reviewed labels")

    # ---- judge each document by a model that has not seen it
    probabilities = out_of_fold_probabilities(train, len(names), settings.folds, params.seed)
    given = train["label"].to_numpy()
    quality = get_label_quality_scores(given, probabilities)
    suspect = find_label_issues(given, probabilities, n_jobs=1)
    suspect &= ~train["id"].isin(reviewed["id"]).to_numpy()  # a person's word stands
    suggested = probabilities.argmax(axis=1)

    # ---- act on the suspects
    result = train.assign(weight=1.0)
    if settings.action == "drop":
        result = result[~suspect]
    elif settings.action == "relabel":
        result["label"] = np.where(suspect, suggested, given)

    # ---- write
    issues = train[["id"]].assign(
        given=given, suggested=suggested, quality=quality, suspect=suspect
    )
    for i, name in enumerate(names):
        issues[name] = probabilities[:, i]
    issues = issues.sort_values(["quality", "id"])
    with files.atomic_folder(corpus.LABELS) as folder:
        columns = (*corpus.TEXT_COLUMNS, "group", "weight")
        corpus.write_table(folder / "train.parquet", result, columns)
        corpus.write_table(folder / "issues.parquet", issues, tuple(issues.columns))
        summary = {
            "documents": len(train),
            "suspects": int(suspect.sum()),
            "action": settings.action,
            "documents_out": len(result),
        }
        files.write_json(folder / "summary.json", summary)

    # ---- show the suspects to a person
    rows = np.flatnonzero(suspect)
    rows = rows[np.argsort(quality[rows], kind="stable")]
    near, similarity = neighbours.by_words(corpus.full_text(train), rows)
    found = page.Suspects(
        rows, suggested[rows], quality[rows], probabilities[rows], near, similarity
    )
    page.write_page(page.PAGE, names, train, raw, found, reviewed)
    show(names, given, suggested, suspect)
    console.say(f"action {settings.action}: {len(train):,} documents in, {len(result):,} out")
    console.outputs(corpus.LABELS, page.PAGE)


def out_of_fold_probabilities(
    train: pd.DataFrame, classes: int, folds: int, seed: int
) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """Return each document's class probabilities, (documents, classes), by a model blind to it.

    Raises ``UserError`` when a class has fewer groups of near-duplicates than there are folds.
    """
    groups = train.groupby("label")["group"].nunique()
    small = groups[groups < folds]
    if len(groups) < 2 or len(small):
        counts = ", ".join(f"{label}: {count}" for label, count in groups.items())
        raise UserError(
            f"{TRAIN} cannot be split into {folds} folds: distinct documents by class are {counts}; "
            f"each of at least two classes needs {folds}. Lower label_noise.folds or add documents."
        )
    texts = corpus.full_text(train)
    labels = train["label"].to_numpy()
    probabilities = np.zeros((len(train), classes))
    splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    parts = splits.split(texts, labels, train["group"])
    for inside, outside in console.track(parts, "out-of-fold probabilities", folds):
        model = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, dtype=np.float32),
            LogisticRegression(C=5.0, class_weight="balanced", max_iter=1000),
        )
        model.fit([texts[i] for i in inside], labels[inside])
        judged = model.predict_proba([texts[i] for i in outside])
        probabilities[np.ix_(outside, model.classes_)] = judged
    return probabilities


def show(names: list[str], given: np.ndarray, suggested: np.ndarray, suspect: np.ndarray) -> None:
    """Print how many of each class are suspect, and what they look like instead."""
    pairs = pd.crosstab(given[suspect], suggested[suspect])
    rows = []
    for i, name in enumerate(names):
        row = pairs.loc[i] if i in pairs.index else {}
        rows.append(
            [name, int((given == i).sum()), *(int(row.get(j, 0)) for j in range(len(names)))]
        )
    console.table(
        "suspects, by given label", ["given", "documents", *(f"→ {n}" for n in names)], rows
    )


if __name__ == "__main__":
    console.run(main)
