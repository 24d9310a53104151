"""Evaluate the fine-tuned model on the test set, which no other stage learns or selects from.

Run: ``python -m stages.evaluate`` (or ``dvc repro evaluate``).

Headline metrics go to metrics/test.json, which `dvc metrics show`, `dvc metrics diff` and `dvc exp
show` read; intervals, classes, calibration, baselines, slices and robustness to files of their own
beside it; curves to metrics/plots; the report to reports/evaluation.html and the model card to
reports/model_card.md (`tools.export` copies it beside the weights).
"""

from pathlib import Path
from typing import Any

from cleantune import console, files
from cleantune.data import tables
from cleantune.data.statistics import explore_learned_from
from cleantune.errors import UserError
from cleantune.evaluation import (
    earlier_results,
    many_classes,
    metrics,
    plot_tables,
    result_warnings,
    threshold,
)
from cleantune.evaluation.binary import measure_positive
from cleantune.evaluation.calibration import measure_calibration
from cleantune.evaluation.comparison import compare, compare_with_constant, measure_seeds
from cleantune.evaluation.confidence import measure_confidence
from cleantune.evaluation.corrected_labels import measure_corrected
from cleantune.evaluation.predictions import (
    fit_decision,
    predict,
    raise_on_leakage,
    worst_mistakes,
)
from cleantune.evaluation.report import page, printed
from cleantune.evaluation.report.findings import Findings
from cleantune.evaluation.robustness import measure_flipped, measure_robustness
from cleantune.evaluation.slices import measure_gaps, measure_slices
from cleantune.labels import corrections
from cleantune.models import classifier, weights
from cleantune.params.read import read_params

PARAMS = ("seed", "evaluate")
METRICS = Path("metrics")
PLOTS = METRICS / "plots"
VALIDATION_METRICS = ("accuracy", "macro_f1", "nll")  # which a sweep compares
POSITIVE = ("class", "threshold", "precision", "recall", "f1")  # of two classes
LABELS = (
    "action",
    "labels_changed",
    "labels_softened",
    "documents_dropped",
)  # as changed by label_noise
HEADLINE = ("accuracy", "macro_precision", "macro_recall", "macro_f1", "roc_auc_ovr", "nll", "ece")


