"""The files that hold a model's weights: one safetensors file, or shards of it and an index."""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cleantune import files
from cleantune.errors import UserError

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
"""Lists in which shard each weight is, where there are several."""
SHARD = "500MB"
"""How large a shard is at most; a single weight may be larger."""


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


def precision(folder: Path) -> str | None:
    """Return the one floating-point type of the weights in ``folder``, as torch calls it; None if there are several."""
    from safetensors import safe_open

    known = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
    found = set()
    for path in of(folder):
        with safe_open(path, framework="numpy") as opened:
            found |= {opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118 - no mapping
    found = {kind for kind in found if "F" in kind}
    return known.get(found.pop()) if len(found) == 1 else None


def write(shapes: Mapping[str, Any], value: Callable[[str], Any], folder: Path | None) -> None:
    """Write weights to ``folder``, a shard of at most ``SHARD`` at a time; no more of them is held.

    ``shapes`` are tensors on torch's meta device, ``value`` returns a weight by its name. Several processes that
    gather weights call ``value`` in the same order; without a ``folder`` nothing is kept or written.
    """
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    pattern = WEIGHTS.replace(".", "{suffix}.")
    plan = split_torch_state_dict_into_shards(
        dict(shapes), filename_pattern=pattern, max_shard_size=SHARD
    )
    for file, names in plan.filename_to_tensors.items():
        shard = {}
        for name in names:
            weight = value(name)
            if folder:
                shard[name] = weight.contiguous()
        if folder:
            save_file(shard, folder / file, metadata={"format": "pt"})
    if folder and plan.is_sharded:
        files.write_json(
            folder / INDEX, {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        )


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
