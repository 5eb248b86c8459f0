"""The sections of a report on one model, or on several side by side."""

from collections.abc import Sequence

import numpy as np

from src.evaluation.comparison import scores_by_group
from src.evaluation.score_table import ALL, measure_rows, score_cell
from src.inference.attention import has_attention
from src.inference.caption_attention import caption_attention
from src.inference.image_embedding import embed_images
from src.inference.predictor import Predictor
from src.metrics.base import Score
from src.metrics.compute import headline_scores
from src.metrics.subgroups import deciles, score_groups
from src.plots import figures as plots
from src.plots import report_figures as figures
from src.reporting import embedding_map as atlas
from src.reporting.caption_statistics import CaptionVariety, caption_variety
from src.reporting.curves import loss_panels, score_panels, system_panels
from src.reporting.gallery import galleries, pick_examples, rank_rows
from src.reporting.html import Block, Page, Picture, Section, Table, Text, make_picture
from src.reporting.images import evenly_spaced, figure_png, point_positions, thumbnails
from src.reporting.model_data import ModelData
from src.reporting.model_ranking import ranking_sections

COMMONEST, UNUSED = 15, 80
THUMBNAIL, THUMBNAIL_QUALITY = 96, 55  # about 3 kB each within the page


def model_page(materials: Sequence[ModelData], photos: int, meteor: bool = True) -> Page:
    """A report on one model, or on several.

    Args:
        materials: of the models.
        photos: most photos on the planes of PCA and t-SNE.
        meteor: compare several models by METEOR too.
    """
    names = " and ".join(material.name for material in materials)
    page = Page(f"Report on {names}", [line for m in materials for line in m.about()])
    page.sections = [
        scores_section(materials),
        training_section(materials),
        quality_section(materials),
        vocabulary_section(materials),
    ]
    if len(materials) == 1:
        (one,) = materials
        page.sections[3:3] = [gallery_section(one), attention_section(one), embedding_section(one, page, photos)]
    else:
        page.sections[3:3] = ranking_sections(materials, meteor)
    page.sections += [resource_section(materials), config_section(materials)]
    return page


def scores_section(materials: Sequence[ModelData]) -> Section:
    """All scores with intervals: a column a model, or of one model a column a source; bars where there are several."""
    one = materials[0]
    several = len(materials) > 1
    columns = {m.name: m.whole.scores for m in materials} if several else {k: s.scores for k, s in one.scores.items()}
    section = Section("Scores", "In brackets, the 95 % interval of a bootstrap over photos.", [score_table(columns)])
    for name in headline_scores() if len(columns) > 1 else ():
        known = {key: scores[name] for key, scores in columns.items() if name in scores and key != ALL}
        if len(known) > 1:
            values = {key: (score.value, score.low, score.high) for key, score in known.items()}
            section.blocks.append(make_picture(f"score_{name}", name, figures.score_bars(values, name)))
    return section


def score_table(columns: dict[str, dict[str, Score]], corner: str = "score") -> Table:
    """Scores of models or of groups of photos, a dash where there is none."""
    names = list(dict.fromkeys(name for scores in columns.values() for name in scores))
    rows = [[name, *(score_cell(scores.get(name)) for scores in columns.values())] for name in names]
    return Table([corner, *columns], rows)


def training_section(materials: Sequence[ModelData]) -> Section:
    """Losses and scores over the steps of training."""
    runs = {m.name: m.logged for m in materials}
    section = Section("Training", "Losses of training and validation photos, and scores of validation photos, by step.")
    if losses := loss_panels(runs):
        section.blocks.append(make_picture("losses", "Losses", figures.curve_panels(losses)))
    if found := score_panels(runs):
        section.blocks.append(make_picture("scores", "Scores of validation photos", figures.curve_panels(found)))
    if not section.blocks:
        section.about = "Not known: the model folder is of no run in MLflow, and no history lies beside it."
    return section


