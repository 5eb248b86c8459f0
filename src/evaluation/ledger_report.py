"""The ledger as text: scores, simulated boards, ranks among rivals, own scores against the board's, a suggestion.

Held by tests/evaluation/test_submission_ledger.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from src.common.errors import UserError
from src.common.text_table import format_table
from src.data.csv_table import read_table, row_label
from src.evaluation.submission_ledger import BoardResponse, LedgerEntry, check_response, score_held_out
from src.metrics.base import Score
from src.metrics.challenge import TASKS, combined_score
from src.metrics.correlation import plcc, srcc
from src.metrics.leaderboard import PUBLIC, Leaderboard, challenge_ranks, simulate_leaderboards
from src.metrics.leaderboard import SCORES as BOARD_SCORES

CUTS = 200  # of each kind
MIN_IMAGES = 30
MIN_PAIRS = 3  # of own and board's scores for a correlation
HEADER = [
    "submission",
    "hash",
    "model",
    "quality",
    "captioning",
    "scores of",
    "simulated public",
    "wins",
    "board",
    "rank",
]


@dataclass(frozen=True)
class SimulatedBoards:
    """Simulated boards.

    Attributes:
        public: submission -> text of its simulated public scores with the middle 95 % of the cuts.
        wins: submission -> share of the private boards that it wins among the others, of both kinds of cuts.
        photos: how many images the boards of `wins` share.
    """

    public: Mapping[str, str]
    wins: Mapping[str, float]
    photos: int


def simulate_boards(entries: Sequence[LedgerEntry]) -> SimulatedBoards:
    """Boards of the submissions with held-out predictions, each alone and all on the images common to them."""
    twins = earlier_twins(entries)
    known = {entry.file: entry.held_out for entry in entries if entry.held_out and entry.file not in twins}
    public = {}
    for file, held_out in known.items():
        scores = score_held_out(held_out)
        if scores.scores:
            boards = simulate_leaderboards({file: scores}, held_out.mos_true, "stratified", CUTS)
            public[file] = format_board(boards.public, file)
    common = set.intersection(*(set(held_out.images) for held_out in known.values())) if known else set()
    if len(public) < 2 or len(common) < MIN_IMAGES:
        return SimulatedBoards(public, {}, len(common))
    images = sorted(common)
    chosen = {file: known[file].select(images) for file in public}
    competitors = {file: score_held_out(held_out) for file, held_out in chosen.items()}
    mos = next(iter(chosen.values())).mos_true
    firsts = [
        (simulate_leaderboards(competitors, mos, kind, CUTS).private.ranks == 1) for kind in ("stratified", "shifted")
    ]
    wins = dict(zip(competitors, np.concatenate(firsts).mean(axis=0).tolist(), strict=True))
    return SimulatedBoards(public, wins, len(common))


def format_board(board: Leaderboard, file: str) -> str:
    """0.78 [0.75, 0.81]; CIDEr-D stands for captioning, and says so."""
    texts = []
    scores = board.scores[file]
    for name, (value, low, high) in ((name, scores[name]) for name in BOARD_SCORES if name in scores):
        label = "" if name == "quality" else f"{name} "
        texts.append(f"{label}{value:.3f} [{low:.3f}, {high:.3f}]")
    return ", ".join(texts)


def format_ledger(entries: Sequence[LedgerEntry], boards: SimulatedBoards) -> str:
    """A row for each submission."""
    rows = [HEADER]
    for entry in entries:
        board = entry.board
        wins = f"{boards.wins[entry.file]:.0%}" if entry.file in boards.wins else "-"
        texts = [format_own_score(entry.scores.get(task)) for task in TASKS]
        public = f"{board.quality:.4f}, {board.captioning:.4f}" if board else "-"
        rank = str(board.rank) if board and board.rank else "-"
        simulated = boards.public.get(entry.file, "-") if entry.sha256 else "-"
        hashed = (entry.sha256 or (board.sha256 if board else ""))[:8]
        rows.append(
            [entry.file, hashed, entry.model or "-", *texts, entry.origin or "-", simulated, wins, public, rank]
        )
    return format_table(rows)


def format_own_score(score: Score | None) -> str:
    """0.780 [0.750, 0.810]"""
    if score is None:
        return "-"
    return f"{score.value:.3f}" + ("" if score.low is None else f" [{score.low:.3f}, {score.high:.3f}]")


def ledger_warnings(entries: Sequence[LedgerEntry]) -> list[str]:
    """A line for each file that equals an earlier one, or that has a problem."""
    twins = earlier_twins(entries)
    lines = []
    for entry in entries:
        if earlier := twins.get(entry.file):
            scored = ", which the board has scored" if earlier.board else ""
            lines.append(f"{entry.file}: holds the same predictions as {earlier.file}{scored}; do not hand it in again")
        if entry.problem and entry.sha256:
            lines.append(f"{entry.file}: {entry.problem}")
    return lines


def earlier_twins(entries: Sequence[LedgerEntry]) -> dict[str, LedgerEntry]:
    """File -> the earlier one of the same predictions: one that the board has scored, else the older one."""
    first: dict[str, LedgerEntry] = {}
    twins = {}
    for entry in sorted(entries, key=lambda e: (e.board is None, str(e.facts.get("date", "~")), e.file)):
        if entry.content and first.setdefault(entry.content, entry) is not entry:
            twins[entry.file] = first[entry.content]
    return twins


def format_correlations(entries: Sequence[LedgerEntry]) -> str:
    """A line for each task: how own scores go with the board's."""
    scored = {entry.board.sha256: entry for entry in entries if entry.board}.values()
    lines = []
    for task in TASKS:
        pairs = [(e.scores[task].value, getattr(e.board, task)) for e in scored if task in e.scores]
        pairs = [(ours, public) for ours, public in pairs if public]
        if not pairs:
            continue
        ours, public = np.array(pairs).T
        text = f"{task}: own less the board's score {(ours - public).mean():+.4f}, mean of {len(pairs)}"
        if len(pairs) >= MIN_PAIRS:
            text += f"; PLCC {plcc(ours, public):.2f}, SRCC {srcc(ours, public):.2f} between them"
        else:
            text += f"; a correlation needs {MIN_PAIRS}"
        lines.append(text)
    return "\n".join(lines)


