"""Simulated leaderboards against brute force over the images one by one, and known distributions."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from src.metrics.compute import score_images
from src.metrics.leaderboard import Kind, challenge_ranks, shifted_cuts, simulate_leaderboards, stratified_cuts

RNG = np.random.default_rng(0)
PHOTOS = 200
TRUE = RNG.normal(5.5, 0.8, PHOTOS)
NAMES = [str(i) for i in range(PHOTOS)]
GOOD, BAD = (TRUE + RNG.normal(0, noise, PHOTOS) for noise in (0.3, 1.5))


def test_stratified_cuts_take_three_of_every_ten_like_photos() -> None:
    public = stratified_cuts(TRUE, 50, RNG)
    by_mos = public[:, np.argsort(TRUE)].reshape(50, -1, 10)
    assert (by_mos.sum(2) == 3).all()
    assert public.mean(0) == pytest.approx(0.3, abs=0.3)  # every photo changes sides
    assert public.any(0).all()


def test_shifted_cuts_differ_in_mos_and_either_way() -> None:
    public = shifted_cuts(TRUE, 400, RNG, shift=1.0)
    assert (public.sum(1) == 60).all()
    off = np.array([TRUE[row].mean() - TRUE[~row].mean() for row in public]) / TRUE.std()
    assert abs(off).mean() > 0.7
    assert 0.4 < (off > 0).mean() < 0.6
    assert (
        abs(np.array([TRUE[r].mean() - TRUE[~r].mean() for r in shifted_cuts(TRUE, 400, RNG, shift=0.0)])).mean() < 0.15
    )


def test_boards_score_each_part_and_rank_by_it() -> None:
    draws = {"good": score_images(NAMES, GOOD, TRUE), "bad": score_images(NAMES, BAD, TRUE)}
    made = simulate_leaderboards(draws, TRUE, "stratified", cuts=40, seed=3)
    cuts = stratified_cuts(TRUE, 40, np.random.default_rng(3))
    for board, side in ((made.public, cuts), (made.private, ~cuts)):
        plain = [(pearsonr(GOOD[row], TRUE[row])[0] + spearmanr(GOOD[row], TRUE[row])[0]) / 2 for row in side]
        mean, low, high = board.scores["good"]["quality"]
        assert mean == pytest.approx(np.mean(plain), abs=1e-9)
        assert [low, high] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=1e-9)
        assert board.shares() == {"good": [1.0, 0.0], "bad": [0.0, 1.0]}
    assert made.kept == 1.0


def test_equal_competitors_win_half_of_the_cuts() -> None:
    twins = [TRUE + np.random.default_rng(seed).normal(0, 1, PHOTOS) for seed in (1, 2)]
    draws = {str(i): score_images(NAMES, one, TRUE) for i, one in enumerate(twins)}
    made = simulate_leaderboards(draws, TRUE, "stratified", cuts=100)
    assert 0.05 < made.public.shares()["0"][0] < 0.95
    assert made.kept < 1.0


@pytest.mark.parametrize("kind", ["stratified", "shifted"])
@pytest.mark.parametrize("photos", [1, 2, 5])
def test_a_board_without_photos_has_no_scores(photos: int, kind: Kind) -> None:
    said = ["a cat"] * photos
    draws = {"one": score_images(NAMES[:photos], GOOD[:photos], TRUE[:photos], said, [[one] for one in said])}
    made = simulate_leaderboards(draws, TRUE[:photos], kind, cuts=20)
    for board in (made.public, made.private):
        assert np.isfinite(list(board.scores["one"].values())).all()
    assert made.public.scores["one"] or made.private.scores["one"]


def test_ranks_follow_the_challenges_rule() -> None:
    def scores(quality: float, captioning: float) -> dict[str, np.ndarray]:
        return {"quality": np.array([quality]), "captioning": np.array([captioning])}

    # Sums of ranks: 1+3, 2+2, 3+1: a tie of all, which captioning decides.
    assert challenge_ranks({"a": scores(0.9, 1), "b": scores(0.8, 2), "c": scores(0.7, 3)}).tolist() == [[3, 2, 1]]
    mos_only = {"quality": np.array([0.95])}  # last in captioning: 2+2, 3+1 and 1+3
    assert challenge_ranks({"a": scores(0.9, 1), "b": scores(0.8, 2), "mos": mos_only}).tolist() == [[2, 1, 3]]
    with pytest.raises(ValueError, match="no competitor"):
        challenge_ranks({"a": {}})
