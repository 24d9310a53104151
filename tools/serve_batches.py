"""Documents of requests that arrive together are classified together, in one thread.

While one batch is computed the next one gathers; nothing waits for company.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tools.predict_input import Record
from tools.predict_output import Prediction

LARGEST = (
    128  # documents of a batch, or those of one request: others wait no longer than this takes
)
MOST_WAITING = 20_000  # documents

Job = tuple[list[Record], asyncio.Future[list[Prediction]]]


class Full(Exception):  # noqa: N818 no error of ours: the sender shall come back later
    """More documents wait than ``MOST_WAITING``."""


class Batches:
    """Takes documents from many tasks of one event loop and gives each its predictions."""

    def __init__(self, classify: Callable[[list[Record]], list[Prediction]]) -> None:
        self.classify = classify
        self.waiting = 0
        self.jobs: asyncio.Queue[Job] = asyncio.Queue()
        self.thread = ThreadPoolExecutor(1)

    async def predict(self, documents: list[Record]) -> list[Prediction]:
        """Return the predictions of ``documents``; ``Full`` when too many wait already."""
        if self.waiting and self.waiting + len(documents) > MOST_WAITING:
            raise Full
        done: asyncio.Future[list[Prediction]] = asyncio.get_running_loop().create_future()
        self.waiting += len(documents)
        self.jobs.put_nowait((documents, done))
        return await done

    async def compute(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what ``function`` does, computed in the thread of the model."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, function, *arguments)

    async def run(self) -> None:
        """Classify what arrives, until cancelled."""
        while True:
            jobs = [await self.jobs.get()]
            size = len(jobs[0][0])
            while size < LARGEST and not self.jobs.empty():
                jobs.append(self.jobs.get_nowait())
                size += len(jobs[-1][0])
            await self._classify(jobs)
            self.waiting -= size

    async def _classify(self, jobs: Sequence[Job]) -> None:
        try:
            found = await self.compute(
                self.classify, [d for documents, _ in jobs for d in documents]
            )
        except Exception as error:
            if len(jobs) > 1:  # one request must not fail the others
                for job in jobs:
                    await self._classify([job])
            elif not jobs[0][1].done():
                jobs[0][1].set_exception(error)
            return
        rest = iter(found)
        for documents, done in jobs:
            predictions = [next(rest) for _ in documents]
            if not done.done():  # the task may have been cancelled
                done.set_result(predictions)
