"""Export the trained model: ONNX, checked against PyTorch on the test set, in a folder for the Hub.

    python -m tools.export [--int8] [--out models/exported]

The folder holds what `hf upload NAME models/exported` makes a repository of: safetensors, config,
tokenizer, the model card README.md, onnx/model.onnx and, with --int8, onnx/model_int8.onnx (weights
in 8 bits by channel, activations by document). tokenizers and onnxruntime are enough to run it; the
card shows how.
"""

import argparse
import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from cleantune import console, files
from cleantune.data import tables
from cleantune.errors import UserError
from cleantune.evaluation import metrics, threshold
from cleantune.evaluation.threshold import Decision
from cleantune.models import classifier, onnx_model, weights
from cleantune.models.classifier import Classifier
from cleantune.models.long_documents import Reading
from cleantune.models.onnx_model import FP32, INT8, MADE_BY, RECORD
from tools import int8_threshold

EXPORTED = Path("models/exported")
TEST = tables.CLEAN / "test.parquet"
CARD, MEASURED = Path("reports/model_card.md"), Path("metrics/test.json")
ROUNDING = 1e-3  # of a probability; the two runtimes add up in another order
LEAST_AGREEMENT = 0.95  # of int8; less means that it does not work on this processor

PROTOBUF_BYTES = 2**31 - 2**26
"""How large an ONNX file can be, with room for the graph; larger weights are in a file of their own beside it."""

USAGE = """
## Use

```python
from transformers import pipeline

print(pipeline("text-classification", "{folder}")("A text to classify"))
```

Without PyTorch, on `tokenizers` and `onnxruntime` alone{int8}:

```python
import json
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("{folder}/tokenizer.json")
session = onnxruntime.InferenceSession("{folder}/{graph}")
labels = json.load(open("{folder}/config.json"))["id2label"]

texts = ["A text to classify", "Another, a little longer than the first"]
encoded = tokenizer.encode_batch(texts)  # padded and cut as the model needs it
inputs = {{"input_ids": np.array([e.ids for e in encoded]),
          "attention_mask": np.array([e.attention_mask for e in encoded])}}
scores = session.run(["logits"], inputs)[0]{temperature}
for text, shares in zip(texts, np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)):
    best = {best}
    print(labels[str(best)], f"{{shares[best]:.1%}}", text, sep=" | ")
```

{rule}. The texts of the training {steps}.
"""
LONG_DOCUMENTS = """
The model was trained with `long_documents: {method}`: of a document of more than {length} tokens {read} were
read{mean}. The examples above read the beginning alone; `tools.predict` reads as in training.
"""
LIKELIEST = "Both take the likeliest class, by probabilities that are not calibrated"
DECIDED = (
    "The first takes the likeliest class, by the model's own probabilities; the second, as evaluate "
    "measured and `decision.json` says: {words}"
)
REPAIRED = "had entities, HTML and broken characters repaired first"
AG_NEWS = ", with AG News' lost ampersands, backslashes and runs of spaces"
INT8_NOTE = (
    " (`onnx/model_int8.onnx` is smaller and faster on processors with 8-bit dot products, VNNI)"
)


def main() -> None:
    """Export to a folder of its own name only when all checks have passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--int8", action="store_true", help="add a graph in 8-bit integers")
    parser.add_argument("--model", type=Path, default=tables.FINETUNED, help="(default: %(default)s)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=EXPORTED, help="(default: %(default)s)")
    arguments = parser.parse_args()
    console.title("export", "ONNX, checked against PyTorch, and a folder for the Hub")
    graphs = (FP32, INT8) if arguments.int8 else (FP32,)
    test = tables.read_table(TEST, tables.TEXT_COLUMNS)
    model = load(arguments.model)
    with replacing(arguments.out, arguments.model) as part:
        with console.timed("converted"):
            write_onnx(model, part, arguments.model, graphs)
        weights.copy(arguments.model, part)
        decided = threshold.read(arguments.model)
        if decided.documents:
            threshold.write(part / threshold.FILE, [(decided, weights.of(part))])
        accuracy = check(model, part, graphs, test, decided)
        text = card(arguments.model, model.labels, len(test), accuracy)
        usage = _usage(arguments.out, part, graphs, decided, model.labels) + _long(model.reading)
        files.write_text(part / "README.md", text + usage)
    console.outputs(arguments.out)


def load(folder: Path) -> Classifier:
    """Load a model for export: on the CPU."""
    model = classifier.load(folder)
    model.model.to("cpu")
    return model


@contextmanager
def replacing(out: Path, model: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces ``out`` when the block ends well.

    Raises ``UserError`` when ``out`` holds what no export made, or is, holds or lies in ``model``.
    """
    here, there = out.resolve(), model.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise UserError(f"--out {out} overlaps the model's own folder {model}: name another.")
    empty = out.is_dir() and not any(out.iterdir())
    if out.exists() and not empty and not _is_export(out):
        raise UserError(f"{out} exists and is no export of ours: remove it or name another by --out.")  # fmt: skip
    with files.atomic_folder(out) as part:
        yield part


