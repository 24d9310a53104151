"""The evaluation page, one HTML file without scripts or external resources, and the model card.

The templates are beside this module. Texts of documents are escaped by Jinja2, and a
Content-Security-Policy forbids every script, so that no document can run code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from cleantune import files
from cleantune.evaluation import metrics, plot_tables
from cleantune.evaluation.confidence_intervals import MIN_DOCUMENTS, Interval
from cleantune.evaluation.explanations import Explanation
from cleantune.evaluation.report import charts

PAGE = Path("reports/evaluation.html")
CARD = Path("reports/model_card.md")
TEMPLATES = Path(__file__).parent
HEADLINE = (
    ("accuracy", "Accuracy"), ("macro_f1", "Macro-F1"), ("macro_precision", "Macro precision"),
    ("macro_recall", "Macro recall"), ("roc_auc_ovr", "ROC-AUC, one-vs-rest"),
    ("nll", "NLL, nats"), ("brier", "Brier score"), ("ece", "Calibration error (ECE)"),
)  # fmt: skip
SHOWN_TEXT = 2_000  # characters of a mistake
DROPPED = {
    "empty": "the text is empty after repair",
    "leak": "a near-duplicate of a test document",
    "in_validation": "a near-duplicate of a validation document",
    "duplicate": "the same text as another document, with the same label",
    "other_label": "the same text as others, most of which have another label",
    "conflicting_labels": "the same text with several labels, none of them in the majority",
    "near_duplicate": "a near-duplicate of an earlier document",
}
"""Why `clean` drops a document of train."""


@dataclass(frozen=True)
class Mistake:
    """A misclassified test document."""

    id: str
    label: str
    predicted: str
    confidence: float
    text: str
    explanation: Explanation


@dataclass(frozen=True)
class Findings:
    """Everything that the report and the model card show."""

    names: list[str]
    n: int
    copied: tuple[int, int]
    """Test documents that are copies of one another, and their number of different texts."""
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    positive: dict[str, Any]
    """Metrics of the positive class; empty with more than two classes."""
    baselines: dict[str, Any]
    about: dict[str, str]
    """A description of each baseline."""
    classes: dict[str, dict[str, float]]
    calibration: dict[str, Any]
    slices: dict[str, dict[str, Any]]
    robustness: dict[str, Any]
    seeds: dict[str, Any]
    model: dict[str, Any]
    """finetune's summary."""
    source: dict[str, Any]
    """download's."""
    cleaning: dict[str, Any]
    """clean's."""
    label_noise: dict[str, Any]
    """label_noise's; nested values are not shown."""
    corpus: dict[str, Any]
    """Statistics of train and validation: `cleantune.data.statistics`."""
    sizes: dict[str, int]
    """Documents by split."""
    max_length: int
    weights_sha256: str
    """Of the evaluated model."""


def write(
    findings: Findings,
    mistakes: Sequence[Mistake],
    labels: np.ndarray,
    probabilities: np.ndarray,
    predicted: np.ndarray,
    reliability: Mapping[str, np.ndarray],
    history: list[dict[str, str]],
    bins: int,
) -> None:
    """Write ``PAGE`` and ``CARD``.

    ``labels`` and ``predicted`` have shape (documents,), ``probabilities`` and those of
    ``reliability``, by temperature, (documents, classes); ``history`` is finetune's.
    """
    content = asdict(findings) | {"headline": HEADLINE, "limits": limits(findings), "why": DROPPED,
                                  "min_documents": MIN_DOCUMENTS}  # fmt: skip
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined,
        autoescape=jinja2.select_autoescape(["html"]), keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"markdown": markdown, "number": number, "interval": interval}
    page = environment.get_template("page.html").render(
        content,
        style=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),  # noqa: S704 our own file
        charts=_charts(findings, labels, probabilities, predicted, reliability, history, bins),
        mistakes=[
            {"id": m.id, "label": m.label, "predicted": m.predicted, "confidence": m.confidence,
             "pieces": pieces(m.text, m.explanation)} for m in mistakes
        ],
    )  # fmt: skip
    files.write_text(PAGE, page)
    files.write_text(CARD, environment.get_template("card.md").render(content, md=markdown))


