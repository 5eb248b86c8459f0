"""Which images come in which batch: a function of seed, epoch and position alone, so that a run can resume anywhere."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from src.common.errors import UserError
from src.data.source_mixture import SourceMixture

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
