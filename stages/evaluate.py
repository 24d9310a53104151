"""Measure the fine-tuned model on the test documents, from which nothing was learnt or chosen.

Run: ``python -m stages.evaluate`` (or ``dvc repro evaluate``).

Headline figures go to metrics/test.json, which `dvc metrics show`, `dvc metrics diff` and `dvc exp
show` read; intervals, classes, calibration, baselines, slices and robustness to files of their own
beside it; curves to metrics/plots; all of it in words and pictures to reports/evaluation.html and
the model card, reports/model_card.md (`tools.export` puts it beside the weights).
"""

from pathlib import Path
from typing import Any

from cleantune import console, files
from cleantune.data import tables
from cleantune.data.statistics import explore_learned_from
from cleantune.errors import UserError
from cleantune.evaluation import metrics, plot_tables, threshold
from cleantune.evaluation.binary import measure_positive
from cleantune.evaluation.calibration import measure_calibration
from cleantune.evaluation.comparison import compare, measure_seeds
from cleantune.evaluation.predictions import decide, predict, refuse_overlap, worst_mistakes
from cleantune.evaluation.report import page
from cleantune.evaluation.robustness import measure_flipped, measure_robustness
from cleantune.evaluation.slices import measure_slices
from cleantune.models import classifier
from cleantune.params.read import read_params

PARAMS = ("seed", "evaluate")
METRICS = Path("metrics")
PLOTS = METRICS / "plots"
CHOSEN_BY = ("accuracy", "macro_f1", "nll")  # what a sweep compares, on validation
POSITIVE = ("class", "threshold", "precision", "recall", "f1")  # of two classes
LABELS = ("action", "labels_changed", "documents_dropped")  # what label_noise made of them
HEADLINE = ("accuracy", "macro_precision", "macro_recall", "macro_f1", "roc_auc_ovr", "nll", "ece")


def main() -> None:
    """Predict validation and test, then measure, compare, take apart, and write it all down."""
    params = read_params(PARAMS)
    settings = params.evaluate
    bins = settings.calibration_bins
    console.title("evaluate", "measure the fine-tuned model on documents it has never seen")

    # Read, and make sure that the test is one
    splits = {
        "train": tables.read_table(tables.LABELS / "train.parquet"),
        "validation": tables.read_table(tables.CLEAN / "validation.parquet"),
        "test": tables.read_table(tables.CLEAN / "test.parquet"),
    }
    dropped = tables.read_table(tables.CLEAN / "dropped.parquet")
    released = tables.read_table(tables.RAW / "test.parquet").set_index("id")
    refuse_overlap(splits)
    model, names = classifier.load(), tables.label_names()
    if model.labels != names:
        raise UserError(
            f"{model.folder} knows the classes {', '.join(model.labels)}, {tables.SOURCE} "
            f"{', '.join(names)}: the model is of another corpus. Run `dvc repro`."
        )
    validation_sha256 = files.sha256(tables.CLEAN / "validation.parquet")
    rule = threshold.asked(settings, names, validation_sha256)
    history = plot_tables.read_history(model.folder / "history.csv")
    validation, test = (predict(model, split, splits[split]) for split in ("validation", "test"))

    # How classes and probabilities follow from scores: chosen on validation
    validation, test = decide(rule, validation, test)
    labels, probabilities, predicted = test.labels, test.probabilities, test.predicted

    # Headline figures with 95 % intervals
    figures, on_validation = test.headline(bins), validation.headline(bins)
    intervals = test.intervals(bins)
    calibration, reliability = measure_calibration(test, bins)
    positive = measure_positive(validation, test)
    seeds, decided = measure_seeds(rule, validation, test, params.seed, model.folder, bins)

    # Against the baselines, document by document
    about = {k: v["about"] for k, v in files.read_json(tables.BASELINES / "summary.json").items()}
    baselines = {name: compare(rule, name, validation, test, bins) for name in about}

    # Parts of the test set, texts as they come in elsewhere, and what goes wrong
    texts = tables.full_text(test.table)
    as_released = tables.full_text(released.loc[test.table["id"]])
    slices = measure_slices(test, splits["train"], dropped, texts, as_released)
    robustness = measure_robustness(model, test, texts, settings.robustness_documents, params.seed)
    robustness["tfidf_by_share_of_flipped_labels"] = measure_flipped(validation, test)
    mistakes = worst_mistakes(model, test, texts, settings.explained_mistakes)
    learned = files.read_json(tables.LABELS / "summary.json")

    # Write the figures
    detail: dict[str, Any] = {
        "test": {"n": len(labels), "distinct_texts": int(test.groups.max()) + 1}
        | {name: figures[name] for name in HEADLINE}
        | {"labels": {name: learned[name] for name in LABELS}}
        | ({"positive": {name: positive[name] for name in POSITIVE}} if positive else {}),
        "validation": {"n": len(validation.labels)} | {k: on_validation[k] for k in CHOSEN_BY},
        "intervals": intervals | ({"positive": positive["intervals"]} if positive else {}),
        "classes": metrics.by_class(labels, probabilities, predicted, names),
        "calibration": calibration,
        "baselines": baselines,
        "slices": slices,
        "robustness": robustness,
        "seeds": seeds,
    }
    for name, content in detail.items():
        files.write_json(METRICS / f"{name}.json", metrics.rounded(content))
    threshold.write(tables.DECISION, decided)
    with files.atomic_folder(PLOTS) as folder:
        plot_tables.write_curves(folder, labels, probabilities, predicted, names, bins, reliability)
        plot_tables.write_training(folder, history)
        accuracies = {name: b["accuracy"] for name, b in baselines.items()}
        accuracies["fine-tuned"] = figures["accuracy"]
        plot_tables.write_bars(folder, slices, accuracies)

    # Write the page and the model card
    findings = page.Findings(
        names=names, n=len(labels), copied=test.copied, figures=figures,
        intervals=intervals, positive=positive, baselines=baselines, about=about, classes=detail["classes"],
        calibration=calibration, slices=slices, robustness=robustness, seeds=seeds,
        model=files.read_json(model.folder / "summary.json"),
        source=files.read_json(tables.SOURCE),
        cleaning=files.read_json(tables.CLEAN / "summary.json"),
        label_noise=learned,
        sizes={split: len(table) for split, table in splits.items()}, max_length=model.max_length,
        corpus=explore_learned_from(splits, names),
        weights_sha256=files.sha256(model.folder / threshold.WEIGHTS),
    )  # fmt: skip
    page.write(findings, mistakes, labels, probabilities, predicted, reliability, history, bins)
    report(findings)
    console.outputs(METRICS / "test.json", METRICS, PLOTS, tables.DECISION, page.PAGE, page.CARD)


