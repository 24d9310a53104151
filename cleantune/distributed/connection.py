"""Processes of a training run: starting them, their ranks, and the threads each may use.

A stage calls ``launch`` first. Where one process is enough it returns at once; else it starts the
others through torchrun (of the stage's own module, on a free port), waits, and leaves with their
status. A run that torchrun started by hand, on one host or on several, is left as it is.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import set_seed

from cleantune import console
from cleantune.errors import UserError

# How long a process waits for the others before it gives up: in training, where all do the same;
# and elsewhere, as while rank 0 writes everybody's weights. A process that dies closes its
# connections and is noticed at once. A host that loses power or its network closes nothing: the
# kernel asks whether it is still there, however long the wait may be.
STEP_LOST_AFTER = timedelta(seconds=45)
PROCESS_LOST_AFTER = timedelta(minutes=30)
HOST_LOST_AFTER = timedelta(seconds=30)

# A process that is told to stop ends its step or evaluation and writes a checkpoint first; torchrun
# would kill it after 30 seconds. Whoever cannot wait sends a second signal.
STOPPED_WITHIN = timedelta(minutes=10)


def rank() -> int:
    """Return this process's number among all, on every host."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return the number of processes, on every host."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched() -> bool:
    """Tell whether torchrun, or another launcher, started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def launch(module: str, processes: int | Literal["auto"]) -> bool:
    """Make sure that ``module`` runs in as many processes as asked for.

    Returns True in a process that should do the work, False in one that only started the others
    and has seen them end well. ``auto`` is one process for every GPU, or one on a CPU.
    Raises ``UserError`` when there are fewer GPUs than processes, or with what a worker reported.
    """
    if launched():
        return True
    gpus = torch.cuda.device_count()
    count = max(gpus, 1) if processes == "auto" else processes
    if 0 < gpus < count:
        raise UserError(
            f"processes: {count} is more than the {gpus} GPUs here. Lower it, or: auto."
        )
    if count == 1:
        return True
    os.environ["OMP_NUM_THREADS"] = str(_threads(count))
    _torchrun(module, count)
    return False


def _torchrun(module: str, count: int) -> None:
    """Run ``python -m module`` in ``count`` processes; leave with the status of one that failed."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    logging.getLogger("torch.distributed.elastic.multiprocessing").setLevel(logging.CRITICAL)
    sys.stdout.flush()
    try:
        torchrun: Any = run
        arguments: Any = parse_args
        patience = f"--shutdown-timeout={STOPPED_WITHIN.total_seconds():.0f}"
        torchrun(arguments(["--standalone", f"--nproc-per-node={count}", patience, "-m", module]))
    except ChildFailedError as error:
        first, failure = error.get_first_failure()
        status = failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
        message = failure.error_file_data.get("message", "") if failure.error_file_data else ""
        if isinstance(message, dict):
            message = message["message"]
        if not message or message == "<NONE>":
            message = f"process {first} of {count} ended with status {status}; its output is above."
            if status == 128 + signal.SIGKILL:
                message += (" Nothing but a kill ends it so, as a rule for want of memory: smaller "
                            "batches, shorter texts or a higher zero_stage need less.")  # fmt: skip
        console.fail(message, status)
    except SignalException as error:
        sys.exit(128 + error.sigval)


def prepare(seed: int, deterministic: bool = True) -> None:
    """Get this process ready for DeepSpeed; call it before anything is computed.

    Fixes the number of threads (it changes CPU results in the last bits), the seeds and, if
    ``deterministic``, a GPU's algorithms; stands in for a launcher where there was none, and keeps
    DeepSpeed from compiling C++ code and from talking.
    """
    use_deterministic_algorithms(deterministic)
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1",
             "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}  # port 0: any free one  # fmt: skip
    if not launched():
        os.environ.update(alone)
    threads = int(os.environ.get("OMP_NUM_THREADS", 0)) or _threads(1)
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
    """Let a GPU compute the same bits in every run, or by the fastest algorithms there are.

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

    Left to Trainer, accelerate counts one process on a CPU whatever their number, because it names
    no backend there.
    """
    from accelerate import PartialState

    # DeepSpeed opens groups of its own for the steps, for which it cannot be told a timeout.
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
    """Have the kernel end the connections of now to a host that is silent for ``HOST_LOST_AFTER``.

    gloo and NCCL have no setting for it, hence the way through this process's open files.
    """
    if not _several_hosts():
        return
    patience = int(HOST_LOST_AFTER.total_seconds())
    options = {
        socket.TCP_KEEPIDLE: patience // 3,  # then ask
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


def _threads(processes: int) -> int:
    """Return the threads of each of ``processes`` on this host."""
    return max(1, len(os.sched_getaffinity(0)) // processes)


def _quiet() -> None:
    """Leave the console to the stage: libraries speak up only when something is wrong."""
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


def bf16_is_fast() -> bool:
    """Tell whether this machine multiplies bf16 matrices faster than fp32 ones."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able: Any = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def use_bf16(precision: Literal["auto", "bf16", "fp32"]) -> bool:
    """Turn the param ``precision`` into a yes or no, the same in all processes."""
    return all(gather(bf16_is_fast())) if precision == "auto" else precision == "bf16"


def gather(value: Any) -> list[Any]:
    """Return every process's ``value``, in the order of ranks, in every process."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def lost_touch(error: BaseException) -> bool:
    """Tell whether an error means that another process cannot be reached any more."""
    known = ("closed by peer", "reset by peer", "Timed out waiting", "timed out", "Broken pipe",
             "No route to host", "not reachable", "ncclRemoteError", "ncclSystemError",
             "collective operation timeout", "communicator was aborted")  # fmt: skip
    network = torch.distributed.DistNetworkError | torch.distributed.DistStoreError
    return world_size() > 1 and (
        isinstance(error, network) or any(part in str(error) for part in known)
    )


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        torch.distributed.barrier()
