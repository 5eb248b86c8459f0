"""Candidates and references of images, tokenised and counted once for all scores.

Notation: P images, R references of all of them together.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain

import numpy as np

from src.metrics.text.ngrams import NgramCounts, NgramTable
from src.metrics.text.ptb_tokenizer import tokenize

PART = 2000  # images whose n-grams are in memory at a time


class Corpus:
    """One candidate and one to many references for each of P images.

    Args:
        candidates: P captions.
        references: P lists of captions.
        tokenized: all are PTB tokens joined by spaces already.

    Attributes:
        candidates: [P] tokens.
        references: P lists of tokens.
        owner: [R] each reference's image.

    Raises:
        ValueError: unequal numbers of candidates and references, no image, or an image without reference.
    """

    def __init__(self, candidates: Sequence[str], references: Sequence[Sequence[str]], tokenized: bool = False) -> None:
        if len(candidates) != len(references):
            raise ValueError(f"{len(candidates)} candidates but references for {len(references)} photos")
        self.owner = reference_owners(references)
        self.candidates = list(candidates) if tokenized else tokenize(candidates)
        self.references = [list(refs) if tokenized else tokenize(refs) for refs in references]

    def __len__(self) -> int:
        return len(self.candidates)

    def parts(self, images: int = PART) -> Iterator["Corpus"]:
        """The same images, some at a time: the n-grams of a part are forgotten with it."""
        if len(self) <= images:
            yield self
            return
        for start in range(0, len(self), images):
            part = slice(start, start + images)
            yield Corpus(self.candidates[part], self.references[part], tokenized=True)

    @cached_property
    def grams(self) -> NgramTable:
        """N-grams of the candidates, then the references."""
        return NgramTable([*self.candidates, *chain.from_iterable(self.references)])

    @property
    def lengths(self) -> np.ndarray:
        """Words of each candidate: [P]."""
        return self.grams.lengths[: len(self)]

    @property
    def ref_lengths(self) -> np.ndarray:
        """Words of each reference: [R]."""
        return self.grams.lengths[len(self) :]

    @cached_property
    def matches(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of 1-grams to N-grams: entries of candidates' n-grams, and entries of the same ones in their references."""
        image = np.concatenate([np.arange(len(self)), self.owner])
        return [self._match(table, image) for table in self.grams.counts]

    def _match(self, table: NgramCounts, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Matches of one length; image [P + R] is each caption's."""
        keys = image[table.row] * (int(table.gram.max(initial=0)) + 1) + table.gram
        cut = int(np.searchsorted(table.row, len(self)))
        if not cut:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        # The candidates' keys ascend, as the table is sorted and each image has one candidate.
        entry = np.minimum(np.searchsorted(keys[:cut], keys[cut:]), cut - 1)
        match = np.flatnonzero(keys[entry] == keys[cut:])
        return entry[match], match + cut


def flatten_references(references: Sequence[Sequence[str]]) -> tuple[np.ndarray, list[str]]:
    """The image of each reference [R], and all references one after the other; raises as reference_owners."""
    return reference_owners(references), list(chain.from_iterable(references))


def reference_owners(references: Sequence[Sequence[str]]) -> np.ndarray:
    """The image of each reference: [R].

    Raises:
        ValueError: no image, or an image without reference.
    """
    many = np.array([len(captions) for captions in references], dtype=np.int64)
    if not len(many):
        raise ValueError("no photos to score")
    if not many.all():
        raise ValueError(f"photo {int(np.argmin(many))} (from 0) has no reference captions: leave it out of the scores")
    return np.repeat(np.arange(len(many)), many)


def reference_starts(owner: np.ndarray) -> np.ndarray:
    """Where each image's references begin [P], from the image of each reference [R], ascending."""
    return np.flatnonzero(np.diff(owner, prepend=-1))


def mean_over_references(values: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Mean [P] over each image's references [R], which owner [R] tells, ascending."""
    return np.bincount(owner, weights=values) / np.bincount(owner)


def best_over_references(values: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Highest [P] over each image's references [R]."""
    return np.maximum.reduceat(values, reference_starts(owner))
