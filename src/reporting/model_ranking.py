"""Several models on the photos that they all answer: differences, simulated boards, photos they disagree on."""

from collections.abc import Sequence

import numpy as np

from src.evaluation.comparison import Competitor, score_competitor
from src.evaluation.score_table import score_cell
from src.metrics.bootstrap import paired_differences
from src.metrics.leaderboard import simulate_leaderboards
from src.metrics.meteor import optional_meteor
from src.plots import report_figures as figures
from src.reporting.gallery import SIDE
from src.reporting.html import Gallery, GalleryPhoto, Section, Table, make_picture
from src.reporting.images import thumbnails
from src.reporting.model_data import ModelData

FEWEST = 20  # photos in common: fewer say nothing
SHOWN = 12


def common_rows(materials: Sequence[ModelData]) -> list[list[int]]:
    """For each model the rows of the photos that all have, in the first one's order."""
    places = [{(s.source, s.name): i for i, s in enumerate(m.asked.samples)} for m in materials]
    keys = [key for key in places[0] if all(key in one for one in places)]
    return [[one[key] for key in keys] for one in places]


def ranking_sections(materials: Sequence[ModelData], meteor: bool) -> list[Section]:
    """Sections on models side by side; none where they share too few photos."""
    rows = common_rows(materials)
    if len(rows[0]) < FEWEST:
        return []
    with optional_meteor(meteor and any(any(m.asked.answers.captions) for m in materials)) as process:
        every = [
            score_competitor(m.name, m.asked.answers.select(r), process) for m, r in zip(materials, rows, strict=True)
        ]
    return [difference_section(every), leaderboard_section(every), disagreement(materials, rows)]


def difference_section(every: Sequence[Competitor]) -> Section:
    """How far each model's scores are from the first one's."""
    first = every[0]
    columns = {one.name: paired_differences(one.scores, first.scores) for one in every[1:]}
    names = list(dict.fromkeys(name for one in columns.values() for name in one))
    rows = [[name, *(score_cell(one.get(name)) for one in columns.values())] for name in names]
    photos = f"{len(first.mos_true):,} photos that all answer"
    about = f"Each model's score less that of {first.name}, on the {photos}; 95 % intervals of a paired bootstrap."
    return Section("Differences", about, [Table(["score", *columns], rows)])


def leaderboard_section(every: Sequence[Competitor]) -> Section:
    """Ranks on simulated public and private boards."""
    about = (
        "How often each model takes which rank, by the challenge's rule, when 30 % of the photos are public, "
        "in 200 random cuts. Shifted: the two parts differ in mos."
    )
    section = Section("Boards", about)
    try:
        for kind in ("stratified", "shifted"):
            made = simulate_leaderboards({one.name: one.scores for one in every}, every[0].mos_true, kind)  # type: ignore[arg-type]
            for side, board in (("public", made.public), ("private", made.private)):
                figure = figures.rank_table(board.shares(), f"{side}, {kind}")
                section.blocks.append(make_picture(f"ranks_{kind}_{side}", f"Ranks, {side} board, {kind}", figure))
    except ValueError:  # no score to rank by
        section.about = ""
    return section


def disagreement(materials: Sequence[ModelData], rows: Sequence[Sequence[int]]) -> Section:
    """The photos whose answers differ most between the models."""
    section = Section("Photos", "Where the models' answers differ most.")
    for score, title in (("mos_error", "mos"), ("cider_d", "captions, by CIDEr-D")):
        if not all(score in m.whole.per_image for m in materials):
            continue
        table = np.array([m.whole.per_image[score][r] for m, r in zip(materials, rows, strict=True)])
        spread = np.nan_to_num(table.max(0) - table.min(0), nan=-1.0)
        chosen = [int(i) for i in np.argsort(-spread, kind="stable")[:SHOWN] if spread[i] >= 0]
        uris = thumbnails([materials[0].asked.samples[rows[0][i]].path for i in chosen], SIDE)
        shown = [
            GalleryPhoto(uri, *describe_row(materials, rows, i, score)) for uri, i in zip(uris, chosen, strict=True)
        ]
        section.blocks.append(Gallery(title, shown))
    return section if section.blocks else Section("Photos")


def describe_row(
    materials: Sequence[ModelData], rows: Sequence[Sequence[int]], place: int, score: str
) -> tuple[str, str, list[str]]:
    """A photo's name, what is true of it, and each model's answer."""
    first = materials[0].asked.answers
    row = rows[0][place]
    said = []
    for material, own in zip(materials, rows, strict=True):
        answers = material.asked.answers
        answer = f"{answers.mos[own[place]]:.2f}" if score == "mos_error" else answers.captions[own[place]]
        said.append(f"{material.name}: {answer}")
    truth = f"true {first.mos_true[row]:.2f}" if score == "mos_error" else next(iter(first.references[row]), "")
    return first.names[row], truth, said
