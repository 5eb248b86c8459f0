"""Candidates and references of photos, tokenised and counted once for all scores.

Notation: P photos, R references of all of them together.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain

import numpy as np

from src.metrics.text.ngrams import NgramCounts, NgramTable
from src.metrics.text.ptb_tokenizer import tokenize

# Photos whose n-grams are in memory at one time.
PART = 2000


class Corpus:
    """One candidate and one to many references for each of P photos.

    Args:
        candidates: P captions.
        references: P lists of captions.
        tokenized: all are PTB tokens joined by spaces already.

    Attributes:
        candidates: [P] tokens.
        references: P lists of tokens.
        owner: [R] each reference's photo.

    Raises:
        ValueError: unequal numbers of candidates and references, no photo, or a photo without reference.
    """

    def __init__(self, candidates: Sequence[str], references: Sequence[Sequence[str]], tokenized: bool = False) -> None:
        if len(candidates) != len(references):
            raise ValueError(f"{len(candidates)} candidates but references for {len(references)} photos")
        self.owner = reference_owners(references)
        self.candidates = list(candidates) if tokenized else tokenize(candidates)
        self.references = [list(refs) if tokenized else tokenize(refs) for refs in references]

    def __len__(self) -> int:
        return len(self.candidates)

    def parts(self, photos: int = PART) -> Iterator["Corpus"]:
        """The same photos, some at a time: what is counted of one part is forgotten with it."""
        if len(self) <= photos:
            yield self
            return
        for start in range(0, len(self), photos):
            part = slice(start, start + photos)
            yield Corpus(self.candidates[part], self.references[part], tokenized=True)

    @cached_property
    def grams(self) -> NgramTable:
        """Of the candidates, then the references."""
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
        """Of 1-grams to N-grams: entries of candidates' n-grams, and those of the same ones in their references."""
        photo = np.concatenate([np.arange(len(self)), self.owner])
        return [self._match(table, photo) for table in self.grams.counts]

    def _match(self, table: NgramCounts, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of one length; photo [P + R] is each caption's."""
        keys = photo[table.row] * (int(table.gram.max(initial=0)) + 1) + table.gram
        cut = int(np.searchsorted(table.row, len(self)))
        if not cut:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        # The candidates' keys ascend, as the table is sorted and each photo has one candidate.
        entry = np.minimum(np.searchsorted(keys[:cut], keys[cut:]), cut - 1)
        match = np.flatnonzero(keys[entry] == keys[cut:])
        return entry[match], match + cut


def flatten_references(references: Sequence[Sequence[str]]) -> tuple[np.ndarray, list[str]]:
    """The photo of each reference [R], and all references one after the other; raises as owners does."""
    return reference_owners(references), list(chain.from_iterable(references))


def reference_owners(references: Sequence[Sequence[str]]) -> np.ndarray:
    """The photo of each reference: [R].

    Raises:
        ValueError: no photo, or a photo without reference.
    """
    many = np.array([len(captions) for captions in references], dtype=np.int64)
    if not len(many):
        raise ValueError("no photos to score")
    if not many.all():
        raise ValueError(f"photo {int(np.argmin(many))} (from 0) has no reference captions: leave it out of the scores")
    return np.repeat(np.arange(len(many)), many)
