"""Expected rewards against CIDEr-D of each candidate with all its references."""

from dataclasses import replace

import numpy as np
import pytest

from src.config.schema import RerankConfig, TokenizerConfig
from src.data.tokenizer import Tokenizer
from src.inference.neighbours import CaptionedImage, CaptionNeighbours
from src.inference.reranking import CaptionReranker, RerankImages, rank_candidates
from src.metrics.cider import cider_d_per_image
from src.metrics.text.corpus import Corpus
from src.metrics.text.document_frequency import DocumentFrequencies
from src.metrics.text.ptb_tokenizer import tokenize

DOGS = ["a dog runs on the grass", "a brown dog runs over green grass"]
CITIES = ["people walk along a busy street", "a busy street with many people"]
POEMS = ["oh dog of the grass"]
DOG, CITY, POEM = np.array([5.0, 0, 0]), np.array([0, 5.0, 0]), np.array([5.0, 1.0, 0])
TOKENIZER = Tokenizer.train(DOGS + CITIES + POEMS, TokenizerConfig(min_count=1), ("plain", "poem"))
CONFIG = RerankConfig(neighbours=2)
CANDIDATES = ["a man", "a dog on the grass", "people walk", "a dog on the grass", "a dog runs"]


@pytest.fixture(scope="module")
def reranker() -> CaptionReranker:
    noise = np.random.default_rng(0).normal(size=(7, 3)) / 10
    vectors = np.array([DOG, DOG, DOG, CITY, CITY, CITY, POEM]) + noise
    captions = [DOGS, DOGS[:1], DOGS[1:], CITIES, CITIES[:1], CITIES[1:], POEMS]
    images = [CaptionedImage(f"hash{i}", "poem" if i == 6 else "plain", texts) for i, texts in enumerate(captions)]
    return CaptionReranker(CaptionNeighbours(vectors.astype(np.float32), images), TOKENIZER)


def image(vector: np.ndarray, style: str = "plain", digest: str | None = None) -> RerankImages:
    return RerankImages(vector[None].astype(np.float32), np.array([TOKENIZER.style(style)]), [digest])


def cider(reranker: CaptionReranker, references: list[list[str]]) -> np.ndarray:
    """CIDEr-D of CANDIDATES, each with its references, by the frequencies of the training captions."""
    captions = [tokenize(one.captions) for one in reranker.neighbours.images]
    return cider_d_per_image(Corpus(CANDIDATES, references), DocumentFrequencies(captions))


def test_the_reward_is_cider_d_against_all_captions_of_the_neighbours(reranker: CaptionReranker) -> None:
    config = replace(CONFIG, neighbours=3)
    found = reranker.rewards([CANDIDATES], image(DOG), config)[0]
    expected = cider(reranker, [DOGS + DOGS] * len(CANDIDATES))  # of the three dogs
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    assert CANDIDATES[rank_candidates(CANDIDATES, found)[0]].startswith("a dog")
    city = reranker.rewards([CANDIDATES], image(CITY), config)[0]
    assert CANDIDATES[rank_candidates(CANDIDATES, city)[0]] == "people walk"


def test_the_consensus_is_cider_d_against_the_other_candidates(reranker: CaptionReranker) -> None:
    others = [CANDIDATES[:i] + CANDIDATES[i + 1 :] for i in range(len(CANDIDATES))]
    expected = cider(reranker, others)
    found = reranker.rewards([CANDIDATES], image(DOG), replace(CONFIG, consensus=1.0))[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    near = reranker.rewards([CANDIDATES], image(DOG), CONFIG)[0]
    mixed = reranker.rewards([CANDIDATES], image(DOG), replace(CONFIG, consensus=0.25))[0]
    np.testing.assert_allclose(mixed, 0.75 * near + 0.25 * found, rtol=0, atol=1e-9)


def test_images_of_a_batch_have_the_rewards_that_they_have_alone(reranker: CaptionReranker) -> None:
    dog, city = image(DOG), image(CITY)
    both = RerankImages(
        np.concatenate([dog.vectors, city.vectors]), np.concatenate([dog.styles, city.styles]), [None, None]
    )
    config = replace(CONFIG, consensus=0.5, reward="challenge")
    found = reranker.rewards([CANDIDATES, CANDIDATES[:3]], both, config)
    np.testing.assert_allclose(found[0], reranker.rewards([CANDIDATES], dog, config)[0], atol=1e-12)
    np.testing.assert_allclose(found[1], reranker.rewards([CANDIDATES[:3]], city, config)[0], atol=1e-12)


def test_an_image_is_not_its_own_neighbour_and_styles_do_not_mix(reranker: CaptionReranker) -> None:
    own = reranker.neighbours.vectors[0].astype(float)
    config = replace(CONFIG, neighbours=1)
    np.testing.assert_allclose(
        reranker.rewards([CANDIDATES], image(own), config)[0], cider(reranker, [DOGS] * len(CANDIDATES)), atol=1e-9
    )
    without = reranker.rewards([CANDIDATES], image(own, digest="hash0"), config)[0]
    assert any(np.allclose(without, cider(reranker, [[text]] * len(CANDIDATES))) for text in DOGS)
    poem = reranker.rewards([CANDIDATES], image(own, "poem"), replace(config, neighbours=60))[0]
    np.testing.assert_allclose(poem, cider(reranker, [POEMS] * len(CANDIDATES)), atol=1e-9)


def test_without_neighbours_the_candidates_decide(reranker: CaptionReranker) -> None:
    alone = reranker.rewards([CANDIDATES], image(POEM, "poem", "hash6"), CONFIG)[0]
    np.testing.assert_allclose(
        alone, reranker.rewards([CANDIDATES], image(DOG), replace(CONFIG, consensus=1.0))[0], atol=1e-12
    )
    assert reranker.rewards([["a dog"]], image(POEM, "poem", "hash6"), CONFIG)[0].tolist() == [0.0]


def test_equal_captions_stand_once_and_the_first_of_equals_wins() -> None:
    assert rank_candidates(["a", "b", "a", "c"], np.array([1.0, 2.0, 1.0, 2.0 + 1e-12])) == [1, 3, 0]
