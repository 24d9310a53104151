"""Pooling of token states into one vector per text, as the model's own files define it.

The files are those of sentence-transformers: ``modules.json`` lists what follows the encoder,
``1_Pooling/config.json`` the kind of pooling. Models without them, decoders included, get the mean
over all tokens: a decoder's last token is trained to predict the next token, not to represent the
text.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cleantune import files
from cleantune.errors import UserError

Pool = Callable[[Any, Any], Any]
"""Maps states (texts, tokens, features) and mask (texts, tokens, 1) to vectors (texts, size)."""

KEYS = {  # of the config, and what newer versions call the same
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
ACTIVATIONS = ("GELU", "Identity", "ReLU", "Tanh")


def read(folder: Path) -> Pool:
    """Return the pooling function of the encoder in ``folder``.

    Raises ``UserError`` for steps that are not known here; normalizing is left to the caller.
    """
    listed = folder / "modules.json"
    modules = files.read_json(listed) if listed.is_file() else [{"path": "1_Pooling"}]
    modes = ["mean"]
    layers: list[Any] = []
    for module in modules:
        path = folder / module["path"]
        kind = module.get("type", "Pooling").rpartition(".")[2]
        if kind == "Pooling":
            modes = _modes(path / "config.json") if (path / "config.json").is_file() else modes
        elif kind == "Dense":
            layers.append(_dense(path))
        elif kind not in ("Transformer", "Normalize"):
            raise UserError(
                f"{listed} asks for {kind}, which is not supported. Set label_noise.encoder to "
                "another model, or remove modules.json to have the mean over the tokens."
            )

    def pool(states: Any, mask: Any) -> Any:
        import torch

        vectors = torch.cat([_pooled(mode, states, mask) for mode in modes], dim=1)
        for layer in layers:
            vectors = layer.to(vectors.device)(vectors)
        return vectors

    return pool


def _modes(path: Path) -> list[str]:
    config = files.read_json(path)
    named: str | Sequence[str] = config.get("pooling_mode") or [
        mode for key, mode in KEYS.items() if config.get(key)
    ]
    modes = [named] if isinstance(named, str) else list(named)
    if not modes or set(modes) - set(KEYS.values()):
        raise UserError(f"{path}: no supported kind of pooling. Supported: {', '.join(KEYS)}.")
    return modes


def _pooled(mode: str, states: Any, mask: Any) -> Any:
    """Return one vector a text; texts are padded at the end."""
    import torch

    count = mask.sum(1).clamp(min=1)
    if mode == "cls":
        return states[:, 0]
    if mode == "lasttoken":
        return states[torch.arange(len(states), device=states.device), count[:, 0] - 1]
    if mode == "max":
        return states.masked_fill(mask == 0, -torch.inf).amax(1)
    if mode == "weightedmean":
        mask = mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)[:, None]
        count = mask.sum(1)
    return (states * mask).sum(1) / (count.sqrt() if mode == "mean_sqrt_len_tokens" else count)


def _dense(folder: Path) -> Any:
    """Return a linear layer and what follows it."""
    import torch
    from safetensors.torch import load_file

    config = files.read_json(folder / "config.json")
    activation = config["activation_function"].rpartition(".")[2]
    weights = folder / "model.safetensors"
    if activation not in ACTIVATIONS or not weights.is_file():
        raise UserError(
            f"{folder}: needs model.safetensors and one of {', '.join(ACTIVATIONS)} after it. "
            "Set label_noise.encoder to another model."
        )
    linear = torch.nn.Linear(config["in_features"], config["out_features"], config["bias"])
    names = {name.removeprefix("linear."): value for name, value in load_file(weights).items()}
    linear.load_state_dict({name: value.float() for name, value in names.items()})
    return torch.nn.Sequential(linear, getattr(torch.nn, activation)()).requires_grad_(False)
