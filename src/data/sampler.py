"""Which images come in which batch: a function of seed, epoch and position alone, so that a run can resume anywhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from src.common.errors import UserError

TINY = 0.25  # a last training batch of less than this part of a batch is left out: losses over images need several


@dataclass(frozen=True)
class ImageDraw:
    """An image at its turn: captions, mirroring and augmentation are drawn anew at each turn.

    Attributes:
        index: of the image in the data set.
        turn: earlier passes over the image's source.
    """

    index: int
    turn: int


class SourceMixture:
    """The order of an epoch's images: every source shuffled and evenly spread over the epoch.

    A source with share 0 gives all its images once. Those with a share divide among them, in proportion, as many images
    as they have in total. A source that gives more than it has starts again; a source that gives less continues in the
    next epoch where it stopped; each pass is in a new order.

    Attributes:
        counts: images of an epoch from each source.
    """

    def __init__(self, sources: Sequence[int] | np.ndarray, shares: Sequence[float], seed: int) -> None:
        """Sorts images by source.

        Args:
            sources: [n], the source of each image, 0..S-1.
            shares: [S], of each source, at least 0.
            seed: of all orders.
        """
        sources = np.asarray(sources, np.int64)
        self.seed = seed
        self.members = [np.flatnonzero(sources == source) for source in range(len(shares))]
        self.counts = _counts([len(members) for members in self.members], shares)

    def __len__(self) -> int:
        return sum(self.counts)

    def epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """(index, turn) of each of an epoch's images, int64, in order."""
        parts = [self._source(source, epoch) for source in range(len(self.members))]
        indices, turns = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        # The j-th of a source's n images is at (j + 1/2) / n of the epoch, so every stretch has the same mixture.
        places = np.concatenate([(np.arange(count) + 0.5) / max(1, count) for count in self.counts])
        order = np.argsort(places, kind="stable")
        return indices[order], turns[order]

    def _source(self, source: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        members, count = self.members[source], self.counts[source]
        if not count:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        turns, places = np.divmod(epoch * count + np.arange(count), len(members))
        indices = np.empty(count, np.int64)
        for turn in np.unique(turns):
            chosen = turns == turn
            order = np.random.default_rng([self.seed, source, turn]).permutation(members)
            indices[chosen] = order[places[chosen]]
        return indices, turns


class TrainBatchSampler(Sampler[list[ImageDraw]]):
    """Training batches of one process; each process of a group takes a part of every step's images.

    All of them take the images that a single process would take, so a run may resume with another number of processes.
    Its state is an epoch and the number of its finished batches: iteration continues with the next one.
    """

    def __init__(self, mixture: SourceMixture, batch_size: int, rank: int = 0, world: int = 1) -> None:
        """Cuts the mixture into batches.

        Args:
            mixture: the order of images.
            batch_size: images of a step, of all processes together.
            rank: of this process.
            world: how many processes there are.

        Raises:
            UserError: a process would have no image.
        """
        if world > min(batch_size, len(mixture)):
            some = f"a batch of {batch_size} of {len(mixture)} training photos"
            raise UserError(f"train.workers {world}: {some} leaves some without a photo; set it lower")
        self.mixture, self.batch_size, self.rank, self.world = mixture, batch_size, rank, world
        self.epoch = 0
        self.done = 0

    def __len__(self) -> int:
        """Batches of an epoch, the same for every rank."""
        whole, rest = divmod(len(self.mixture), self.batch_size)
        return whole + (rest >= self.world and (not whole or rest >= TINY * self.batch_size))

    def __iter__(self) -> Iterator[list[ImageDraw]]:
        indices, turns = self.mixture.epoch(self.epoch)
        step = self.batch_size
        for start in range(self.done * step, len(self) * step, step):
            size = min(step, len(indices) - start)
            part = slice(start + size * self.rank // self.world, start + size * (self.rank + 1) // self.world)
            yield [ImageDraw(i, t) for i, t in zip(indices[part].tolist(), turns[part].tolist(), strict=True)]

    def state_dict(self) -> dict[str, int]:
        """The epoch and the number of its finished batches."""
        return {"epoch": self.epoch, "done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues from a state."""
        self.epoch, self.done = state["epoch"], state["done"]


class EvalBatchSampler(Sampler[list[ImageDraw]]):
    """Batches in the data set's order; each process has a stretch of it, without gap or overlap."""

    def __init__(self, images: int, batch_size: int, rank: int = 0, world: int = 1, most: int = 0) -> None:
        """Cuts the data set into batches.

        Args:
            images: in the data set.
            batch_size: images in a batch.
            rank: of this process.
            world: how many processes there are.
            most: take so many images only, evenly spaced; 0: all.
        """
        count = min(images, most) if most else images
        chosen = np.arange(count) * images // max(1, count)
        self.indices = chosen[count * rank // world : count * (rank + 1) // world].tolist()
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[list[ImageDraw]]:
        for start in range(0, len(self.indices), self.batch_size):
            yield [ImageDraw(index, 0) for index in self.indices[start : start + self.batch_size]]


def _counts(sizes: Sequence[int], shares: Sequence[float]) -> list[int]:
    """Images of an epoch from each source."""
    shares = [share if size else 0.0 for size, share in zip(sizes, shares, strict=True)]
    total = sum(size for size, share in zip(sizes, shares, strict=True) if share)
    scale = total / sum(shares) if total else 0.0
    return [max(1, round(share * scale)) if share else size for size, share in zip(sizes, shares, strict=True)]
