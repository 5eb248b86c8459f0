"""Prefetching: items are loaded in threads, in their order, while the caller works on earlier ones."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def prefetch(load: Callable[[T], R], items: Iterable[T], depth: int, overlap: bool = True) -> Iterator[tuple[T, R]]:
    """Each item with load(item), in the items' order.

    Args:
        load: called in threads.
        items: read as far as they are loaded.
        depth: items that are loaded, or in work, at a time.
        overlap: load while the caller works; else only when the caller has used up all that was loaded.
    """
    rest, queue = iter(items), deque[tuple[T, Future[R]]]()
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        while True:
            for item in islice(rest, depth - len(queue) if overlap or not queue else 0):
                queue.append((item, pool.submit(load, item)))
            if not queue:
                return
            item, future = queue.popleft()
            yield item, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
