"""The files of a corpus, from the source that ``datasets`` in params.yaml names for it."""

from pathlib import Path
from typing import NamedTuple

from cleantune import console
from cleantune.data import fetch
from cleantune.data.reading import Reading, reading_of
from cleantune.data.records import Layout
from cleantune.errors import UserError
from cleantune.params.sources import CorpusFile, Dataset, HubCorpus

UNFINISHED = Path(".checkpoints/download")  # DVC empties data/raw before each run, so not there


class Source(NamedTuple):
    """Where the corpus came from and how that source is laid out."""

    kind: str
    """hub or files."""
    paths: dict[str, Path]
    """Of each split that has a file of its own."""
    names: dict[str, str]
    """Of the files, for a person to find them by."""
    parts: dict[str, str | None]
    """Of each file, ``CorpusFile.part``."""
    reading: Reading
    labels: dict[str, str]


def from_hub_or_files(name: str, dataset: Dataset) -> Source:
    """Fetch from the Hub, and where that fails from the other source if there is one."""
    if dataset.hub is None:
        return _from_files(name, dataset)
    try:
        return _from_hub(dataset.hub)
    except fetch.UnreachableError as error:
        if dataset.files is None:
            raise
        console.say(f"{error}\ntrying the other source of {name}")
        try:
            return _from_files(name, dataset)
        except fetch.UnreachableError as other:
            raise UserError(f"{error}\n{other}") from None


def _from_hub(hub: HubCorpus) -> Source:
    wanted = {"train": hub.train} | ({"test": hub.test} if hub.test else {})
    return Source(
        kind="hub",
        paths={s: fetch.from_hub(hub.repo, hub.revision, path) for s, path in wanted.items()},
        names={s: f"{hub.repo}@{hub.revision}/{path}" for s, path in wanted.items()},
        parts=dict.fromkeys(wanted),
        reading=Reading(Layout("auto"), hub.columns),
        labels=dict(hub.labels),
    )


def _from_files(name: str, dataset: Dataset) -> Source:
    assert dataset.files is not None  # params.py holds that one of the two is given
    given = (("train", dataset.files.train), ("test", dataset.files.test),
             ("validation", dataset.files.validation))  # fmt: skip
    wanted = {split: file for split, file in given if file}
    return Source(
        kind="files",
        paths={s: _local(file, f"datasets.{name}.files.{s}") for s, file in wanted.items()},
        names={s: file.path for s, file in wanted.items()},
        parts={s: file.part for s, file in wanted.items()},
        reading=reading_of(dataset),
        labels=dict(dataset.labels),
    )


def _local(file: CorpusFile, key: str) -> Path:
    """Return the path of a file that is here and has the bytes it should have."""
    if fetch.is_url(file.path):
        return fetch.from_url(file.path, UNFINISHED, file.sha256)
    if not Path(file.path).exists():
        tracked = (
            "" if Path(file.path).is_absolute() else
            f" If it is in your folder, git does not know it: `dvc exp run --queue` and `--temp` see "
            f"only what is tracked. Before them, run `git add {file.path}`, or `dvc add {file.path}` if "
            "it is too large for git or not to be published."
        )  # fmt: skip
        raise UserError(f"{file.path} does not exist. Correct {key}.path in params.yaml.{tracked}")
    fetch.check(Path(file.path), file.sha256, file.path)
    return Path(file.path)
