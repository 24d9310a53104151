"""A model's folder, written a shard at a time: of what ZeRO-3 has partitioned, no process holds the whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cleantune.models import weights


def gathered(parameter: torch.Tensor) -> torch.Tensor:
    """Return a copy of a weight on the CPU. All processes must call this: ZeRO-3 gathers it."""
    import deepspeed

    with deepspeed.zero.GatheredParameters([parameter]):
        return parameter.detach().cpu().clone()


def save(
    model: Any,
    folder: Path | None,
    change: Callable[[str, torch.Tensor], torch.Tensor] = lambda _, weight: weight,
) -> None:
    """Write the weights in fp32, as ``change`` (name, weight) returns them, and the config to ``folder``.

    At ZeRO-3 all processes must call this, those that write nothing with None.
    """
    # by the model's own names: "the original ones" of transformers would be BERT's of 2018
    state = {name: value for name, value in model.state_dict(keep_vars=True).items()
             if name not in model.all_tied_weights_keys}  # fmt: skip
    shapes = {
        name: torch.empty(getattr(value, "ds_shape", value.shape), dtype=_saved_type(value), device="meta")
        for name, value in state.items()
    }  # fmt: skip

    def weight(name: str) -> torch.Tensor:
        return change(name, gathered(state[name]).to(_saved_type(state[name])))

    if folder:
        model.config.architectures = [type(model).__name__]
        model.config.dtype = "float32"
        model.config.save_pretrained(folder)
        if model.can_generate():
            model.generation_config.save_pretrained(folder)
    weights.write(shapes, weight, folder)


def _saved_type(weight: torch.Tensor) -> torch.dtype:
    return torch.float32 if weight.is_floating_point() else weight.dtype
