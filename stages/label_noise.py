"""Find the labels that are probably wrong, rank them, and show them to a person.

Run: ``python -m stages.label_noise`` (or ``dvc repro label_noise``).

Every training document is judged by models that have not seen it, with near-duplicates kept in
one fold (cleantune/labels/confident_learning.py). That gives each label a quality, and the share of wrong
labels an estimate. Flagged are as many labels as that share says, and at least as many as the models
contradict. reports/label_review.html shows these to a person. Nothing is changed unless
``label_noise.action`` asks for it.
"""

import numpy as np
import pandas as pd

from cleantune import console, files
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.labels import confident_learning as lq
from cleantune.labels import corrections, issue_types, label_models, noise_rate
from cleantune.labels.review_page import neighbours, page
from cleantune.params.read import read_params
from cleantune.training import checkpoints

READS = ("seed", "label_noise")
TRAIN = tables.CLEAN / "train.parquet"
ROUNDS = 2  # the second fits on what the first found
LIKELY = 0.5  # probability that a label is wrong; a change of one more likely right does harm
UNRELATED = 0.37  # Cohen's kappa; random and wholly wrong labels do not reach it (tested)


def main() -> None:
    """Read the clean training documents, judge their labels, write what training will use."""
    params = read_params(READS)
    settings = params.label_noise
    console.title("label_noise", "find labels that are probably wrong")
    train = tables.read_table(TRAIN)
    names, dataset = tables.label_names(), tables.dataset_name()
    raw = tables.read_table(tables.RAW / "train.parquet", tables.TEXT_COLUMNS)
    reviewed = corrections.read_corrections(corrections.CORRECTIONS, raw, names, dataset)
    console.say(f"read {len(train):,} documents from {TRAIN}, {len(reviewed):,} reviewed labels")

    # ---- judge each document by models that have not seen it
    classes, given = np.unique(train["label"].to_numpy(), return_inverse=True)
    known = train["id"].isin(reviewed["id"]).to_numpy()  # a person's word stands
    fold = lq.fold_numbers(given, train["group"], settings.folds, params.seed)
    texts = tables.full_text(train)
    views, vectors = label_models.look(texts, given, fold, settings, params.seed)
    prior = lq.class_prior(given, settings.prior)
    with console.Bar("models fitted", ROUNDS * len(views) * settings.folds) as bar:
        rounds = lq.true_label_probabilities(views, given, prior, fold, known, ROUNDS, bar.advance)
    rounds = [found.round(6) for found in rounds]  # the last bits depend on the number of threads
    probabilities = lq.over_rounds(rounds, prior).round(6)

    # ---- how many labels are wrong, and which
    posterior = noise_rate.posterior(probabilities, given)
    own = np.arange(len(given)), given
    rank = np.where(known, 1, posterior[own].round(6))
    rate = noise_rate.NoiseRate(0, 0, 0)
    wrong, suspect = np.zeros(len(given)), np.zeros(len(given), bool)
    best = probabilities.argmax(axis=1)
    if not known.all():
        rate = noise_rate.noise_rate([found[~known] for found in rounds], given[~known])
        wrong[~known] = noise_rate.error_probability(rank[~known], rate.estimate)
        # a rate that misses errors must not hide them: a person looks at every contradicted label
        contradicted = int((best != given)[~known].sum())
        suspect[~known] = noise_rate.suspects(
            rank[~known], wrong[~known], settings.precision, contradicted
        )
    precision = float(wrong[suspect].mean()) if suspect.any() else None  # expected
    second = np.where(np.eye(len(classes), dtype=bool)[given], -1, probabilities).argmax(axis=1)
    honest = noise_rate.calibrated(posterior, given, wrong).round(6)

    # ---- act on the suspects
    likely = suspect & (wrong > LIKELY)
    result = act(train, classes[best], honest[own], likely, settings.action)
    # the first round alone has no trace of a document's own label
    kappa = noise_rate.agreement(rounds[0], given)
    check(train, result, kappa, settings.action)
    changed = int((result["label"] != train["label"].loc[result.index]).sum())

    # ---- what cleanlab notices beside
    noticed = issue_types.find_issue_types(given, probabilities, vectors, params.seed)

    # ---- write
    full = np.zeros((len(train), len(names)))
    full[:, classes] = honest
    shares = pd.DataFrame(full, columns=[f"p_{name}" for name in names], index=train.index)
    suggested = classes[np.where(suspect, second, given)]
    issues = train[["id"]].assign(given=classes[given], suggested=suggested, quality=honest[own],
                                  suspect=suspect, fold=fold).join(shares)  # fmt: skip
    said = [names[i] for i in classes]
    matrix = noise_rate.transition(honest, given).round(3).tolist()
    summary = {
        "documents": len(train),
        "suspects": int(suspect.sum()),
        "noise_rate": round(rate.estimate, 4),
        "noise_rate_from": round(rate.lower, 4),
        "noise_rate_to": round(rate.upper, 4),
        "likelier_wrong": int(likely.sum()),
        "expected_precision": None if precision is None else round(precision, 4),
        "prior": dict(zip(said, prior.round(4).tolist(), strict=True)),
        "model": settings.model,
        "action": settings.action,
        "documents_out": len(result),
        "documents_dropped": len(train) - len(result),
        "labels_changed": changed,
        "reviewed": int(known.sum()),
        "issue_types": issue_types.counts(noticed),
        # true class: given label: how often
        "transition": {said[i]: dict(zip(said, row, strict=True)) for i, row in enumerate(matrix)},
    }
    with files.atomic_folder(tables.LABELS) as folder:
        columns = (*tables.TEXT_COLUMNS, "group", "weight")
        tables.write_table(folder / "train.parquet", result, columns)
        order = np.lexsort((train["id"], rank))  # the most suspect first
        noticed = noticed.assign(id=train["id"].to_numpy())
        for name, table in (("issues", issues), ("issue_types", noticed)):
            listed = ("id", *(column for column in table if column != "id"))
            tables.write_table(folder / f"{name}.parquet", table.iloc[order], listed)
        files.write_json(folder / "summary.json", summary)

    # ---- show the suspects to a person, with the best other label for each
    rows = np.flatnonzero(suspect)
    rows = rows[np.argsort(rank[rows], kind="stable")]
    near = (neighbours.by_words(texts, rows) if vectors is None
            else neighbours.by_vectors(vectors, rows))  # fmt: skip
    reasons = issue_types.in_words(noticed, rows, train["id"].to_list())
    found = page.Suspects(
        rows, classes[second[rows]], honest[own][rows], full[rows], *near, reasons
    )
    page.write_page(page.PAGE, dataset, names, train, raw, found, reviewed)
    checkpoints.Checkpoints("label_noise", "").discard()  # folds of a fine-tuned judge
    show(said, given[rows], second[rows], np.bincount(given))
    issue_types.show(noticed)
    if kappa >= UNRELATED:
        console.say(f"estimated share of wrong labels: {rate.estimate:.1%} ({rate.lower:.1%} to "
                    f"{rate.upper:.1%} over resampled documents), if the true classes are "
                    + ", ".join(f"{name} {share:.0%}" for name, share in zip(said, prior, strict=True))
                    + "; errors in doubtful documents do not show")  # fmt: skip
    if kappa >= UNRELATED and precision is not None:
        console.say(f"flagged labels: {suspect.sum():,}, {likely.sum():,} of them with P(error) > {LIKELY}; mean "
                    f"P(error) {precision:.0%}: what the models expect, which no one has checked")  # fmt: skip
    console.say(f"action {settings.action}: " + outcome(settings.action, changed,
                len(train) - len(result), int(suspect.sum())))  # fmt: skip
    console.outputs(tables.LABELS, page.PAGE)


