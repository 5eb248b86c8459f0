"""Scores of pairs against the metrics, which score a candidate with all its references."""

import numpy as np
import pytest

from src.metrics.bleu import bleu
from src.metrics.caption_pairs import CaptionPairs
from src.metrics.cider import cider_d_per_image
from src.metrics.rouge import rouge_l
from src.metrics.text.corpus import Corpus
from src.metrics.text.document_frequency import DocumentFrequencies

WORDS = [f"w{i}" for i in range(9)]  # few, so that n-grams repeat within a caption


@pytest.fixture(scope="module")
def captions() -> list[str]:
    rng = np.random.default_rng(0)
    return ["", *(" ".join(rng.choice(WORDS, rng.integers(1, 16))) for _ in range(60))]


def test_cider_d_is_the_metrics_own(captions: list[str]) -> None:
    rng = np.random.default_rng(1)
    references = [rng.choice(len(captions), rng.integers(1, 6), replace=False) for _ in range(20)]
    texts = [[captions[i] for i in rows] for rows in references]
    frequencies = DocumentFrequencies(texts)
    expected = cider_d_per_image(Corpus(captions[:20], texts, tokenized=True), frequencies)
    pairs = CaptionPairs(captions, frequencies)
    means = [pairs.scores(np.array([i]), rows).mean() for i, rows in enumerate(references)]
    np.testing.assert_allclose(means, expected, rtol=0, atol=1e-9)
    assert max(expected) > 0.5


def test_the_challenges_sum_without_meteor(captions: list[str]) -> None:
    frequencies = DocumentFrequencies([[caption] for caption in captions])
    pairs, rows, others = CaptionPairs(captions, frequencies), np.arange(1, 9), np.arange(9, 30)
    left = [captions[i] for i in rows for _ in others]
    right = [[captions[i]] for _ in rows for i in others]
    corpus = Corpus(left, right, tokenized=True)
    blue = bleu(left, right, tokenized=True)[1]
    expected = 4 * cider_d_per_image(corpus, frequencies) + blue[:, 2] + blue[:, 3] + rouge_l(left, right, True)[1]
    found = pairs.scores(rows, others, "challenge")
    np.testing.assert_allclose(found.ravel(), expected, rtol=0, atol=1e-9)