def _is_export(out: Path) -> bool:
    return (out / RECORD).is_file() and files.read_json(out / RECORD).get("made_by") == MADE_BY


def write_onnx(model: Classifier, out: Path, folder: Path, keep: Sequence[Path]) -> None:
    """Write to ``out`` the graphs of ``keep`` and what is needed to run them.

    ``folder`` is the one that ``model`` was loaded from. A graph takes input_ids and
    attention_mask, int64 of shape (documents, tokens), and returns logits (documents, classes).
    Raises ``UserError`` when the tokenizer cannot do without transformers.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic  # of the extra `export`

    if not (folder / "tokenizer.json").is_file():
        raise UserError(f"{folder} has no tokenizer.json: its tokenizer runs in transformers alone.")  # fmt: skip
    config = files.read_json(folder / "config.json")
    if config.get("text_config", config).get("pad_token_id") == model.pad_id:
        shutil.copyfile(folder / "config.json", out / "config.json")
    else:  # where the two differed, the answer would depend on what a text is padded with
        config.get("text_config", config)["pad_token_id"] = model.pad_id
        files.write_json(out / "config.json", config)
    model.tokenizer.save_pretrained(out)
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    tokenizer.enable_truncation(model.max_length)
    tokenizer.enable_padding(direction=model.tokenizer.padding_side, pad_id=model.pad_id,
                             pad_token=model.tokenizer.pad_token or "")  # fmt: skip
    tokenizer.save(str(out / "tokenizer.json"))
    if (folder / "summary.json").is_file():  # the steps on the text, for tools.predict
        shutil.copyfile(folder / "summary.json", out / "summary.json")
    (out / FP32).parent.mkdir()
    _convert(model, out / FP32)
    if INT8 in keep:
        with _quiet():
            quantize_dynamic(out / FP32, out / INT8, per_channel=True, weight_type=QuantType.QInt8,
                             use_external_data_format=_is_large(model))  # fmt: skip
    if FP32 not in keep:
        for path in _files(out / FP32):
            path.unlink()
    record = {"made_by": MADE_BY, "model": onnx_model.fingerprint(folder)}
    files.write_json(out / RECORD, record)


def _is_large(model: Classifier) -> bool:
    return bool(sum(p.nbytes for p in model.model.parameters()) > PROTOBUF_BYTES)


def _files(graph: Path) -> list[Path]:
    """Return the files of a graph: its own and, of a large model, that of its weights."""
    return sorted(graph.parent.glob(f"{graph.name}*"))


def _convert(model: Classifier, path: Path) -> None:
    inputs = model.pad([range(5), range(7), range(3)])
    axes = {0: torch.export.Dim("documents"), 1: torch.export.Dim("tokens", max=model.max_length)}
    model.model.config.use_cache = False  # what GPT-2 keeps for the next token is no answer
    try:
        with _quiet():
            torch.onnx.export(
                model.model, (), path, kwargs=inputs, dynamo=True, verbose=False,
                input_names=list(inputs), output_names=["logits"], external_data=_is_large(model),
                dynamic_shapes=dict.fromkeys(inputs, axes),
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        kind = model.model.config.model_type
        why = str(error.__cause__ or error).splitlines()[0]
        raise UserError(
            f"A {kind} model cannot be turned into ONNX ({why}). tools.predict reads its folder, "
            f"{model.folder}, without --int8."
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the converters say of their own workings off the screen."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)


def check(
    model: Classifier, out: Path, graphs: Sequence[Path], test: Any, decided: Decision
) -> float:
    """Compare every graph with PyTorch on the test documents; return PyTorch's accuracy there.

    Classes follow from scores as ``decided``, those of int8 by a choice of its own.
    Raises ``UserError`` when a graph says something else.
    """
    texts, labels = tables.full_text(test), test["label"].to_numpy()
    tokens = model.encode(texts)
    expected = model.logits(tokens)
    predicted = decided.predicted(decided.probabilities(expected), model.labels)
    accuracy = float((predicted == labels).mean())
    rows = [("PyTorch", f"{accuracy:.4f}", "", "", files.size(*weights.of(out)))]
    for graph in graphs:
        exported = onnx_model.load(out, graph)
        if exported.encode(texts) != tokens:
            raise UserError("The exported tokenizer does not read texts as the model's own does.")
        own = decided if graph == FP32 else int8_threshold.decide(exported, out, decided)
        found = exported.logits(tokens)
        classes = own.predicted(own.probabilities(found), model.labels)
        agreement = float((classes == predicted).mean())
        difference = float(np.abs(metrics.softmax(found) - metrics.softmax(expected)).max())
        if (difference > ROUNDING) if graph == FP32 else (agreement < LEAST_AGREEMENT):
            raise UserError(
                f"{graph} does not compute what the model does: {agreement:.1%} of {len(texts):,} "
                f"predictions agree, probabilities differ by up to {difference:.2g}."
            )
        right = float((classes == labels).mean())
        rows.append((str(graph), f"{right:.4f}", f"{agreement:.4f}", f"{difference:.2g}",
                     files.size(*_files(out / graph))))  # fmt: skip
    console.table(f"Test set, {len(texts):,} documents",
                  ("", "accuracy", "agreement", "largest difference", "size"), rows)  # fmt: skip
    return accuracy


def card(folder: Path, labels: list[str], count: int, accuracy: float) -> str:
    """Return evaluate's model card if it is about these weights, else one that says as little as is known.

    ``accuracy`` is that of the model in ``folder`` on the ``count`` test documents, as decided.
    """
    if not (CARD.is_file() and MEASURED.is_file()):
        why = "is missing"
    elif weights.sha256(folder) not in CARD.read_text(encoding="utf-8"):
        why = f"is about other weights than those in {folder}"
    elif not _agrees(files.read_json(MEASURED), count, accuracy):
        why = f"is not of this measurement: {MEASURED} differs from {accuracy:.4f} on {count:,} documents"
    else:
        return CARD.read_text(encoding="utf-8")
    console.say(f"note: {CARD} {why}; it is left out, the card says little. "
                "`dvc repro evaluate` writes one.")  # fmt: skip
    head = "---\nlibrary_name: transformers\npipeline_tag: text-classification\n---\n"
    listed = ", ".join(labels)
    return f"{head}# {folder.name}\n\nTells {len(labels)} classes apart: {listed}.\n"


def _agrees(measured: dict[str, Any], count: int, accuracy: float) -> bool:
    apart = abs(float(measured.get("accuracy", 0)) - accuracy) * count
    return (
        measured.get("n") == count and apart < 2.5
    )  # documents that another processor rounds over


def _long(reading: Reading) -> str:
    if reading.method == "head":
        return ""
    mean = f", in up to {reading.max_chunks} chunks whose logits were averaged"
    return LONG_DOCUMENTS.format(method=reading.method, length=reading.max_length,
                                 read=reading.describe(),
                                 mean=mean if reading.method == "chunks" else "")  # fmt: skip


def _usage(
    out: Path, part: Path, graphs: Sequence[Path], decided: Decision, labels: list[str]
) -> str:
    summary = part / "summary.json"
    steps = files.read_json(summary).get("clean", {}) if summary.is_file() else {}
    repaired = steps.pop("repair", True)
    artifacts = AG_NEWS if steps.pop("ag_news_artifacts", False) else ""
    read = REPAIRED + artifacts if repaired else "were read as they came"
    taken = [name.replace("_", " ") for name, on in steps.items() if on]
    best, words = "shares.argmax()", "; ".join(decided.describe())
    if decided.rule != "argmax":
        k = labels.index(str(decided.positive))
        best = f"{k} if shares[{k}] > {decided.threshold} else {1 - k}"
    return USAGE.format(folder=out, graph=FP32, int8=INT8_NOTE if INT8 in graphs else "", best=best,
                        temperature=f" / {decided.temperature}" if decided.calibrated else "",
                        rule=DECIDED.format(words=words) if decided.documents else LIKELIEST,
                        steps=read + (f"; then: {', '.join(taken)}" if taken else ""))  # fmt: skip


if __name__ == "__main__":
    console.run(main)
