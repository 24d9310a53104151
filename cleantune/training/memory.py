"""How much memory training takes, and the ZeRO stage that follows from it."""

import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from transformers import AutoModelForSequenceClassification

from cleantune.distributed import ranks
from cleantune.params.sections import Finetune
from cleantune.training import lora, optimizers

ROOM_FOR_STATES = 0.7
"""Share of a device's memory for weights, gradients and optimizer; activations need the rest."""
MAX_LIVE = 50_000_000
"""Parameters that ZeRO-3 gathers at most, beside the layer that it computes: as ds_config.json sets it."""
LIBRARIES = 80_000_000
"""Bytes that DeepSpeed and the connections take in a process; measured with a model of no size."""
M_MMAP_THRESHOLD = -3
"""Of mallopt(3): from how many bytes on memory is asked of the system, and returned to it."""


MEMORY_PARAMS = {
    "batch": "finetune.micro_batch_size",
    "length": "max_length",
    "chunks": "max_chunks",
    "recomputing": "finetune.gradient_checkpointing",
    "zero": "zero_stage",
    "offload": "finetune.offload",
}
"""What reduces the memory of fine-tuning, with its key in params.yaml."""


def device_bytes() -> int:
    """Return the memory of one device in bytes; without a GPU, a process's share of the host's."""
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(installed, *_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))) // here


def _limits(own: Path, root: Path) -> Iterator[int]:
    """Yield the memory limits of this process's control groups, in bytes (set by a container, a job scheduler or systemd).

    ``own`` lists the groups; their folders are under ``root``, and limits of parent groups apply too.
    """
    for line in own.read_text().splitlines() if own.exists() else ():
        _, controllers, group = line.split(":", 2)
        name = {"": "memory.max", "memory": "memory.limit_in_bytes"}.get(controllers)
        folder = root / controllers / group.lstrip("/")
        for path in (folder, *folder.parents) if name else ():
            limit = path / str(name)
            if limit.exists() and (text := limit.read_text().strip()) != "max":
                yield int(text)


class Size(NamedTuple):
    """How large a model is, in parameters."""

    trainable: int
    frozen: int
    largest_layer: int  # of a single module, without those inside it
    frozen_width: int = 4  # bytes of a frozen parameter


def give_back_freed(stage: int) -> None:
    """Let the C library return a freed tensor's memory to the system at once, where ``stage`` says that it is scarce.

    glibc keeps what it may need again, in pieces that do not fit: at ZeRO-3 as much as the tensors take. To
    ask the system for each tensor takes time, so ZeRO-0, which has enough memory, leaves it.
    """
    if stage and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(M_MMAP_THRESHOLD, 2**20)


def size(model: Any) -> Size:
    """Return the size of a model, whether or not ZeRO-3 has partitioned it."""
    counts = {id(p): int(getattr(p, "ds_numel", p.numel())) for p in model.parameters()}
    trainable = sum(counts[id(p)] for p in model.parameters() if p.requires_grad)
    alone = [sum(counts[id(p)] for p in module.parameters(recurse=False))
             for module in model.modules()]  # fmt: skip
    frozen = {p.element_size() for p in model.parameters() if not p.requires_grad}
    return Size(trainable, sum(counts.values()) - trainable, max(alone), max(frozen, default=4))


def size_of(config: Any, options: Finetune, bf16: bool = False) -> Size:
    """Return the size of the classifier that ``config`` describes, with the parts that ``options`` freeze.

    ``bf16``: whether training multiplies in it; the weights below adapters are then kept in it.
    """
    build: Any = AutoModelForSequenceClassification.from_config
    with torch.device("meta"):
        model = build(config)
        optimizers.freeze(model, options.freeze_embeddings, options.freeze_layers)
        return size(lora.adapt(model, options.lora, bf16=bf16))


def states_bytes(stage: int, model: Size, processes: int, offload: str = "none") -> int:
    """Return what weights, gradients and optimizer take on one device in an optimizer step, in bytes.

    A trainable parameter has 4 bytes of weights, 4 of gradients and 8 of two moments, and from ZeRO-1 on a
    second copy of the weights. ZeRO-1 divides this copy and the moments by ``processes``, ZeRO-2 the gradients too,
    ZeRO-3 all. In a step DeepSpeed copies the gradients into one tensor, at ZeRO-0 those of all
    parameters, for the processes to exchange. ZeRO-3 also has the weights that it has gathered and the
    gradients of a layer. Frozen parameters have weights only. On a CPU, offloading saves nothing.
    """
    away = offload != "none" and torch.cuda.is_available()
    trainable, frozen, largest_layer, frozen_width = model
    weights = 4 * trainable + frozen_width * frozen
    gradients = joined = 4 * trainable
    optimizer = (8 if stage == 0 else 12) * trainable
    layer = 0
    if stage == 0:
        return weights + gradients + optimizer + (joined if processes > 1 else 0)
    optimizer, joined = optimizer // processes, joined // processes
    if away:
        optimizer = joined = 0
    if stage >= 2:
        gradients = 0 if away else gradients // processes
    if stage == 3:
        live = min(trainable + frozen, MAX_LIVE + largest_layer)
        layer = live * weights // (trainable + frozen) + 4 * min(largest_layer, trainable)
        weights = 0 if away and offload == "all" else weights // processes
    return weights + gradients + optimizer + joined + layer


