"""The batcher: items that wait are one batch, and an error reaches its own request alone."""

import asyncio
import time

import pytest

from src.serving.batching import Batcher, QueueFull


def test_waiting_items_are_one_batch_and_a_failure_hits_its_request_alone() -> None:
    batches: list[list[int]] = []

    def work(items: list[int]) -> list[int]:
        time.sleep(0.05)
        batches.append(items)
        if 7 in items:
            raise ValueError("seven")
        return [10 * item for item in items]

    async def scenario() -> None:
        batcher = Batcher(work, batch=3, capacity=8)
        running = asyncio.create_task(batcher.run())
        first = asyncio.create_task(batcher.submit([1]))
        await asyncio.sleep(0.01)
        rest = [asyncio.create_task(batcher.submit(items)) for items in ([2, 3], [4], [7], [5])]
        await asyncio.sleep(0.01)
        with pytest.raises(QueueFull):
            await batcher.submit([0] * 3)
        assert await first == [10]
        assert await rest[0] == [20, 30]
        assert await rest[1] == [40]
        with pytest.raises(ValueError, match="seven"):
            await rest[2]
        assert await rest[3] == [50]
        assert batcher.waiting <= 2
        assert await batcher.submit([6]) == [60]
        running.cancel()

    asyncio.run(scenario())
    assert batches == [[1], [2, 3, 4], [7, 5], [7], [5], [6]]
