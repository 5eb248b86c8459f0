"""BLEU-1 to BLEU-4 (Papineni et al. 2002), equal to pycocoevalcap's but counted in arrays.

Notation: P images, N = 4 BLEU orders, T = 2 N + 2 terms that add up over images: for each order the n-grams that are
in a reference, each at most as often as in the reference that has it most, [0:N], and all n-grams, [N:2N]; then the
words, and the words of the reference closest in length, the shorter one of two.
"""

from collections.abc import Sequence

import numpy as np

from src.metrics.base import ScoreInfo, SumMetric
from src.metrics.text.corpus import Corpus, reference_starts
from src.metrics.text.ngrams import ORDERS

# pycocoevalcap's: no division by zero, and an empty caption scores 0.
SMALL, TINY = 1e-9, 1e-15


def bleu(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenized: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """BLEU-1 to BLEU-4, 0..1: of the corpus [N] and of each image [P, N]. Raw captions are PTB-tokenised."""
    terms = bleu_terms(Corpus(candidates, references, tokenized))
    return bleu_from_sums(terms.sum(0)), bleu_from_sums(terms)


def bleu_terms(corpus: Corpus) -> np.ndarray:
    """The terms of each image: [P, T] int64."""
    matched = np.zeros((len(corpus), ORDERS), dtype=np.int64)
    for order, (table, (entry, match)) in enumerate(zip(corpus.grams.counts, corpus.matches, strict=True)):
        most = np.zeros(len(table.row), dtype=np.int64)
        np.maximum.at(most, entry, table.count[match])
        clipped = np.minimum(most, table.count)
        matched[:, order] = np.bincount(table.row, weights=clipped, minlength=len(corpus))[: len(corpus)]
    guesses = np.maximum(corpus.lengths[:, None] - np.arange(ORDERS), 0)
    return np.column_stack([matched, guesses, corpus.lengths, _closest_lengths(corpus)])


def bleu_from_sums(terms: np.ndarray) -> np.ndarray:
    """BLEU-1 to BLEU-4 [.., N] from sums of terms [.., T]."""
    matched, guesses = terms[..., :ORDERS], terms[..., ORDERS : 2 * ORDERS]
    length, reference = terms[..., -2], terms[..., -1]
    precision = np.cumprod((matched + TINY) / (guesses + SMALL), axis=-1)
    geometric = precision ** (1.0 / np.arange(1, ORDERS + 1))
    ratio = (length + TINY) / (reference + SMALL)
    brevity = np.where(ratio < 1, np.exp(1 - 1 / np.minimum(ratio, 1)), 1.0)
    return geometric * brevity[..., None]


def _closest_lengths(corpus: Corpus) -> np.ndarray:
    lengths = corpus.ref_lengths
    # Sorted by image, then distance, then length: the first of each image is the closest, the shorter one of two.
    order = np.lexsort((lengths, np.abs(lengths - corpus.lengths[corpus.owner]), corpus.owner))
    return lengths[order[reference_starts(corpus.owner)]]


METRICS = [
    SumMetric(
        scores=[
            ScoreInfo("bleu_1"),
            ScoreInfo("bleu_2"),
            ScoreInfo("bleu_3"),
            ScoreInfo("bleu_4", headline=True),
        ],
        head="captions",
        order=30,
        terms=lambda table: bleu_terms(table.corpus),
        from_sums=bleu_from_sums,
    )
]
