"""ROUGE-L, equal to pycocoevalcap's but counted in arrays, and ROUGE-1 (Lin 2004).

Notation: P images, R references of all images together.
"""

from collections.abc import Sequence

import numpy as np

from src.metrics.base import ImageMetric, ScoreInfo
from src.metrics.text.corpus import Corpus, best_over_references, mean_over_references
from src.metrics.text.lcs import lcs_lengths

BETA = 1.2


def rouge_l(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenized: bool = False
) -> tuple[float, np.ndarray]:
    """ROUGE-L (beta 1.2; best precision and best recall over the references), 0..1: mean, and [P]."""
    per_image = rouge_l_per_image(Corpus(candidates, references, tokenized))
    return float(np.mean(per_image)), per_image


def rouge_1(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenized: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """ROUGE-1 F of PTB words, 0..1: each image's mean over its references [P], and its best [P]."""
    return rouge_1_per_image(Corpus(candidates, references, tokenized))


def rouge_l_per_image(corpus: Corpus) -> np.ndarray:
    """ROUGE-L of each image: [P]."""
    if any("\xa0" in caption for captions in (corpus.candidates, *corpus.references) for caption in captions):
        corpus = _join_fractions(corpus)
    lengths, ref_lengths = corpus.lengths, corpus.ref_lengths
    words, ref_words = np.split(corpus.grams.ids, [lengths.sum()])
    common = lcs_lengths(words, lengths, ref_words, ref_lengths, corpus.owner)
    # As in pycocoevalcap, an empty caption is one empty word, which another empty caption matches.
    size, ref_size = np.maximum(lengths, 1), np.maximum(ref_lengths, 1)
    both_empty = (lengths[corpus.owner] == 0) & (ref_lengths == 0)
    common = np.where(both_empty, 1, common)
    precision = best_over_references(common / size[corpus.owner], corpus.owner)
    recall = best_over_references(common / ref_size, corpus.owner)
    below = recall + BETA**2 * precision
    return (1 + BETA**2) * precision * recall / np.where(below > 0, below, 1.0)


def rouge_1_per_image(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """ROUGE-1 F of each image, mean over its references and best: [P], [P]."""
    table, (entry, match) = corpus.grams.counts[0], corpus.matches[0]
    clipped = np.minimum(table.count[entry], table.count[match])
    common = np.bincount(table.row[match], weights=clipped, minlength=len(corpus.grams.lengths))[len(corpus) :]
    f = 2 * common / np.maximum(corpus.lengths[corpus.owner] + corpus.ref_lengths, 1)
    return mean_over_references(f, corpus.owner), best_over_references(f, corpus.owner)


def _join_fractions(corpus: Corpus) -> Corpus:
    # A token such as "3 1/2" holds a no-break space: one word to pycocoevalcap's ROUGE-L, two to its BLEU and CIDEr-D.
    words, *references = (
        [caption.replace("\xa0", "_") for caption in captions] for captions in (corpus.candidates, *corpus.references)
    )
    return Corpus(words, references, tokenized=True)


METRICS = [
    ImageMetric(
        scores=[ScoreInfo("rouge_l", headline=True, compact=True)],
        head="captions",
        order=50,
        per_image=lambda table: rouge_l_per_image(table.corpus),
    ),
    ImageMetric(
        scores=[ScoreInfo("rouge_1_mean"), ScoreInfo("rouge_1_best")],
        head="captions",
        order=70,
        per_image=lambda table: rouge_1_per_image(table.corpus),
    ),
]
