"""CIDEr-D's document frequencies: in how many images' references an n-gram occurs.

An n-gram of a single image need not be remembered: an unknown one counts as in one image too. An n-gram of several
images begins with one of several images (Agrawal and Srikant 1994, "Fast algorithms for mining association rules"), so
each length extends only those of the length before, and few of all n-grams are ever in memory.

Notation: W words of all references, S places in them at which n-grams begin, G n-grams.
"""

from array import array
from collections.abc import Iterator, Sequence

import numpy as np

from src.metrics.text.ngrams import ORDERS, SHIFT, NgramTable, Numbering

# Places in a block, up to so many blocks: each of them passes over all words.
BLOCK, BLOCKS = 2**19, 16
END = 0  # the word after a caption's last
NONE = np.iinfo(np.int64).max  # the key of an unknown n-gram


class DocumentFrequencies:
    """Counts the images of each n-gram.

    Args:
        references: one to many captions an image, PTB tokens joined by spaces.
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        self.images = len(references)
        self.words = Numbering({"": END})
        ids, ends = self._ids(references)
        self.keys = [np.zeros(0, dtype=np.int64) for _ in range(ORDERS)]
        self.many = [np.zeros(0, dtype=np.int64) for _ in range(ORDERS)]
        for starts in _blocks(ids):
            self._count(ids, starts, np.searchsorted(ends, starts, side="right"))
        for order in range(ORDERS):
            self._append(order, np.array([NONE]), np.array([1]))

    def image_counts(self, grams: NgramTable) -> list[np.ndarray]:
        """How many images have each of these n-grams, at least 1: [G] of 1-grams to N-grams."""
        words = np.array([self.words.get(word, len(self.words)) for word in grams.words], dtype=np.int64)
        place = self._find(0, words)
        counts = [self.many[0][place]]
        for order, keys in enumerate(grams.keys, start=1):
            place = self._find(order, place[keys >> SHIFT] << SHIFT | words[keys & ((1 << SHIFT) - 1)])
            counts.append(self.many[order][place])
        return counts

    def _ids(self, references: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """All words as numbers, END after each caption [W] int32, and where each image's end [P]."""
        ids, ends = array("i"), array("q")
        for captions in references:
            for caption in captions:
                ids.extend(map(self.words.__getitem__, caption.split()))
                ids.append(END)
            ends.append(len(ids))
        return np.asarray(ids), np.asarray(ends)

    def _count(self, ids: np.ndarray, starts: np.ndarray, image: np.ndarray) -> None:
        """Adds the n-grams that begin at starts [S], in the captions of image [S]."""
        place = np.zeros(len(starts), dtype=np.int64)
        for order in range(ORDERS):
            inside = ids[starts + order] != END
            starts, place, image = starts[inside], place[inside], image[inside]
            keys, many, index = _repeated(place << SHIFT | ids[starts + order], image)
            repeated = index >= 0
            starts, place, image = starts[repeated], index[repeated] + len(self.keys[order]), image[repeated]
            self._append(order, keys, many)

    def _append(self, order: int, keys: np.ndarray, many: np.ndarray) -> None:
        self.keys[order] = np.concatenate([self.keys[order], keys])
        self.many[order] = np.concatenate([self.many[order], many])

    def _find(self, order: int, keys: np.ndarray) -> np.ndarray:
        """The places of n-grams; the last one, that of NONE, for those that several images do not have."""
        known = self.keys[order]
        place = np.searchsorted(known, keys)
        return np.where(known[place] == keys, place, len(known) - 1)


def _blocks(ids: np.ndarray) -> Iterator[np.ndarray]:
    """Places [S] by ascending word: n-grams of one first word are in one block, so that keys of all blocks ascend."""
    blocks = min(BLOCKS, 1 + len(ids) // BLOCK)
    size = int(ids.max(initial=END)) + 1
    many = np.sum([np.bincount(part, minlength=size) for part in np.array_split(ids, blocks)], axis=0)
    many[END] = 0
    block = (np.cumsum(many) * blocks // (many.sum() + 1)).astype(np.int8)
    block[END] = -1
    for number in range(blocks):
        yield np.flatnonzero(block[ids] == number)


def _repeated(keys: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The keys that several images have, the numbers of these images, and each key's index among them or -1 [S].

    Args:
        keys: [S].
        image: [S] ascending.
    """
    order = np.argsort(keys, kind="stable")
    keys, image = keys[order], image[order]
    first = np.diff(keys, prepend=-1) != 0
    group = np.cumsum(first) - 1
    many = np.bincount(group, weights=first | (np.diff(image, prepend=-1) != 0)).astype(np.int64)
    repeated = many > 1
    index = np.empty(len(keys), dtype=np.int64)
    index[order] = np.where(repeated, np.cumsum(repeated) - 1, -1)[group]
    return keys[first][repeated], many[repeated], index
