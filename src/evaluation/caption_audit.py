"""Captions that say nothing, and captions that fit the image no better than any other image.

Notation: C captions, P images, R random images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from src.data.sample import Sample
from src.metrics.caption_pairs import CaptionPairs
from src.metrics.text.document_frequency import DocumentFrequencies
from src.metrics.text.ptb_tokenizer import tokenize

# Words that say nothing of one image: function words, and those of any photo and any praise.
GENERIC = frozenset(
    """a an the this that these those it its it's i my we you your he she they there here of in on at to for from by
    with and or but as is are was were be been has have had do does did not no very so too really quite just
    also some any all one more most much overall image images photo photos photograph picture pictures pic pics
    shot shots view scene good great nice fine ok okay bad best better beautiful pretty lovely cool awesome
    amazing wonderful perfect excellent interesting well looks look looking like love wow 's n't""".split()
)
BLOCK = 64  # images whose captions are compared at a time
RANDOM = 50  # images of a block that each of its captions is compared with
MISFIT = 0.5  # share of random images that a caption must fit better than its own


@dataclass(frozen=True)
class CaptionFinding:
    """A caption in doubt: rows of its image and, of a misfit, of the image that it fits best; its score."""

    row: int
    caption: str
    score: float
    other: int = -1


def empty_captions(samples: Sequence[Sample], min_words: int) -> list[CaptionFinding]:
    """Captions of fewer than `min_words` words, or of generic words alone; scored by their number of other words."""
    findings = []
    for row, sample in enumerate(samples):
        for caption, tokens in zip(sample.captions, tokenize(sample.captions), strict=True):
            words = tokens.split()
            telling = len(set(words) - GENERIC)
            if len(words) < min_words or not telling:
                findings.append(CaptionFinding(row, caption, float(telling)))
    return findings


def misfit_captions(samples: Sequence[Sample], nearest: np.ndarray, seed: int = 0) -> list[CaptionFinding]:
    """Captions that fit at least half of some random images better than their own.

    A caption fits an image by its mean CIDEr-D with the captions of the image and of its nearest images (the consensus
    of Devlin et al. 2015), without itself and captions of the same words. Its score is the share of 50 random images
    that it fits better; `other` is the one that it fits best.

    Args:
        samples: P images of one kind of captions.
        nearest: [P, N] rows of each one's nearest images; -1: none.
        seed: of the random images.
    """
    captions = [tokenize(sample.captions) for sample in samples]
    captioned = np.array([row for row, texts in enumerate(captions) if texts], dtype=np.int64)
    if len(captioned) <= RANDOM:
        return []
    index = CaptionIndex(captions, captioned, nearest)
    rng = np.random.default_rng(seed)
    findings: list[CaptionFinding] = []
    for start in range(0, len(captioned), BLOCK):
        images = captioned[start : start + BLOCK]
        findings += index.misfits(samples, images, rng.choice(captioned, RANDOM, replace=False))
    return findings


class CaptionIndex:
    """All captions as one table, with those of each image and of its surroundings."""

    def __init__(self, captions: Sequence[Sequence[str]], captioned: np.ndarray, nearest: np.ndarray) -> None:
        """Counts n-grams.

        Args:
            captions: of P images, PTB tokens joined by spaces.
            captioned: rows of the images with captions.
            nearest: as of `misfit_captions`.
        """
        texts = [text for group in captions for text in group]
        numbers: dict[str, int] = {}
        self.texts = np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.int64)
        self.pairs = CaptionPairs(texts, DocumentFrequencies([captions[row] for row in captioned]))
        self.first = np.concatenate([[0], np.cumsum([len(texts) for texts in captions])])
        self.nearest = nearest

    def own(self, row: int) -> np.ndarray:
        """The captions of an image, as places in the table."""
        return np.arange(self.first[row], self.first[row + 1])

    def surroundings(self, row: int) -> np.ndarray:
        """The captions of an image and of its nearest images."""
        near = self.nearest[row]
        return np.concatenate([self.own(image) for image in (row, *near[near >= 0].tolist())])

    def misfits(self, samples: Sequence[Sample], images: np.ndarray, others: np.ndarray) -> Iterator[CaptionFinding]:
        """Those of some images that fit most of some other images better."""
        fits = self.fits(np.concatenate([self.own(image) for image in images]), others)
        start = 0
        for image in images.tolist():
            captions = self.own(image)
            fit, rest = self.fits(captions, np.array([image])), fits[start : start + len(captions)]
            start += len(captions)
            rest[:, others == image] = -np.inf
            shares = (rest > fit).sum(axis=1) / (others != image).sum()
            for number, share in enumerate(shares):
                if share >= MISFIT:
                    best = int(others[rest[number].argmax()])
                    yield CaptionFinding(image, samples[image].captions[number], float(share), best)

    def fits(self, captions: np.ndarray, images: np.ndarray) -> np.ndarray:
        """The mean CIDEr-D of captions [C] with those around images [R], but for the same texts: [C, R]."""
        parts = [self.surroundings(image) for image in images.tolist()]
        starts, around = np.cumsum([0, *map(len, parts[:-1])]), np.concatenate(parts)
        others = self.texts[captions][:, None] != self.texts[around]
        scores = self.pairs.cider_d(captions, around) * others
        return np.add.reduceat(scores, starts, axis=1) / np.maximum(
            np.add.reduceat(others, starts, axis=1, dtype=int), 1
        )
