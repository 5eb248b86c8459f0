"""What captions are worth in self-critical training, against the scores themselves."""

from pathlib import Path

import numpy as np
import pytest

from src.common.errors import UserError
from src.config.schema import RewardConfig
from src.data.sample import Sample
from src.metrics.bleu import bleu
from src.metrics.cider import cider_d
from src.metrics.rouge import rouge_l
from src.training.reward import Reward, image_key
from tests.tiny import CAPTIONS

SAMPLES = [Sample(Path("x.jpg"), f"{i}", "set", captions=(CAPTIONS[i], CAPTIONS[i - 1])) for i in range(4)]
NAMES = [image_key("set", sample.name) for sample in SAMPLES]
DRAWN = [CAPTIONS[0], CAPTIONS[2], CAPTIONS[2] + " " + CAPTIONS[1], "nothing of the kind"]


def test_it_is_the_weighted_sum_of_scores_whose_last_word_is_the_end() -> None:
    ended = [f"{caption} theend" for caption in DRAWN]
    references = [[f"{caption} theend" for caption in sample.captions] for sample in SAMPLES]
    expected = (
        0.5 * cider_d(ended, references)[1] + 2 * bleu(ended, references)[1][:, 3] + rouge_l(ended, references)[1]
    )
    found = Reward(RewardConfig(cider_d=0.5, bleu_4=2.0, rouge_l=1.0), SAMPLES)(NAMES, DRAWN)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_caption_that_breaks_off_loses_more_than_its_score_does() -> None:
    references = [["a dog runs with a ball"], ["two men sit"], ["a dog sits with a cat"], ["the men stand"]]
    samples = [Sample(Path("x.jpg"), f"{i}", "set", captions=tuple(each)) for i, each in enumerate(references)]
    pair = ["a dog runs with a", "a dog runs with a ball"]
    lost = np.diff(Reward(RewardConfig(), samples)([image_key("set", "0")] * 2, pair))
    whole = [cider_d([caption, *["a"] * 3], references)[1][0] for caption in pair]
    assert lost > np.diff(whole) > 0


def test_a_photo_may_come_several_times_and_one_without_captions_is_none() -> None:
    reward = Reward(RewardConfig(bleu_4=1.0), [*SAMPLES, Sample(Path("y.jpg"), "none", "set")])
    twice = reward([NAMES[0], NAMES[1], NAMES[0]], [DRAWN[0], DRAWN[1], DRAWN[0]])
    assert twice[0] == twice[2] > twice[1]


def test_some_score_must_count() -> None:
    with pytest.raises(UserError, match=r"self_critical.reward: every weight is 0"):
        Reward(RewardConfig(cider_d=0.0), SAMPLES)
