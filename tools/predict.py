"""Classify texts with the trained model; needs nothing but models/finetuned.

    python -m tools.predict "Stocks rallied after the central bank cut rates"
    cat headlines.txt | python -m tools.predict --json
    python -m tools.predict --file articles.csv --out classified.csv
    python -m tools.predict --explain "Sony opens a chip plant"

A CSV needs a header with a `text` column (`title` is put before it where there is one), a JSONL
file objects with the same keys; all other columns are kept. The answer adds `predicted`,
`confidence` and one probability per class.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from stages.common import classifier, console, files, metrics
from stages.common.classifier import Classifier
from stages.common.errors import UserError

Record = dict[str, Any]
ANSWER = ("predicted", "confidence", "probabilities", "note")

# AG News, which the tokenizer was made for, has 1.25 tokens a word; text in a script or language it
# was not made for falls into single letters.
STRANGE_TOKENS_PER_WORD = 3.0
STRANGE_UNKNOWN_SHARE = 0.2
STRONGEST_WORDS = 8  # in the table of --explain
SHOWN_WORDS = 120  # in its coloured text
SHOWN_CHARACTERS = 300  # of a text in the table; --json and files keep all of it


@dataclass(frozen=True)
class Prediction:
    """What the model says of one document; ``label`` is None when there is nothing to read."""

    label: str | None
    probabilities: dict[str, float]
    note: str | None

    @property
    def confidence(self) -> float | None:
        """The probability of ``label``."""
        return self.probabilities[self.label] if self.label is not None else None

    def as_json(self) -> Record:
        """Return the prediction with probabilities to six places."""
        sure = None if self.confidence is None else round(self.confidence, 6)
        shares = {name: round(p, 6) for name, p in self.probabilities.items()}
        answer: Record = dict(zip(ANSWER, (self.label, sure, shares, self.note), strict=True))
        return answer if self.note else {k: v for k, v in answer.items() if k != "note"}


def main() -> None:
    """Read the arguments, then texts, then the model; answer on stdout or into a file."""
    arguments = _arguments()
    records = _read(arguments)
    model = classifier.load(arguments.model)
    predictions = predict(model, [_text_of(record) for record in records], quiet=not arguments.out)
    if arguments.out:
        _write(arguments.out, records, predictions, model.labels)
        counts = {name: sum(p.label == name for p in predictions) for name in model.labels}
        listed = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        print(f"{len(records):,} documents classified ({listed})", file=sys.stderr)
        print(f"wrote {arguments.out} ({files.size(arguments.out)})", file=sys.stderr)
    elif arguments.explain:
        _explain(model, records, predictions, arguments.json)
    elif arguments.json:
        for record, prediction in zip(records, predictions, strict=True):
            print(json.dumps(record | prediction.as_json(), ensure_ascii=False))
    else:
        _show(records, predictions, model.labels)
    if arguments.text and all(p.label is None for p in predictions):
        raise UserError(f"Nothing to classify: {predictions[0].note}.")


def predict(model: Classifier, texts: list[str], quiet: bool = True) -> list[Prediction]:
    """Classify ``texts``, batched by length, in the order given.

    A text without a single token gets no label but a note; one in which the tokenizer hardly
    knows a word gets both.
    """
    tokens = model.encode(texts)
    empty = len(model.encode([""])[0])
    readable = [i for i, t in enumerate(tokens) if len(t) > empty]
    probabilities = np.zeros((len(texts), len(model.labels)))
    if quiet:
        logits = model.logits([tokens[i] for i in readable])
    else:
        with console.Bar("Classifying", len(readable)) as bar:
            logits = model.logits([tokens[i] for i in readable], bar.advance)
    probabilities[readable] = metrics.softmax(logits)
    predictions = []
    for text, ids, row in zip(texts, tokens, probabilities, strict=True):
        if len(ids) <= empty:
            why = "the text is empty" if not text.strip() else "no readable characters in the text"
            predictions.append(Prediction(None, {}, why))
        else:
            shares = dict(zip(model.labels, map(float, row), strict=True))
            best = model.labels[int(row.argmax())]
            predictions.append(Prediction(best, shares, _note(model, text, ids)))
    return predictions


def _note(model: Classifier, text: str, ids: list[int]) -> str | None:
    """Say what makes an answer less worth: a cut text, or one in a language not trained on."""
    notes = []
    if len(ids) >= model.max_length:
        notes.append(f"only the first {model.max_length} tokens were read")
    unknown = sum(i == model.tokenizer.unk_token_id for i in ids) / len(ids)
    words = max(1, len(text[: 20 * len(ids)].split()))
    if unknown > STRANGE_UNKNOWN_SHARE:
        notes.append(f"{unknown:.0%} of its tokens are unknown to the model")
    elif len(ids) < model.max_length and (len(ids) - 2) / words > STRANGE_TOKENS_PER_WORD:
        notes.append("its words are unlike those the model was trained on: another language?")
    return "; ".join(notes) or None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.predict",
        description="Classify texts with the trained model.",
        epilog="Without a text or --file, each line of standard input is one document.",
    )
    parser.add_argument("text", nargs="*", help="one or more texts, each in quotes")
    parser.add_argument("--file", type=Path, help="a .csv or .jsonl with a `text` column")
    parser.add_argument("--out", type=Path, help="write a .csv or .jsonl instead of printing")
    parser.add_argument("--json", action="store_true", help="print one JSON object per document")
    parser.add_argument("--explain", action="store_true",
                        help="show what each word added to the class's score")  # fmt: skip
    parser.add_argument("--model", type=Path, default=classifier.FINETUNED,
                        help="the model's folder (default: %(default)s)")  # fmt: skip
    arguments = parser.parse_args()
    if arguments.text and arguments.file:
        parser.error("give texts or --file, not both")
    if arguments.explain and arguments.out:
        parser.error("--explain prints; it does not go with --out")
    if arguments.out and arguments.out.suffix not in (".csv", ".jsonl"):
        parser.error(f"--out {arguments.out}: the name must end in .csv or .jsonl")
    if not arguments.text and not arguments.file and sys.stdin.isatty():
        parser.error("nothing to classify: give a text, --file, or lines on standard input")
    return arguments


def _read(arguments: argparse.Namespace) -> list[Record]:
    if arguments.text:
        return [{"text": text} for text in arguments.text]
    if arguments.file:
        return read_records(arguments.file)
    sys.stdin.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    records = [{"text": line.rstrip("\r\n")} for line in sys.stdin]
    if not records:
        raise UserError("Standard input is empty: one document per line is expected.")
    return records


def read_records(path: Path) -> list[Record]:
    """Read the documents of a ``.csv`` (with a header) or ``.jsonl`` file.

    Raises ``UserError`` with file and line for a wrong ending, bytes that are not UTF-8, a missing
    `text` column, and a line that cannot be read.
    """
    if path.suffix not in (".csv", ".jsonl"):
        raise UserError(f"{path}: the name must end in .csv or .jsonl, to tell what it holds.")
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}, line {line}: not UTF-8. Convert it: iconv -f latin1 -t utf-8."
        ) from None
    read = _csv if path.suffix == ".csv" else _jsonl
    records = list(read(path, content))
    if not records:
        raise UserError(f"{path} holds no document.")
    return records


def _csv(path: Path, content: str) -> Iterable[Record]:
    csv.field_size_limit(sys.maxsize)
    reader = csv.DictReader(io.StringIO(content, newline=""), restkey="", strict=True)
    if "text" not in (reader.fieldnames or ()):
        found = ", ".join(reader.fieldnames or ()) or "nothing"
        raise UserError(f"{path}, line 1: no column `text` in the header; found: {found}.")
    try:
        for row in reader:
            if "" in row or None in row.values():
                raise UserError(f"{path}, line {reader.line_num}: not as many fields as columns.")
            yield dict(row)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}.") from None


def _jsonl(path: Path, content: str) -> Iterable[Record]:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not JSON: {error}.") from None
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise UserError(f'{path}, line {number}: not an object with a string "text".')
        yield record


def _text_of(record: Record) -> str:
    title = record.get("title")
    return f"{title} {record['text']}".strip() if isinstance(title, str) else record["text"]


def _write(
    path: Path, records: list[Record], predictions: list[Prediction], labels: list[str]
) -> None:
    """Write what came in and what the model says, all or nothing."""
    with files.atomic_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            for record, prediction in zip(records, predictions, strict=True):
                file.write(json.dumps(record | prediction.as_json(), ensure_ascii=False) + "\n")
            return
        kept = [k for k in dict.fromkeys(k for r in records for k in r) if k not in ANSWER]
        shares = [f"p_{name}" for name in labels]
        table = csv.DictWriter(file, [*kept, "predicted", "confidence", *shares, "note"],
                               extrasaction="ignore", lineterminator="\n")  # fmt: skip
        table.writeheader()
        for record, prediction in zip(records, predictions, strict=True):
            answer = prediction.as_json()
            table.writerow(
                record
                | {"note": ""}
                | answer
                | {f"p_{k}": v for k, v in answer["probabilities"].items()}
            )


def _show(records: list[Record], predictions: list[Prediction], labels: list[str]) -> None:
    """Print a table: the text, its class, and the probability of each class in per cent."""
    width = None if sys.stdout.isatty() else 100
    screen = Console(width=width, highlight=False)
    grid = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    grid.add_column("Text", ratio=1, overflow="fold")
    grid.add_column("Class", style="bold")
    listed = labels if len(labels) <= 6 else []
    for name in listed or ["Confidence"]:
        grid.add_column(escape(name), justify="right")
    for record, prediction in zip(records, predictions, strict=True):
        text = _printable(_text_of(record))
        if prediction.note:
            text += f"\n({prediction.note})"
        if prediction.confidence is None:
            row = ["-"] * len(listed or ["Confidence"])
        else:
            row = [f"{prediction.probabilities[name]:.1%}" for name in listed]
            row = row or [f"{prediction.confidence:.1%}"]
        grid.add_row(escape(text), escape(prediction.label or "-"), *row)
    screen.print(grid)


def _explain(
    model: Classifier, records: list[Record], predictions: list[Prediction], as_json: bool
) -> None:
    """Print each text with what its words added to the score, by integrated gradients."""
    from stages.common.explanations import explain  # captum takes seconds to import

    screen = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    for record, prediction in zip(records, predictions, strict=True):
        text = _text_of(record)
        if prediction.label is None:
            found = None
            words: list[Record] = []
        else:
            found = explain(model, text, model.labels.index(prediction.label))
            words = [{"word": text[a:b], "start": a, "end": b, "attribution": round(share, 6)}
                     for a, b, share in found.spans]  # fmt: skip
        if as_json:
            rest = (
                {"special": round(found.special, 6), "difference": round(found.difference, 6)}
                if found
                else {}
            )
            print(
                json.dumps(
                    record | prediction.as_json() | {"words": words} | rest, ensure_ascii=False
                )
            )
            continue
        if found is None or prediction.label is None:
            screen.print(f"- ({prediction.note})", markup=False)
            continue
        note = f" ({prediction.note})" if prediction.note else ""
        screen.print(
            f"\n{prediction.label} {prediction.confidence:.1%}{note}", style="bold", markup=False
        )
        largest = max((abs(w["attribution"]) for w in words), default=0.0) or 1.0
        line = Text()
        for word in words[:SHOWN_WORDS]:
            share = word["attribution"] / largest
            style = (
                ""
                if abs(share) < 0.12
                else "bold green"
                if share > 0.5
                else "green"
                if share > 0
                else "red"
            )
            line.append(_printable(word["word"]), style=style).append(" ")
        screen.print(line)
        grid = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        grid.add_column("Word")
        grid.add_column(f"for {escape(prediction.label)}", justify="right")
        grid.add_column("", min_width=20)
        strongest = sorted(words, key=lambda w: -abs(w["attribution"]))[:STRONGEST_WORDS]
        for word in strongest:
            share = word["attribution"]
            bar = ("+" if share > 0 else "-") * max(1, round(20 * abs(share) / largest))
            grid.add_row(escape(_printable(word["word"])), f"{share:+.3f}", bar)
        screen.print(grid)
        total = sum(w["attribution"] for w in words)
        screen.print(
            f"Words {total:+.3f}, start and end tokens {found.special:+.3f}; score against a blank "
            f"text {found.difference:+.3f} logits.", markup=False,
        )  # fmt: skip


def _printable(text: str) -> str:
    """Shorten a text and drop what would move a terminal's cursor or turn its writing around."""
    whole = "".join(c if c.isprintable() else " " for c in text[: SHOWN_CHARACTERS * 4])
    short = " ".join(whole.split())
    return short if len(short) <= SHOWN_CHARACTERS else short[: SHOWN_CHARACTERS - 1] + "…"


if __name__ == "__main__":
    console.run(main)
