"""Estimate the label noise, flag labels that are probably wrong, write the page to review them.

Run: ``python -m stages.label_noise`` (or ``dvc repro label_noise``).

Out-of-fold predictions of the label models, with near-duplicates kept in one fold, give each label a
quality and estimate the noise rate (cleantune/labels/confident_learning.py). Flagged are as many labels
as the noise rate implies, and at least those that the predictions contradict;
reports/label_review.html shows them. Labels change only by ``label_noise.action``.
"""

import numpy as np
import pandas as pd

from cleantune import console, files
from cleantune.data import class_tables, tables
from cleantune.errors import UserError
from cleantune.labels import confident_learning as lq
from cleantune.labels import corrections, issue_types, label_models, noise_rate
from cleantune.labels.review_page import neighbours, page
from cleantune.params.read import read_params
from cleantune.training import checkpoints

PARAMS = ("seed", "label_noise")
TRAIN = tables.CLEAN / "train.parquet"
ROUNDS = 2  # the second fits on the probabilities of the first
RELABEL_THRESHOLD = 0.5  # P(error) above which actions apply: below, they would do more harm
MIN_KAPPA = 0.37  # Cohen's kappa; random and entirely wrong labels stay below it (tested)


def main() -> None:
    """Read the clean training documents, score their labels, write the training set."""
    params = read_params(PARAMS)
    settings = params.label_noise
    console.title("label_noise", "find labels that are probably wrong")
    train = tables.read_table(TRAIN)
    names, dataset = tables.label_names(), tables.dataset_name()
    raw = tables.read_table(tables.RAW / "train.parquet", tables.TEXT_COLUMNS)
    reviewed = corrections.read_corrections(corrections.CORRECTIONS, raw, names, dataset)
    console.say(f"read {len(train):,} documents from {TRAIN}, {len(reviewed):,} reviewed labels")

    # ---- out-of-fold predictions
    classes, given = np.unique(train["label"].to_numpy(), return_inverse=True)
    known = train["id"].isin(reviewed["id"]).to_numpy()  # reviewed labels are taken as true
    fold = lq.fold_numbers(given, train["group"], settings.folds, params.seed)
    texts = tables.full_text(train)
    models, vectors = label_models.build(texts, given, fold, settings, params.seed)
    prior = lq.class_prior(given, settings.prior)
    with console.Bar("models fitted", ROUNDS * len(models) * settings.folds) as bar:
        rounds = lq.true_label_probabilities(models, given, prior, fold, known, ROUNDS, bar.advance)
    rounds = [each.round(6) for each in rounds]  # the last bits depend on the number of threads
    probabilities = lq.average_rounds(rounds, prior).round(6)

    # ---- noise rate and flagged labels
    posterior = noise_rate.posterior(probabilities, given)
    own = np.arange(len(given)), given
    rank = np.where(known, 1, posterior[own].round(6))
    rate = noise_rate.NoiseRate(0, 0, 0)
    wrong, flagged = np.zeros(len(given)), np.zeros(len(given), bool)
    best = probabilities.argmax(axis=1)
    if not known.all():
        rate = noise_rate.noise_rate([each[~known] for each in rounds], given[~known])
        wrong[~known] = noise_rate.error_probability(rank[~known], rate.estimate)
        # the noise rate may be too low: every label that the predictions contradict is flagged too
        contradicted = int((best != given)[~known].sum())
        flagged[~known] = noise_rate.flagged_labels(
            rank[~known], wrong[~known], settings.precision, contradicted
        )
    precision = float(wrong[flagged].mean()) if flagged.any() else None  # expected
    second = np.where(np.eye(len(classes), dtype=bool)[given], -1, probabilities).argmax(axis=1)
    calibrated = noise_rate.calibrated(posterior, given, wrong).round(6)

    # ---- act on the flagged labels
    likely = flagged & (wrong > RELABEL_THRESHOLD)
    result = act(train, classes[best], calibrated[own], likely, settings.action)
    # only in the first round does no document's own label leak into its prediction
    kappa = noise_rate.cohen_kappa(rounds[0], given)
    check(train, result, kappa, settings.action)
    changed = int((result["label"] != train["label"].loc[result.index]).sum())

    # ---- other issues that cleanlab finds
    issue_table = issue_types.find_issue_types(given, probabilities, vectors, params.seed)

    # ---- write
    full = np.zeros((len(train), len(names)))
    full[:, classes] = calibrated
    shares = pd.DataFrame(full, columns=[f"p_{name}" for name in names], index=train.index)
    suggested = classes[np.where(flagged, second, given)]
    issues = train[["id"]].assign(given=classes[given], suggested=suggested, quality=calibrated[own],
                                  flagged=flagged, fold=fold).join(shares)  # fmt: skip
    present = [names[i] for i in classes]
    matrix = noise_rate.transition_matrix(calibrated, given).round(3).tolist()
    summary = {
        "documents": len(train),
        "flagged": int(flagged.sum()),
        "noise_rate": round(rate.estimate, 4),
        "noise_rate_from": round(rate.lower, 4),
        "noise_rate_to": round(rate.upper, 4),
        "flagged_p_error_over_half": int(likely.sum()),
        "expected_precision": None if precision is None else round(precision, 4),
        "prior": dict(zip(present, prior.round(4).tolist(), strict=True)),
        "model": settings.model,
        "action": settings.action,
        "documents_out": len(result),
        "documents_dropped": len(train) - len(result),
        "labels_changed": changed,
        "reviewed": int(known.sum()),
        "issue_types": issue_types.counts(issue_table),
        # true class: given label: share
        "transition": {
            present[i]: dict(zip(present, row, strict=True)) for i, row in enumerate(matrix)
        },
    }
    with files.atomic_folder(tables.LABELS) as folder:
        columns = (*tables.TEXT_COLUMNS, "group", "weight")
        tables.write_table(folder / "train.parquet", result, columns)
        order = np.lexsort((train["id"], rank))  # the lowest label quality first
        issue_table = issue_table.assign(id=train["id"].to_numpy())
        for name, table in (("issues", issues), ("issue_types", issue_table)):
            listed = ("id", *(column for column in table if column != "id"))
            tables.write_table(folder / f"{name}.parquet", table.iloc[order], listed)
        files.write_json(folder / "summary.json", summary)

    # ---- the page to review flagged labels, with the most probable other label of each
    rows = np.flatnonzero(flagged)
    rows = rows[np.argsort(rank[rows], kind="stable")]
    near = (neighbours.by_words(texts, rows) if vectors is None
            else neighbours.by_vectors(vectors, rows))  # fmt: skip
    reasons = issue_types.in_words(issue_table, rows, train["id"].to_list())
    listed_labels = page.FlaggedLabels(
        rows, classes[second[rows]], calibrated[own][rows], full[rows], *near, reasons
    )
    page.write_page(page.PAGE, dataset, names, train, raw, listed_labels, reviewed)
    checkpoints.Checkpoints("label_noise", "").discard()  # folds of the fine-tuned label model
    show(present, given[rows], second[rows], np.bincount(given))
    issue_types.show(issue_table)
    if kappa >= MIN_KAPPA:
        shares = [f"{name} {share:.0%}" for name, share in zip(present, prior, strict=True)]
        console.say(f"estimated noise rate: {rate.estimate:.1%} (95 % interval {rate.lower:.1%} to "
                    f"{rate.upper:.1%}), for the class prior {class_tables.listed(shares)}; "
                    "errors in ambiguous documents do not show")  # fmt: skip
    if kappa >= MIN_KAPPA and precision is not None:
        console.say(f"flagged labels: {flagged.sum():,}, {likely.sum():,} of them with P(error) > {RELABEL_THRESHOLD}; "
                    f"mean P(error) {precision:.0%} (a model's estimate, not verified)")  # fmt: skip
    console.say(f"action {settings.action}: " + outcome(settings.action, changed,
                len(train) - len(result), int(flagged.sum())))  # fmt: skip
    console.outputs(tables.LABELS, page.PAGE)