def act(
    train: pd.DataFrame, best: lq.Ints, quality: lq.Floats, likely: lq.Mask, action: str
) -> pd.DataFrame:
    """Return the documents to train on: rows are lost only by ``drop``, and only the ``likely`` (n,).

    ``best`` (n,) is the label each looks like, which may be the given one all the same; ``quality``
    (n,) is the given one's, as issues.parquet has it.
    """
    result = train.assign(weight=quality if action == "weight" else 1.0)
    if action == "drop":
        return result[~likely]
    if action == "relabel":
        result["label"] = np.where(likely, best, train["label"])
    return result


def check(train: pd.DataFrame, result: pd.DataFrame, kappa: float, action: str) -> None:
    """Stop, before anything is written, where acting would do more harm than the errors.

    Models fit on labels that hardly follow from the texts cannot tell which of them are wrong.
    """
    way_out = (
        "Look at `columns` and `labels` of the dataset in params.yaml; to see the suspects "
        "without acting on them: -S label_noise.action=keep."
    )
    if kappa < UNRELATED:
        found = (
            f"The labels in {TRAIN} hardly follow from the texts, or these are too few to learn it "
            "from: models that have not seen a document agree with its label little beyond chance "
            f"(kappa {kappa:.2f})"
        )
        if action != "keep":
            raise UserError(
                f"{found}, and label_noise.action: {action} would act on guesses. {way_out}"
            )
        console.say(f"{found}: the suspects are guesses")
    gone = set(train["label"]) - set(result["label"])
    if gone:
        raise UserError(
            f"label_noise.action: {action} would leave no document of the class numbered "
            f"{', '.join(map(str, sorted(gone)))} in {TRAIN}. {way_out}"
        )


def outcome(action: str, changed: int, dropped: int, flagged: int) -> str:
    """Return in words what was done with the flagged labels."""
    done = {
        "keep": "nothing changed",
        "drop": f"{dropped:,} documents dropped",
        "relabel": f"{changed:,} labels changed",
        "weight": "no label changed; documents count in training by the quality of their labels",
    }[action]
    return f"{done}; flagged labels to review: {flagged:,} (make review)" if flagged else done


def show(names: list[str], given: lq.Ints, other: lq.Ints, sizes: lq.Ints) -> None:
    """Print how many of each class are suspect, and what they look like instead."""
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (given, other), 1)
    columns = ["given", "documents", *(f"→ {name}" for name in names)]
    rows = [[name, int(sizes[i]), *map(int, counts[i])] for i, name in enumerate(names)]
    console.table("suspects, by given label", columns, rows)


if __name__ == "__main__":
    console.run(main)
