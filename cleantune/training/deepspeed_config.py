"""DeepSpeed ZeRO as this project uses it: its config, and where one process needs less of it."""

import math
from pathlib import Path
from typing import Any

import torch

from cleantune import files
from cleantune.distributed import ranks
from cleantune.errors import UserError

CONFIG = Path("ds_config.json")


def config(zero_stage: int, offload: str = "none", path: Path = CONFIG) -> dict[str, Any]:
    """Return ``ds_config.json`` with the ZeRO stage and offload of params.yaml merged in.

    ``offload`` is ``none``, ``optimizer`` or ``all`` (the parameters too; DeepSpeed does so at
    ZeRO-3 only, and offloads nothing at ZeRO-0). Raises ``UserError`` when the file brings its own
    optimizer or scheduler: DeepSpeed's differ from torch's (logarithmic warm-up, a step's shift)
    and would change the result.
    """
    merged: dict[str, Any] = files.read_json(path)
    for key in ("optimizer", "scheduler"):
        if key in merged:
            raise UserError(f"{path}: remove {key!r}; params.yaml decides it, see `finetune`.")
    zero = merged.setdefault("zero_optimization", {})
    zero["stage"] = zero_stage
    if offload != "none" and zero_stage > 0:
        zero["offload_optimizer"] = {"device": "cpu"}
        # torch's optimizer, not DeepSpeed's cpu_adam: that one needs a C++ compiler.
        merged["zero_force_ds_cpu_optimizer"] = False
        if offload == "all" and zero_stage == 3:
            zero["offload_param"] = {"device": "cpu"}
    return merged


def spare_one_process_the_exchange(deepspeed: Any) -> None:
    """Keep DeepSpeed from exchanging gradients with nobody.

    At ZeRO-0 it would join all gradients for it and take them apart again, in every step.
    """
    if ranks.world_size() == 1 and not deepspeed.zero_optimization():
        deepspeed.enable_backward_allreduce = False


def clip_as_torch_does(deepspeed: Any) -> None:
    """Let DeepSpeed clip gradients like torch to the last bit, where a process has them all at hand.

    At ZeRO-0 its own would also forget the norm, and without a limit not look at it.
    """
    limit = deepspeed.gradient_clipping() or math.inf
    module, optimizer = deepspeed.module, deepspeed.optimizer
    if not deepspeed.zero_optimization():
        deepspeed.gradient_clipping = lambda: limit
        deepspeed.clip_fp32_gradients = lambda: setattr(
            deepspeed, "_global_grad_norm", torch.nn.utils.clip_grad_norm_(module.parameters(), limit)
        )  # fmt: skip
    elif (
        ranks.world_size() == 1
        and deepspeed.zero_optimization_stage() < 3
        and not optimizer.cpu_offload
    ):

        def norm() -> torch.Tensor:
            found: dict[Any, torch.Tensor] = {}
            for group, parameters in enumerate(optimizer.params_in_partition):
                found |= zip(parameters, optimizer.averaged_gradients[group], strict=False)
            return torch.nn.utils.get_total_norm(
                [found[p] for p in module.parameters() if p in found]
            )

        def clip(gradients: list[torch.Tensor], norm: torch.Tensor) -> None:
            for gradient in gradients:
                gradient.mul_((limit / (norm + 1e-6)).clamp(max=1))

        optimizer.scaled_global_norm, optimizer.unscale_and_clip_grads = norm, clip