def main() -> None:
    """Predict validation and test; write metrics, comparisons, plots and the report."""
    params = read_params(PARAMS)
    settings = params.evaluate
    bins = settings.calibration_bins
    console.title("evaluate", "evaluate the fine-tuned model on the test set")

    # Read, and check that the test set is held out
    splits = {
        "train": tables.read_table(tables.LABELS / "train.parquet"),
        "validation": tables.read_table(tables.CLEAN / "validation.parquet"),
        "test": tables.read_table(tables.CLEAN / "test.parquet"),
    }
    dropped = tables.read_table(tables.CLEAN / "dropped.parquet")
    released = tables.read_table(tables.RAW / "test.parquet").set_index("id")
    raise_on_leakage(splits)
    model, names = classifier.load(), tables.label_names()
    if model.labels != names:
        raise UserError(
            f"{model.folder} has the classes {', '.join(model.labels)}, {tables.SOURCE} has "
            f"{', '.join(names)}: the model was trained on another corpus. Run `dvc repro`."
        )
    validation_sha256 = files.sha256(tables.CLEAN / "validation.parquet")
    rule = threshold.from_settings(settings, names, validation_sha256)
    history = plot_tables.read_history(model.folder / "history.csv")
    validation, test = (predict(model, split, splits[split]) for split in ("validation", "test"))

    # Temperature, decision threshold and when to abstain, fitted on validation
    validation, test = fit_decision(rule, validation, test)
    labels, probabilities, predicted = test.labels, test.probabilities, test.predicted

    # Headline metrics with 95 % intervals
    headline, on_validation = test.headline(bins), validation.headline(bins)
    intervals = test.intervals(bins)
    calibration, reliability = measure_calibration(test, bins)
    confidence = measure_confidence(validation, test)
    reviewed = corrections.read_corrections(
        corrections.TEST_CORRECTIONS, released.reset_index(), names, tables.dataset_name()
    )
    by_person = corrections.apply(test.table, reviewed)["label"].to_numpy()
    corrected = measure_corrected(test, by_person, len(reviewed), bins)
    positive = measure_positive(validation, test)
    seeds, decisions = measure_seeds(rule, validation, test, params.seed, model.folder, bins)

    # Paired comparison with the baselines
    about = {k: v["about"] for k, v in files.read_json(tables.BASELINES / "summary.json").items()}
    baselines = compare(rule, list(about), validation, test, bins)

    # Slices of the test set, robustness to perturbed texts, and the worst mistakes
    texts = tables.full_text(test.table)
    as_released = tables.full_text(released.loc[test.table["id"]])
    slices = measure_slices(test, splits["train"], dropped, texts, as_released)
    gaps = measure_gaps(test)
    robustness = measure_robustness(model, test, texts, settings.robustness_documents, params.seed)
    robustness["tfidf_by_share_of_flipped_labels"] = measure_flipped(validation, test)
    mistakes = worst_mistakes(model, test, texts, settings.explained_mistakes)
    label_noise = files.read_json(tables.LABELS / "summary.json")

    # Where the result is bad
    of_model = files.read_json(model.folder / "summary.json")
    counts = metrics.confusion(labels, predicted, len(names))
    commonest = int(splits["train"]["label"].mode()[0])
    constant = compare_with_constant(test, commonest)
    bad = [
        *result_warnings.of_predictions(names, counts, "test"),
        *result_warnings.behind_baselines(headline, baselines),
        *result_warnings.no_better_than_constant(names[commonest], headline, constant),
    ]
    warnings = [
        *bad,
        *result_warnings.too_short(history, len(names), bool(bad)),
        *result_warnings.few_documents(of_model["training_documents"]),
        *result_warnings.of_tokens(tables.token_counts(), "test"),
    ]

    # Write the metrics
    by_class = metrics.by_class(labels, probabilities, predicted, names)
    as_which = many_classes.predicted_as(counts, names)
    detail: dict[str, Any] = {
        "test": {"n": len(labels), "distinct_texts": int(test.groups.max()) + 1}
        | {name: headline[name] for name in HEADLINE}
        | {"augrc": confidence["augrc"]}
        | {"labels": {name: label_noise[name] for name in LABELS if name in label_noise}}
        | ({"positive": {name: positive[name] for name in POSITIVE}} if positive else {})
        | ({"corrected_labels": corrected} if corrected else {}),
        "validation": {"n": len(validation.labels)}
        | {k: on_validation[k] for k in VALIDATION_METRICS},
        "intervals": intervals | ({"positive": positive["intervals"]} if positive else {}),
        "classes": by_class | {n: by_class[n] | {"predicted_as": as_which[n]} for n in names},
        "calibration": calibration,
        "confidence": confidence,
        "baselines": baselines,
        "slices": slices,
        "gaps": gaps,
        "robustness": robustness,
        "seeds": seeds,
    }
    for name, content in detail.items():
        files.write_json(METRICS / f"{name}.json", metrics.rounded(content))
    threshold.write(tables.DECISION, decisions)
    with files.atomic_folder(PLOTS) as folder:
        plot_tables.write_curves(folder, labels, probabilities, predicted, names, bins, reliability)
        plot_tables.write_risk_coverage(folder, test.right, test.confidence)
        plot_tables.write_training(folder, history)
        plot_tables.write_bars(folder, slices, baselines | {"fine-tuned": headline})

    # Write the report and the model card
    findings = Findings(
        names=names, n=len(labels), copied=test.copied, metrics=headline, corrected=corrected,
        intervals=intervals, positive=positive, baselines=baselines, about=about, classes=by_class,
        confusions=many_classes.confusions(counts, names), warnings=warnings,
        calibration=calibration, confidence=confidence, slices=slices, gaps=gaps, robustness=robustness, seeds=seeds,
        model=of_model, source=files.read_json(tables.SOURCE),
        cleaning=files.read_json(tables.CLEAN / "summary.json"),
        label_noise=label_noise,
        sizes={split: len(table) for split, table in splits.items()}, max_length=model.reading.limit,
        corpus=explore_learned_from(splits, names),
        weights_sha256=weights.sha256(model.folder),
    )  # fmt: skip
    page.write(findings, mistakes, labels, probabilities, predicted, reliability, history, bins)
    printed.report(findings)
    earlier = earlier_results.count()
    if earlier and earlier > 1:
        console.say(f"git has results of {earlier:,} models on these test labels (commits and experiments): "
                    "choose by validation, not by the best of them")  # fmt: skip
    console.outputs(METRICS / "test.json", METRICS, PLOTS, tables.DECISION, page.PAGE, page.CARD)
    for line in warnings:
        console.warn(line)


if __name__ == "__main__":
    console.run(main)
