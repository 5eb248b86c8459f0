"""The mixture of data sets in an epoch, by their shares: a function of seed and epoch alone.

Held by tests/data/test_sampler.py.
"""

from collections.abc import Sequence

import numpy as np


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


def _counts(sizes: Sequence[int], shares: Sequence[float]) -> list[int]:
    """Images of an epoch from each source."""
    shares = [share if size else 0.0 for size, share in zip(sizes, shares, strict=True)]
    total = sum(size for size, share in zip(sizes, shares, strict=True) if share)
    scale = total / sum(shares) if total else 0.0
    return [max(1, round(share * scale)) if share else size for size, share in zip(sizes, shares, strict=True)]
