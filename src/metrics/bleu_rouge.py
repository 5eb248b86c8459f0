"""BLEU, ROUGE-L, ROUGE-1 and CIDEr-D of captions, equal to pycocoevalcap's but counted in arrays.

Each score takes raw captions and PTB-tokenises them; `Corpus` does that, and the counting, once for all scores.
A score's answer is (corpus, per photo). Notation: P photos, R references of all photos together, N = 4 BLEU orders,
E entries of a table of n-grams (candidates' first).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from src.metrics.cider import cider_d_per_image
from src.metrics.text.corpus import Corpus
from src.metrics.text.document_frequency import DocumentFrequencies
from src.metrics.text.lcs import lcs_lengths
from src.metrics.text.ngrams import ORDERS

ROUGE_BETA = 1.2
# pycocoevalcap's: no division by zero, and an empty caption scores 0.
SMALL, TINY = 1e-9, 1e-15


@dataclass
class BleuCounts:
    """What BLEU needs of each photo; it adds up over photos.

    Attributes:
        correct: [P, N] n-grams that stand in a reference, each at most as often as in the one that has it most.
        guess: [P, N] n-grams.
        length: [P] words.
        reference: [P] words of the reference closest in length, the shorter one of two.
    """

    correct: np.ndarray
    guess: np.ndarray
    length: np.ndarray
    reference: np.ndarray


def bleu(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenized: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """BLEU-1 to BLEU-4 (Papineni et al. 2002), 0..1: of the corpus [N] and of each photo [P, N]."""
    return bleu_from_counts(bleu_counts(Corpus(candidates, references, tokenized)))


def rouge_l(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenized: bool = False
) -> tuple[float, np.ndarray]:
    """ROUGE-L (Lin 2004, beta 1.2; best precision and best recall over the references), 0..1: mean, and [P]."""
    return _mean(rouge_l_per_image(Corpus(candidates, references, tokenized)))


def cider_d(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenized: bool = False
) -> tuple[float, np.ndarray]:
    """CIDEr-D with document frequencies of these very references, 0..10: mean, and [P]. 0 for a single photo."""
    corpus = Corpus(candidates, references, tokenized)
    return _mean(cider_d_per_image(corpus, DocumentFrequencies(corpus.references)))


def rouge_1(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenized: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """ROUGE-1 F (Lin 2004) of PTB words, 0..1: each photo's mean over its references [P], and its best [P]."""
    return rouge_1_per_image(Corpus(candidates, references, tokenized))


def bleu_counts(corpus: Corpus) -> BleuCounts:
    """The sums that BLEU is made of, per photo."""
    correct = np.zeros((len(corpus), ORDERS), dtype=np.int64)
    for order, (table, (entry, match)) in enumerate(zip(corpus.grams.counts, corpus.matches, strict=True)):
        most = np.zeros(len(table.row), dtype=np.int64)
        np.maximum.at(most, entry, table.count[match])
        clipped = np.minimum(most, table.count)
        correct[:, order] = np.bincount(table.row, weights=clipped, minlength=len(corpus))[: len(corpus)]
    guess = np.maximum(corpus.lengths[:, None] - np.arange(ORDERS), 0)
    return BleuCounts(correct, guess, corpus.lengths, _closest(corpus))


def bleu_from_counts(counts: BleuCounts) -> tuple[np.ndarray, np.ndarray]:
    """BLEU of the corpus [N] and of each photo [P, N] from their counts."""
    sums = [x.sum(0, keepdims=True) for x in (counts.correct, counts.guess, counts.length, counts.reference)]
    per_photo = bleu_values(counts.correct, counts.guess, counts.length, counts.reference)
    return bleu_values(*sums)[0], per_photo


def bleu_values(correct: np.ndarray, guess: np.ndarray, length: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """BLEU-1 to BLEU-4 [..., N] of sums [..., N], [..., N], [...] and [...]."""
    precision = np.cumprod((correct + TINY) / (guess + SMALL), axis=-1)
    geometric = precision ** (1.0 / np.arange(1, ORDERS + 1))
    ratio = (length + TINY) / (reference + SMALL)
    brevity = np.where(ratio < 1, np.exp(1 - 1 / np.minimum(ratio, 1)), 1.0)
    return geometric * brevity[..., None]


def rouge_l_per_image(corpus: Corpus) -> np.ndarray:
    """ROUGE-L of each photo: [P]."""
    if any("\xa0" in caption for captions in (corpus.candidates, *corpus.references) for caption in captions):
        corpus = _whole_words(corpus)
    lengths, ref_lengths = corpus.lengths, corpus.ref_lengths
    words, ref_words = np.split(corpus.grams.ids, [lengths.sum()])
    common = lcs_lengths(words, lengths, ref_words, ref_lengths, corpus.owner)
    # As in pycocoevalcap, an empty caption is one empty word, which another empty caption matches.
    size, ref_size = np.maximum(lengths, 1), np.maximum(ref_lengths, 1)
    both_empty = (lengths[corpus.owner] == 0) & (ref_lengths == 0)
    common = np.where(both_empty, 1, common)
    precision = _best(common / size[corpus.owner], corpus)
    recall = _best(common / ref_size, corpus)
    below = recall + ROUGE_BETA**2 * precision
    return (1 + ROUGE_BETA**2) * precision * recall / np.where(below > 0, below, 1.0)


def rouge_1_per_image(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """ROUGE-1 F of each photo, mean over its references and best: [P], [P]."""
    table, (entry, match) = corpus.grams.counts[0], corpus.matches[0]
    clipped = np.minimum(table.count[entry], table.count[match])
    common = np.bincount(table.row[match], weights=clipped, minlength=len(corpus.grams.lengths))[len(corpus) :]
    f = 2 * common / np.maximum(corpus.lengths[corpus.owner] + corpus.ref_lengths, 1)
    mean = np.bincount(corpus.owner, weights=f) / np.bincount(corpus.owner)
    return mean, _best(f, corpus)


def _whole_words(corpus: Corpus) -> Corpus:
    # A token such as "3 1/2" holds a no-break space: one word to pycocoevalcap's ROUGE-L, two to its BLEU and CIDEr-D.
    words, *references = (
        [caption.replace("\xa0", "_") for caption in captions] for captions in (corpus.candidates, *corpus.references)
    )
    return Corpus(words, references, tokenized=True)


def _closest(corpus: Corpus) -> np.ndarray:
    refs = corpus.ref_lengths
    # Sorted by photo, then distance, then length: the first of each photo is the closest, the shorter one of two.
    order = np.lexsort((refs, np.abs(refs - corpus.lengths[corpus.owner]), corpus.owner))
    return refs[order[_starts(corpus.owner)]]


def _best(values: np.ndarray, corpus: Corpus) -> np.ndarray:
    return np.maximum.reduceat(values, _starts(corpus.owner))


def _starts(owner: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.diff(owner, prepend=-1))


def _mean(per_photo: np.ndarray) -> tuple[float, np.ndarray]:
    return float(np.mean(per_photo)), per_photo
