"""Boards, groups and pairs: against brute force over the photos one by one, and known distributions."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from src.metrics.bootstrap import paired_differences
from src.metrics.compute import ResampledScores, Score, Scores, measure, score_images
from src.metrics.leaderboard import Kind, challenge_ranks, shifted_cuts, simulate_leaderboards, stratified_cuts
from src.metrics.subgroups import deciles, score_groups

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
    draws = {"good": measure(NAMES, GOOD, TRUE)[1], "bad": measure(NAMES, BAD, TRUE)[1]}
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
    draws = {str(i): measure(NAMES, one, TRUE)[1] for i, one in enumerate(twins)}
    made = simulate_leaderboards(draws, TRUE, "stratified", cuts=100)
    assert 0.05 < made.public.shares()["0"][0] < 0.95
    assert made.kept < 1.0


@pytest.mark.parametrize("kind", ["stratified", "shifted"])
@pytest.mark.parametrize("photos", [1, 2, 5])
def test_a_board_without_photos_has_no_scores(photos: int, kind: Kind) -> None:
    said = ["a cat"] * photos
    draws = {"one": measure(NAMES[:photos], GOOD[:photos], TRUE[:photos], said, [[one] for one in said])[1]}
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


def test_groups_are_scored_as_tables_of_their_own() -> None:
    groups = deciles(np.append(TRUE, np.nan))
    assert sorted(np.concatenate(list(groups.values()))) == list(range(PHOTOS))
    assert [len(rows) for rows in groups.values()] == [20] * 10
    scores, draw = measure(NAMES, BAD, TRUE)
    found = score_groups(scores, draw, groups)
    last = 0.0
    for name, rows in groups.items():
        alone = score_images([NAMES[i] for i in rows], BAD[rows], TRUE[rows], intervals=True).scores
        for score in ("plcc", "srcc", "rmse", "quality"):
            assert found[name][score].value == pytest.approx(alone[score].value)
            assert found[name][score].low == pytest.approx(alone[score].low, abs=0.1)
        assert found[name]["bias"].value == pytest.approx(np.mean(BAD[rows] - TRUE[rows]))
        assert TRUE[rows].mean() > last
        last = TRUE[rows].mean()


def test_a_group_without_labels_has_no_scores_but_its_size() -> None:
    true = np.where(np.arange(PHOTOS) < 100, TRUE, np.nan)
    scores, draw = measure(NAMES, GOOD, true, ["a cat"] * PHOTOS, [["a cat"]] * 100 + [[]] * 100)
    found = score_groups(scores, draw, {"labelled": np.arange(100), "not": np.arange(100, 200)}, resamples=20)
    assert set(found["not"]) == {"photos"}
    assert found["labelled"]["bleu_1"].value == pytest.approx(1.0)


def test_a_paired_difference_is_sharper_than_the_scores() -> None:
    near = GOOD + np.random.default_rng(5).normal(0, 0.02, PHOTOS)
    found = paired_differences(measure(NAMES, GOOD, TRUE, intervals=True), measure(NAMES, near, TRUE))
    off = found["plcc"]
    assert off.value == pytest.approx(pearsonr(GOOD, TRUE)[0] - pearsonr(near, TRUE)[0])
    rng, plain = np.random.default_rng(9), []
    for _ in range(1000):
        rows = rng.integers(0, PHOTOS, PHOTOS)
        plain.append(pearsonr(GOOD[rows], TRUE[rows])[0] - pearsonr(near[rows], TRUE[rows])[0])
    assert [off.low, off.high] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=1e-3)
    same = paired_differences(measure(NAMES, GOOD, TRUE), measure(NAMES, GOOD, TRUE))
    assert (same["srcc"].value, same["srcc"].low, same["srcc"].high) == (0.0, 0.0, 0.0)


def test_sums_of_unlike_tasks_are_not_subtracted() -> None:
    def scored(**values: float) -> tuple[Scores, ResampledScores]:
        scores = {name: Score(value) for name, value in values.items()}
        return Scores(scores, NAMES), lambda weights: {name: np.full(len(weights), x) for name, x in values.items()}

    both, other = (scored(quality=0.6, captioning=1.0, combined=one) for one in (1.5, 1.2))
    single = scored(quality=0.7, combined=0.9)
    assert list(paired_differences(both, single)) == ["quality"]
    assert list(paired_differences(single, both)) == ["quality"]
    assert paired_differences(both, other)["combined"].value == pytest.approx(0.3)
