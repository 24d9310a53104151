"""What tools.predict says of a document: as JSON, and in tables on a terminal."""

import sys
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tools.predict_input import ANSWER, Record, text_of

STRONGEST_WORDS = 8  # in the table of --explain
SHOWN_WORDS = 120  # in its coloured text
FAINT, STRONG = 0.12, 0.5  # of the strongest word: below, no colour; above, bold
SHOWN_CHARACTERS = 300  # of a text in the table; --json and files keep all of it


@dataclass(frozen=True)
class Prediction:
    """What the model says of one document; ``label`` is None when there is nothing to read."""

    label: str | None
    probabilities: dict[str, float]
    note: str | None
    read: str
    """The text as the model read it, after the steps of its training."""
    calibrated: bool = False
    """Whether ``probabilities`` are scaled by a temperature that helped on validation."""
    unsure: bool | None = None
    """Whether the model abstains from ``label``; None where it was not asked to."""

    @property
    def confidence(self) -> float | None:
        """The probability of ``label``."""
        return self.probabilities[self.label] if self.label is not None else None

    @property
    def spoken(self) -> str:
        """The class in words, or between which two the model is unsure."""
        if self.unsure:
            return f"unsure: {' or '.join(name for name, _ in self.most_probable(2))}"
        return self.label or "-"

    def most_probable(self, number: int) -> list[tuple[str, float]]:
        """Return that many classes and their probabilities, the most probable first."""
        return sorted(self.probabilities.items(), key=lambda share: -share[1])[:number]

    def as_json(self, top: int | None = None) -> Record:
        """Return the prediction with probabilities to six places, or only the ``top`` classes."""
        sure = None if self.confidence is None else round(self.confidence, 6)
        shares = {name: round(p, 6) for name, p in self.probabilities.items()}
        said = (self.label, sure, shares, self.calibrated, self.note)
        answer: Record = dict(zip(ANSWER, said, strict=False))
        if self.unsure is not None:
            answer["unsure"] = self.unsure
        if self.unsure:
            answer["predicted"] = None
            answer["likeliest"] = [name for name, _ in self.most_probable(2)]
        if top:
            del answer["probabilities"]
            best = self.most_probable(top)
            answer["top"] = [{"label": name, "probability": round(p, 6)} for name, p in best]
        return answer if self.note else {k: v for k, v in answer.items() if k != "note"}


def show(
    records: list[Record], predictions: list[Prediction], labels: list[str], top: int | None = None
) -> None:
    """Print a table: the text, its class, and the probability of each class in per cent.

    With ``top``, the most probable classes of each text instead.
    """
    grid = _grid()
    grid.add_column("Text", ratio=1, overflow="fold")
    grid.add_column("Class", style="bold")
    listed = labels if len(labels) <= 6 and not top else []
    for name in listed or [f"The {top} most probable" if top else "Confidence"]:
        grid.add_column(escape(name), justify="right")
    for record, prediction in zip(records, predictions, strict=True):
        text = _printable(text_of(record))
        if prediction.note:
            text += f"\n({prediction.note})"
        if top and prediction.label:
            row = ["\n".join(f"{escape(n)} {p:.1%}" for n, p in prediction.most_probable(top))]
        elif prediction.confidence is None:
            row = ["-"] * len(listed or ["Confidence"])
        else:
            row = [f"{prediction.probabilities[name]:.1%}" for name in listed]
            row = row or [f"{prediction.confidence:.1%}"]
        grid.add_row(escape(text), escape(prediction.spoken), *row)
    _screen().print(grid)


def show_explained(prediction: Prediction, explained: Record) -> None:
    """Print a text coloured by what each word added to the score, and its strongest words.

    ``explained`` is what ``tools.predict.explained`` returns.
    """
    screen = _screen()
    note = f" ({prediction.note})" if prediction.note else ""
    if prediction.label is None:
        screen.print(f"-{note}", markup=False)
        return
    screen.print(f"\n{prediction.spoken} {prediction.confidence:.1%}{note}", style="bold", markup=False)  # fmt: skip
    words = explained["words"]
    largest = max((abs(w["attribution"]) for w in words), default=0.0) or 1.0
    line = Text()
    for word in words[:SHOWN_WORDS]:
        line.append(_printable(word["word"]), style=_colour(word["attribution"] / largest))
        line.append(" ")
    screen.print(line)
    grid = _grid()
    grid.add_column("Word")
    grid.add_column(f"for {escape(prediction.label)}", justify="right")
    grid.add_column("", min_width=20)
    for word in sorted(words, key=lambda w: -abs(w["attribution"]))[:STRONGEST_WORDS]:
        share = word["attribution"]
        bar = ("+" if share > 0 else "-") * max(1, round(20 * abs(share) / largest))
        grid.add_row(escape(_printable(word["word"])), f"{share:+.3f}", bar)
    screen.print(grid)
    screen.print(
        f"Words {sum(w['attribution'] for w in words):+.3f}, start and end tokens "
        f"{explained['special']:+.3f}; score against a blank text {explained['difference']:+.3f} "
        "logits.", markup=False,
    )  # fmt: skip


def _screen() -> Console:
    return Console(width=None if sys.stdout.isatty() else 100, highlight=False)


def _grid() -> Table:
    return Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)


def _colour(share: float) -> str:
    if abs(share) < FAINT:
        return ""
    if share < 0:
        return "red"
    return "bold green" if share > STRONG else "green"


def _printable(text: str) -> str:
    """Shorten a text and drop what would move a terminal's cursor or turn its writing around."""
    whole = "".join(c if c.isprintable() else " " for c in text[: SHOWN_CHARACTERS * 4])
    short = " ".join(whole.split())
    return short if len(short) <= SHOWN_CHARACTERS else short[: SHOWN_CHARACTERS - 1] + "…"
