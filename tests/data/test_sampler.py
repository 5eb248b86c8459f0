"""The order of training photos against counts by hand, and a run cut anywhere against one that was not."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from src.common.errors import UserError
from src.data.sampler import EvalBatchSampler, ImageDraw, TrainBatchSampler
from src.data.source_mixture import SourceMixture


def batches(sampler: TrainBatchSampler | EvalBatchSampler) -> list[list[ImageDraw]]:
    return list(sampler)


def indices(found: list[list[ImageDraw]]) -> list[int]:
    return [draw.index for batch in found for draw in batch]


def test_every_photo_once_an_epoch_in_a_new_order() -> None:
    sampler = TrainBatchSampler(SourceMixture([0] * 30 + [1] * 70, [0, 0], seed=1), 10)
    orders = []
    for epoch in range(3):
        sampler.load_state_dict({"epoch": epoch, "done": 0})
        found = batches(sampler)
        assert len(found) == len(sampler) == 10
        assert sorted(indices(found)) == list(range(100))
        assert {draw.turn for batch in found for draw in batch} == {epoch}
        orders.append(tuple(indices(found)))
    assert len(set(orders)) == 3
    again = TrainBatchSampler(SourceMixture([0] * 30 + [1] * 70, [0, 0], seed=1), 10)
    assert tuple(indices(batches(again))) == orders[0]
    other = TrainBatchSampler(SourceMixture([0] * 30 + [1] * 70, [0, 0], seed=2), 10)
    assert tuple(indices(batches(other))) != orders[0]


@pytest.mark.parametrize("sizes", [(30, 70), (500, 20), (64, 64, 7), (2600, 6000)])
def test_every_batch_has_the_same_mixture(sizes) -> None:
    sources = np.repeat(np.arange(len(sizes)), sizes)
    for batch in list(TrainBatchSampler(SourceMixture(sources, [0] * len(sizes), 0), 20))[:-1]:
        found = Counter(sources[draw.index] for draw in batch)
        for source, size in enumerate(sizes):
            assert abs(found[source] - 20 * size / sum(sizes)) <= 2


def test_shares_are_proportions_of_an_epoch() -> None:
    sources = np.repeat([0, 1, 2], [10, 90, 50])
    mixture = SourceMixture(sources, [3, 1, 0], 0)
    assert mixture.counts == [75, 25, 50]
    found, turns = mixture.epoch(0)
    assert Counter(sources[found].tolist()) == {0: 75, 1: 25, 2: 50}
    small = found[sources[found] == 0]
    for start in range(0, 70, 10):  # each pass over the small source is a fresh permutation of it
        assert sorted(small[start : start + 10]) == list(range(10))
    assert len({tuple(small[start : start + 10]) for start in range(0, 70, 10)}) == 7
    assert turns[sources[found] == 0].tolist() == [i // 10 for i in range(75)]


def test_a_source_that_gives_less_than_it_has_is_gone_through_over_epochs() -> None:
    sources = np.repeat([0, 1], [10, 90])
    mixture = SourceMixture(sources, [3, 1], 0)
    seen = np.concatenate([mixture.epoch(epoch)[0] for epoch in range(18)])  # 18 * 25 = 5 * 90
    assert Counter(Counter(seen[sources[seen] == 1].tolist()).values()) == {5: 90}


def test_goes_on_with_exactly_the_next_batch() -> None:
    mixture = SourceMixture([0] * 20 + [1] * 33, [1, 2], 5)
    whole = TrainBatchSampler(mixture, 8)
    whole.load_state_dict({"epoch": 3, "done": 0})
    expected = batches(whole)
    for done in range(len(expected) + 1):
        part = TrainBatchSampler(mixture, 8)
        part.load_state_dict({"epoch": 3, "done": done})
        assert batches(part) == expected[done:]
    assert whole.state_dict() == {"epoch": 3, "done": 0}


@pytest.mark.parametrize(("photos", "sizes"), [(64, [16] * 4), (67, [16] * 4), (68, [16] * 4 + [4]), (3, [3])])
def test_a_tiny_last_batch_is_left_out(photos, sizes) -> None:
    sampler = TrainBatchSampler(SourceMixture([0] * photos, [0], 0), 16)
    assert [len(batch) for batch in sampler] == sizes
    assert len(sampler) == len(sizes)


@pytest.mark.parametrize("photos", [64, 70, 75, 5])
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_steps_of_one_process_and_their_mixture(photos, world) -> None:
    sources = np.arange(photos) % 2
    mixture = SourceMixture(sources, [0, 0], 0)
    ranks = [batches(TrainBatchSampler(mixture, 16, rank, world)) for rank in range(world)]
    together = [[draw for part in parts for draw in part] for parts in zip(*ranks, strict=True)]
    assert together == batches(TrainBatchSampler(mixture, 16))
    for parts in zip(*ranks, strict=True):
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert min(map(len, parts)) > 0
        assert all(abs(sum(sources[d.index] for d in part) - len(part) / 2) <= 1 for part in parts)


def test_more_processes_than_photos_in_a_batch_are_refused() -> None:
    with pytest.raises(UserError, match=r"train.workers 3: a batch of 2 of 9 training photos"):
        TrainBatchSampler(SourceMixture([0] * 9, [0], 0), 2, 0, 3)


@pytest.mark.parametrize("photos", [0, 1, 10, 17])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_loses_and_doubles_nothing(photos, world) -> None:
    samplers = [EvalBatchSampler(photos, 4, rank, world) for rank in range(world)]
    assert [draw for sampler in samplers for batch in sampler for draw in batch] == [
        ImageDraw(i, 0) for i in range(photos)
    ]
    assert [len(sampler) for sampler in samplers] == [len(batches(sampler)) for sampler in samplers]


def test_some_of_the_photos_are_evenly_spaced() -> None:
    assert indices(batches(EvalBatchSampler(10, 3, most=5))) == [0, 2, 4, 6, 8]
    assert indices(batches(EvalBatchSampler(10, 3, most=20))) == list(range(10))
    ranks = [indices(batches(EvalBatchSampler(1000, 7, rank, 3, most=33))) for rank in range(3)]
    assert np.concatenate(ranks).tolist() == (np.arange(33) * 1000 // 33).tolist()


def test_global_random_state_is_neither_read_nor_changed() -> None:
    mixture = SourceMixture([0] * 50, [0], 0)
    np.random.seed(1)
    before = np.random.get_state()[1].tolist()
    first = mixture.epoch(0)[0].tolist()
    assert np.random.get_state()[1].tolist() == before
    np.random.seed(2)
    assert mixture.epoch(0)[0].tolist() == first


def test_sources_without_photos() -> None:
    assert SourceMixture([0] * 4 + [2] * 2, [1, 1, 1], 0).counts == [3, 0, 3]
    assert len(list(islice(TrainBatchSampler(SourceMixture([1] * 4, [0, 0], 0), 2), 9))) == 2
