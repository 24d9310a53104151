"""Finding a base model and, frozen, turning texts into vectors."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.common import console, files
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


def vectors(
    texts: Sequence[str], folder: Path, max_length: int, bf16: bool = False, batch: int = 64
) -> NDArray[np.float32]:
    """Return a unit vector for each text, (texts, hidden size): the mean over its tokens' states.

    The encoder in ``folder`` is used as it is, on the GPU if there is one; texts are cut at
    ``max_length`` tokens and sorted by length, so that next to nothing is padding. ``bf16``
    multiplies in it, which pays where ``distributed.bf16_is_fast``.
    Raises ``UserError`` when the folder's files do not fit together.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        model = AutoModel.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, **options
        ).eval()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"{folder} cannot be loaded as a text encoder: {error}") from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    max_length = min(max_length, getattr(model.config, "max_position_embeddings", max_length))
    tokens = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    order = np.argsort([-len(ids) for ids in tokens], kind="stable")
    result = np.zeros((len(texts), model.config.hidden_size), np.float32)
    autocast = torch.autocast(device, torch.bfloat16, enabled=bf16)
    with torch.inference_mode(), autocast, console.Bar("texts encoded", len(texts)) as bar:
        for rows in np.split(order, range(batch, len(order), batch)):
            padded = tokenizer.pad({"input_ids": [tokens[i] for i in rows]}, return_tensors="pt")
            inputs = {name: padded[name].to(device) for name in ("input_ids", "attention_mask")}
            states = model(**inputs).last_hidden_state.float()
            mask = inputs["attention_mask"][:, :, None]
            mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            result[rows] = torch.nn.functional.normalize(mean, dim=1).cpu().numpy()
            bar.advance(len(rows))
    return result


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
