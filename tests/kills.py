"""A process killed with SIGKILL just before one of its changes to the file system."""

import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterator

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}


def at_each_change(work: Callable[[], None]) -> Iterator[int]:
    """Run ``work`` in a process of its own, killed before its first change, its second, and so on.

    Yields after each kill its number, so that the caller looks at what is left, and once more
    after the run that came to its end.
    """
    for number in itertools.count(1):
        pid = os.fork()
        if pid == 0:
            left = itertools.count(number - 1, -1)

            def before(event: str, _: object, left: Iterator[int] = left) -> None:
                if event in CHANGES and next(left) == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(before)
            try:
                work()
            finally:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        yield number
        if not os.WIFSIGNALED(status):
            return
