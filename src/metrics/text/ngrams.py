"""Arrays of n-gram counts of captions, for BLEU, CIDEr-D and ROUGE-1.

Notation: C captions, W words of all of them, E entries of a count table (one a distinct n-gram of a caption), N longest
n-gram (4).
Held by tests/metrics/text/test_document_frequency.py.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ORDERS = 4
# An n-gram is keyed by its first n-1 words' id and its last word's id, both below 2 ** 31, in one int64.
SHIFT = 31


@dataclass
class NgramCounts:
    """The n-grams of one length in C captions, sorted by caption, then n-gram.

    Attributes:
        row: [E] which caption.
        gram: [E] the n-gram's id.
        count: [E] how often it stands there.
    """

    row: np.ndarray
    gram: np.ndarray
    count: np.ndarray


class Numbering(dict[str, int]):
    """Word -> number; a new word gets the next one."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


class NgramTable:
    """Numbers the words and n-grams of captions, and counts them.

    Args:
        captions: tokens joined by spaces.

    Attributes:
        words: their numbers.
        ids: [W] all captions' words, one caption after the other.
        lengths: [C] words of each caption.
        keys: of 2-grams to N-grams, what each id stands for, ascending: the first words' id << SHIFT | the last word.
        counts: of 1-grams to N-grams.
    """

    def __init__(self, captions: Sequence[str]) -> None:
        self.words = Numbering()
        self.ids, self.lengths = self._ids(captions)
        rows, starts, grams = np.repeat(np.arange(len(captions)), self.lengths), np.arange(len(self.ids)), self.ids
        self.keys: list[np.ndarray] = []
        self.counts = [_count(rows, grams)]
        for order in range(1, ORDERS):
            inside = np.flatnonzero(starts + order < len(self.ids))
            inside = inside[rows[starts[inside]] == rows[starts[inside] + order]]
            starts = starts[inside]
            keys, grams = np.unique(grams[inside] << SHIFT | self.ids[starts + order], return_inverse=True)
            self.keys.append(keys)
            self.counts.append(_count(rows[starts], grams))

    def _ids(self, captions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        flat, ends = array("q"), array("q")
        for caption in captions:
            flat.extend(map(self.words.__getitem__, caption.split()))
            ends.append(len(flat))
        return np.array(flat, dtype=np.int64), np.diff(np.array(ends, dtype=np.int64), prepend=0)


def _count(row: np.ndarray, gram: np.ndarray) -> NgramCounts:
    size = int(gram.max(initial=0)) + 1
    keys, count = np.unique(row * size + gram, return_counts=True)
    return NgramCounts(keys // size, keys % size, count)
