"""The charts of the evaluation page: which numbers each shows, at any number of classes.

``cleantune.evaluation.report.charts`` draws them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from cleantune.data.class_tables import ENDS, SHOWN, largest
from cleantune.evaluation import many_classes, metrics, plot_tables, selective_prediction
from cleantune.evaluation.report import charts
from cleantune.evaluation.report.findings import Findings

LARGEST = 10  # of many classes: those whose texts are shown
Lines = dict[str, tuple[list[float], list[float]]]


def draw(
    findings: Findings, labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray,
    scaled: Mapping[str, np.ndarray], history: list[dict[str, str]], bins: int,
) -> dict[str, Markup]:  # fmt: skip
    """Return the charts by name, SVG elements; arguments are those of ``page.write``."""
    drawn = (
        _of_models(findings)
        | _of_classes(findings, labels, probabilities, predicted)
        | _of_training(history)
        | _of_slices(findings)
        | _of_corpus(findings)
    )
    reliability = {}
    for kind, values in scaled.items():
        share, confidence, accuracy = metrics.reliability(labels, values, predicted, bins)
        reliability[kind] = confidence[share > 0].tolist(), accuracy[share > 0].tolist()
    drawn["reliability"] = charts.curves(
        "reliability", "Reliability diagram", reliability,
        ("mean confidence", "accuracy"), diagonal=True, markers=True,
    )  # fmt: skip
    confidence = probabilities[np.arange(len(labels)), predicted]
    risk = _thinned({"": selective_prediction.risk_coverage(predicted == labels, confidence)})
    drawn["risk_coverage"] = charts.curves(
        "risk-coverage", "Wrong answers by the share of documents answered", risk,
        ("share answered", "share of the answers that is wrong"),
    )  # fmt: skip
    return {name: Markup(svg) for name, svg in drawn.items()}  # noqa: S704 drawn by charts, names escaped


def _of_models(findings: Findings) -> dict[str, str]:
    scores = {name: b["macro_f1"] for name, b in findings.baselines.items()}
    drawn = {"baselines": charts.bars(
        "baselines", "Test macro-F1 of each model",
        scores | {"fine-tuned": findings.metrics["macro_f1"]}, "macro-F1",
        {"fine-tuned": findings.intervals["macro_f1"]},
    )}  # fmt: skip
    flipped = findings.robustness["tfidf_by_share_of_flipped_labels"]
    if flipped:
        line = {"tfidf": ([float(share) for share in flipped], list(flipped.values()))}
        drawn["flipped"] = charts.curves(
            "flipped", "Accuracy of TF-IDF by share of flipped labels", line,
            ("share of training labels flipped", "accuracy"), markers=True,
        )  # fmt: skip
    return drawn


def _of_classes(
    findings: Findings, labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray
) -> dict[str, str]:
    names, positive = findings.names, findings.positive
    counts = metrics.confusion(labels, predicted, len(names))
    rows, shown = many_classes.most_confused(counts, names)
    counts = many_classes.grouped(counts, rows)
    roc = many_classes.roc_curves(labels, probabilities, names)
    if positive:  # of two classes one ROC curve is enough: the other mirrors it
        roc = {name: curve for name, curve in roc.items() if name == positive["class"]}
    drawn = {
        "confusion": charts.confusion(counts, shown, shares=False),
        "roc": charts.curves(
            "roc", "ROC curves", _thinned(roc), ("false positive rate", "true positive rate"),
            diagonal=True,
            point=(f"threshold {positive['threshold']:.3f}", positive["false_positive_rate"],
                   positive["recall"]) if positive and roc else None,
        ),
        "precision_recall": charts.curves(
            "precision-recall", "Precision-recall curves",
            _thinned(many_classes.precision_recall_curves(labels, probabilities, names)),
            ("recall", "precision"),
        ),
    }  # fmt: skip
    if len(shown) <= charts.SMALL_MATRIX:  # else one matrix takes the page's width
        drawn["confusion_shares"] = charts.confusion(counts, shown, shares=True)
    if positive:
        curves = {name: np.array(points).T for name, points in positive["curve"].items()}
        lines = {name: (x.tolist(), y.tolist()) for name, (x, y) in curves.items()}
        drawn["threshold"] = charts.curves(
            "threshold", "Precision, recall and F1 by threshold", lines,
            ("threshold", f"{positive['class']}, on validation"),
        )  # fmt: skip
    return drawn


def _of_training(history: list[dict[str, str]]) -> dict[str, str]:
    loss = {
        split: ([int(r["step"]) for r in history if r[column]],
                [float(r[column]) for r in history if r[column]])
        for split, column in (("train", "loss"), ("validation", "validation_loss"))
    }  # fmt: skip
    scored = [r for r in history if r["validation_macro_f1"]]
    f1 = [int(r["step"]) for r in scored], [float(r["validation_macro_f1"]) for r in scored]
    return {
        "loss": charts.curves("loss", "Loss by step", loss, ("optimizer step", "cross-entropy, nats")),
        "f1": charts.curves("f1", "Macro-F1 on validation by step", {"macro-F1": f1},
                            ("optimizer step", "macro-F1"), markers=True),
    }  # fmt: skip


def _of_slices(findings: Findings) -> dict[str, str]:
    parts = {f"{kind}: {name} ({part['n']:,})": part
             for kind, group in findings.slices.items() for name, part in group.items()}  # fmt: skip
    return {
        "slices": charts.bars("slices", "Accuracy by slice",
                              {name: part["accuracy"] for name, part in parts.items()}, "accuracy",
                              {name: part["interval"] for name, part in parts.items()}),
        "robustness": charts.bars("robustness", "Accuracy on perturbed texts",
                                  findings.robustness["accuracy"], "accuracy",
                                  findings.robustness["intervals"]),
    }  # fmt: skip


def _of_corpus(findings: Findings) -> dict[str, str]:
    names, corpus = findings.names, findings.corpus
    sizes: dict[str, int] = corpus["classes"]
    by_size = [names[k] for k in largest(list(sizes.values()), len(names))]
    barred = names if len(names) <= SHOWN else [*by_size[:LARGEST], *by_size[-ENDS:]]
    shares = {f"{name} ({sizes[name]:,})": sizes[name] / corpus["documents"] for name in barred}
    top = 1 if len(names) <= SHOWN else max(shares.values())
    drawn = {"classes": charts.bars("classes", "Share of each class", shares,
                                    "share of train and validation", top=top)}  # fmt: skip
    for unit, spread in corpus["length_shares"].items():
        drawn[f"lengths in {unit}"] = charts.curves(
            f"lengths-in-{unit}", f"Documents by their length in {unit}",
            _lengths(spread, sizes, by_size), (unit, "share of the class"),
        )  # fmt: skip
    texts = names if len(names) <= SHOWN else by_size[:LARGEST]
    frequent = {name: corpus["phrases"][name]["frequent"] for name in texts}
    most = max((share for shares in frequent.values() for share in shares.values()), default=0.0)
    coloured = len(names) <= many_classes.CURVES  # else colours would repeat
    for k, (name, of) in enumerate(frequent.items()):
        if of:
            drawn[f"frequent in {name}"] = charts.words(
                f"frequent-{k}", f"Most frequent words in {name}", of,
                charts.SERIES_COLOURS[k] if coloured else charts.ACCENT, most,
            )  # fmt: skip
    agencies = {agency["name"]: agency["by_class"] for agency in corpus["agencies"]}
    if agencies:
        agencies, parts = _largest_parts(agencies, names)
        drawn["agencies"] = charts.stacked(
            "agencies", "Agencies and places by class", agencies, parts, "documents"
        )
    return drawn


def _lengths(spread: dict[str, Any], sizes: dict[str, int], by_size: list[str]) -> Lines:
    """Return the lines of the classes; of many, those of the largest and of all documents."""
    shares: dict[str, list[float]] = spread["shares"]
    if len(shares) <= many_classes.CURVES:
        return {name: (spread["middles"], line) for name, line in shares.items()}
    weights = [sizes[name] for name in shares]
    every = np.average(list(shares.values()), axis=0, weights=weights).tolist()
    chosen = [name for name in by_size if name in shares][:ENDS]
    return {f"all {len(shares):,} classes": (spread["middles"], every)} | {
        name: (spread["middles"], shares[name]) for name in chosen
    }


def _largest_parts(
    rows: dict[str, dict[str, int]], names: list[str]
) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Return counts by row and class, and the classes; of many, the largest ones and all others."""
    if len(names) <= many_classes.CURVES:
        return rows, names
    totals = [sum(of.get(name, 0) for of in rows.values()) for name in names]
    parts = [names[k] for k in largest(totals, many_classes.CURVES - 1)]
    others = f"{len(names) - len(parts):,} other classes"
    return {
        row: {name: of[name] for name in parts if name in of}
        | {others: sum(count for name, count in of.items() if name not in parts)}
        for row, of in rows.items()
    }, [*parts, others]


def _thinned(curves: Mapping[str, many_classes.Curve]) -> Lines:
    points = {name: plot_tables.thinned(*curve) for name, curve in curves.items()}
    return {name: ([x for x, _ in line], [y for _, y in line]) for name, line in points.items()}
