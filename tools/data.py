"""Bring labelled files in: find how they are laid out, say what was decided, write it to params.yaml.

    python -m tools.data add reviews.csv
    python -m tools.data add train.csv --test test.csv --label-names 0=bad,1=good
    python -m tools.data add https://example.org/reviews.tsv --name reviews
    python -m tools.data list
    python -m tools.data show reviews
    python -m tools.data remove reviews

`add` takes a file, a folder (of train and test files, or of a folder of texts for each class), a zip
archive or a URL. It never asks: where two readings are likely, it shows both and names the flag, and
writes nothing. The files go to data/custom/NAME, in git or, over 1 MB, in DVC.
"""

import argparse
import re
import shutil
import tempfile
import unicodedata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cleantune import console, files
from cleantune.data import fetch, splits
from cleantune.data.layouts import Flags
from cleantune.data.proposal import Options, Proposal, propose
from cleantune.data.splits import Piece
from cleantune.errors import UserError
from cleantune.params import entries
from cleantune.params.read import PARAMS_FILE, read_params
from cleantune.params.sources import Dataset
from tools import data_files, data_report

SEPARATORS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
NAME = re.compile(r"[^\W\d_][\w-]{0,39}")
DEFAULT = "sample"  # the corpus in use after the one in use was removed


def main() -> None:
    """Do what the command line asks for."""
    arguments = _arguments()
    read_params([])
    if arguments.action == "add":
        add(arguments)
    elif arguments.action == "list":
        data_report.show_list(read_params(("dataset", "datasets")))
    elif arguments.action == "show":
        show(arguments.name)
    else:
        remove(arguments.name)


def add(arguments: argparse.Namespace) -> None:
    """Recognise the files, report, and write the entry and the files unless it is a dry run."""
    unfinished = Path(tempfile.mkdtemp(prefix="cleantune-"))
    try:
        pieces, names, urls = _inputs(arguments, unfinished)
        name = _entry_name(arguments.name, arguments.file[0])
        flags, options = _flags(arguments), _options(arguments)
        found = propose(pieces, names, flags, options)
        paths = data_files.destinations(name, found.files, urls)
        found.entry["files"] = _files(found, paths, urls)
        text = PARAMS_FILE.read_text(encoding="utf-8")
        comment = "added by tools.data from " + ", ".join(
            dict.fromkeys(Path(names[split]).name for split in found.files)
        )
        changed = entries.with_entry(text, name, found.entry, comment[:100])
        data_report.show_proposal(name, found, names)
        if arguments.dry:
            console.say("--dry: nothing is written")
            return
        with data_files.placed(name, found.files, paths, found.entry["format"]):
            entries.write(changed)
        console.say(f"wrote the entry `{name}` to {PARAMS_FILE}")
        console.say(f"next: dvc exp run -S {data_report.override(name)}")
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def show(name: str) -> None:
    """Print an entry, and what its files give where they are here."""
    entry = _entry(name)
    console.say(entries.block(PARAMS_FILE.read_text(encoding="utf-8"), name))
    data_report.show_documents(name, entry)


def remove(name: str) -> None:
    """Take an entry out of params.yaml, and its files out of data/custom, git and DVC."""
    entry = _entry(name)
    own = data_files.folder(name)
    given = [f for f in ((entry.files.train, entry.files.test, entry.files.validation)
                         if entry.files else ()) if f]  # fmt: skip
    if entry.hub or not all(
        fetch.is_url(f.path) or Path(f.path).is_relative_to(own) for f in given
    ):
        raise UserError(f"{name} came with this repository, not from `tools.data add`: it stays.")
    text = PARAMS_FILE.read_text(encoding="utf-8")
    if read_params(("dataset",)).dataset == name:
        text = re.sub(r"(?m)^dataset:[ ]*\S+", f"dataset: {DEFAULT}", text)
        console.say(f"dataset: {DEFAULT} again, for {name} was in use")
    changed = entries.without_entry(text, name)
    data_files.untrack(name)
    entries.write(changed)
    console.say(f"removed the entry `{name}` and {own}")


