"""Starting the processes of a training run through torchrun.

A stage calls ``launch`` first. Where one process is enough it returns at once; else it starts the
others through torchrun (of the stage's own module, on a free port), waits, and leaves with their
status. A run that torchrun started by hand, on one host or on several, is left as it is.
"""

import logging
import os
import signal
import sys
from datetime import timedelta
from typing import Any, Literal

import torch

from cleantune import console
from cleantune.distributed.ranks import launched, threads_per_process
from cleantune.errors import UserError

# After SIGTERM a process finishes its step or evaluation and writes a checkpoint; torchrun would kill
# it after 30 seconds. A second signal ends it at once.
STOPPED_WITHIN = timedelta(minutes=10)


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
    os.environ["OMP_NUM_THREADS"] = str(threads_per_process(count))
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
                message += (" It was killed, most often because memory ran out: smaller batches, "
                            "shorter texts or a higher zero_stage need less.")  # fmt: skip
        console.fail(message, status)
    except SignalException as error:
        sys.exit(128 + error.sigval)
