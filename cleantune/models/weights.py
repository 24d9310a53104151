"""The files that hold a model's weights: one safetensors file, or shards of it and an index."""

import hashlib
import shutil
from pathlib import Path

from cleantune import files
from cleantune.errors import UserError

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
"""Lists in which shard each weight is; transformers writes it where one file would be too large."""


def shards(folder: Path) -> list[str]:
    """Return the names of the shards that the index in ``folder`` lists; none without an index.

    Raises ``UserError`` for an index that cannot be read or names anything but safetensors beside it:
    other formats can carry code, and another folder's files are not those that were recorded.
    """
    path = folder / INDEX
    names = sorted(set(_index(folder).values())) if path.is_file() else []
    for name in names:
        if not name.endswith(".safetensors") or Path(name).name != name:
            raise UserError(
                f"{path} names {name!r}: only safetensors files beside it are accepted."
            )
    return names


def of(folder: Path) -> list[Path]:
    """Return the files of the weights in ``folder``: one, or the shards that its index lists.

    Where there are both, transformers loads the one file. Empty where there is neither.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    return [folder / name for name in shards(folder)]


def fault(folder: Path) -> str | None:
    """Return what is wrong with the weights in ``folder``, by their files' headers; None if nothing is."""
    from safetensors import SafetensorError, safe_open

    paths = of(folder)
    if not paths:
        return f"no {WEIGHTS}"
    if missing := [path.name for path in paths if not path.is_file()]:
        return f"{INDEX} lists {len(paths)} files, without {', '.join(missing)}"
    held: dict[str, set[str]] = {}
    for path in paths:
        try:
            with safe_open(path, framework="numpy") as opened:
                held[path.name] = set(opened.keys())
        except (SafetensorError, OSError) as error:
            return f"{path.name}: {error}"
    for weight, name in _index(folder).items() if WEIGHTS not in held else ():
        if weight not in held[name]:
            return f"{name} lacks {weight}, which {INDEX} says it has"
    return None


def sha256(folder: Path) -> str:
    """Return the SHA-256 of the weights in ``folder``: of the one file, or of the shards' names and digests."""
    paths = of(folder)
    if len(paths) == 1:
        return files.sha256(paths[0])
    listed = "".join(f"{files.sha256(path)}  {path.name}\n" for path in paths)
    return hashlib.sha256(listed.encode()).hexdigest()


def copy(folder: Path, out: Path) -> None:
    """Copy the weights in ``folder``, with their index, to the folder ``out``."""
    paths = of(folder)
    for path in paths if paths == [folder / WEIGHTS] else [*paths, folder / INDEX]:
        shutil.copyfile(path, out / path.name)


def _index(folder: Path) -> dict[str, str]:
    """Return the name of each weight's shard."""
    path = folder / INDEX
    try:
        return {
            str(weight): str(name) for weight, name in files.read_json(path)["weight_map"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise files.damaged(path, error) from None