def zero_stage(
    wanted: Literal["auto"] | int, model: Size, offload: str = "none"
) -> tuple[int, str]:
    """Return the ZeRO stage to use and why, the same in all processes.

    ``auto`` takes the first of 0, 1, 2, 3 whose states fit: each exchanges more between processes
    to store less. ZeRO-0 offloads nothing, and parameters are offloaded by ZeRO-3 alone.
    """
    if wanted != "auto":
        idle = offload != "none" and wanted == 0
        return wanted, "set by zero_stage" + (", and it offloads nothing" if idle else "")
    processes = ranks.world_size()
    available = min(ranks.gather(device_bytes())) * ROOM_FOR_STATES
    for stage in {"none": (0, 1, 2, 3), "optimizer": (1, 2, 3), "all": (3,)}[offload]:
        need = states_bytes(stage, model, processes, offload)
        if need <= available or stage == 3:
            fits = "fit" if need <= available else "do not fit"
            return (
                stage,
                f"{need / 1e9:.2f} GB of states {fits} in {available / 1e9:.1f} GB per process",
            )
    raise AssertionError


@dataclass(frozen=True)
class Run:
    """What a training run's memory depends on; the first six fields are the keys of ``MEMORY_PARAMS``."""

    batch: int  # documents in one forward pass of a process
    length: int  # tokens of the longest, or of a chunk
    chunks: int  # of the longest document
    recomputing: bool
    zero: int
    offload: str
    bf16: bool
    model: Size
    hidden: int
    layers: int
    heads: int
    adapters: bool = False

    def states(self) -> int:
        """Return the bytes of weights, gradients and optimizer in one process."""
        return states_bytes(self.zero, self.model, ranks.world_size(), self.offload)

    def activations(self) -> int:
        """Return the bytes of what the backward pass needs of the forward pass.

        Korthikanti et al. (arXiv 2205.05198) for activations of 16 bits; in fp32 twice as much.
        With recomputation: the input of each layer, and all of one layer. Adapters keep the input of each
        of the six linear layers once more, in fp32 (peft).
        """
        each = self.batch * self.chunks * self.length * self.hidden * (1 if self.bf16 else 2)
        layer = each * 34 + each * 5 * self.heads * self.length // self.hidden
        if self.adapters:
            layer += 4 * 9 * self.batch * self.chunks * self.length * self.hidden
        return layer + 2 * each * self.layers if self.recomputing else layer * self.layers

    def total(self) -> int:
        """Return the bytes of all this in one process, with what the libraries take in training."""
        return self.states() + self.activations() + LIBRARIES


def out_of_memory(run: Run, params: dict[str, str] = MEMORY_PARAMS) -> str:
    """Return a message for a run that ran out of memory: what can be changed, and what each saves.

    ``params`` are the entries of ``MEMORY_PARAMS`` that this run has, with its own names for them; a
    change that is already made or that saves nothing is left out.
    """
    changes: dict[str, dict[str, Any]] = {
        "batch": {"batch": max(run.batch // 2, 1)},
        "length": {"length": max(run.length // 2, 1)},
        "chunks": {"chunks": max(run.chunks // 2, 1)},
        "recomputing": {"recomputing": True},
        "zero": {"zero": 3},
        "offload": {"offload": "optimizer" if run.offload == "none" else run.offload,
                    "zero": max(run.zero, 1)},  # ZeRO-0 offloads nothing
    }  # fmt: skip
    # A micro-batch belongs to one process; any other batch size is global.
    together = 1 if params["batch"] == MEMORY_PARAMS["batch"] else ranks.world_size()
    lines = []
    for kind, name in params.items():
        changed: Run = replace(run, **changes[kind])
        saved = run.total() - changed.total()
        if saved > 0:
            value = getattr(changed, kind)
            value = value * together if kind == "batch" else str(value).lower()
            note = " (from ZeRO-1 on)" if kind == "offload" and run.zero == 0 else ""
            lines.append(f"\n  {name}: {value}       {saved / 1e9:.2f} GB{note}")
    return (
        f"Out of memory: training needs about {run.states() / 1e9:.2f} GB a process for weights, "
        f"gradients and optimizer, and {run.activations() / 1e9:.2f} GB for activations."
        f"{' What would save how much a process:' if lines else ''}{''.join(lines)}"
    )


def ran_out(error: BaseException) -> bool:
    """Return whether an error means that memory ran out."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "can't allocate memory" in str(error) or "out of memory" in str(error)
    )
