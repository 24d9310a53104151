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
    """Of ``model.safetensors``, or of lines with the digest and name of each shard; checked wherever the model was found."""


class Columns(Section):
    """Where a corpus file keeps what: a column's name, or its position if there is no header."""

    label: Text
    title: Text | None
    text: Text
    metadata: Annotated[list[Text], Field(default_factory=list)]
    """Further columns that travel with the documents, as text: a source, a date."""


class CorpusFile(Section):
    """One file of a corpus."""

    path: Annotated[str, Field(min_length=1)]
    """A path, relative to the repository or absolute, or an http(s) URL. A folder for ``folders``."""
    part: str | None = None
    """Of a file that holds several: the sheet of a workbook, the member of a zip archive, the key of
    a JSON object. Null: the only one."""
    sha256: Sha256 | None
    """Of its bytes; of a folder, of its files' names and digests. Checked when given."""


class CorpusFiles(Section):
    """The files of a corpus."""

    train: CorpusFile
    test: CorpusFile | None
    """Null: ``test_share`` of the documents in the training file are the test set."""
    validation: CorpusFile | None = None
    """Null: ``clean.validation_share`` of the training documents are the validation set."""


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
    format: Literal[
        "auto", "csv", "tsv", "jsonl", "json", "parquet", "excel", "fasttext", "folders", "lines"
    ]
    """Of ``files``; auto goes by the ending. ``folders`` is a folder of text files for each class,
    ``lines`` a folder with a file for each class, a document on each line.
    Compression (gzip, bz2, xz, zstd, zip) is found by the file's first bytes."""
    encoding: str = "utf-8"
    """Of a format of text, by Python's name of the codec. A byte order mark is always removed."""
    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Of columns. Null: a comma for CSV, a tab for TSV."""
    quote: Literal['"', "'"] = '"'
    """What encloses a field of a CSV that holds a separator; doubled inside it."""
    surplus: str | None = None
    """What joins fields beyond the last named column to the text. Null: such a row is an error."""
    bytes_literals: bool = False
    """Whether texts are Python's ``b'...'`` literals of UTF-8 and are decoded."""
    label_separator: str | None = None
    """Between several labels of one document. Documents with more than one are left out. Null: the
    value is one label whatever it holds."""
    skip_unlabelled: bool = False
    """Whether rows without a label are left out; else such a row is an error."""
    header: bool
    """Whether the first row of a table names the columns; of JSON, whether keys do."""
    columns: Columns
    labels: Labels
    """Value in the file to name; empty means that the values, sorted, are the names."""
    min_documents: Annotated[int, Field(ge=1)] = 1
    """Of a class, in all files together; classes with fewer go to ``other``."""
    other: str | None = None
    """The name of the class that small classes are merged into. Null: their documents are left out."""
    test_share: Annotated[float, Field(gt=0, lt=1)]
    """Of the documents, chosen by a hash of their text, where no file is the test set."""
    licence: str

    @model_validator(mode="after")
    def _has_a_source(self) -> "Dataset":
        if self.hub is None and self.files is None:
            raise ValueError("datasets: an entry needs `hub` or `files`, and has neither")
        return self
