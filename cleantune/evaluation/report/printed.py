"""The console's summary of an evaluation; every table fits 80 columns."""

from typing import Any

from cleantune import console
from cleantune.data import class_tables
from cleantune.evaluation import corrected_labels
from cleantune.evaluation.confidence_intervals import POWER, Interval
from cleantune.evaluation.report.findings import Findings
from cleantune.evaluation.report.page import HEADLINE, interval, number
from cleantune.evaluation.slices import EMPTY


def report(findings: Findings) -> None:
    """Print the headline metrics, classes, confusions, the comparison with baselines, and the seeds."""
    console.table(f"test, {findings.n:,} documents", ("metric", "value", "95 % interval"), (
        (name, number(findings.metrics[name]), interval(findings.intervals[name]))
        for name, _ in HEADLINE
    ))  # fmt: skip
    present, classes = findings.classes["(macro)"]["classes"], len(findings.names)
    if present < classes:
        console.say(
            f"macro averages and ROC-AUC are over the {present} of {classes} classes with test documents"
        )
    if findings.corrected:
        console.say(corrected_labels.in_words(findings.corrected, findings.metrics))
    if findings.copied[0]:
        console.say("{:,} test documents are copies of one another, {:,} different texts; intervals and "
                    "tests count each text once".format(*findings.copied))  # fmt: skip
    if empty := findings.slices["test set"].get(EMPTY):
        without = findings.slices["test set"].get(f"without {EMPTY}")
        console.say(f"{empty['n']:,} test documents are empty or nearly so"
                    + (f"; accuracy without them {number(without['accuracy'])}" if without else ""))  # fmt: skip
    _by_class(findings)
    if positive := findings.positive:
        console.table(f"class {positive['class']}, decision threshold {positive['threshold']:.3f}",
                      ("metric", "validation", "test", "95 % interval"), (
            (name, number(positive["validation"][name]), number(positive[name]), interval(ends))
            for name, ends in positive["intervals"].items()
        ))  # fmt: skip
    ahead = "ahead by, points"
    console.table("comparison with the baselines, 95 % intervals",
                  ("baseline", "macro-F1", ahead, "accuracy", ahead, "p, Holm"), (
        (name, number(b["macro_f1"]), _points(b["model_ahead_by"]["macro_f1"]), number(b["accuracy"]),
         _points(b["model_ahead_by"]["accuracy"]), f"{b['holm_p']:.2g}")
        for name, b in findings.baselines.items()
    ))  # fmt: skip
    _detectable(findings.baselines)
    calibration = findings.calibration
    before, after = calibration["before"], calibration["after"]
    console.say(
        f"temperature {calibration['temperature']:.3f} fitted on validation, "
        f"{'applied' if calibration['applied'] else 'not applied: no clear gain there'}; on test it changes "
        f"NLL from {before['nll']:.4f} to {after['nll']:.4f}, ECE from {before['ece']:.4f} to {after['ece']:.4f}"
    )
    _confidence(findings.confidence)
    if "ensemble" in findings.seeds:
        _seeds(findings.seeds)


def _detectable(baselines: dict[str, Any]) -> None:
    known = {k: b for k, b in baselines.items() if b["detectable_difference"] is not None}
    if known:
        best = max(known, key=lambda name: known[name]["macro_f1"])
        console.say(
            f"the smallest difference in accuracy to {best} that McNemar's test finds with a probability "
            f"of {POWER:.0%}: {100 * known[best]['detectable_difference']:.1f} points"
        )


def _confidence(of: dict[str, Any]) -> None:
    """Print when the model abstains, and what its prediction sets contain."""
    test, required = of["test"], f"{of['required_accuracy']:.1%}"
    if of["threshold"] is None:
        shown = f"; it shows {of['highest_accuracy']:.0%}" if of["highest_accuracy"] else ""
        console.say(f"validation shows of no confidence that {required} of the answers above it are "
                    f"right (evaluate.answer_accuracy){shown}")  # fmt: skip
    else:
        console.say(f"abstaining below a confidence of {of['threshold']:.4f}, fitted on validation for "
                    f"{required} right: {test['answered']:.1%} of test answered, {number(test['accuracy'])} "
                    f"of the answers right ({interval(test['interval'])})")  # fmt: skip
    sets = (f"{float(level):.0%}: label in {each['coverage']:.1%}, {each['mean_size']:.2f} classes"
            for level, each in of["prediction_sets"].items())  # fmt: skip
    console.say(f"prediction sets: {'; '.join(sets)}")


def _by_class(findings: Findings) -> None:
    """Print all classes, or of many the worst and the largest; then the commonest confusions."""
    names = findings.names
    short = class_tables.shortened(names)
    rows = [(short[k], int(row["n"]), *(number(row[column]) for column in ("precision", "recall", "f1")))
            for k, row in ((k, findings.classes[name]) for k, name in enumerate(names))]  # fmt: skip
    columns = ("class", "documents", "precision", "recall", "F1")
    if len(names) <= class_tables.SHOWN:
        console.table("by class", columns, rows)
    else:
        worst = class_tables.smallest([findings.classes[name]["f1"] for name in names])
        largest = class_tables.largest([findings.classes[name]["n"] for name in names])
        console.table("the classes with the lowest F1", columns, [rows[k] for k in worst])
        console.table("the largest classes", columns, [rows[k] for k in largest])
        console.say(f"all {len(names):,} classes: metrics/classes.json and the report page")
    if len(names) > 2 and findings.confusions:
        short = class_tables.shortened(names, 22)
        by_name = dict(zip(names, short, strict=True))
        console.table("the commonest confusions", ("label", "predicted", "documents", "of the label"), (
            (by_name[c["label"]], by_name[c["predicted"]], c["n"], f"{c['share']:.1%}")
            for c in findings.confusions
        ), prose=("predicted",))  # fmt: skip


def _points(ends: Interval) -> str:
    """Return the interval of a difference in percentage points."""
    return interval(ends and [100 * end for end in ends], "%+.1f")


def _seeds(seeds: dict[str, Any]) -> None:
    parts = []
    for name, label in (("macro_f1", "macro-F1"), ("accuracy", "accuracy")):
        mean, deviation, ensemble = (
            seeds[k][name] for k in ("mean", "standard_deviation", "ensemble")
        )
        parts.append(f"{label} {mean:.4f} ± {deviation:.4f}; ensemble "
                     f"{ensemble:.4f} ({interval(seeds['ensemble_intervals'][name])})")  # fmt: skip
    console.say(f"{len(seeds['seeds'])} seeds: {'; '.join(parts)}")
