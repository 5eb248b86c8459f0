"""Batches across requests: items that wait while the model works are its next batch."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class QueueFull(Exception):
    """The queue has no room for more items."""


@dataclass
class Job(Generic[T, R]):
    """An item and the future of its result."""

    item: T
    result: "asyncio.Future[R]"


class Batcher(Generic[T, R]):
    """Hands items to `work` in their order, all that wait at once, up to `batch`.

    Attributes:
        waiting: items that wait or are in work.
    """

    def __init__(self, work: Callable[[list[T]], Sequence[R]], batch: int, capacity: int) -> None:
        """`work` runs in a thread of its own; at most `capacity` items wait or are in work."""
        self.work, self.batch, self.capacity = work, batch, capacity
        self.waiting = 0
        self.jobs: asyncio.Queue[Job[T, R]] = asyncio.Queue()

    async def submit(self, items: Sequence[T]) -> list[R]:
        """The results of items, all of them or none.

        Raises:
            QueueFull: there is no room for all of them.
        """
        if self.waiting + len(items) > self.capacity:
            raise QueueFull(f"{self.waiting} photos wait already, of at most {self.capacity}")
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
                job.result.cancel()  # the client may have gone: jobs that have not begun are dropped

    async def run(self) -> None:
        """Works until it is cancelled."""
        while True:
            first = await self.jobs.get()
            jobs = [first, *(self.jobs.get_nowait() for _ in range(min(self.batch - 1, self.jobs.qsize())))]
            batch = [job for job in jobs if not job.result.done()]
            if batch:
                await self._process(batch)

    async def _process(self, batch: list[Job[T, R]]) -> None:
        try:
            results = await asyncio.to_thread(self.work, [job.item for job in batch])
        except Exception as error:
            await self._process_singly(batch, error)
            return
        for job, result in zip(batch, results, strict=True):
            if not job.result.done():
                job.result.set_result(result)

    async def _process_singly(self, batch: list[Job[T, R]], error: Exception) -> None:
        """Processes the items of a failed batch one by one, so that the error reaches its own client alone."""
        for job in batch:
            if not job.result.done() and len(batch) > 1:
                await self._process([job])
            elif not job.result.done():
                job.result.set_exception(error)

    def _leave(self, _: "asyncio.Future[R]") -> None:
        self.waiting -= 1