def quality_section(materials: Sequence[ModelData]) -> Section:
    """Predicted against true mos: scatter, residuals, calibration."""
    section = Section("Mos")
    for m in materials:
        answers = m.asked.answers
        true, predicted = np.array(answers.mos_true), np.array(answers.mos)
        if not (np.isfinite(true) & np.isfinite(predicted)).any():
            continue
        end = f"_{m.name}" if len(materials) > 1 else ""
        of = f", {m.name}" if len(materials) > 1 else ""
        section.blocks += [
            make_picture(f"mos{end}", f"Predicted and true mos{of}", plots.mos_scatter(true, predicted)),
            make_picture(f"calibration{end}", f"Calibration{of}", figures.calibration(true, predicted)),
            make_picture(f"residuals{end}", f"Residuals{of}", plots.residuals(true, predicted)),
        ]
    if section.blocks and len(materials) == 1:
        section.blocks.append(decile_section(materials[0]))
    return section


def decile_section(material: ModelData) -> Table:
    """Scores by tenths of true mos; CIDEr-D has the document frequencies of all photos."""
    answers = material.asked.answers
    found = score_groups(measure_rows(answers, range(len(answers)), None), deciles(np.array(answers.mos_true)))
    return score_table(scores_by_group(found), "tenth of true mos")


def gallery_section(material: ModelData) -> Section:
    """The best, middling and worst photos of either task."""
    about = "Below a caption of the captions' galleries, in grey, what people wrote (three at most)."
    found = galleries(material)
    return Section("Photos", about if found else "", list(found))


def attention_section(material: ModelData) -> Section:
    """Where the decoder looked, word by word, in the best, median and worst captioned photos."""
    section = Section("Attention")
    asked, own = material.asked, material.whole.per_image
    if "cider_d" not in own:
        return section
    if not has_attention(asked.loaded):
        section.about = "This decoder reads one vector of the photo: it looks at no place more than at another."
        return section
    section.about = "For each word, the photo as the decoder sees it, fainter where it looked less."
    rows = [int(some[0]) for some in pick_examples(rank_rows(own["cider_d"])) if len(some)]
    predictor = Predictor.of_model(asked.loaded)
    for look in caption_attention(predictor, [asked.samples[row] for row in rows], asked.settings):
        section.blocks.append(attention_map(material, rows[look.row], look.words, look.weights))
    return section


def attention_map(material: ModelData, row: int, words: list[str], weights: np.ndarray) -> Picture:
    """One photo's map."""
    from src.data.image_io import load_image
    from src.data.transforms import resize_for_task

    asked = material.asked
    photo = resize_for_task(load_image(asked.samples[row].path), asked.loaded.config.data.caption_size)
    figure = plots.attention_figure(photo, words, weights, columns=6)
    title = f"{asked.answers.names[row]}, CIDEr-D {material.whole.per_image['cider_d'][row]:.2f}"
    return make_picture(f"attention_{row}", title, figure)


def embedding_section(material: ModelData, page: Page, most: int) -> Section:
    """Photos by PCA and t-SNE of their embeddings, with thumbnails to hover."""
    asked, answers = material.asked, material.asked.answers
    chosen = list(evenly_spaced(len(asked.samples), most))
    rows, vectors = embed_images(Predictor.of_model(asked.loaded), [asked.samples[i] for i in chosen], asked.settings)
    rows = np.array(chosen)[rows]
    section = Section("Embeddings")
    if len(rows) < 5:
        return section
    kind = "mean of the grid that captions are written from" if has_captions(material) else "level statistics"
    sampled = f"{len(rows):,} of {len(answers):,} photos, evenly spread" if len(rows) < len(answers) else "all photos"
    section.about = f"The backbone's {kind}; {sampled}. Hover a point to see its photo."
    told = [answers.captions[i] or next(iter(answers.references[i]), "") for i in rows]
    groups, names = atlas.caption_clusters(told)
    page.photos = hover_labels(material, rows, told)
    mos = np.array([a if np.isfinite(a) else b for a, b in ((answers.mos_true[i], answers.mos[i]) for i in rows)])
    for name, title, points in (("pca", "PCA", atlas.pca_plane(vectors)), ("tsne", "t-SNE", atlas.tsne_plane(vectors))):
        figure = figures.embedding_scatter(points, mos, groups.tolist() if names else [], names, title)
        found = Picture(name, f"{title}, {sampled}", figure_png(figure))
        for axes in figure.axes[: 2 if names else 1]:
            found.points += [(x, y, i) for i, (x, y) in enumerate(point_positions(axes, points))]
        section.blocks.append(found)
    return section


