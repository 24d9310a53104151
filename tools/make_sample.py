"""Write the corpus in data/sample/ from the phrase bank beside it: the same bytes every time.

    python -m tools.make_sample

A document is a title and a lead of one frame, mostly a detail, sometimes a detail of another topic,
sometimes a closing sentence that any topic could have; then the artifacts of AG News are put in.
Two frames in five stand in the test file only, so that its documents tell of events no
training document has told of. Wrong labels, duplicates and leaks are put in last, and listed.
"""

import argparse
import csv
import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from cleantune import console, files

FOLDER = Path("data/sample")
TOPICS = {"World": "world", "Sports": "sports", "Business": "business", "Sci/Tech": "scitech"}
SEED = 2004
DISTINCT = {"train": 410, "test": 112}  # documents a topic before duplicates
OWN_DETAIL = 0.5  # chance that a detail belongs to the event, when it has not been told yet
OTHER_TOPIC = 0.6  # share of documents with a detail of another topic
WRONG = 0.05  # share of the training labels
EXACT, NEAR, TWO_LABELS, LEAKS = 26, 34, 6, 10
# Given label when a label is wrong: the topics that people confuse.
CONFUSED = {
    "World": ["Business", "Business", "Sci/Tech", "Sports"],
    "Sports": ["World", "World", "Business"],
    "Business": ["Sci/Tech", "Sci/Tech", "World"],
    "Sci/Tech": ["Business", "Business", "World"],
}


@dataclass(frozen=True)
class Document:
    """One row, with the label it carries and the one it should."""

    title: str
    text: str
    true: str
    given: str


