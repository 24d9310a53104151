"""Classify texts with the trained model; needs nothing but models/finetuned.

    python -m tools.predict "Stocks rallied after the central bank cut rates"
    cat headlines.txt | python -m tools.predict --json
    python -m tools.predict --file articles.csv --out classified.csv
    python -m tools.predict --top 5 "Where is my card?"
    python -m tools.predict --int8 "Sony opens a chip plant"
    python -m tools.predict --explain "Sony opens a chip plant"
    python -m tools.predict --abstain "Sony opens a chip plant"

`--file` takes every form that `tools.data add` does. The text is in the column that the corpus of the
model has it in, else in the one that looks like it; `--text` and `--title` name others. All columns are
kept. The answer adds `predicted`, `confidence`, one probability per class (or the `--top` ones) and whether
they are `calibrated`: temperature and threshold are those that evaluate chose. Texts are repaired as
those of the training were.

``--abstain`` answers only where validation showed that ``evaluate.answer_accuracy`` of the answers are
right, and else is ``unsure`` and names the two likeliest classes.
``--seeds`` asks the models of all seeds of ``study.seeds`` and takes the mean of their probabilities.
``--int8`` computes in ONNX Runtime with 8-bit integers; the first time it makes models/int8.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cleantune import console, files
from cleantune.data import tables, words
from cleantune.data.layouts import Flags
from cleantune.errors import UserError
from cleantune.evaluation import metrics, threshold
from cleantune.evaluation.threshold import Decision
from cleantune.models import weights
from cleantune.models.long_documents import Reading
from cleantune.params.sections import TextSteps
from tools import predict_input, predict_output
from tools.predict_input import Record
from tools.predict_output import Prediction

# English news has less than two tokens a word; text in a script or language that the tokenizer was
# not made for falls into single letters.
STRANGE_TOKENS_PER_WORD = 3.0
STRANGE_UNKNOWN_SHARE = 0.2


class Model(Protocol):
    """What a model has to offer, in PyTorch (``cleantune.models.classifier``) or ONNX Runtime."""

    labels: list[str]
    reading: Reading

    @property
    def unknown_id(self) -> int | None:
        """The token for what the vocabulary lacks."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's tokens."""

    def logits(
        self, tokens: Sequence[Sequence[int]], advance: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Return scores, (documents, classes)."""


class AllSeeds:
    """The model in a folder and those of `study.seeds` beside it, as one ``Model``.

    Raises ``UserError`` when there is none beside it.
    """

    def __init__(self, folder: Path) -> None:
        from cleantune.models import classifier

        others = classifier.further_seeds(folder)
        if not others:
            raise UserError(
                f"{folder} holds the model of one seed: --seeds has nothing to average. More are "
                "trained by, for example, `dvc exp run -S 'study.seeds=[1,2]'`."
            )
        self.folders = [folder, *others]
        self.models = [classifier.load(path) for path in self.folders]
        first = self.models[0]
        self.labels, self.reading = first.labels, first.reading
        self.unknown_id, self.encode = first.unknown_id, first.encode

    def logits(
        self, tokens: Sequence[Sequence[int]], advance: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Return the logarithm of the mean probability of each class, (documents, classes)."""
        every = [model.logits(tokens) for model in self.models[1:]]
        every.append(self.models[0].logits(tokens, advance))
        return metrics.mean_logits(every)


def main() -> None:
    """Read the arguments, then texts, then the model; answer on stdout or into a file."""
    arguments = _arguments()
    if arguments.text:
        records: list[Record] = [{"text": text} for text in arguments.text]
    elif not arguments.file:
        records = predict_input.read_lines()
    documents = None
    if arguments.file:
        flags = Flags(text=arguments.text_column, title=arguments.title, encoding=arguments.encoding,
                      separator=arguments.separator)  # fmt: skip
        records, documents, said = predict_input.read_file(arguments.file, flags)
        print(said, file=sys.stderr)
    documents = documents or records
    model = AllSeeds(arguments.model) if arguments.seeds else load(arguments.model, arguments.int8)
    steps = predict_input.steps_of(arguments.model)
    decided = decide(model, arguments.model, arguments.int8)
    print("; ".join(decided.describe()), file=sys.stderr)
    if arguments.abstain:
        raise_if_always_unsure(decided)
        print(f"answers above a confidence of {decided.answer_above:.4f}: at least "
              f"{decided.answer_accuracy:.1%} right", file=sys.stderr)  # fmt: skip
    predictions = predict(model, documents, steps, decided, not arguments.out, arguments.abstain)
    if arguments.out:
        given = [p.as_json(arguments.top) for p in predictions]
        predict_input.write_records(arguments.out, records, given, model.labels)
        counts = {name: sum(p.label == name and not p.unsure for p in predictions)
                  for name in model.labels}  # fmt: skip
        if arguments.abstain:
            counts["unsure"] = sum(bool(p.unsure) for p in predictions)
        listed = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        print(f"{len(records):,} documents classified ({listed})", file=sys.stderr)
        print(f"wrote {arguments.out} ({files.size(arguments.out)})", file=sys.stderr)
    elif arguments.explain or arguments.json:
        for record, prediction in zip(records, predictions, strict=True):
            why = explained(model, prediction) if arguments.explain else {}
            if arguments.json:
                answer = record | prediction.as_json(arguments.top) | why
                print(json.dumps(answer, ensure_ascii=False, default=str))
            else:
                predict_output.show_explained(prediction, why)
    else:
        predict_output.show(documents, predictions, model.labels, arguments.top)
    if arguments.text and all(p.label is None for p in predictions):
        raise UserError(f"Nothing to classify: {predictions[0].note}.")


def load(folder: Path, int8: bool) -> Any:
    """Return the ``Model`` of ``folder``, in fp32 on PyTorch or in int8 on ONNX Runtime.

    The int8 form lies in ``folder`` if that is an export, else beside it in ``int8``, where it is
    made when it is missing or of other weights. ``UserError`` when the folder is unusable.
    """
    if not int8:
        from cleantune.models import classifier  # seconds, for PyTorch, which int8 does without

        return classifier.load(folder)
    from cleantune.models import onnx_model

    made = onnx_model.place(folder)
    if made != folder and not onnx_model.is_of(made, folder):
        from tools import export

        model = export.load(folder)
        print(f"making the int8 form of {folder} in {made}, once", file=sys.stderr)
        with export.replacing(made, folder) as part:
            export.write_onnx(model, part, folder, keep=(onnx_model.INT8,))
    return onnx_model.load(made)


def decide(model: Any, folder: Path, int8: bool) -> Decision:
    """Return what was decided for the ``Model`` that was loaded from ``folder``."""
    if isinstance(model, AllSeeds):
        return threshold.read(folder, *(path for one in model.folders for path in weights.of(one)))
    decided = threshold.read(folder)
    if not int8:
        return decided
    from cleantune.models import onnx_model
    from tools import int8_threshold  # both need ONNX Runtime

    return int8_threshold.decide(model, onnx_model.place(folder), decided)


def raise_if_always_unsure(decided: Decision) -> None:
    """Raise ``UserError`` where no confidence is known above which to answer."""
    if decided.answer_accuracy is None:
        raise UserError(
            "--abstain: for these weights no confidence was fitted above which to answer; "
            "`dvc repro evaluate` fits it."
        )
    if decided.answer_above is None:
        shown = decided.highest_accuracy
        lower = (f"; {shown:.0%} is shown: `dvc exp run -S evaluate.answer_accuracy={shown:g}`, or hold out "
                 "more by clean.validation_share" if shown else "")  # fmt: skip
        raise UserError(
            f"--abstain: {decided.documents:,} validation documents show of no confidence that "
            f"{decided.answer_accuracy:.1%} of the answers above it are right{lower}."
        )


def predict(
    model: Model,
    records: list[Record],
    steps: TextSteps,
    decided: Decision = threshold.DEFAULT,
    quiet: bool = True,
    abstain: bool = False,
) -> list[Prediction]:
    """Classify documents, batched by length, in the order given; ``unsure`` is set if to ``abstain``.

    A text without a single token gets no label but a note; one in which the tokenizer hardly
    knows a word gets both.
    """
    texts = [predict_input.as_trained(record, steps) for record in records]
    tokens = model.encode(texts)
    empty = len(model.encode([""])[0])
    readable = [i for i, t in enumerate(tokens) if len(t) > empty]
    probabilities = np.zeros((len(texts), len(model.labels)))
    if quiet:
        logits = model.logits([tokens[i] for i in readable])
    else:
        with console.Bar("Classifying", len(readable)) as bar:
            logits = model.logits([tokens[i] for i in readable], bar.advance)
    probabilities[readable] = decided.probabilities(logits)
    classes = decided.predicted(probabilities, model.labels)
    answered = decided.answered(probabilities[np.arange(len(texts)), classes])
    predictions = []
    for i, (record, text, ids) in enumerate(zip(records, texts, tokens, strict=True)):
        if len(ids) <= empty:
            nothing = not predict_input.text_of(record).strip()
            why = "the text is empty" if nothing else "no readable characters in the text"
            predictions.append(Prediction(None, {}, why, text, decided.calibrated))
        else:
            shares = dict(zip(model.labels, map(float, probabilities[i]), strict=True))
            best = model.labels[int(classes[i])]
            note = _note(model, text, ids)
            unsure = not answered[i] if abstain else None
            predictions.append(Prediction(best, shares, note, text, decided.calibrated, unsure))
    return predictions


def _note(model: Model, text: str, ids: list[int]) -> str | None:
    """Say what makes an answer less worth: a cut text, or one in a language not trained on."""
    notes = []
    full = len(ids) >= model.reading.limit
    if full:
        notes.append(f"only {model.reading.describe()} were read")
    unknown = sum(i == model.unknown_id for i in ids) / len(ids)
    count = max(1, words.count(text[: 20 * len(ids)]))
    if unknown > STRANGE_UNKNOWN_SHARE:
        notes.append(f"{unknown:.0%} of its tokens are unknown to the model")
    elif not full and (len(ids) - 2) / count > STRANGE_TOKENS_PER_WORD:
        notes.append("its words are unlike those the model was trained on: another language?")
    return "; ".join(notes) or None


def explained(model: Any, prediction: Prediction) -> Record:
    """Return what each word added to the score of the class, by integrated gradients.

    ``start`` and ``end`` of a word count characters of ``read``, the text as the model read it.
    """
    from cleantune.evaluation.explanations import explain  # captum takes seconds to import

    if prediction.label is None:
        return {"words": []}
    text = prediction.read
    found = explain(model, text, model.labels.index(prediction.label))
    words = [{"word": text[start:end], "start": start, "end": end, "attribution": round(share, 6)}
             for start, end, share in found.spans]  # fmt: skip
    ends = {"special": round(found.special, 6), "difference": round(found.difference, 6)}
    return {"read": text, "words": words, **ends}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.predict",
        description="Classify texts with the trained model.",
        epilog="Without a text or --file, each line of standard input is one document.",
    )
    parser.add_argument("text", nargs="*", help="one or more texts, each in quotes")
    parser.add_argument(
        "--file", type=Path, help="a table, a folder, lines of text: any form of corpus"
    )
    parser.add_argument("--text", dest="text_column", help="column of the texts in --file")
    for name, what in (("--title", "column of titles in --file; none: there is none"),
                       ("--encoding", "of --file"), ("--separator", "between columns of --file")):  # fmt: skip
        parser.add_argument(name, help=what)
    parser.add_argument("--top", type=int, metavar="N", help="the N most probable classes")
    parser.add_argument("--out", type=Path, help="write a .csv or .jsonl instead of printing")
    parser.add_argument("--json", action="store_true", help="print one JSON object per document")
    parser.add_argument("--abstain", action="store_true",
                        help="be unsure where evaluate.answer_accuracy is not reached")  # fmt: skip
    parser.add_argument("--int8", action="store_true",
                        help="compute with 8-bit integers: faster, nearly as accurate")  # fmt: skip
    parser.add_argument("--seeds", action="store_true",
                        help="average the models of all seeds of study.seeds")  # fmt: skip
    parser.add_argument("--explain", action="store_true",
                        help="show what each word added to the class's score")  # fmt: skip
    parser.add_argument("--model", type=Path, default=tables.FINETUNED,
                        help="the model's folder (default: %(default)s)")  # fmt: skip
    arguments = parser.parse_args()
    if arguments.text and arguments.file:
        parser.error("give texts or --file, not both")
    if arguments.top is not None and arguments.top < 1:
        parser.error("--top: give a number from 1 on")
    if arguments.explain and arguments.out:
        parser.error("--explain prints; it does not go with --out")
    if arguments.seeds and (arguments.explain or arguments.int8):
        parser.error("--seeds asks several models; --explain and --int8 are of one")
    if arguments.explain and arguments.int8:
        parser.error("--explain needs gradients, which --int8 has none of")
    if arguments.out and arguments.out.suffix not in (".csv", ".jsonl"):
        parser.error(f"--out {arguments.out}: the name must end in .csv or .jsonl")
    if not arguments.text and not arguments.file and sys.stdin.isatty():
        parser.error("nothing to classify: give a text, --file, or lines on standard input")
    return arguments


if __name__ == "__main__":
    console.run(main)
