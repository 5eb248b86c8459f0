"""A comparison as text tables and as JSON types.
Held by tests/evaluation/test_paired_comparison.py.
"""

from dataclasses import asdict
from typing import Any

from src.common.text_table import format_table
from src.evaluation.paired_comparison import Comparison
from src.evaluation.score_table import ScoreColumns, format_score, format_scores
from src.metrics.base import Score
from src.metrics.compute import compact_scores
from src.metrics.leaderboard import SCORES as LEADERBOARD_SCORES
from src.metrics.leaderboard import Leaderboard, LeaderboardPair


def decile_columns(groups: ScoreColumns) -> dict[str, dict[str, Score]]:
    """Score -> range of true mos -> value, of the few scores that fit on a screen."""
    names = ("photos", "bias", *compact_scores())
    columns = {name: {group: scores[name] for group, scores in groups.items() if name in scores} for name in names}
    return {name: column for name, column in columns.items() if column}


def format_comparison(comparison: Comparison) -> str:
    """All results as text: titles and tables."""
    lines = []
    if comparison.deciles:
        lines += ["\ndeciles of true mos, from low to high", format_scores(decile_columns(comparison.deciles))]
    for other in comparison.competitors[1:]:
        first, difference = comparison.competitors[0], comparison.differences[other.name]
        columns = {first.name: first.scores.scores, other.name: other.scores.scores, "difference": difference}
        lines.append(
            f"\nagainst {other.name} on the same {len(first.mos_true)} photos (intervals of a paired bootstrap)"
        )
        lines.append(format_scores(columns))
    for kind, boards in comparison.leaderboards.items():
        lines.append(f"\nleaderboards, {kind}: {comparison.cuts} cuts into 30 % public and 70 % private photos")
        lines.append(format_leaderboards(boards))
        if len(comparison.competitors) > 1:
            lines.append(
                f"the public winner also wins the private leaderboard in {boards.same_winner_share:.0%} of the cuts"
            )
    return "\n".join(lines)


def format_leaderboards(boards: LeaderboardPair) -> str:
    """A row for each competitor: scores on both leaderboards and, if there are several, shares of ranks."""
    names = list(boards.public.scores)
    columns: list[list[str]] = [["", *names]]
    for side, board in vars(boards).items():
        columns += leaderboard_columns(side, board)
        if len(names) > 1:
            shares = board.shares()
            ranks = [", ".join(f"{i + 1}: {share:.0%}" for i, share in enumerate(shares[n]) if share) for n in names]
            columns.append([f"{side} ranks", *ranks])
    return format_table(list(zip(*columns, strict=True)))


def leaderboard_columns(side: str, board: Leaderboard) -> list[list[str]]:
    """Columns of a leaderboard's scores; CIDEr-D stands in for captioning, which needs METEOR."""
    names = [name for name in LEADERBOARD_SCORES if any(name in scores for scores in board.scores.values())]
    if "captioning" in names:
        names = names[:2]
    cells = [[Score(*scores[name]) if name in scores else None for scores in board.scores.values()] for name in names]
    return [[f"{side} {name}", *map(format_score, column)] for name, column in zip(names, cells, strict=True)]


def comparison_to_dict(comparison: Comparison) -> dict[str, Any]:
    """The results as JSON types; a part that was not requested is absent."""
    tree: dict[str, Any] = {}
    if comparison.deciles:
        tree["deciles"] = scores_to_dict(comparison.deciles)
    if comparison.differences:
        tree["against"] = scores_to_dict(comparison.differences)
    for kind, boards in comparison.leaderboards.items():
        sides: dict[str, Any] = {side: {"scores": b.scores, "ranks": b.shares()} for side, b in vars(boards).items()}
        several = len(comparison.competitors) > 1
        tree.setdefault("boards", {})[kind] = sides | (
            {"public_winner_wins_private": boards.same_winner_share} if several else {}
        )
    return tree


def scores_to_dict(columns: ScoreColumns) -> dict[str, dict[str, Any]]:
    """Scores as dicts of value, low and high."""
    return {group: {name: asdict(score) for name, score in scores.items()} for group, scores in columns.items()}
