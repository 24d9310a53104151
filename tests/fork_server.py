"""Runs stages in real processes without paying for the imports every time.

    python -m tests.fork_server      (started by the ``runner`` fixture of tests/conftest.py)

Importing torch, transformers and DeepSpeed takes many times as long as fine-tuning a two-layer
model. This process imports them once and forks for every process of a run; what it forks is what a
launcher would have started: the ranks in the environment, the stage's own ``console.run(main)``.

Reads one JSON request a line: ``module`` and its ``arguments``, ``folder``, ``processes``,
``kill_after`` (seconds, or null) after loading the model, ``signal`` to send then and ``victim``,
the rank to send it to (null: every process); answers with the statuses and the output. When one
process fails, the others end as under torchrun: SIGTERM, and SIGKILL for those that do not heed it.
"""

import gc
import importlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from typing import Any

PATIENCE = 5  # seconds from SIGTERM to SIGKILL


def main() -> None:
    """Answer requests until the input ends."""
    for name in ("stages.finetune", "stages.pretrain", "transformers.trainer", "deepspeed",
                 "transformers.models.bert.modeling_bert",
                 "transformers.models.llama.modeling_llama"):  # fmt: skip
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else a fork's first collection would copy all that is shared
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        answer = serve(json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Run one request's processes to their end."""
    importlib.import_module(request["module"])  # here, so that the next request finds it
    with socket.socket() as probe, tempfile.TemporaryFile() as output:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
        probe.close()
        count = request["processes"]
        start = time.monotonic()
        children = [fork(request, rank, count, port, output.fileno()) for rank in range(count)]
        statuses: dict[int, int] = {}
        loaded: float | None = None  # the moments of it
        killed: float | None = None
        failed: float | None = None
        while len(statuses) < count:
            for child in set(children) - set(statuses):
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    statuses[child] = os.waitstatus_to_exitcode(status)
            if loaded is None and b"parameters" in os.pread(output.fileno(), 4096, 0):
                loaded = time.monotonic()
            now = time.monotonic()
            alive = set(children) - set(statuses)
            moment = request["kill_after"]
            due = moment is not None and loaded is not None and now - loaded > moment
            if due and killed is None:
                killed = now
                victim = request["victim"]
                for child in alive if victim is None else alive & {children[victim]}:
                    os.kill(child, request["signal"])
            if failed is None and any(status != 0 for status in statuses.values()):
                failed = now
                for child in alive:
                    os.kill(child, signal.SIGTERM)
            elif failed is not None and now - failed > PATIENCE:
                for child in alive:
                    os.kill(child, signal.SIGKILL)
            time.sleep(0.005)
        output.seek(0)
        return {
            "statuses": [statuses[child] for child in children],
            "output": output.read().decode(),
            "seconds": time.monotonic() - start,
        }


def fork(request: dict[str, Any], rank: int, count: int, port: str, output: int) -> int:
    """Start one process of a run; return its id."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        os.chdir(request["folder"])
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count),
                          LOCAL_WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1",
                          MASTER_PORT=port)  # fmt: skip
        os.environ.update(request["environment"])
        from cleantune import console

        console.console.quiet = rank != 0
        sys.argv = [request["module"], *request["arguments"]]
        if request["before"]:  # a name in tests.sabotage
            getattr(importlib.import_module("tests.sabotage"), request["before"])()
        console.run(importlib.import_module(request["module"]).main)
        status = 0
    except SystemExit as leave:
        status = leave.code if isinstance(leave.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