def has_captions(material: ModelData) -> bool:
    """Whether the model has a decoder."""
    return material.asked.loaded.config.model.decoder.enabled


def hover_labels(material: ModelData, rows: np.ndarray, told: Sequence[str]) -> list[tuple[str, str]]:
    """Thumbnails and labels of photos."""
    answers = material.asked.answers
    uris = thumbnails([material.asked.samples[i].path for i in rows], THUMBNAIL, THUMBNAIL_QUALITY)
    labels = [
        ": ".join(filter(None, [answers.names[i], plots.mos_text(answers.mos_true[i], answers.mos[i]), caption[:120]]))
        for i, caption in zip(rows, told, strict=True)
    ]
    return list(zip(uris, labels, strict=True))


def vocabulary_section(materials: Sequence[ModelData]) -> Section:
    """Distinct captions, their lengths, and words never used."""
    section = Section("Captions")
    found = {
        m.name: caption_variety(m.asked.answers.captions, m.asked.answers.references)
        for m in materials
        if any(m.asked.answers.captions)
    }
    if not found:
        return section
    section.blocks.append(variety_table(materials, found))
    counts: dict[str, list[int]] = {name if len(found) > 1 else "model": v.lengths for name, v in found.items()}
    counts["people"] = max((v.reference_lengths for v in found.values()), key=len)
    section.blocks.append(make_picture("lengths", "Lengths of captions", figures.caption_lengths(counts)))
    for name, v in found.items():
        of = f" of {name}" if len(found) > 1 else ""
        head = [f"commonest captions{of}", "photos"]
        section.blocks.append(Table(head, [[caption, str(many)] for caption, many in v.said[:COMMONEST]]))
        unused = ", ".join(f"{word} {many}" for word, many in v.unused[:UNUSED])
        section.blocks.append(Text(f"Words of the references that no caption{of} has, how often they stand: {unused}"))
    return section


def variety_table(materials: Sequence[ModelData], found: dict[str, CaptionVariety]) -> Table:
    """Counts of captions and words, a column a model."""
    known = {m.name: m for m in materials}
    rows = {
        "captions": [len(v.lengths) for v in found.values()],
        "distinct captions": [len(v.said) for v in found.values()],
        "distinct words": [len(v.used) for v in found.values()],
        "words of the model's vocabulary": [known[name].asked.loaded.tokenizer.size for name in found],
        "of these never used": [len(unused_words(known[name], v)) for name, v in found.items()],
        "words of the references never used": [len(v.unused) for v in found.values()],
    }
    return Table(["", *found], [[name, *(f"{count:,}" for count in counts)] for name, counts in rows.items()])


def unused_words(material: ModelData, found: CaptionVariety) -> set[str]:
    """Entries of the model's vocabulary that no caption holds; those of several words or parts of words count too."""
    tokenizer = material.asked.loaded.tokenizer
    return {tokenizer.word(i) for i in range(tokenizer.size)} - found.used


def resource_section(materials: Sequence[ModelData]) -> Section:
    """CPU, GPU and memory over the time of training."""
    section = Section("Resources")
    if groups := system_panels({m.name: m.logged for m in materials}):
        section.blocks.append(make_picture("resources", "Use of the machine", figures.curve_panels(groups, "minutes")))
    else:
        section.about = "Not known: MLflow holds none of this model's run."
    return section


def config_section(materials: Sequence[ModelData]) -> Section:
    """The config and environment of one model; what differs between several."""
    if len(materials) > 1:
        return Section("Config", "What differs.", [differing_values(materials)])
    blocks: list[Block] = [Text(materials[0].config_text())]
    if told := materials[0].environment():
        blocks.append(Text(told))
    return Section("Config", "", blocks)


def differing_values(materials: Sequence[ModelData]) -> Table:
    """Keys whose values are not the same for all models."""
    from src.config.schema import to_dict
    from src.tracking.mlflow_tracker import flatten_tree

    flat = [flatten_tree(to_dict(m.asked.loaded.config)) for m in materials]
    every = dict.fromkeys(key for one in flat for key in one)
    keys = [key for key in every if len({str(one.get(key)) for one in flat}) > 1]
    rows = [[key, *(str(one.get(key, "-")) for one in flat)] for key in keys]
    return Table(["key", *(m.name for m in materials)], rows)
