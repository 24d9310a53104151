"""The page of the test set's doubtful labels: those that some model contradicts.

Errors in test sets can turn comparisons of models around (Northcutt, Athalye and Mueller 2021,
https://arxiv.org/abs/2103.14749). The models are the fine-tuned one and the baselines: no model has
learned from a test document. Where all of them predict the given label, nobody is asked, so what a
review corrects are mostly labels on which a model was counted as wrong.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from cleantune import files
from cleantune.data import tables
from cleantune.evaluation import predictions, threshold
from cleantune.evaluation.metrics import softmax
from cleantune.evaluation.predictions import Split
from cleantune.labels.review_page import neighbours, page, reasons
from cleantune.labels.review_page.content import FlaggedLabels
from cleantune.models import classifier

PAGE = Path("reports/test_label_review.html")
ADVICE = (
    "These are labels of the test set that at least one model contradicts, the most doubtful first. Label quality is "
    "the mean probability that the models give the label.",
    "Corrections go to data/test_corrections.csv. The test set keeps its labels; evaluate reports the metrics with "
    "the corrected ones, too.",
)


def write_page(raw: pd.DataFrame, reviewed: pd.DataFrame, seed: int) -> int:
    """Write the page for the labels that ``reviewed`` does not have; return how many are on it.

    ``raw`` are the test documents as downloaded, ``reviewed`` what ``read_corrections`` returned for them.
    Raises ``UserError`` where there are no models: `dvc repro` trains them.
    """
    validation, test = (tables.read_table(tables.CLEAN / f"{split}.parquet") for split in ("validation", "test"))  # fmt: skip
    names, given = tables.label_names(), test["label"].to_numpy()

    # ---- what each model predicts
    model = classifier.load()
    fine_tuned = predictions.predict(model, "test", test)
    held_out = Split(validation, validation["label"].to_numpy(), np.empty(0), names)
    baselines = {
        name: predictions.read_baseline(name, held_out, fine_tuned)[1].logits
        for name in files.read_json(tables.BASELINES / "summary.json")
    }
    temperature = threshold.read(model.folder).temperature
    every = {"fine-tuned": softmax(fine_tuned.logits, temperature)}
    every |= {name: softmax(scores) for name, scores in baselines.items()}
    predicted = np.array([of.argmax(axis=1) for of in every.values()])
    probabilities = np.mean(list(every.values()), axis=0)

    # ---- the labels that some model contradicts
    quality = probabilities[np.arange(len(given)), given]
    doubtful = (predicted != given).any(axis=0)
    rows = np.flatnonzero(doubtful & ~test["id"].isin(reviewed["id"]).to_numpy())
    rows = rows[np.lexsort((test["id"].iloc[rows], quality[rows].round(6)))]
    others = np.where(np.eye(len(names), dtype=bool)[given], -1, probabilities).argmax(axis=1)
    texts = tables.full_text(test)
    why = zip(
        reasons.of_predictions(list(every), predicted, rows, names),
        reasons.of_words(texts, given, doubtful, rows, others, names, seed), strict=True,
    )  # fmt: skip
    flagged = FlaggedLabels(
        rows, others[rows], quality[rows], probabilities[rows], *neighbours.by_words(texts, rows),
        [[sentence for part in parts for sentence in part] for parts in why], split="test",
    )  # fmt: skip
    page.write_page(PAGE, tables.dataset_name(), names, test, raw, flagged, reviewed, advice=ADVICE)
    return len(rows)
