"""CIDEr-D as pycocoevalcap's Cider computes it (Vedantam et al. 2015, https://arxiv.org/abs/1411.5726).

Notation: P images, G n-grams of one length.
"""

from collections.abc import Sequence

import numpy as np

from src.metrics.base import ImageMetric, ScoreInfo
from src.metrics.text.corpus import Corpus
from src.metrics.text.document_frequency import DocumentFrequencies
from src.metrics.text.ngrams import ORDERS

SIGMA = 6.0


def cider_d(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenized: bool = False
) -> tuple[float, np.ndarray]:
    """CIDEr-D with document frequencies of these very references, 0..10: mean, and [P]. 0 for a single image."""
    corpus = Corpus(candidates, references, tokenized)
    per_image = cider_d_per_image(corpus, DocumentFrequencies(corpus.references))
    return float(np.mean(per_image)), per_image


def cider_d_per_image(corpus: Corpus, frequencies: DocumentFrequencies) -> np.ndarray:
    """CIDEr-D of each image of a corpus, 0..10: [P].

    Args:
        corpus: the captions, or some of them.
        frequencies: of the references of all images; with a single image every n-gram weighs 0, and so does the score.
    """
    total = np.zeros(len(corpus))
    for order, images in enumerate(frequencies.image_counts(corpus.grams)):
        total += _of_order(corpus, order, np.log(frequencies.images) - np.log(images))
    return 10.0 * total / (ORDERS * np.bincount(corpus.owner))


def _of_order(corpus: Corpus, order: int, idf: np.ndarray) -> np.ndarray:
    """The sum over an image's references, for n-grams of one length that weigh idf [G]: [P]."""
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


METRICS = [
    ImageMetric(
        scores=[ScoreInfo("cider_d", headline=True, compact=True)],
        head="captions",
        order=60,
        per_image=lambda table: cider_d_per_image(table.corpus, table.frequencies),
    )
]
