"""In how many photos' references an n-gram stands: CIDEr-D's document frequencies.

An n-gram of a single photo need not be remembered: one that nobody knows counts as in one photo too. What stands in
several photos begins with words that do (Agrawal and Srikant 1994, "Fast algorithms for mining association rules"),
so each length goes on only from what the one before has found in several, and little of all n-grams is ever held.

Notation: W words of all references, S places in them at which n-grams begin, G n-grams.
"""

from array import array
from collections.abc import Iterator, Sequence

import numpy as np

from src.metrics.text.ngrams import ORDERS, SHIFT, NgramTable, Numbering

# Places looked at in one go, up to so many goes: each of them passes over all words.
BLOCK, BLOCKS = 2**19, 16
END = 0  # stands in for a word where a caption ends
NONE = np.iinfo(np.int64).max  # the key of what was not found


class DocumentFrequencies:
    """Counts the photos of each n-gram.

    Args:
        references: one to many captions a photo, PTB tokens joined by spaces.
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        self.photos = len(references)
        self.words = Numbering({"": END})
        ids, ends = self._ids(references)
        self.keys = [np.zeros(0, dtype=np.int64) for _ in range(ORDERS)]
        self.many = [np.zeros(0, dtype=np.int64) for _ in range(ORDERS)]
        for starts in _blocks(ids):
            self._count(ids, starts, np.searchsorted(ends, starts, side="right"))
        for order in range(ORDERS):
            self._append(order, np.array([NONE]), np.array([1]))

    def of(self, grams: NgramTable) -> list[np.ndarray]:
        """How many photos have each of these n-grams, at least 1: [G] of 1-grams to N-grams."""
        words = np.array([self.words.get(word, len(self.words)) for word in grams.words], dtype=np.int64)
        place = self._find(0, words)
        found = [self.many[0][place]]
        for order, keys in enumerate(grams.keys, start=1):
            place = self._find(order, place[keys >> SHIFT] << SHIFT | words[keys & ((1 << SHIFT) - 1)])
            found.append(self.many[order][place])
        return found

    def _ids(self, references: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """All words as numbers, END after each caption [W] int32, and where each photo's end [P]."""
        ids, ends = array("i"), array("q")
        for captions in references:
            for caption in captions:
                ids.extend(map(self.words.__getitem__, caption.split()))
                ids.append(END)
            ends.append(len(ids))
        return np.asarray(ids), np.asarray(ends)

    def _count(self, ids: np.ndarray, starts: np.ndarray, photo: np.ndarray) -> None:
        """Adds the n-grams that begin at starts [S], in the captions of photo [S]."""
        place = np.zeros(len(starts), dtype=np.int64)
        for order in range(ORDERS):
            inside = ids[starts + order] != END
            starts, place, photo = starts[inside], place[inside], photo[inside]
            keys, many, found = _several(place << SHIFT | ids[starts + order], photo)
            several = found >= 0
            starts, place, photo = starts[several], found[several] + len(self.keys[order]), photo[several]
            self._append(order, keys, many)

    def _append(self, order: int, keys: np.ndarray, many: np.ndarray) -> None:
        self.keys[order] = np.concatenate([self.keys[order], keys])
        self.many[order] = np.concatenate([self.many[order], many])

    def _find(self, order: int, keys: np.ndarray) -> np.ndarray:
        """The places of n-grams; the last one, that of NONE, for those that several photos do not have."""
        known = self.keys[order]
        place = np.searchsorted(known, keys)
        return np.where(known[place] == keys, place, len(known) - 1)


def _blocks(ids: np.ndarray) -> Iterator[np.ndarray]:
    """Places [S] by ascending word: what begins with a word is in one block, so that keys of all blocks ascend."""
    blocks = min(BLOCKS, 1 + len(ids) // BLOCK)
    size = int(ids.max(initial=END)) + 1
    many = np.sum([np.bincount(part, minlength=size) for part in np.array_split(ids, blocks)], axis=0)
    many[END] = 0
    block = (np.cumsum(many) * blocks // (many.sum() + 1)).astype(np.int8)
    block[END] = -1
    for number in range(blocks):
        yield np.flatnonzero(block[ids] == number)


def _several(keys: np.ndarray, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The keys that several photos have, of how many, and each of all keys' place among them or -1.

    Args:
        keys: [S].
        photo: [S] ascending.
    """
    order = np.argsort(keys, kind="stable")
    keys, photo = keys[order], photo[order]
    first = np.diff(keys, prepend=-1) != 0
    group = np.cumsum(first) - 1
    many = np.bincount(group, weights=first | (np.diff(photo, prepend=-1) != 0)).astype(np.int64)
    several = many > 1
    found = np.empty(len(keys), dtype=np.int64)
    found[order] = np.where(several, np.cumsum(several) - 1, -1)[group]
    return keys[first][several], many[several], found