def _entry(name: str) -> Dataset:
    found = read_params(("datasets",)).datasets
    if name not in found:
        raise UserError(f"{PARAMS_FILE} has no dataset {name}; it has {', '.join(found)}.")
    return found[name]


def _inputs(
    arguments: argparse.Namespace, folder: Path
) -> tuple[dict[str, Piece], dict[str, str], dict[str, str]]:
    """Return the pieces by split, their names for messages, and the URLs of those that have one."""
    given = {"train": arguments.file[0], "test": arguments.test, "validation": arguments.validation}
    if len(arguments.file) > 1:
        found = splits.by_split(arguments.file)
        if len(found) < len(arguments.file) or arguments.test or arguments.validation:
            raise UserError(
                f"{len(arguments.file)} files whose names do not say which is train and which is test: "
                "give the training file alone, and the others with --test and --validation."
            )
        given |= found
    pieces: dict[str, Piece] = {}
    names, urls = {}, {}
    for split, source in given.items():
        if not source:
            continue
        path = fetch.from_url(source, folder) if fetch.is_url(source) else Path(source)
        if not path.exists():
            raise UserError(f"{source} does not exist.")
        part = arguments.part if split == "train" else None
        inside = {"train": Piece(path)} if arguments.lines else splits.pieces(path, part, source)
        if split == "train" and len(given) - list(given.values()).count(None) == 1:
            for other, piece in inside.items():
                pieces[other] = piece
                names[other] = _name_of(source, path, piece)
                if fetch.is_url(source):
                    urls[other] = source
        else:
            pieces[split] = inside["train"]
            names[split] = _name_of(source, path, inside["train"])
            if fetch.is_url(source):
                urls[split] = source
    return {s: pieces[s] for s in splits.ORDER if s in pieces}, names, urls


def _name_of(source: str, path: Path, piece: Piece) -> str:
    inside = piece.path.relative_to(path).as_posix()
    name = source if inside == "." else f"{source.rstrip('/')}/{inside}"
    return f"{name}, {piece.part}" if piece.part else name


def _files(found: Proposal, paths: dict[str, Path], urls: dict[str, str]) -> dict[str, object]:
    """Return the ``files`` of the entry."""
    made: dict[str, object] = {"train": None, "test": None}
    for split, piece in found.files.items():
        url = urls.get(split)
        path = url or paths[split].as_posix()
        part = {"part": piece.part} if piece.part else {}
        made[split] = {"path": path, **part, "sha256": files.sha256(piece.path) if url else None}
    return made


def _entry_name(given: str | None, source: str) -> str:
    """Return the name of the entry: as given, else made of the file's name in ASCII."""
    existing = entries.entries()
    if given:
        if not NAME.fullmatch(given):
            raise UserError(f"--name {given}: a name is a letter, then letters, digits, _ or -.")
        name = given
    else:
        path = urlsplit(source).path if fetch.is_url(source) else str(Path(source).resolve())
        stem = Path(unquote(path)).name.split(".")[0]
        if splits.split_of(stem):
            stem = splits.without_split(stem) or Path(path).parent.name or stem
        plain = unicodedata.normalize("NFKD", stem.replace("ı", "i").replace("ß", "ss"))
        letters = re.sub(r"[^a-z0-9]+", "_", plain.encode("ascii", "ignore").decode().lower())
        name = letters.strip("_0123456789")[:40] or "corpus"
    if name in existing and not data_files.is_added(existing[name]):
        raise UserError(
            f"{name} is the name of a dataset that came with this repository. Give another: --name my_{name}"
        )
    return name


