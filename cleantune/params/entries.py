"""Adding an entry to ``datasets`` in params.yaml, and taking it out: no other line of the file changes."""

import io
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from cleantune import files
from cleantune.errors import UserError
from cleantune.params.messages import problems
from cleantune.params.read import PARAMS_FILE

SECTION = "datasets"
INDENT = "  "
FLOW = ("train", "test", "validation", "columns", "labels")  # on one line


def entries(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Return the entries of ``datasets`` as they are in the file."""
    found: dict[str, Any] = _load(path.read_text(encoding="utf-8"))[SECTION]
    return found


def with_entry(text: str, name: str, entry: dict[str, Any], comment: str) -> str:
    """Return params.yaml's ``text`` with an entry added at the end of ``datasets``, or replaced.

    Raises ``UserError`` when the entry is not a valid one.
    """
    before = _load(text)
    lines = without_entry(text, name).splitlines(keepends=True) if name in before[SECTION] else None
    lines = lines or text.splitlines(keepends=True)
    _, end = _block(lines, rf"{SECTION}:")
    lines[end:end] = _as_yaml(name, entry, comment).splitlines(keepends=True)
    changed = "".join(lines)
    _check(changed, before[SECTION] | {name: entry}, before)
    return changed


def without_entry(text: str, name: str) -> str:
    """Return params.yaml's ``text`` without an entry of ``datasets``."""
    before = _load(text)
    lines = text.splitlines(keepends=True)
    start, _ = _block(lines, rf"{SECTION}:")
    first, end = _block(lines, rf"{INDENT}{_key(name)}:", start)
    del lines[first:end]
    changed = "".join(lines)
    _check(changed, {k: v for k, v in before[SECTION].items() if k != name}, before)
    return changed


def block(text: str, name: str) -> str:
    """Return the lines of an entry."""
    lines = text.splitlines(keepends=True)
    start, _ = _block(lines, rf"{SECTION}:")
    first, end = _block(lines, rf"{INDENT}{_key(name)}:", start)
    return "".join(lines[first:end]).rstrip()


def _key(name: str) -> str:
    return rf"(?:{re.escape(name)}|'{re.escape(name)}'|\"{re.escape(name)}\")"


def _block(lines: list[str], key: str, start: int = 0) -> tuple[int, int]:
    """Return the lines of a key and of what is indented below it, without blank ones at the end."""
    first = next((i for i in range(start, len(lines)) if re.match(key, lines[i])), None)
    if first is None:
        raise UserError(f"{PARAMS_FILE} has no {key.strip(' :')} on a line of its own.")
    depth = len(lines[first]) - len(lines[first].lstrip())
    end = first + 1
    for i in range(first + 1, len(lines)):
        content = lines[i].strip()
        indent = len(lines[i]) - len(lines[i].lstrip())
        if content and indent <= depth:
            break
        if content:
            end = i + 1
    return first, end


def _as_yaml(name: str, entry: dict[str, Any], comment: str) -> str:
    """Return an entry in the form that the others have."""
    yaml = YAML()
    yaml.width = 10_000
    yaml.allow_unicode = True
    yaml.representer.add_representer(
        type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    out = io.StringIO()
    yaml.dump({SECTION: {name: _in_form(entry)}}, out)
    block = out.getvalue().split("\n", 1)[1]
    first, rest = block.split("\n", 1)
    return f"{first} # {comment}\n{rest}"


def _in_form(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        made = CommentedMap({_in_form(k): _in_form(v, k) for k, v in value.items()})
        if key in FLOW:
            made.fa.set_flow_style()
        return made
    if isinstance(value, list):
        return [_in_form(one) for one in value]
    # Quoted, digits stay text however the file is written again.
    return (
        DoubleQuotedScalarString(value) if isinstance(value, str) and _looks_other(value) else value
    )


def _looks_other(value: str) -> bool:
    return not isinstance(YAML(typ="safe").load(value) if value.isascii() and "\n" not in value
                          and re.fullmatch(r"[\w.+-]+", value) else value, str)  # fmt: skip


def _check(text: str, wanted: dict[str, Any], before: dict[str, Any]) -> None:
    """Raise ``UserError`` unless ``text`` reads as ``before`` with other ``datasets``, and is valid."""
    after = _load(text)
    if after != before | {SECTION: wanted}:
        raise UserError(f"{PARAMS_FILE} is laid out in a way that cannot be changed line by line.")
    if wrong := problems(after):
        raise UserError(f"{PARAMS_FILE} would be wrong:\n" + "\n".join(f"  {p}" for p in wrong))


def _load(text: str) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe").load(text)
    return content


def write(text: str, path: Path = PARAMS_FILE) -> None:
    """Write params.yaml, whole or not at all."""
    files.write_text(path, text)
