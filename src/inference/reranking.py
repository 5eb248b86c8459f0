"""Choice of captions by expected reward, against the captions of the nearest training images and against one another.

The first is the consensus of Devlin et al. 2015, "Exploring nearest neighbor approaches for image captioning"; the
second is minimum Bayes risk (Kumar and Byrne 2004), whose distribution is that of the candidates.

Notation: R images, P training images, C channels of the grid, A distinct candidates of an image, B references.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from src.config.schema import RerankConfig
from src.data.tokenizer import Tokenizer
from src.inference.neighbours import CaptionNeighbours
from src.metrics.caption_pairs import CaptionPairs
from src.metrics.text.document_frequency import DocumentFrequencies
from src.metrics.text.ptb_tokenizer import tokenize


@dataclass(frozen=True)
class RerankImages:
    """The images of candidates.

    Attributes:
        vectors: [R, C], the mean of each one's grid over its places.
        styles: [R] int64, the tokens of the captions' styles.
        hashes: SHA-256 of each one's file; the same file among the training images is no neighbour.
    """

    vectors: np.ndarray
    styles: np.ndarray
    hashes: Sequence[str | None]


class CaptionReranker:
    """Ranks candidates with the training captions of a model folder, which are tokenised and counted once."""

    def __init__(self, neighbours: CaptionNeighbours, tokenizer: Tokenizer) -> None:
        self.neighbours = neighbours
        self.captions = [tokenize(image.captions) for image in neighbours.images]
        self.frequencies = DocumentFrequencies(self.captions)
        self.styles = np.array([tokenizer.style(image.style) for image in neighbours.images])
        self.hashes = np.array([image.sha256 for image in neighbours.images])

    def rewards(
        self, candidates: Sequence[Sequence[str]], images: RerankImages, config: RerankConfig
    ) -> list[np.ndarray]:
        """The expected reward of each candidate.

        Args:
            candidates: of R images, as people read them.
            images: the images.
            config: neighbours, weight and reward.
        """
        nearest = self.neighbours.nearest(images.vectors, config.neighbours, self._allowed(images))
        known = sorted(set(chain.from_iterable(rows.tolist() for rows in nearest)))
        tokens = [tokenize(texts) for texts in candidates]
        texts, places = number_texts([*tokens, *(self.captions[row] for row in known)])
        pairs = CaptionPairs(texts, self.frequencies)
        references = dict(zip(known, places[len(tokens) :], strict=True))
        rewards = []
        for written, rows in zip(places[: len(tokens)], nearest, strict=True):
            training = np.concatenate([written[:0], *(references[row] for row in rows.tolist())])
            rewards.append(expected_reward(pairs, written, training, config))
        return rewards

    def _allowed(self, images: RerankImages) -> np.ndarray:
        """The training images [R, P] that an image may have as neighbours: of its captions' style, and not itself."""
        same_style = self.styles == images.styles[:, None]
        hashes = np.array([digest or "unknown" for digest in images.hashes])
        return same_style & (self.hashes != hashes[:, None])


def rank_candidates(candidates: Sequence[str], rewards: np.ndarray) -> list[int]:
    """Places of an image's distinct candidates, the highest reward first and the first of equals."""
    order = np.argsort(-rewards.round(9), kind="stable").tolist()
    first: dict[str, int] = {}
    for place in order:
        first.setdefault(candidates[place], place)
    return list(first.values())


def number_texts(groups: Sequence[Sequence[str]]) -> tuple[list[str], list[np.ndarray]]:
    """The distinct texts of all groups, and the places of each group's texts among them."""
    numbers = {text: i for i, text in enumerate(dict.fromkeys(chain.from_iterable(groups)))}
    return list(numbers), [np.array([numbers[text] for text in group], dtype=np.int64) for group in groups]


def expected_reward(
    pairs: CaptionPairs, candidates: np.ndarray, references: np.ndarray, config: RerankConfig
) -> np.ndarray:
    """The mean reward of an image's candidates [A] against references [B] and against the other candidates: [A].

    Without references the other candidates decide alone, and a single candidate has no others.
    """
    distinct, back, times = np.unique(candidates, return_inverse=True, return_counts=True)
    consensus = config.consensus if len(references) else 1.0
    reward = np.zeros(len(distinct))
    if consensus < 1:
        rows, repeats = np.unique(references, return_counts=True)
        reward += (1 - consensus) * (pairs.scores(distinct, rows, config.reward) @ repeats) / len(references)
    if consensus and len(candidates) > 1:
        mutual = pairs.scores(distinct, distinct, config.reward)
        reward += consensus * (mutual @ times - mutual.diagonal()) / (len(candidates) - 1)
    return reward[back]