def number(value: float, form: str = "%.4f") -> str:
    """Return a number as text, a dash where it is undefined (NaN)."""
    return "–" if np.isnan(value) else form % value


def interval(ends: Interval, form: str = "%.4f") -> str:
    """Return an interval as text, a dash where there is none."""
    return " to ".join(form % end for end in ends) if ends else "–"


def markdown(value: object) -> str:
    """Escape what Markdown or HTML would read as more than text, line breaks included."""
    text = " ".join(str(value).split())
    return "".join(f"\\{c}" if c in r"\`*_{}[]<>#|!" else c for c in text)


def limits(findings: Findings) -> list[str]:
    """Return the limits of the model as sentences, from the metrics."""
    listed = ", ".join(findings.names)
    by_f1 = {name: f1 for name in findings.names if (f1 := findings.classes[name]["f1"]) >= 0}
    worst = min(by_f1, key=lambda name: by_f1[name])
    changed = {k: v for k, v in findings.robustness["accuracy"].items() if k != "original"}
    weakest = min(changed, key=lambda name: changed[name])
    return [
        f"Texts of none of the classes {listed}: it always predicts one of them, often with high confidence.",
        "Other languages, periods or kinds of text than those of the corpus: it was not evaluated on them.",
        f"Texts of more than {findings.max_length} tokens: the rest is truncated.",
        f"Decisions in which a wrong {worst} is costly, without review: F1 of this class is {by_f1[worst]:.1%}.",
        f"Texts with this perturbation, {weakest}, without further evaluation: accuracy is {changed[weakest]:.1%} "
        f"against {findings.robustness['accuracy']['original']:.1%}.",
        "Decisions about people, and decisions that need a justification: the highlighted words show what "
        "changed the score, not a cause.",
    ]


def pieces(text: str, explanation: Explanation) -> list[dict[str, Any]]:
    """Split a text into pieces, each with its side ("for", "against", "") and strength."""
    strongest = max((abs(share) for _, _, share in explanation.spans), default=0.0) or 1.0
    result: list[dict[str, Any]] = []
    at = 0
    for start, end, share in explanation.spans:
        if start >= SHOWN_TEXT:
            break
        strength = abs(share) / strongest
        # Fainter highlights would be invisible, and would clutter the page.
        side = "" if strength < 0.12 else "for" if share > 0 else "against"
        result.append({"text": text[at:start], "side": "", "strength": 0})
        result.append({"text": text[start:end], "side": side, "strength": f"{0.6 * strength:.2f}"})
        at = end
    rest = text[at : max(at, SHOWN_TEXT)]
    result.append(
        {"text": rest + ("…" if len(text) > SHOWN_TEXT else ""), "side": "", "strength": 0}
    )
    return [piece for piece in result if piece["text"]]


