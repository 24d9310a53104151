"""Split-conformal prediction sets: sets of classes that contain the label with a stated probability.

Least ambiguous sets (Sadinle, Lei and Wasserman 2019): a class is in the set where its probability is at
least a threshold, a quantile of the labels' probabilities on validation. No library: the threshold is one
line and has to be saved with the model, and MAPIE, which computes the same sets, takes estimators of
scikit-learn and does not return it.
"""

import math

import numpy as np

LEVELS = (0.9, 0.95)


def fit_threshold(labels: np.ndarray, probabilities: np.ndarray, level: float) -> float:
    """Return the least probability, on validation, of a class in sets that contain a share of ``level`` labels.

    On average over the choice of validation documents, new documents' sets contain at least that share
    (Vovk, Gammerman and Shafer 2005). 0, sets of all classes, where the documents are too few.
    ``labels`` is (n,), ``probabilities`` (n, classes).
    """
    of_labels = np.sort(probabilities[np.arange(len(labels)), labels])
    missed = math.floor((len(labels) + 1) * (1 - level) + 1e-9)
    return float(of_labels[missed - 1]) if missed else 0.0
