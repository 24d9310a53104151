"""DeepSpeed ZeRO as this project uses it."""

from pathlib import Path
from typing import Any

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


def skip_allreduce_for_single_process(deepspeed: Any) -> None:
    """Keep DeepSpeed at ZeRO-0 from joining all gradients, in every step, to send them to nobody."""
    if ranks.world_size() == 1 and not deepspeed.zero_optimization():
        deepspeed.enable_backward_allreduce = False
