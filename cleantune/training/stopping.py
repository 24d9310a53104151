"""Stopping training on a signal: all processes stop after the same step, with a checkpoint."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cleantune import console
from cleantune.distributed import ranks


class Stopped(SystemExit):
    """Training was told to stop (SIGTERM or SIGINT); the same command resumes from what is kept."""


class StopRequest:
    """A signal to stop, and what the processes have agreed on.

    ``received`` is the number of the signal that this process got, ``agreed`` of the one that all
    processes stop for after the current step; 0 where there is none.
    """

    def __init__(self) -> None:
        self.received = 0
        self.agreed = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Take note of SIGTERM and SIGINT within the block; a second signal stops at once."""
        before = {s: signal.signal(s, self._receive) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def raise_if_stopped(self, message: str) -> None:
        """Raise ``Stopped`` in all processes, after ``message``, where any of them got a signal."""
        number = max(ranks.gather(self.received))
        if number:
            console.say(message)
            raise Stopped(128 + number)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.received:
            raise SystemExit(128 + number)
        self.received = number