def _flags(arguments: argparse.Namespace) -> Flags:
    separator = SEPARATORS.get(arguments.separator or "", arguments.separator)
    if separator and len(separator) > 1:
        raise UserError(f"--separator {separator}: one character, or tab, comma, semicolon, pipe.")
    return Flags(
        text=arguments.text,
        title=arguments.title,
        label=arguments.label,
        metadata=[m for m in (arguments.metadata or "").split(",") if m],
        encoding=arguments.encoding,
        separator=separator,
        quote=arguments.quote,
        lines=arguments.lines,
        header=arguments.header,
        join=arguments.join,
        label_separator=arguments.label_separator,
    )


def _options(arguments: argparse.Namespace) -> Options:
    names = {}
    for pair in re.split(r",(?=[^,=]+=)", arguments.label_names or ""):
        value, equals, name = pair.partition("=")
        if pair and not (equals and value.strip() and name.strip()):
            raise UserError(f"--label-names {pair}: write VALUE=NAME, and a comma between several.")
        if pair:
            names[value.strip()] = name.strip()
    return Options(
        label_names=names,
        decode_bytes=arguments.decode_bytes,
        min_documents=arguments.min_documents,
        other=arguments.other,
        test_share=arguments.test_share,
        licence=arguments.licence,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.data", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    actions = parser.add_subparsers(dest="action", required=True)
    of_add = actions.add_parser("add", help="bring files in")
    of_add.add_argument(
        "file", nargs="+", help="a file, a folder, a URL; or files named train, test"
    )
    of_add.add_argument("--name", help="of the entry (default: from the file's name)")
    of_add.add_argument("--test", help="the file of the test set")
    of_add.add_argument("--validation", help="the file of the validation set")
    of_add.add_argument("--part", help="sheet of a workbook, member of a zip archive, key of JSON")
    columns = of_add.add_argument_group("columns, by name or by position counted from 0")
    columns.add_argument("--text", help="the column of the texts")
    columns.add_argument("--title", help="the column of titles; none: there is none")
    columns.add_argument("--label", help="the column of the labels")
    columns.add_argument("--metadata", help="columns that travel with the documents: source,date")
    layout = of_add.add_argument_group("layout")
    layout.add_argument("--encoding", help="utf-8, cp1252, gb18030 or another of Python's names")
    layout.add_argument(
        "--separator", help="between columns: a character, or tab, comma, semicolon"
    )
    layout.add_argument("--quote", choices=["'", '"'], help="what encloses fields of a table")
    layout.add_argument("--header", action=argparse.BooleanOptionalAction, default=None,
                        help="whether the first row names the columns")  # fmt: skip
    layout.add_argument("--join", metavar="SEPARATOR",
                        help="join fields beyond the last column to the text")  # fmt: skip
    layout.add_argument("--lines", action="store_true",
                        help="of a folder: each file is a class, each line a document")  # fmt: skip
    layout.add_argument(
        "--decode-bytes", action="store_true", help="decode b'...' literals of Python"
    )
    labels = of_add.add_argument_group("labels")
    labels.add_argument("--label-names", metavar="0=bad,1=good", help="the names of the classes")
    labels.add_argument("--label-separator", metavar="SEPARATOR",
                        help="leave out documents with several labels, this between them")  # fmt: skip
    labels.add_argument(
        "--min-documents", type=int, default=1, help="of a class; leave out smaller ones"
    )
    labels.add_argument("--other", metavar="NAME", help="merge the smaller classes into one")
    of_add.add_argument("--test-share", type=float, default=0.2,
                        help="of the documents, where there is no test file (default: %(default)s)")  # fmt: skip
    of_add.add_argument("--licence", default="unknown", help="of the corpus, for the model card")
    of_add.add_argument("--dry", action="store_true", help="say what would be done, write nothing")
    actions.add_parser("list", help="list the entries of `datasets`")
    for name, help_ in (
        ("show", "show an entry and its first documents"),
        ("remove", "undo `add`"),
    ):
        actions.add_parser(name, help=help_).add_argument("name")
    return parser.parse_args()


if __name__ == "__main__":
    console.run(main)
