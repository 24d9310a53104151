"""Runs of the pipeline's stages in separate folders, for studies.

``furnish`` writes the inputs of the stages other than documents, ``run`` runs a stage there,
``fine_tuned`` tokenizes, fine-tunes and returns accuracies.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from cleantune import files
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.evaluation import metrics
from cleantune.models import classifier, encoder
from cleantune.params.overrides import with_overrides
from cleantune.params.read import read_params

CODE = Path(__file__).parents[1]


def furnish(
    folder: Path, changes: dict[str, Any], others: Sequence[Path] = (), base: Path = Path()
) -> None:
    """Write the inputs of stages other than documents: params.yaml with ``changes``, and ``others``.

    The model to start from is the one in the project ``base``; one seed is trained.
    """
    for path in (tables.SOURCE, tables.TEXT_STEPS, Path("ds_config.json"), *others):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path)
    shutil.copytree(base / encoder.PRETRAINED, folder / encoder.PRETRAINED)
    pointer = folder / encoder.PRETRAINED / encoder.POINTER
    if pointer.is_file():
        record = files.read_json(pointer)
        files.write_json(pointer, record | {"model": _from_there(record["model"])})
    params = read_params(("model", "label_noise"))
    own = {"model": _from_there(params.model), "study.seeds": [],
           "label_noise.encoder": _from_there(params.label_noise.encoder)}  # fmt: skip
    yaml = YAML(typ="safe")
    content = yaml.load(Path("params.yaml").read_text(encoding="utf-8"))
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(with_overrides(content, own | changes), file)


def fine_tuned(folder: Path, splits: Sequence[str]) -> dict[str, float]:
    """Tokenize and fine-tune in a folder; return the model's accuracy on each split."""
    run("tokenize_text", folder)
    run("finetune", folder)
    return {split: found["accuracy"] for split, found in scores(folder, splits).items()}


def scores(folder: Path, splits: Sequence[str]) -> dict[str, metrics.Metrics]:
    """Return accuracy and macro-F1 on each split of the model that was fine-tuned in a folder."""
    trained = classifier.load(folder / tables.FINETUNED)
    found = {}
    for split in splits:
        tokens = tables.read_table(folder / tables.TOKENS / f"{split}.parquet")
        logits = trained.logits(tokens["input_ids"].to_list())
        found[split] = metrics.accuracy_and_f1(logits, tokens["label"].to_numpy())
    return found


def accuracies(
    splits: dict[str, pd.DataFrame], models: Sequence[str], changes: dict[str, Any]
) -> dict[str, float]:
    """Return the test accuracy of each model, trained by its stage in a folder of its own.

    ``splits`` are train, validation and test; ``models`` the ``transformer`` and baselines by their names.
    """
    labels = splits["test"]["label"].to_numpy()
    accuracy = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        columns = tables.with_soft_labels(
            (*tables.TEXT_COLUMNS, "group", "weight"), splits["train"]
        )
        tables.write_table(folder / tables.LABELS / "train.parquet", splits["train"], columns)
        for split in ("validation", "test"):
            path = folder / tables.CLEAN / f"{split}.parquet"
            tables.write_table(path, splits[split], tables.TEXT_COLUMNS)
        baselines = [model for model in models if model != "transformer"]
        furnish(
            folder,
            {**changes, "baselines.models": baselines or ["tfidf"], "baselines.flipped_shares": []},
        )
        if baselines:
            run("baselines", folder)
            for model in baselines:
                found = tables.read_table(folder / tables.BASELINES / f"{model}.parquet")
                found = found[found["split"] == "test"].filter(like="score_")
                accuracy[model] = float((found.to_numpy().argmax(axis=1) == labels).mean())
        if "transformer" in models:
            accuracy["transformer"] = fine_tuned(folder, ("test",))["test"]
    return accuracy


def _from_there(model: str) -> str:
    """Return the name of a model so that it is valid in any folder."""
    return str(Path(model).resolve()) if Path(model).is_dir() else model


def run(stage: str, folder: Path) -> None:
    """Run one stage in a folder, silent unless it fails."""
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}"], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(CODE)},
    )  # fmt: skip
    if done.returncode:
        raise UserError(f"stages.{stage} failed in the benchmark:\n{done.stderr[-2000:]}")


def spread(values: list[float]) -> str:
    """Return the mean, and the standard deviation where there are several."""
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{deviation}"


def gain(scores: Sequence[float], others: Sequence[float]) -> str:
    """Return the mean paired difference in percentage points, with its deviation where there are several."""
    gains = [100 * (a - b) for a, b in zip(scores, others, strict=True)]
    deviation = f" ± {statistics.stdev(gains):.2f}" if len(gains) > 1 else ""
    return f"{statistics.mean(gains):+.2f}{deviation}"