def act(
    train: pd.DataFrame, best: lq.Ints, quality: lq.Floats, likely: lq.Mask, action: str
) -> pd.DataFrame:
    """Return the training set: only ``drop`` removes rows, and only those in ``likely`` (n,).

    ``best`` (n,) is the most probable label, which may be the given one; ``quality`` (n,) is the
    label quality, as in issues.parquet.
    """
    result = train.assign(weight=quality if action == "weight" else 1.0)
    if action == "drop":
        return result[~likely]
    if action == "relabel":
        result["label"] = np.where(likely, best, train["label"])
    return result


def check(train: pd.DataFrame, result: pd.DataFrame, kappa: float, action: str) -> None:
    """Raise ``UserError``, before anything is written, where the action would do more harm than good.

    Models cannot detect wrong labels where labels and texts are hardly related.
    """
    way_out = (
        "Check `columns` and `labels` of the dataset in params.yaml; to see the flagged labels "
        "without acting on them: -S label_noise.action=keep."
    )
    if kappa < MIN_KAPPA:
        problem = (
            f"The labels in {TRAIN} are hardly related to the texts, or there are too few texts: "
            "out-of-fold predictions agree with the labels little better than chance "
            f"(Cohen's kappa {kappa:.2f})"
        )
        if action != "keep":
            raise UserError(
                f"{problem}. label_noise.action: {action} would be arbitrary. {way_out}"
            )
        console.say(f"{problem}: the flagged labels are unreliable")
    missing = set(train["label"]) - set(result["label"])
    if missing:
        raise UserError(
            f"label_noise.action: {action} would leave no document of class "
            f"{', '.join(map(str, sorted(missing)))} in {TRAIN}. {way_out}"
        )


def outcome(action: str, changed: int, dropped: int, flagged: int) -> str:
    """Return a sentence on what was done with the flagged labels."""
    done = {
        "keep": "nothing changed",
        "drop": f"{dropped:,} documents dropped",
        "relabel": f"{changed:,} labels changed",
        "weight": "no label changed; documents are weighted by label quality",
    }[action]
    return f"{done}; flagged labels to review: {flagged:,} (make review)" if flagged else done


def show(names: list[str], given: lq.Ints, other: lq.Ints, sizes: lq.Ints) -> None:
    """Print the number of flagged labels of each class, by suggested label."""
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (given, other), 1)
    caption = "flagged labels by given and suggested label"
    columns = ["given", "documents", *(f"→ {name}" for name in names)]
    rows = [[name, int(sizes[i]), *map(int, counts[i])] for i, name in enumerate(names)]
    if class_tables.fits(columns, rows):
        console.table(caption, columns, rows)
    else:
        pair = ("given", "suggested", "flagged", "documents given")
        class_tables.print_pairs(caption, pair, names, counts, sizes)


if __name__ == "__main__":
    console.run(main)