def report(found: page.Findings) -> None:
    """Print the headline figures, the comparison with the baselines, and what several seeds say."""
    number, interval, calibration = page.number, page.interval, found.calibration
    console.table(f"test, {found.n:,} documents", ("figure", "value", "95 % interval"), (
        (name, number(value), interval(found.intervals[name]))
        for name, value in found.figures.items()
    ))  # fmt: skip
    here, classes = found.classes["(macro)"]["classes"], len(found.names)
    if here < classes:
        console.say(
            f"macro values and ROC-AUC: over the {here} of {classes} classes with test documents"
        )
    if found.copied[0]:
        console.say("{:,} test documents are copies of one another, {:,} different texts: one piece of evidence "
                    "each for intervals and tests".format(*found.copied))  # fmt: skip
    if positive := found.positive:
        console.table(f"{positive['class']} where its probability is over {positive['threshold']:.3f}",
                      ("figure", "validation", "test", "95 % interval"), (
            (name, number(positive["validation"][name]), number(positive[name]), interval(ends))
            for name, ends in positive["intervals"].items()
        ))  # fmt: skip
    console.table("against the baselines", ("baseline", "accuracy", "model ahead by", "McNemar p"), (
        (name, number(b["accuracy"]), interval(b["model_ahead_by"]["accuracy"], "%+.4f"),
         f"{b['mcnemar_p']:.2g}") for name, b in found.baselines.items()
    ))  # fmt: skip
    before, after = calibration["before"], calibration["after"]
    console.say(
        f"temperature {calibration['temperature']:.3f} tried on validation, "
        f"{'taken' if calibration['taken'] else 'not taken: no clear gain there'}; on test it takes "
        f"NLL from {before['nll']:.4f} to {after['nll']:.4f}, ECE from {before['ece']:.4f} to {after['ece']:.4f}"
    )
    if "together" in found.seeds:
        mean, spread, whole = (
            found.seeds[k]["accuracy"] for k in ("mean", "standard_deviation", "together")
        )
        console.say(f"{len(found.seeds['seeds'])} seeds: accuracy {mean:.4f} ± {spread:.4f}; together "
                    f"{whole:.4f} ({interval(found.seeds['together_intervals']['accuracy'])})")  # fmt: skip


if __name__ == "__main__":
    console.run(main)
