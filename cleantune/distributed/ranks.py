"""Which process of a run this is, how many there are, and what they exchange."""

import os
from typing import Any

import torch


def rank() -> int:
    """Return this process's number among all, on every host."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Return this process's number among those of its host."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    """Return the number of processes, on every host."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched() -> bool:
    """Tell whether torchrun, or another launcher, started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def threads_per_process(processes: int) -> int:
    """Return the threads of each of ``processes`` on this host."""
    return max(1, len(os.sched_getaffinity(0)) // processes)


def gather(value: Any) -> list[Any]:
    """Return every process's ``value``, in the order of ranks, in every process."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        torch.distributed.barrier()
