"""Photos of many requests through one model: what waits while it works is answered together next."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class QueueFull(Exception):
    """More waits than may."""


@dataclass
class Job(Generic[T, R]):
    """One item and who waits for its result."""

    item: T
    result: "asyncio.Future[R]"


class Batcher(Generic[T, R]):
    """Hands items to `work`, in the order they came, as many at once as wait, up to `batch`.

    Attributes:
        waiting: how many items wait or are in work.
    """

    def __init__(self, work: Callable[[list[T]], Sequence[R]], batch: int, most: int) -> None:
        """`work` runs in a thread of its own; at most `most` items wait or are in work."""
        self.work, self.batch, self.most = work, batch, most
        self.waiting = 0
        self.jobs: asyncio.Queue[Job[T, R]] = asyncio.Queue()

    async def submit(self, items: Sequence[T]) -> list[R]:
        """The results of items, all of them or none.

        Raises:
            QueueFull: there is no room for all of them.
        """
        if self.waiting + len(items) > self.most:
            raise QueueFull(f"{self.waiting} photos wait already, of at most {self.most}")
        self.waiting += len(items)
        loop = asyncio.get_running_loop()
        jobs: list[Job[T, R]] = [Job(item, loop.create_future()) for item in items]
        for job in jobs:
            job.result.add_done_callback(self._leave)
            self.jobs.put_nowait(job)
        try:
            return list(await asyncio.gather(*(job.result for job in jobs)))
        finally:
            for job in jobs:
                job.result.cancel()  # of a visitor who went away, what has not been begun need not be

    async def run(self) -> None:
        """Works until it is cancelled."""
        while True:
            first = await self.jobs.get()
            waiting = [first, *(self.jobs.get_nowait() for _ in range(min(self.batch - 1, self.jobs.qsize())))]
            batch = [job for job in waiting if not job.result.done()]
            if batch:
                await self._do(batch)

    async def _do(self, batch: list[Job[T, R]]) -> None:
        try:
            results = await asyncio.to_thread(self.work, [job.item for job in batch])
        except Exception as error:
            await self._failed(batch, error)
            return
        for job, result in zip(batch, results, strict=True):
            if not job.result.done():
                job.result.set_result(result)

    async def _failed(self, batch: list[Job[T, R]], error: Exception) -> None:
        """Does the items of a failed batch one by one: only who handed in the one that fails by itself is told."""
        for job in batch:
            if not job.result.done() and len(batch) > 1:
                await self._do([job])
            elif not job.result.done():
                job.result.set_exception(error)

    def _leave(self, _: "asyncio.Future[R]") -> None:
        self.waiting -= 1
