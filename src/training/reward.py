"""The reward of a sampled caption: a weighted sum of its scores against the image's references."""

from collections.abc import Sequence

import numpy as np

from src.common.errors import UserError
from src.config.schema import RewardConfig
from src.data.sample import Sample
from src.metrics.base import CaptionTable
from src.metrics.compute import image_scores
from src.metrics.text.corpus import Corpus
from src.metrics.text.document_frequency import DocumentFrequencies
from src.metrics.text.ptb_tokenizer import tokenize

END = "<end>"  # counts as a word, or incomplete captions would be rewarded


class Reward:
    """Rewards for captions of images whose references are tokenised and counted once."""

    def __init__(self, config: RewardConfig, samples: Sequence[Sample]) -> None:
        """Takes the weights, and the references of images that have captions.

        Raises:
            UserError: no score has a weight.
        """
        self.weights = {score: weight for score, weight in vars(config).items() if weight}
        if not self.weights:
            raise UserError(
                "train.self_critical.reward: every weight is 0; give one score a weight, such as cider_d: 1"
            )
        known = [sample for sample in samples if sample.captions]
        self.references = {image_key(sample.source, sample.name): _ended(sample.captions) for sample in known}
        self.frequencies = DocumentFrequencies(list(self.references.values()))

    def __call__(self, names: Sequence[str], captions: Sequence[str]) -> np.ndarray:
        """The rewards [C] of captions, each with its image's key; an image may come several times."""
        references = [self.references[name] for name in names]
        corpus = Corpus(_ended(captions), references, tokenized=True)
        table = CaptionTable(corpus.candidates, references, corpus, self.frequencies)
        values = image_scores(table, list(self.weights))
        return np.sum([weight * values[score] for score, weight in self.weights.items()], axis=0)


def image_key(source: str, name: str) -> str:
    """An image's name among those of all data sets."""
    return f"{source}/{name}"


def _ended(captions: Sequence[str]) -> list[str]:
    return [f"{caption} {END}" for caption in tokenize(captions)]
