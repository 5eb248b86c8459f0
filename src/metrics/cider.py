"""CIDEr-D as pycocoevalcap's Cider computes it (Vedantam et al. 2015, https://arxiv.org/abs/1411.5726)."""

import numpy as np

from src.metrics.text.corpus import Corpus
from src.metrics.text.document_frequency import DocumentFrequencies
from src.metrics.text.ngrams import ORDERS

SIGMA = 6.0


def cider_d_per_image(corpus: Corpus, frequencies: DocumentFrequencies) -> np.ndarray:
    """CIDEr-D of each photo of a corpus, 0..10: [P].

    Args:
        corpus: the captions, or some of them.
        frequencies: of the references of all photos; with a single photo every n-gram weighs 0, and so does the score.
    """
    total = np.zeros(len(corpus))
    for order, photos in enumerate(frequencies.of(corpus.grams)):
        total += _of_order(corpus, order, np.log(frequencies.photos) - np.log(photos))
    return 10.0 * total / (ORDERS * np.bincount(corpus.owner))


def _of_order(corpus: Corpus, order: int, idf: np.ndarray) -> np.ndarray:
    """The sum over a photo's references, for n-grams of one length that weigh idf [G]: [P]."""
    table, (entry, match) = corpus.grams.counts[order], corpus.matches[order]
    vector = table.count * idf[table.gram]
    norm = np.sqrt(np.bincount(table.row, weights=vector**2, minlength=len(corpus.grams.lengths)))
    # The reference implementation's length counts bigrams, not words.
    length = np.maximum(corpus.grams.lengths - 1, 0)
    candidate, reference = table.row[entry], table.row[match]
    product = np.minimum(vector[entry], vector[match]) * vector[match]
    norms = norm[candidate] * norm[reference]
    gap = length[candidate] - length[reference]
    value = product / np.where(norms > 0, norms, 1.0) * np.exp(-(gap**2) / (2 * SIGMA**2))
    return np.bincount(candidate, weights=value, minlength=len(corpus))
