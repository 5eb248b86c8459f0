"""Example images of a model: the best, median and worst predictions of both tasks, and attention maps."""

from collections.abc import Sequence

import numpy as np

from src.data.image_io import load_image
from src.data.transforms import resize_for_task
from src.inference.attention import has_attention
from src.inference.caption_attention import CaptionAttention, caption_attention
from src.inference.predictor import Predictor
from src.plots.attention_maps import plot_attention_maps
from src.plots.sample_sheet import mos_label
from src.reporting.embedded_images import thumbnails
from src.reporting.html import Gallery, GalleryImage, Plot, Section, make_plot
from src.reporting.model_data import ModelData

GROUP_SIZE = 6
GALLERY_SIDE = 240  # pixels
GROUPS = ("best", "median", "worst")


def gallery_section(data: ModelData) -> Section:
    """Six images each with the smallest, median and largest mos error, and likewise by CIDEr-D."""
    scores = data.overall.per_image
    rankings = {}
    if "mos_error" in scores:
        rankings["mos, {} (predicted minus true)"] = ("mos_error", rank_rows(-np.abs(scores["mos_error"])))
    if "cider_d" in scores:
        rankings["captions, {} (CIDEr-D of the photo)"] = ("cider_d", rank_rows(scores["cider_d"]))
    galleries = [
        Gallery(title.format(group), gallery_images(data, rows, score))
        for title, (score, ranking) in rankings.items()
        for group, rows in zip(GROUPS, pick_examples(ranking), strict=True)
        if len(rows)
    ]
    description = "In the galleries of captions, up to three references are in grey below the predicted caption."
    return Section("Photos", description if galleries else "", list(galleries))


def rank_rows(merit: np.ndarray) -> np.ndarray:
    """Rows from the highest to the lowest merit; those whose merit is not finite are left out."""
    rows = np.flatnonzero(np.isfinite(merit))
    return rows[np.argsort(-merit[rows], kind="stable")]


def pick_examples(rows: np.ndarray, size: int = GROUP_SIZE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first, the middle and the last of ranked rows, without repetition; of few rows, a third each."""
    size = min(size, len(rows) // 3) or min(1, len(rows))
    rest = rows[size:]
    worst = rest[len(rest) - min(size, len(rest)) :][::-1]
    between = rest[: len(rest) - len(worst)]
    middle = max(0, len(rows) // 2 - size // 2 - size)
    return rows[:size], between[middle : middle + size], worst


def gallery_images(data: ModelData, rows: Sequence[int] | np.ndarray, score: str) -> list[GalleryImage]:
    """Images with their predictions and their value of a score; references are those of captions."""
    predictions, values = data.predictions, data.overall.per_image[score]
    uris = thumbnails([data.samples[i].path for i in rows], GALLERY_SIDE)
    images = []
    for uri, i in zip(uris, rows, strict=True):
        title = f"{predictions.names[i]}: {values[i]:.2f}"
        if score == "mos_error":
            mos = mos_label(predictions.mos_true[i], predictions.mos[i])
            title = f"{predictions.names[i]}: {mos} ({values[i]:+.2f})"
        references = predictions.references[i][:3] if score != "mos_error" else ()
        images.append(GalleryImage(uri, title, predictions.captions[i], references))
    return images


def attention_section(data: ModelData) -> Section:
    """The attention of each word in the best, median and worst captioned images."""
    section = Section("Attention")
    model, scores = data.model, data.overall.per_image
    if "cider_d" not in scores:
        return section
    if not has_attention(model.loaded):
        section.description = "This decoder reads one vector of the whole photo, so it has no attention."
        return section
    section.description = "For each word the photo, fainter where the word's attention is lower."
    rows = [int(group[0]) for group in pick_examples(rank_rows(scores["cider_d"])) if len(group)]
    predictor = Predictor.of_model(model.loaded)
    for attention in caption_attention(predictor, [data.samples[row] for row in rows], model.options):
        section.blocks.append(attention_plot(data, rows[attention.row], attention))
    return section


def attention_plot(data: ModelData, row: int, attention: CaptionAttention) -> Plot:
    """The attention maps of one image."""
    image = resize_for_task(load_image(data.samples[row].path), data.model.loaded.config.data.caption_size)
    figure = plot_attention_maps(image, attention.words, attention.weights, columns=6)
    title = f"{data.predictions.names[row]}, CIDEr-D {data.overall.per_image['cider_d'][row]:.2f}"
    return make_plot(f"attention_{row}", title, figure)
