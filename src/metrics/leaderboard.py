"""Simulated leaderboards: many random cuts of the images into a public and a private part, and the ranks on each.

The challenge ranks by quality and by captioning; the sum of the two ranks decides, the better captioning rank a tie.
Two ways to cut: `stratified` takes the same share of every ten images of like mos; `shifted` prefers images of high
mos, or of low (a coin decides), so that the two parts differ as the challenge's seem to.

Notation: P images, B cuts, M competitors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import rankdata

from src.metrics.base import Scores
from src.metrics.bootstrap import BLOCK, percentile_interval
from src.metrics.challenge import TASKS

PUBLIC = 0.3
STRATUM = 10  # images
SCORES = (*TASKS, "cider_d")  # of a leaderboard's table, as far as they are known
Kind = Literal["stratified", "shifted"]


@dataclass
class Leaderboard:
    """A leaderboard over all cuts.

    Attributes:
        scores: competitor -> score -> mean over the cuts, and the middle 95 % of them. Cuts without images for a score
            do not count; a score that no cut allows is absent.
        ranks: [B, M], 1 is best.
    """

    scores: dict[str, dict[str, tuple[float, float, float]]]
    ranks: np.ndarray

    def shares(self) -> dict[str, list[float]]:
        """Competitor -> share of cuts in which it takes rank 1, 2, .. M."""
        many = self.ranks.shape[1]
        table = [[float((column == rank).mean()) for rank in range(1, many + 1)] for column in self.ranks.T]
        return dict(zip(self.scores, table, strict=True))


@dataclass
class LeaderboardPair:
    """Public and private board of the same cuts."""

    public: Leaderboard
    private: Leaderboard

    @property
    def kept(self) -> float:
        """Share of the cuts whose public winner wins the private board too."""
        return float((self.public.ranks.argmin(1) == self.private.ranks.argmin(1)).mean())


def simulate_leaderboards(
    competitors: Mapping[str, Scores],
    mos: np.ndarray,
    kind: Kind,
    cuts: int = 200,
    seed: int = 0,
    shift: float = 1.0,
) -> LeaderboardPair:
    """Cuts the images `cuts` times and ranks all competitors.

    Args:
        competitors: name -> its scores of the same P images.
        mos: [P] true, NaN where unknown, by which images are stratified or shifted.
        kind: how to cut.
        cuts: B.
        seed: of the cuts.
        shift: of a shifted cut, in log odds to be drawn a standard deviation of mos.
    """
    rng = np.random.default_rng(seed)
    size = max(1, BLOCK // max(1, len(mos)))
    parts: dict[bool, list[dict[str, dict[str, np.ndarray]]]] = {True: [], False: []}
    for start in range(0, cuts, size):
        many = min(size, cuts - start)
        public = stratified_cuts(mos, many, rng) if kind == "stratified" else shifted_cuts(mos, many, rng, shift)
        for side, chosen in ((True, public), (False, ~public)):
            weights = chosen.astype(np.float64)
            parts[side].append({name: dict(scores.resample(weights)) for name, scores in competitors.items()})
    return LeaderboardPair(_board(parts[True]), _board(parts[False]))


def stratified_cuts(mos: np.ndarray, cuts: int, rng: np.random.Generator) -> np.ndarray:
    """[B, P] bool: three of every ten images in order of mos; those of unknown mos come last, in the table's order."""
    images = len(mos)
    order = np.argsort(mos, kind="stable")
    keys = rng.random((cuts, images)) + np.arange(images) // STRATUM  # sorted within each stratum only
    place = np.empty((cuts, images), dtype=np.int64)
    np.put_along_axis(place, keys.argsort(axis=1), np.arange(images)[None, :] % STRATUM, axis=1)
    public = np.empty((cuts, images), dtype=bool)
    public[:, order] = place < round(PUBLIC * STRATUM)
    return public


def shifted_cuts(mos: np.ndarray, cuts: int, rng: np.random.Generator, shift: float) -> np.ndarray:
    """[B, P] bool: 30 % drawn without replacement with odds exp(shift z) or exp(-shift z), z the standardised mos.

    By the largest of log odds and Gumbel noise (Efraimidis and Spirakis 2006); z is 0 where mos is unknown.
    """
    known = np.isfinite(mos)
    z = np.zeros(len(mos))
    if known.any() and mos[known].std() > 0:
        z[known] = (mos[known] - mos[known].mean()) / mos[known].std()
    sign = rng.choice([-1.0, 1.0], size=(cuts, 1))
    keys = shift * sign * z + rng.gumbel(size=(cuts, len(mos)))
    rank = (-keys).argsort(axis=1).argsort(axis=1)
    return rank < round(PUBLIC * len(mos))


def _board(parts: list[dict[str, dict[str, np.ndarray]]]) -> Leaderboard:
    values = {
        name: {score: np.concatenate([part[name][score] for part in parts]) for score in parts[0][name]}
        for name in parts[0]
    }
    scores = {
        name: {
            score: (float(np.nanmean(x)), *percentile_interval(x)) for score, x in row.items() if np.isfinite(x).any()
        }
        for name, row in values.items()
    }
    return Leaderboard(scores, challenge_ranks(values))


def challenge_ranks(values: Mapping[str, Mapping[str, np.ndarray]]) -> np.ndarray:
    """[B, M] ranks by the challenge's rule; a competitor without a task is last in it.

    Without METEOR, CIDEr-D stands for captioning.

    Args:
        values: competitor -> score -> [B].
    """
    columns = []
    for task in TASKS:
        if task == "captioning" and not any(task in row for row in values.values()):
            task = "cider_d"
        if shape := next((row[task].shape for row in values.values() if task in row), None):
            table = np.stack([row.get(task, np.full(shape, -np.inf)) for row in values.values()], axis=1)
            columns.append(rankdata(-np.nan_to_num(table, nan=-np.inf), method="min", axis=1))
    if not columns:
        raise ValueError("no competitor has a score to rank by")
    total, last = sum(columns), columns[-1]
    return rankdata(total * (2 * len(values) + 2) + last, method="min", axis=1).astype(np.int64)