def main() -> None:
    """Write the corpus."""
    argparse.ArgumentParser(prog="python -m tools.make_sample", description=__doc__,
                            formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()  # fmt: skip
    write_corpus()


def write_corpus() -> None:
    """Write train.csv, test.csv, known_errors.csv and known_duplicates.csv."""
    argparse.ArgumentParser(prog="python -m tools.make_sample", description=__doc__,
                            formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()  # fmt: skip
    console.title("make_sample", "write the corpus in data/sample")
    yaml = YAML(typ="safe")
    bank = {t: yaml.load(FOLDER / "phrases" / f"{name}.yaml") for t, name in TOPICS.items()}
    shared = yaml.load(FOLDER / "phrases" / "shared.yaml")
    draw = random.Random(SEED)
    train = [d for t in TOPICS for d in write_topic(t, bank, shared, "train", draw)]
    test = [d for t in TOPICS for d in write_topic(t, bank, shared, "test", draw)]
    draw.shuffle(train)
    draw.shuffle(test)

    for i in draw.sample(range(len(train)), round(WRONG * len(train))):
        train[i] = replace(train[i], given=draw.choice(CONFUSED[train[i].true]))
    copies = list(duplicates(train, test, draw))

    save("train.csv", [row(d) for d in train])
    save("test.csv", [row(d) for d in test])
    errors = [(i, d.given, d.true, d.title) for i, d in enumerate(train, 1) if d.given != d.true]
    save("known_errors.csv", [("row", "given", "true", "title"), *errors], csv.QUOTE_MINIMAL)
    header = ("kind", "file", "row", "of_file", "of_row")
    save("known_duplicates.csv", [header, *copies], csv.QUOTE_MINIMAL)
    rows = [("training documents", len(train)), ("wrong labels", len(errors)),
            ("test documents", len(test)), ("copies", len(copies))]  # fmt: skip
    console.table("the corpus", ["", "rows"], rows)


def write_topic(
    topic: str, bank: dict[str, Any], shared: Any, split: str, draw: random.Random
) -> Iterator[Document]:
    """Yield the distinct documents of one topic for one file."""
    frames = bank[topic]["frames"]
    allowed = [f for i, f in enumerate(frames) if split == "test" or i % 5 < 3]
    told: set[tuple[int, ...]] = set()
    for i in range(DISTINCT[split]):
        frame = allowed[i % len(allowed)]
        wording = draw.randrange(2)  # title, lead and detail of one wording tell of one event
        sentences = [(topic, frame["title"][wording]), (topic, frame["lead"][wording])]
        # The first text of a wording has the detail of that wording, the others each another one.
        details = list(itertools.product(range(len(frames)), range(2)))
        draw.shuffle(details)
        details = [d for d in details if (i % len(allowed), wording, *d) not in told]
        own = (frames.index(frame), wording)
        detail = own if own in details and draw.random() < OWN_DETAIL else details[0]
        told.add((i % len(allowed), wording, *detail))
        sentences.append((topic, frames[detail[0]]["detail"][detail[1]]))
        if draw.random() < OTHER_TOPIC:
            other = draw.choice([t for t in TOPICS if t != topic])
            aside = draw.choice(draw.choice(bank[other]["frames"])["detail"])
            sentences.insert(draw.choice([2, 3]), (other, aside))
        elif draw.random() < 0.8:
            sentences.append((topic, draw.choice(shared["closers"])))
        cast: dict[str, list[str]] = {}
        slots = {t: {**shared["slots"], **bank[t]["slots"]} for t in TOPICS}
        title, *said = [fill(s, slots[t], cast, draw) for t, s in sentences]
        agency = draw.choice(["Reuters", "AP", "AFP"])
        if draw.random() < 0.25:
            title += f" ({agency})"
        text = with_artifacts(dateline(agency, shared, draw) + " ".join(said), draw)
        yield Document(with_artifacts(title, draw), text, topic, topic)


def fill(
    sentence: str, slots: dict[str, list[str]], cast: dict[str, list[str]], draw: random.Random
) -> str:
    """Fill the slots of a sentence; the nth club of a title is the nth club of the text too."""
    seen: dict[str, int] = {}

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name == "count":
            return str(draw.randint(12, 900))
        if name == "percent":
            return f"{draw.uniform(0.3, 28):.1f}"
        if name == "money":
            return f"{draw.uniform(1.1, 9.8):.1f} {draw.choice(['million', 'billion'])}"
        role = "person" if name == "surname" else name
        players = cast.setdefault(role, draw.sample(slots[role], len(slots[role])))
        seen[role] = seen.get(role, 0) + 1
        player = players[(seen[role] - 1) % len(players)]
        return player.rsplit(" ", 1)[-1] if name == "surname" else player

    said = re.sub(r"\{(\w+)\}", value, sentence)
    return said[0].upper() + said[1:]


def dateline(agency: str, shared: Any, draw: random.Random) -> str:
    """Return where and by whom, in one of the forms that agencies use, or nothing."""
    city = draw.choice(shared["slots"]["city"])
    forms = [f"{city.upper()} ({agency}) - ", f"{agency} - ", f"{city.upper()} -- ", "", ""]
    return draw.choice(forms)


def with_artifacts(text: str, draw: random.Random) -> str:
    r"""Damage a text as AG News is damaged: ``#39;``, escaped tags, a backslash for a line break."""
    if draw.random() < 0.5:
        text = text.replace("'", draw.choice([" #39;", "#39;"]))
    if draw.random() < 0.3:
        text = text.replace(" and ", " &amp; ", 1)
    if draw.random() < 0.04:
        words = text.split(" ")
        at = draw.randrange(len(words))
        words[at] = (
            f'&lt;A HREF="http://www.example.com/full/{draw.randint(1000, 9999)}"&gt;{words[at]}&lt;/A&gt;'
        )
        text = " ".join(words)
    if draw.random() < 0.08:
        words = text.split(" ")
        at = draw.randrange(1, len(words))
        text = " ".join(words[:at]) + "\\" + " ".join(words[at:])
    return text


def duplicates(
    train: list[Document], test: list[Document], draw: random.Random
) -> Iterator[tuple[str, str, int, str, int]]:
    """Append copies to both files and yield what is a copy of what (rows count from 1)."""
    originals = draw.sample(range(len(train)), EXACT + NEAR + TWO_LABELS + LEAKS)
    for n, i in enumerate(originals):
        original = train[i]
        if n < EXACT:
            kind, copy, to = "exact", original, train
        elif n < EXACT + NEAR:
            kind, copy, to = "near", replace(original, text=nearly(original.text, draw)), train
        elif n < EXACT + NEAR + TWO_LABELS:
            other = draw.choice([t for t in CONFUSED[original.true] if t != original.given])
            kind, copy, to = "two labels", replace(original, given=other), train
        else:
            text = original.text if n % 2 else nearly(original.text, draw)
            kind, copy, to = "leak", replace(original, text=text, given=original.true), test
        to.append(copy)
        yield kind, "test.csv" if to is test else "train.csv", len(to), "train.csv", i + 1


def nearly(text: str, draw: random.Random) -> str:
    """Return the text as another agency would carry it: another dateline, or its end cut off."""
    body = re.sub(r"^(.{0,30}\([A-Z]\w+\) - |[A-Z]+ - |[A-Z ]+ -- )", "", text)
    if draw.random() < 0.5:
        return draw.choice(["AP - ", "WASHINGTON (Reuters) - ", "LONDON (AFP) - "]) + body
    return " ".join(text.split(" ")[: -draw.randint(2, 3)]) + " ..."


def row(document: Document) -> tuple[object, ...]:
    """Return a document as AG News has it: class index from 1, title, description."""
    return list(TOPICS).index(document.given) + 1, document.title, document.text


def save(name: str, rows: list[tuple[object, ...]], quoting: Any = csv.QUOTE_ALL) -> None:
    """Write rows as CSV with LF line ends."""
    with (
        files.atomic_file(FOLDER / name) as part,
        part.open("w", encoding="utf-8", newline="") as f,
    ):
        csv.writer(f, quoting=quoting, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    console.run(main)
