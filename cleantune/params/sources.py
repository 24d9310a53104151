"""Where base models and corpora come from: ``models`` and ``datasets`` in params.yaml."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cleantune.params.fields import Labels, Revision, Section, Sha256, Text


class Model(Section):
    """Where a base model comes from."""

    hub: str
    """Repository on the Hugging Face Hub."""
    revision: Revision
    """Commit of that repository."""
    package: str | None
    """Python package that carries the same files in its folder ``model``."""
    sha256: Sha256 | None
    """Of ``model.safetensors``; checked wherever the model was found."""


class Columns(Section):
    """Where a corpus file keeps what: a column's name, or its position if there is no header."""

    label: Text
    title: Text | None
    text: Text


class CorpusFile(Section):
    """One file of a corpus."""

    path: Annotated[str, Field(min_length=1)]
    """A path, relative to the repository or absolute, or an http(s) URL."""
    sha256: Sha256 | None
    """Of its bytes; checked when given."""


class CorpusFiles(Section):
    """The files of a corpus."""

    train: CorpusFile
    test: CorpusFile | None
    """Null: ``test_share`` of the documents in the other file are the test set."""


class HubCorpus(Section):
    """A corpus on the Hugging Face Hub, as Parquet files at a pinned commit."""

    repo: str
    revision: Revision
    train: str
    test: str | None
    """Null: as in ``files``."""
    columns: Columns
    labels: Labels


class Dataset(Section):
    """One entry of ``datasets``."""

    hub: HubCorpus | None
    """Tried first when given."""
    files: CorpusFiles | None
    """The only source when ``hub`` is null, else the one to turn to when the Hub has failed."""
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet"]
    """Of ``files``; auto goes by the ending."""
    header: bool
    """Whether the first line of a CSV or TSV names the columns."""
    columns: Columns
    labels: Labels
    """Value in the file to name; empty means that the values, sorted, are the names."""
    test_share: Annotated[float, Field(gt=0, lt=1)]
    """Of the documents, chosen by a hash of their text, where no file is the test set."""
    licence: str

    @model_validator(mode="after")
    def _has_a_source(self) -> "Dataset":
        if self.hub is None and self.files is None:
            raise ValueError("datasets: an entry needs `hub` or `files`, and has neither")
        return self