def read_rivals(path: Path) -> dict[str, tuple[float, float]]:
    """Team -> the board's quality and captioning, of a table with the columns team, quality and captioning.

    Raises:
        UserError: the table, a number, or a name that is there twice.
    """
    table = read_table(path, ["team", *TASKS])
    rivals: dict[str, tuple[float, float]] = {}
    for index, (team, *texts) in enumerate(table[["team", *TASKS]].itertuples(index=False)):
        where = f"{path}: {row_label(index)}"
        if team in rivals:
            raise UserError(f"{where}: team {team} is there twice; keep its newest row")
        try:
            quality, captioning = map(float, texts)
            check_response(BoardResponse("", "", quality, captioning))
        except (ValueError, UserError) as error:
            raise UserError(f"{where}: {', '.join(texts)} are no scores; type quality and captioning") from error
        rivals[team] = (quality, captioning)
    return rivals


def format_rank_sheet(rivals: Mapping[str, tuple[float, float]], entries: Sequence[LedgerEntry]) -> str:
    """The rivals and our best submission by the sum of ranks, then the place of each other one of ours.

    Raises:
        UserError: the board has scored none of ours.
    """
    ours = {entry.file: (entry.board.quality, entry.board.captioning) for entry in entries if entry.board}
    if not ours:
        raise UserError("--rivals: the board has scored none of ours; note it with FILE --public QUALITY CAPTIONING")
    sheets = {file: rank_rows({**rivals, f"* {file}": scores}) for file, scores in ours.items()}
    rows = {file: next(row for row in sheet if row[1] == f"* {file}") for file, sheet in sheets.items()}
    order = sorted(ours, key=lambda file: (int(rows[file][0]), -ours[file][1]))
    lines = [
        format_table([["place", "team", "quality", "rank", "captioning", "rank", "sum"], *sheets[order[0]]], right=[0])
    ]
    lines += [f"* {file}: place {rows[file][0]}, sum of ranks {rows[file][-1]}" for file in order[1:]]
    return "\n".join(lines)


def rank_rows(scores: Mapping[str, tuple[float, float]]) -> list[list[str]]:
    """Place, team, quality and its rank, captioning and its rank, and the sum of ranks, by place."""
    table = {team: dict(zip(TASKS, map(np.atleast_1d, pair), strict=True)) for team, pair in scores.items()}
    places = challenge_ranks(table)[0]
    ranks = rankdata([[-value for value in pair] for pair in scores.values()], method="min", axis=0).astype(int)
    rows = [
        [str(place), team, f"{pair[0]:.4f}", str(rank[0]), f"{pair[1]:.4f}", str(rank[1]), str(rank.sum())]
        for place, (team, pair), rank in zip(places, scores.items(), ranks, strict=True)
    ]
    return sorted(rows, key=lambda row: int(row[0]))


def suggest(entries: Sequence[LedgerEntry], boards: SimulatedBoards) -> str:
    """What to hand in last, and why: by held-out predictions, else by own scores, else by the board's."""
    candidates = [entry for entry in entries if entry.content and not entry.problem]
    best = board_best(candidates)
    if boards.wins:
        file, *others = sorted(boards.wins, key=lambda name: -boards.wins[name])
        reason = f"it wins {boards.wins[file]:.0%} of {2 * CUTS} simulated private boards on {boards.photos:,} photos"
        reason += f" that its models were not trained on ({others[0]}: {boards.wins[others[0]]:.0%})"
    elif scored := [entry for entry in candidates if entry.scores]:
        entry = max(scored, key=lambda e: combined_score(**{task: score.value for task, score in e.scores.items()}))
        file, values = entry.file, ", ".join(f"{task} {score.value:.4f}" for task, score in entry.scores.items())
        reason = f"its own scores are the highest ({values}; {entry.origin})"
    elif best:
        file, reason = best.file, "the board scores it highest; no submission has scores of our own"
    else:
        return "hand in last: there is no submission with scores yet; predict with a trained model"
    text = f"hand in last: {file}, since {reason}"
    if best and best.board and best.file != file:
        text += f"\nthe board's best is {best.file}, but it sees {PUBLIC:.0%} of the photos; a private board may differ"
    return text


def board_best(entries: Sequence[LedgerEntry]) -> LedgerEntry | None:
    """The submission with the board's highest combined score; None: it has scored none."""
    scored = [entry for entry in entries if entry.board]
    return max(scored, key=board_combined, default=None)


def board_combined(entry: LedgerEntry) -> float:
    """The board's two scores as one."""
    assert entry.board is not None
    return float(combined_score(entry.board.quality, entry.board.captioning))
