"""Prefetching: order, depth, laziness, and errors that come where their item stands."""

import threading
import time
from collections.abc import Iterator

import pytest

from src.inference.prefetch import prefetch


def double(item: int) -> int:
    time.sleep(0.01 * (item % 3))  # later items are done before earlier ones
    return 2 * item


@pytest.mark.parametrize("overlap", [True, False])
def test_items_come_in_their_order(overlap: bool) -> None:
    assert list(prefetch(double, range(20), 6, overlap)) == [(item, 2 * item) for item in range(20)]
    assert list(prefetch(double, [], 6, overlap)) == []


@pytest.mark.parametrize("overlap", [True, False])
def test_no_more_items_are_read_than_the_depth_holds(overlap: bool) -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for item in range(20):
            read.append(item)
            yield item

    stream = prefetch(double, items(), 4, overlap)
    assert next(stream) == (0, 0)
    assert read == [0, 1, 2, 3]
    assert next(stream) == (1, 2)
    assert read == [0, 1, 2, 3, 4] if overlap else read == [0, 1, 2, 3]
    stream.close()


def test_items_are_loaded_side_by_side() -> None:
    both = threading.Barrier(2, timeout=30)
    assert [index for _, index in prefetch(lambda _: both.wait(), range(2), 2)] in ([0, 1], [1, 0])


def test_an_error_comes_where_its_item_stands() -> None:
    stream = prefetch(lambda item: 1 // item, [1, 0, 1], 3)
    assert next(stream) == (1, 1)
    with pytest.raises(ZeroDivisionError):
        next(stream)
