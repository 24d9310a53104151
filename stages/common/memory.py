"""How much memory training takes, and the ZeRO stage that follows from it."""

import os
from typing import Literal

import torch

from stages.common import distributed

ROOM_FOR_STATES = 0.7
"""Share of a device's memory for weights, gradients and optimizer; activations need the rest."""


LEVERS = {
    "batch": "finetune.micro_batch_size",
    "length": "max_length",
    "recomputing": "finetune.gradient_checkpointing",
    "zero": "zero_stage",
    "offload": "finetune.offload",
}
"""What makes fine-tuning need less memory, by its key in params.yaml."""


def device_bytes() -> int:
    """Return the memory of one device; a process's part of the host's where there is no GPU."""
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // here


def states_bytes(
    stage: int, parameters: int, processes: int, largest_layer: int = 0, offload: str = "none"
) -> int:
    """Return what weights, gradients and optimizer take on one device, in bytes.

    ZeRO-2 and 3 by DeepSpeed's own estimators. ZeRO-0 keeps 16 bytes a parameter (fp32 weights and
    gradients, two moments) everywhere; ZeRO-1 shares the moments.
    """
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    if stage == 0:
        return 16 * parameters
    if stage == 1:
        return 8 * parameters + (12 * parameters // processes if offload == "none" else 0)
    away = offload != "none"
    if stage == 2:
        need = estimate_zero2_model_states_mem_needs(parameters, processes, cpu_offload=away)
    else:
        need = estimate_zero3_model_states_mem_needs(
            parameters,
            largest_layer,
            processes,
            cpu_offload=away,
            cpu_offload_params=offload == "all",
        )
    return int(need[1])


def zero_stage(
    wanted: Literal["auto"] | int, parameters: int, largest_layer: int, offload: str = "none"
) -> tuple[int, str]:
    """Return the ZeRO stage to use and why, the same in all processes.

    ``auto`` takes the first of 0, 1, 2, 3 whose states fit: each exchanges more between processes
    to store less. ZeRO-0 offloads nothing, and parameters are offloaded by ZeRO-3 alone.
    """
    if wanted != "auto":
        idle = offload != "none" and wanted == 0
        return wanted, "zero_stage asks for it" + (", and it offloads nothing" if idle else "")
    processes = distributed.world_size()
    room = min(distributed.gather(device_bytes())) * ROOM_FOR_STATES
    for stage in {"none": (0, 1, 2, 3), "optimizer": (1, 2, 3), "all": (3,)}[offload]:
        need = states_bytes(stage, parameters, processes, largest_layer, offload)
        if need <= room or stage == 3:
            fits = "fit" if need <= room else "do not fit"
            return stage, f"{need / 1e9:.2f} GB of states {fits} in {room / 1e9:.1f} GB a process"
    raise AssertionError


def out_of_memory(
    batch: int, length: int, stage: int, parameters: int, hidden: int, layers: int,
    levers: dict[str, str] = LEVERS,
) -> str:  # fmt: skip
    """Return a message for a run that ran out of memory: what can be lowered, and what each saves.

    ``levers`` has those of ``LEVERS`` that this run knows, by its own names.
    """
    processes = distributed.world_size()
    # Korthikanti et al. (arXiv 2205.05198): about 34 bytes an activation of 16 bits, a layer.
    activations = 34 * batch * length * hidden * layers
    states = states_bytes(stage, parameters, processes)

    def gigabytes(count: float) -> str:
        return f"{max(count, 0) / 1e9:.2f} GB"

    # A micro-batch is one process's, any other batch that of all together.
    together = 1 if levers["batch"] == LEVERS["batch"] else processes
    saved = {
        "batch": (f": {max(batch // 2, 1) * together}", activations / 2, ""),
        "length": (f": {length // 2}", activations / 2, ""),
        "recomputing": (": true", activations * 0.7, ""),
        "zero": (": 3", states - states_bytes(3, parameters, processes), ""),
        "offload": (": optimizer", 8 * parameters / processes,
                    " (of a GPU's memory, from ZeRO-1 on; on a CPU nothing)"),
    }  # fmt: skip
    lines = [f"\n  {levers[kind]}{to}       {gigabytes(count)}{note}"
             for kind, (to, count, note) in saved.items() if kind in levers]  # fmt: skip
    return (
        "Out of memory: training needs about "
        f"{gigabytes(states)} a process for weights, gradients and optimizer, and "
        f"{gigabytes(activations)} for activations. What would save how much a process:"
        + "".join(lines)
    )
