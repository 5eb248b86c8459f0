"""The reward of a sampled caption: a weighted sum of its scores against the image's references."""

from collections.abc import Sequence

import numpy as np

from src.common.errors import UserError
from src.config.schema import RewardConfig
from src.data.sample import Sample
from src.metrics.bleu_rouge import bleu_counts, bleu_from_counts, rouge_l_per_image
from src.metrics.cider import cider_d_per_image
from src.metrics.text.corpus import Corpus
from src.metrics.text.document_frequency import DocumentFrequencies
from src.metrics.text.ngrams import ORDERS
from src.metrics.text.ptb_tokenizer import tokenize

END = "<end>"  # counts as a word, or incomplete captions would be rewarded


class Reward:
    """Rewards for captions of images whose references are tokenised and counted once."""

    def __init__(self, config: RewardConfig, samples: Sequence[Sample]) -> None:
        """Takes the weights, and the references of images that have captions.

        Raises:
            UserError: no score has a weight.
        """
        if not any(vars(config).values()):
            raise UserError(
                "train.self_critical.reward: every weight is 0; give one score a weight, such as cider_d: 1"
            )
        self.config = config
        known = [sample for sample in samples if sample.captions]
        self.references = {image_key(sample.source, sample.name): _ended(sample.captions) for sample in known}
        self.frequencies = DocumentFrequencies(list(self.references.values()))

    def __call__(self, names: Sequence[str], captions: Sequence[str]) -> np.ndarray:
        """The rewards [C] of captions, each with its image's key; an image may come several times."""
        corpus = Corpus(_ended(captions), [self.references[name] for name in names], tokenized=True)
        total = self.config.cider_d * cider_d_per_image(corpus, self.frequencies)
        if self.config.bleu_4:
            total += self.config.bleu_4 * bleu_from_counts(bleu_counts(corpus))[1][:, ORDERS - 1]
        if self.config.rouge_l:
            total += self.config.rouge_l * rouge_l_per_image(corpus)
        return total


def image_key(source: str, name: str) -> str:
    """An image's name among those of all data sets."""
    return f"{source}/{name}"


def _ended(captions: Sequence[str]) -> list[str]:
    return [f"{caption} {END}" for caption in tokenize(captions)]