def _charts(
    findings: Findings, labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray,
    scaled: Mapping[str, np.ndarray], history: list[dict[str, str]], bins: int,
) -> dict[str, Markup]:  # fmt: skip
    names = findings.names
    counts = metrics.confusion(labels, predicted, len(names))
    against_rest = [(name, labels == k, probabilities[:, k]) for k, name in enumerate(names)
                    if (labels == k).any()]  # fmt: skip
    positive = findings.positive  # of two classes one ROC curve is enough: the other mirrors it
    roc = [(n, p, s) for n, p, s in against_rest
           if not p.all() and (not positive or n == positive["class"])]  # fmt: skip
    loss = {
        split: ([int(r["step"]) for r in history if r[column]],
                [float(r[column]) for r in history if r[column]])
        for split, column in (("train", "loss"), ("validation", "validation_loss"))
    }  # fmt: skip
    scored = [r for r in history if r["validation_macro_f1"]]
    f1 = [int(r["step"]) for r in scored], [float(r["validation_macro_f1"]) for r in scored]
    reliability = {}
    for kind, values in scaled.items():
        share, confidence, accuracy = metrics.reliability(labels, values, predicted, bins)
        reliability[kind] = confidence[share > 0].tolist(), accuracy[share > 0].tolist()
    accuracies = {name: b["accuracy"] for name, b in findings.baselines.items()}
    drawn = {
        "baselines": charts.bars(
            "baselines", "Test accuracy of each model",
            accuracies | {"fine-tuned": findings.metrics["accuracy"]}, "accuracy",
            {"fine-tuned": findings.intervals["accuracy"]},
        ),
        "confusion": charts.confusion(counts, names, shares=False),
        "confusion_shares": charts.confusion(counts, names, shares=True),
        "roc": charts.curves(
            "roc", "ROC curves", {n: _thinned(*metrics.roc_curve(p, s)) for n, p, s in roc},
            ("false positive rate", "true positive rate"), diagonal=True,
            point=(f"threshold {positive['threshold']:.3f}", positive["false_positive_rate"],
                   positive["recall"]) if positive and roc else None,
        ),
        "precision_recall": charts.curves(
            "precision-recall", "Precision-recall curves",
            {n: _thinned(*metrics.precision_recall_curve(p, s)) for n, p, s in against_rest},
            ("recall", "precision"),
        ),
        "reliability": charts.curves(
            "reliability", "Reliability diagram", reliability,
            ("mean confidence", "accuracy"), diagonal=True, markers=True,
        ),
        "loss": charts.curves("loss", "Loss by step", loss, ("optimizer step", "cross-entropy, nats")),
        "f1": charts.curves("f1", "Macro-F1 on validation by step", {"macro-F1": f1},
                            ("optimizer step", "macro-F1"), markers=True),
        "slices": charts.bars("slices", "Accuracy by slice", {
            f"{kind}: {name} ({part['n']:,})": part["accuracy"]
            for kind, group in findings.slices.items() for name, part in group.items()
        }, "accuracy", {
            f"{kind}: {name} ({part['n']:,})": part["interval"]
            for kind, group in findings.slices.items() for name, part in group.items()
        }),
        "robustness": charts.bars("robustness", "Accuracy on perturbed texts",
                                  findings.robustness["accuracy"], "accuracy",
                                  findings.robustness["intervals"]),
        "classes": charts.bars("classes", "Share of each class", {
            f"{name} ({count:,})": count / findings.corpus["documents"]
            for name, count in findings.corpus["classes"].items()
        }, "share of train and validation"),
    }  # fmt: skip
    for unit, spread in findings.corpus["length_shares"].items():
        drawn[f"lengths in {unit}"] = charts.curves(
            f"lengths-in-{unit}", f"Documents by their length in {unit}",
            {name: (spread["middles"], shares) for name, shares in spread["shares"].items()},
            (unit, "share of the class"),
        )  # fmt: skip
    frequent = {name: of["frequent"] for name, of in findings.corpus["phrases"].items()}
    most = max((share for shares in frequent.values() for share in shares.values()), default=0.0)
    for k, (name, shares) in enumerate(frequent.items()):
        if shares:
            drawn[f"frequent in {name}"] = charts.words(
                f"frequent-{k}", f"Most frequent words in {name}", shares, k, most
            )
    agencies = {agency["name"]: agency["by_class"] for agency in findings.corpus["agencies"]}
    if agencies:
        drawn["agencies"] = charts.stacked(
            "agencies", "Agencies and places by class", agencies, names, "documents"
        )
    flipped = findings.robustness["tfidf_by_share_of_flipped_labels"]
    if flipped:
        line = {"tfidf": ([float(share) for share in flipped], list(flipped.values()))}
        drawn["flipped"] = charts.curves(
            "flipped", "Accuracy of TF-IDF by share of flipped labels", line,
            ("share of training labels flipped", "accuracy"), markers=True,
        )  # fmt: skip
    if positive:
        curves = {name: np.array(points).T for name, points in positive["curve"].items()}
        lines = {name: (x.tolist(), y.tolist()) for name, (x, y) in curves.items()}
        drawn["threshold"] = charts.curves(
            "threshold", "Precision, recall and F1 by threshold", lines,
            ("threshold", f"{positive['class']}, on validation"),
        )  # fmt: skip
    return {name: Markup(svg) for name, svg in drawn.items()}  # noqa: S704 drawn by charts, names escaped


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[list[float], list[float]]:
    points = plot_tables.thinned(x, y)
    return [a for a, _ in points], [b for _, b in points]
