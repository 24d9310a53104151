"""Preparing a process for DeepSpeed, and its connections to the other processes."""

import contextlib
import logging
import os
import socket
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from cleantune.distributed.ranks import launched, threads_per_process, world_size

# How long a process waits for the others: in a training step, and elsewhere (rank 0 may be writing
# weights). A process that dies closes its connections and is noticed at once. A host that loses power
# or network closes nothing, so TCP keepalive checks whether it is still there.
STEP_LOST_AFTER = timedelta(seconds=45)
PROCESS_LOST_AFTER = timedelta(minutes=30)
HOST_LOST_AFTER = timedelta(seconds=30)


def prepare(seed: int, deterministic: bool = True) -> None:
    """Prepare this process for DeepSpeed; call it before anything is computed.

    Fixes the number of threads (it changes CPU results in the last bits), the seeds and, if
    ``deterministic``, a GPU's algorithms; stands in for a launcher where there was none, and keeps
    DeepSpeed from compiling C++ code and from talking.
    """
    use_deterministic_algorithms(deterministic)
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1",
             "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}  # port 0: any free one  # fmt: skip
    if not launched():
        os.environ.update(alone)
    threads = int(os.environ.get("OMP_NUM_THREADS", 0)) or threads_per_process(1)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    _quiet()
    # Imported late: it takes seconds, and on a GPU host without nvcc some parts of it complain.
    os.environ.setdefault("DS_IGNORE_CUDA_DETECTION", "1")
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
    import deepspeed

    # DeepSpeed would compile an all-reduce over shared memory wherever there is a
    # compiler, so that two hosts would compute differently. torch's own gloo does the same work.
    deepspeed.ops.__compatible_ops__ = {"deepspeed_shm_comm": False}
    _connect()
    set_seed(seed)


def use_deterministic_algorithms(deterministic: bool) -> None:
    """Make a GPU's results the same bits in every run, or let it use its fastest algorithms.

    Nothing changes on a CPU, where training is deterministic as it is. An operation that has no
    deterministic algorithm then raises ``RuntimeError`` (PyTorch's notes on reproducibility).
    """
    if not torch.cuda.is_available():
        return
    if deterministic:
        # One of the two settings with which cuBLAS promises it; it reads them when first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = False


def _connect() -> None:
    """Open the connection between the processes.

    Trainer alone would not: without a backend, accelerate takes several CPU processes for one.
    """
    from accelerate import PartialState

    # DeepSpeed opens process groups of its own and has no setting for their timeout.
    c10d: Any = torch.distributed.distributed_c10d
    timeout = STEP_LOST_AFTER if _several_hosts() else PROCESS_LOST_AFTER
    c10d.default_pg_timeout = c10d.default_pg_nccl_timeout = timeout
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    backend = None if torch.cuda.is_available() else "gloo"
    PartialState(backend=backend, timeout=PROCESS_LOST_AFTER)
    del os.environ["ACCELERATE_USE_DEEPSPEED"]
    watch_hosts()


def _several_hosts() -> bool:
    return world_size() > int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))


def watch_hosts() -> None:
    """Set TCP keepalive on all open connections: a host silent for ``HOST_LOST_AFTER`` counts as lost.

    gloo and NCCL have no setting for it, so it is set on this process's open sockets.
    """
    if not _several_hosts():
        return
    patience = int(HOST_LOST_AFTER.total_seconds())
    options = {
        socket.TCP_KEEPIDLE: patience // 3,
        socket.TCP_KEEPINTVL: patience // 6,
        socket.TCP_USER_TIMEOUT: 1000 * patience,
    }
    for path in Path("/proc/self/fd").iterdir():
        if path.is_socket():
            # Not all are TCP, and libraries close some as they please.
            with (
                contextlib.suppress(OSError),
                socket.socket(fileno=os.dup(int(path.name))) as connection,
            ):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, value in options.items():
                    connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _quiet() -> None:
    """Silence the libraries' messages below errors."""
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    os.environ["DEEPSPEED_LOG_LEVEL"] = "ERROR"
    from transformers.utils import logging as library

    transformers_logging: Any = library
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    warnings.filterwarnings(
        "ignore", r"`torch\.distributed\.", FutureWarning
    )  # of DeepSpeed's calls
    for name in ("DeepSpeed", "deepspeed", "accelerate", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)


def lost_touch(error: BaseException) -> bool:
    """Return whether an error means that another process can no longer be reached."""
    known = ("closed by peer", "reset by peer", "Timed out waiting", "timed out", "Broken pipe",
             "No route to host", "not reachable", "ncclRemoteError", "ncclSystemError",
             "collective operation timeout", "communicator was aborted")  # fmt: skip
    network = torch.distributed.DistNetworkError | torch.distributed.DistStoreError
    return world_size() > 1 and (
        isinstance(error, network) or any(part in str(error) for part in known)
    )
