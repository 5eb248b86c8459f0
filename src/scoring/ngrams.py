"""Captions as arrays of n-gram counts: what BLEU, CIDEr-D and ROUGE-1 are computed from.

Notation: C captions, E entries of a count table (one a distinct n-gram of a caption), N longest n-gram (4).
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ORDERS = 4
# An n-gram is keyed by its first n-1 words' id and its last word's id, both below 2 ** 31, in one int64.
SHIFT = 31


@dataclass
class Counts:
    """The n-grams of one length in C captions, sorted by caption, then n-gram.

    Attributes:
        row: [E] which caption.
        gram: [E] the n-gram's id.
        count: [E] how often it stands there.
    """

    row: np.ndarray
    gram: np.ndarray
    count: np.ndarray


class Numbers(dict[str, int]):
    """Word -> number; a new word gets the next one."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


class Grams:
    """Numbers the words and n-grams of captions, so that others can be counted in the same numbers.

    Args:
        captions: tokens joined by spaces.
    """

    def __init__(self, captions: Sequence[str]) -> None:
        self.words = Numbers()
        self.keys: list[np.ndarray] = []
        ids, lengths = self._ids(captions, self.words)
        self.counts, self.lengths = self._table(ids, lengths, learn=True), lengths
        self.ids = ids

    def count(self, captions: Sequence[str]) -> tuple[list[Counts], np.ndarray]:
        """Counts of 1- to 4-grams, and lengths [C] in words. What was never seen gets ids above all known ones."""
        ids, lengths = self.word_ids(captions)
        return self._table(ids, lengths, learn=False), lengths

    def word_ids(self, captions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """All captions' words, one after the other, and the captions' lengths [C]."""
        return self._ids(captions, Numbers(self.words))

    @staticmethod
    def _ids(captions: Sequence[str], words: "Numbers") -> tuple[np.ndarray, np.ndarray]:
        flat, ends = array("q"), array("q")
        for caption in captions:
            flat.extend(map(words.__getitem__, caption.split()))
            ends.append(len(flat))
        return np.array(flat, dtype=np.int64), np.diff(np.array(ends, dtype=np.int64), prepend=0)

    def _table(self, ids: np.ndarray, lengths: np.ndarray, learn: bool) -> list[Counts]:
        rows = np.repeat(np.arange(len(lengths)), lengths)
        grams, starts, counts = ids, np.arange(len(ids)), []
        for order in range(ORDERS):
            if order:
                inside = np.flatnonzero(starts + order < len(ids))
                inside = inside[rows[starts[inside]] == rows[starts[inside] + order]]
                starts = starts[inside]
                grams = self._number(grams[inside] << SHIFT | ids[starts + order], order, learn)
            counts.append(_count(rows[starts], grams))
        return counts

    def _number(self, keys: np.ndarray, order: int, learn: bool) -> np.ndarray:
        """Ids of n-grams; unknown ones are numbered after the known."""
        if learn:
            known, grams = np.unique(keys, return_inverse=True)
            self.keys.append(known)
            return grams
        known = self.keys[order - 1]
        grams = np.searchsorted(known, keys)
        missing = known[np.minimum(grams, len(known) - 1)] != keys if len(known) else np.ones(len(keys), dtype=bool)
        grams[missing] = len(known) + np.unique(keys[missing], return_inverse=True)[1]
        return grams


def _count(row: np.ndarray, gram: np.ndarray) -> Counts:
    if not len(row):
        return Counts(row, gram, np.zeros(0, dtype=np.int64))
    size = int(gram.max()) + 1
    keys, count = np.unique(row * size + gram, return_counts=True)
    # Half the memory: with many captions, these tables are most of what scoring holds.
    return Counts((keys // size).astype(np.int32), (keys % size).astype(np.int32), count.astype(np.int32))


class Index:
    """Count-table entries found by (photo, n-gram).

    Args:
        photo: [E] the photo of an entry.
        gram: [E] its n-gram.
    """

    def __init__(self, photo: np.ndarray, gram: np.ndarray) -> None:
        self.size = int(gram.max()) + 1 if len(gram) else 1
        keys = photo * self.size + gram
        self.order = np.argsort(keys, kind="stable")
        self.keys = keys[self.order]

    def photos(self) -> np.ndarray:
        """In how many photos each n-gram stands: [G], at least 1."""
        first = np.flatnonzero(np.diff(self.keys, prepend=-1))
        return np.maximum(np.bincount(self.keys[first] % self.size, minlength=self.size), 1)

    def join(self, photo: np.ndarray, gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All pairs (i, entry) where entry has photo[i] and gram[i]."""
        known = np.flatnonzero(gram < self.size)
        keys = photo[known] * self.size + gram[known]
        first = np.searchsorted(self.keys, keys, side="left")
        many = np.searchsorted(self.keys, keys, side="right") - first
        left = np.repeat(known, many)
        # Positions within each run of equal keys: 0..many-1, from the run's first entry.
        within = np.arange(len(left)) - np.repeat(np.cumsum(many) - many, many)
        return left, self.order[np.repeat(first, many) + within]
