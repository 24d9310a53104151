"""Finding a base model and, frozen, turning texts into vectors."""

import importlib.util
from pathlib import Path

from stages.common import files
from stages.common.errors import UserError
from stages.common.params import Model

WEIGHTS = "model.safetensors"
PRETRAINED = Path("models/pretrained")
POINTER = "base_model.json"


def find(model: str, models: dict[str, Model]) -> Path:
    """Return the folder that holds a base model's files.

    ``model`` is a local folder or an entry of ``models``; an entry is looked for in its Python
    package, then on the Hub at its pinned revision (fetched once, into the Hub's own cache).
    Only safetensors weights are accepted: they cannot carry code.
    Raises ``UserError`` when nothing is found or the weights are not the pinned ones.
    """
    if Path(model).is_dir():
        return _checked(Path(model), None)
    if model not in models:
        raise UserError(
            f"model: {model!r} is neither a folder nor an entry of `models` in params.yaml "
            f"({', '.join(models)})."
        )
    entry = models[model]
    spec = importlib.util.find_spec(entry.package) if entry.package else None
    if spec and spec.submodule_search_locations:
        return _checked(Path(spec.submodule_search_locations[0]) / "model", entry.sha256)
    return _checked(_from_hub(entry), entry.sha256)


def pretrained_folder(pretrained: Path = PRETRAINED) -> Path:
    """Return the folder with the files of the model that fine-tuning starts from.

    That is ``pretrained`` itself after pretraining, else the base model its pointer names.
    Raises ``UserError`` when it is missing, or when the base model's weights have changed since.
    """
    if (pretrained / WEIGHTS).is_file():
        return _checked(pretrained, None)
    pointer = files.read_json(pretrained / POINTER)
    model, entry = pointer["model"], pointer["entry"]
    folder = find(model, {model: Model(**entry)} if entry else {})
    return _checked(folder, pointer["sha256"])


def base_model(pretrained: Path = PRETRAINED) -> str:
    """Return the name of the model that fine-tuning starts from."""
    if (pretrained / POINTER).is_file():
        return str(files.read_json(pretrained / POINTER)["model"])
    return str(pretrained)


def _from_hub(entry: Model) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            entry.hub,
            revision=entry.revision,
            allow_patterns=["*.json", "*.txt", "*.model", WEIGHTS],
        )
    except (OSError, ValueError) as error:  # what the Hub's client raises when it cannot be reached
        raise UserError(
            f"model {entry.hub}@{entry.revision} could not be fetched: {error}\n"
            "Reach the Hub once (it is cached), or name a local folder: -S model=PATH."
        ) from None
    return Path(folder)


def _checked(folder: Path, sha256: str | None) -> Path:
    weights = folder / WEIGHTS
    if not weights.is_file() or not (folder / "config.json").is_file():
        raise UserError(
            f"{folder} holds no {WEIGHTS} and config.json: not a Hugging Face model folder."
        )
    if sha256 and files.sha256(weights) != sha256:
        raise UserError(
            f"{weights} has sha256 {files.sha256(weights)}, not the pinned {sha256}. "
            "Delete it and fetch it again."
        )
    return folder
