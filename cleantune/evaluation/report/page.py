"""The evaluation page, one HTML file without scripts or external resources, and the model card.

The templates are beside this module. Texts of documents are escaped by Jinja2, and a
Content-Security-Policy forbids every script, so that no document can run code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from cleantune import files
from cleantune.data import class_tables
from cleantune.evaluation import corrected_labels, many_classes
from cleantune.evaluation.confidence_intervals import MIN_DOCUMENTS, Interval
from cleantune.evaluation.explanations import Explanation
from cleantune.evaluation.report import drawn
from cleantune.evaluation.report.findings import Findings, Mistake
from cleantune.evaluation.slices import MIN_GROUP

PAGE = Path("reports/evaluation.html")
CARD = Path("reports/model_card.md")
TEMPLATES = Path(__file__).parent
HEADLINE = (
    ("macro_f1", "Macro-F1"), ("accuracy", "Accuracy"), ("macro_precision", "Macro precision"),
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
    content = asdict(findings) | by_class(findings) | {
        "headline": HEADLINE, "limits": limits(findings), "why": DROPPED, "min_documents": MIN_DOCUMENTS, "min_group": MIN_GROUP,
        "set_rows": set_rows(findings), "few_curves": len(findings.names) > many_classes.CURVES,
    }  # fmt: skip
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined,
        autoescape=jinja2.select_autoescape(["html"]), keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"markdown": markdown, "number": number, "interval": interval,
                            "listed": class_tables.listed, "corrected_in_words": corrected_labels.in_words}  # fmt: skip
    page = environment.get_template("page.html").render(
        content,
        style=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),  # noqa: S704 our own file
        charts=drawn.draw(findings, labels, probabilities, predicted, reliability, history, bins),
        mistakes=[
            {"id": m.id, "label": m.label, "predicted": m.predicted, "confidence": m.confidence,
             "pieces": pieces(m.text, m.explanation)} for m in mistakes
        ],
    )  # fmt: skip
    files.write_text(PAGE, page)
    files.write_text(CARD, environment.get_template("card.md").render(content, md=markdown))


def by_class(findings: Findings) -> dict[str, Any]:
    """Return what the tables by class show: ``averages``, and rows by the classes' names.

    ``shown`` holds captions and names: all classes, or of many the worst and the largest; then ``every``
    has all, the worst first, and ``largest`` those whose texts are shown; else both are as they are.
    """
    names = findings.names
    f1 = [findings.classes[name]["f1"] for name in names]
    sizes = [findings.corpus["classes"][name] for name in names]
    averages = [name for name in findings.classes if name not in names]
    if len(names) <= class_tables.SHOWN:
        return {"averages": averages, "shown": {"": names}, "every": [], "largest": names}
    worst = class_tables.smallest(f1)
    largest = class_tables.largest(sizes)
    order = class_tables.smallest(f1, len(names))
    every = [*order, *(k for k in range(len(names)) if k not in order)]  # without test documents
    return {
        "averages": averages,
        "shown": {"The classes with the lowest F1": [names[k] for k in worst],
                  "The largest classes": [names[k] for k in largest]},
        "every": [names[k] for k in every],
        "largest": [names[k] for k in class_tables.largest(sizes, drawn.LARGEST)],
    }  # fmt: skip


def set_rows(findings: Findings) -> list[str]:
    """Return the classes of the table of prediction sets; of many, those least often in the largest sets."""
    classes: dict[str, dict[str, float]] = findings.confidence["prediction_sets"]["0.95"]["classes"]
    if len(findings.names) <= class_tables.SHOWN:
        return list(classes)
    names = list(classes)
    return [names[k] for k in class_tables.smallest([of["coverage"] for of in classes.values()])]


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
    listed = class_tables.listed(findings.names)
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
