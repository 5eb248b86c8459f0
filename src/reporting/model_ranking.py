"""Several models on the images that they have in common: differences, simulated leaderboards, disagreements.
Held by tests/reporting/test_report_builder.py.
"""

from collections.abc import Sequence

import numpy as np

from src.common.errors import UserError
from src.evaluation.paired_comparison import Competitor, make_leaderboards, score_competitor, score_differences
from src.evaluation.score_table import score_rows
from src.metrics.meteor import optional_meteor
from src.plots.ranking import plot_rank_table
from src.reporting.embedded_images import thumbnails
from src.reporting.gallery import GALLERY_SIDE
from src.reporting.html import Gallery, GalleryImage, Section, Table, make_plot
from src.reporting.model_data import ModelData

MIN_COMMON_IMAGES = 20
MAX_DISAGREEMENTS = 12
CUTS = 200


def ranking_sections(models: Sequence[ModelData], with_meteor: bool) -> list[Section]:
    """Sections on models side by side; none where they have too few images in common."""
    rows = common_rows(models)
    if len(rows[0]) < MIN_COMMON_IMAGES:
        return []
    with optional_meteor(with_meteor and any(any(m.predictions.captions) for m in models)) as meteor:
        competitors = [
            score_competitor(m.name, m.predictions.select(model_rows), meteor)
            for m, model_rows in zip(models, rows, strict=True)
        ]
    return [difference_section(competitors), leaderboard_section(competitors), disagreement_section(models, rows)]


def common_rows(models: Sequence[ModelData]) -> list[list[int]]:
    """For each model the rows of the images that all models have, in the first model's order."""
    indices = [{(s.source, s.name): i for i, s in enumerate(m.samples)} for m in models]
    keys = [key for key in indices[0] if all(key in index for index in indices)]
    return [[index[key] for key in keys] for index in indices]


def difference_section(competitors: Sequence[Competitor]) -> Section:
    """The difference of each model's scores to the first model's."""
    first = competitors[0]
    header, *rows = score_rows({other.name: score_differences(other, first) for other in competitors[1:]})
    count = f"{len(first.mos_true):,}"
    description = (
        f"Each model's score minus that of {first.name}, on the {count} photos in common; "
        "95 % intervals of a paired bootstrap."
    )
    return Section("Differences", description, [Table(header, rows)])


def leaderboard_section(competitors: Sequence[Competitor]) -> Section:
    """Ranks on simulated public and private leaderboards; empty where no score allows a ranking."""
    section = Section("Leaderboards")
    try:
        pairs = make_leaderboards(competitors, CUTS)
    except UserError:  # no score to rank by
        return section
    for kind, pair in pairs.items():
        for side, board in vars(pair).items():
            plot = plot_rank_table(board.shares(), f"{side}, {kind}")
            section.blocks.append(make_plot(f"ranks_{kind}_{side}", f"Ranks, {side} leaderboard, {kind}", plot))
    section.description = (
        f"How often each model takes each rank, by the challenge's rule, in {CUTS} random cuts with 30 % of the photos "
        "public. Shifted: the public and private photos differ in mos."
    )
    return section


def disagreement_section(models: Sequence[ModelData], rows: Sequence[Sequence[int]]) -> Section:
    """The images whose predictions differ most between the models; rows as common_rows gives."""
    section = Section("Photos", "The photos with the largest difference between the models' predictions.")
    for score, title in (("mos_error", "mos"), ("cider_d", "captions, by CIDEr-D")):
        if not all(score in m.overall.per_image for m in models):
            continue
        table = np.array([m.overall.per_image[score][r] for m, r in zip(models, rows, strict=True)])
        spread = np.nan_to_num(table.max(0) - table.min(0), nan=-1.0)
        chosen = [int(i) for i in np.argsort(-spread, kind="stable")[:MAX_DISAGREEMENTS] if spread[i] >= 0]
        uris = thumbnails([models[0].samples[rows[0][i]].path for i in chosen], GALLERY_SIDE)
        images = [
            disagreement_image(uri, models, [model_rows[i] for model_rows in rows], score)
            for uri, i in zip(uris, chosen, strict=True)
        ]
        section.blocks.append(Gallery(title, images))
    return section if section.blocks else Section("Photos")


def disagreement_image(uri: str, models: Sequence[ModelData], rows: Sequence[int], score: str) -> GalleryImage:
    """An image with its truth and the prediction of each model; rows: its row in each model."""
    first, row = models[0].predictions, rows[0]
    if score == "mos_error":
        truth = f"true {first.mos_true[row]:.2f}"
        values = [f"{m.predictions.mos[i]:.2f}" for m, i in zip(models, rows, strict=True)]
    else:
        truth = next(iter(first.references[row]), "")
        values = [m.predictions.captions[i] for m, i in zip(models, rows, strict=True)]
    return GalleryImage(
        uri, first.names[row], truth, [f"{m.name}: {value}" for m, value in zip(models, values, strict=True)]
    )
