"""Scores of pairs of captions, one as candidate and one as its only reference, for many pairs at a time.

The scores are those of cider.py, bleu.py and rouge.py. The minimum of two counts is a product of vectors: an n-gram
that a caption has c times is c columns, its first to its c-th occurrence; two captions share the columns of both.

Notation: C captions, E entries of a count table, A candidates, B references, N = 4 lengths of n-grams.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array, hstack

from src.metrics.bleu import bleu_from_sums
from src.metrics.challenge import captioning_score
from src.metrics.cider import SIGMA
from src.metrics.rouge import BETA
from src.metrics.text.document_frequency import DocumentFrequencies
from src.metrics.text.lcs import lcs_lengths
from src.metrics.text.ngrams import ORDERS, NgramCounts, NgramTable


class CaptionPairs:
    """Captions of which any may be a candidate, and any a reference.

    Args:
        captions: C captions, PTB tokens joined by spaces.
        frequencies: of n-grams in the references of all images, for CIDEr-D.
    """

    def __init__(self, captions: Sequence[str], frequencies: DocumentFrequencies) -> None:
        self.grams, self.frequencies = NgramTable(captions), frequencies

    def scores(self, candidates: np.ndarray, references: np.ndarray, score: str = "cider_d") -> np.ndarray:
        """A score of each of the captions `candidates` [A] with each of `references` [B] alone: [A, B].

        `score` is cider_d (0..10), or challenge: 4 CIDEr-D + BLEU-3 + BLEU-4 + ROUGE-L, its sum without METEOR.
        """
        cider_d = self.cider_d(candidates, references)
        if score == "cider_d":
            return cider_d
        bleu = self.bleu(candidates, references)
        rouge_l = self.rouge_l(candidates, references)
        return np.asarray(captioning_score(cider_d, 0.0, bleu[..., 2], bleu[..., 3], rouge_l))

    def cider_d(self, candidates: np.ndarray, references: np.ndarray) -> np.ndarray:
        """CIDEr-D: [A, B]."""
        left, right = self._cider_vectors
        length = np.maximum(self.grams.lengths - 1, 0)  # in bigrams, as cider.py has it
        gap = length[candidates][:, None] - length[references]
        product = (left[candidates] @ right[references].T).toarray()
        return 10.0 / ORDERS * product * np.exp(-(gap**2) / (2 * SIGMA**2))

    def bleu(self, candidates: np.ndarray, references: np.ndarray) -> np.ndarray:
        """BLEU-1 to BLEU-4: [A, B, N]."""
        matched = [(table[candidates] @ table[references].T).toarray() for table in self._occurrence_tables]
        length, ref_length = self.grams.lengths[candidates], self.grams.lengths[references]
        shape = len(candidates), len(references)
        guesses = [np.broadcast_to(np.maximum(length - order, 0)[:, None], shape) for order in range(ORDERS)]
        lengths = [np.broadcast_to(length[:, None], shape), np.broadcast_to(ref_length, shape)]
        return bleu_from_sums(np.stack([*matched, *guesses, *lengths], axis=-1))

    def rouge_l(self, candidates: np.ndarray, references: np.ndarray) -> np.ndarray:
        """ROUGE-L: [A, B]."""
        length, ref_length = self.grams.lengths[candidates], self.grams.lengths[references]
        owner, every = np.repeat(np.arange(len(candidates)), len(references)), np.tile(references, len(candidates))
        words, ref_words = self._words(candidates), np.tile(self._words(references), len(candidates))
        common = lcs_lengths(words, length, ref_words, self.grams.lengths[every], owner)
        common = common.reshape(len(candidates), len(references))
        precision, recall = common / np.maximum(length, 1)[:, None], common / np.maximum(ref_length, 1)
        below = recall + BETA**2 * precision
        return (1 + BETA**2) * precision * recall / np.where(below > 0, below, 1.0)

    def _words(self, captions: np.ndarray) -> np.ndarray:
        """The words' numbers of some captions, one after the other."""
        ends = np.cumsum(self.grams.lengths)
        starts = ends - self.grams.lengths
        parts = [self.grams.ids[starts[caption] : ends[caption]] for caption in captions]
        return np.concatenate([self.grams.ids[:0], *parts])

    @cached_property
    def _cider_vectors(self) -> tuple[csr_array, csr_array]:
        """Vectors [C, columns] as candidates, and as references, whose products are sums over all lengths."""
        left, right = [], []
        for table, images in zip(self.grams.counts, self.frequencies.image_counts(self.grams), strict=True):
            weight = np.log(self.frequencies.images) - np.log(images[table.gram])
            norm = np.sqrt(np.bincount(table.row, (table.count * weight) ** 2, len(self.grams.lengths)))[table.row]
            weight = weight / np.where(norm > 0, norm, 1.0)
            left.append(self._occurrences(table, weight))
            right.append(self._occurrences(table, table.count * weight))
        return csr_array(hstack(left)), csr_array(hstack(right))

    @cached_property
    def _occurrence_tables(self) -> list[csr_array]:
        """1 for each occurrence of an n-gram: [C, columns] of 1-grams to N-grams."""
        return [self._occurrences(table, np.ones(len(table.row))) for table in self.grams.counts]

    def _occurrences(self, table: NgramCounts, values: np.ndarray) -> csr_array:
        """A column for each occurrence of an n-gram, with the value [E] of its entry: [C, columns]."""
        entry = np.repeat(np.arange(len(table.row)), table.count)
        number = np.arange(len(entry)) - np.repeat(np.cumsum(table.count) - table.count, table.count)
        keys = table.gram[entry] * (int(number.max(initial=0)) + 1) + number
        shape = len(self.grams.lengths), int(keys.max(initial=0)) + 1
        return csr_array((values[entry], (table.row[entry], keys)), shape)
