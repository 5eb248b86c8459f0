"""Blends of mos and captions: by hand-made numbers and by pycocoevalcap."""

import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider
from scipy.stats import spearmanr

from src.inference.blending import blend_mos, caption_agreement, consensus_captions, mean_without_outliers

WORDS = "a photo with soft light sharp dull noisy colours and a calm mood very dark bright blurry scene".split()


def captions(members: int, photos: int, seed: int = 0) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    return [[" ".join(rng.choice(WORDS, size=rng.integers(4, 9))) for _ in range(photos)] for _ in range(members)]


def test_agreement_is_mean_cider_d_against_the_others() -> None:
    members = captions(4, 25)
    found = caption_agreement(members)
    for i, own in enumerate(members):
        others = {p: [m[p] for j, m in enumerate(members) if j != i] for p in range(25)}
        _, expected = Cider().compute_score(others, {p: [own[p]] for p in range(25)})
        np.testing.assert_allclose(found[i], expected, atol=1e-9)


def test_vote_takes_the_middle_of_the_road() -> None:
    photos = 12
    common = [f"a sharp photo of scene number {i} with soft light" for i in range(photos)]
    odd = ["noisy dull mood" for _ in range(photos)]
    near = [text.replace("soft", "bright") for text in common]
    assert consensus_captions([odd, common, near, common]) == common
    assert consensus_captions([odd[:3], near[:3], common[:3], common[:3]]) == common[:3]  # ROUGE-L: too few for CIDEr-D
    assert consensus_captions([odd, common]) == odd  # two cannot outvote each other: the first
    assert consensus_captions([odd[:1], odd[:1], odd[:1]]) == odd[:1]


def test_mean_and_outliers() -> None:
    values = np.array([[1.0, 5.0], [2.0, 5.1], [3.0, 5.2], [2.0, 9.9]])
    np.testing.assert_allclose(blend_mos(values), [2.0, 6.3])
    np.testing.assert_allclose(mean_without_outliers(values, 1.5), [2.0, 5.1])
    np.testing.assert_allclose(mean_without_outliers(np.array([[1.0], [3.0]]), 0.1), [2.0])


def test_ranks_join_members_of_different_scales() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(5, 1, 200)
    stretched = np.stack([truth, np.exp(truth), -1 / truth.clip(1)])
    joined = blend_mos(stretched, "rank")
    assert spearmanr(joined, truth).statistic == pytest.approx(1)
    same = np.stack([truth, truth])
    np.testing.assert_allclose(blend_mos(same, "rank"), truth)
