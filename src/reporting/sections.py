"""The page on one model, or on several side by side, and its sections of scores, training, mos and config.
Held by tests/reporting/test_report_builder.py.
"""

from collections.abc import Sequence

import numpy as np
import yaml

from src.config.schema import to_dict
from src.evaluation.out_of_fold import OofScores
from src.evaluation.paired_comparison_tables import decile_columns
from src.evaluation.score_table import ALL, score_rows
from src.inference.predictions import score_predictions
from src.metrics.compute import headline_scores
from src.metrics.subgroups import deciles, score_groups
from src.plots.curves import plot_curve_panels
from src.plots.mos import finite_pairs, plot_mos_calibration, plot_mos_residuals, plot_mos_scatter
from src.plots.ranking import plot_score_bars
from src.reporting.caption_statistics import caption_section
from src.reporting.embedding_map import embedding_section
from src.reporting.gallery import attention_section, gallery_section
from src.reporting.html import Block, Page, Section, Table, Text, make_plot
from src.reporting.metric_history import MetricHistory, loss_panels, resource_panels, score_panels
from src.reporting.model_data import ModelData
from src.reporting.model_ranking import ranking_sections
from src.tracking.finished_runs import RunGroup, read_finished_run
from src.tracking.mlflow_tracker import flatten_tree


def make_page(models: Sequence[ModelData], max_images: int, with_meteor: bool = True) -> Page:
    """A report on one model, or on several.

    Args:
        models: their data.
        max_images: largest number of images in the maps of PCA and t-SNE.
        with_meteor: compare several models by METEOR too.
    """
    names = " and ".join(model.name for model in models)
    page = Page(f"Report on {names}", [line for model in models for line in model.summary()])
    if len(models) == 1:
        data = models[0]
        examples = [gallery_section(data)]
        if data.group is None:
            examples += [attention_section(data), embedding_section(data, page, max_images)]
    else:
        examples = ranking_sections(models, with_meteor)
    groups = [group_section(model.group) for model in models if model.group]
    page.sections = [scores_section(models), *groups, training_section(models), mos_section(models), *examples]
    page.sections += [caption_section(models), resource_section(models), config_section(models)]
    return page


def scores_section(models: Sequence[ModelData]) -> Section:
    """All scores with intervals: a column for each model, or for each source of one model; bars of several columns."""
    if len(models) > 1:
        columns = {model.name: model.overall.scores for model in models}
    else:
        columns = {source: scores.scores for source, scores in models[0].scores.items()}
    header, *rows = score_rows(columns)
    section = Section("Scores", "In brackets, the 95 % interval of a bootstrap over photos.", [Table(header, rows)])
    for name in headline_scores():
        scores = {key: column[name] for key, column in columns.items() if name in column and key != ALL}
        if len(scores) > 1:
            values = {key: (score.value, score.low, score.high) for key, score in scores.items()}
            section.blocks.append(make_plot(f"score_{name}", name, plot_score_bars(values, name)))
    return section


def group_section(group: RunGroup) -> Section:
    """A group's out-of-fold scores with their spread, and the selected score of each of its runs."""
    folder = group.folder.parent
    rows = [[name, f"{read_finished_run(folder / name).selected:.4f}"] for name in group.members]
    refit = f" {group.refit} is trained on all photos, and has no score of its own." if group.refit else ""
    about = "mos is the mean over the seeds, a caption their vote. sd: of the scores of folds, and of seeds."
    header, *scores = OofScores.read(group.folder).rows()
    blocks: list[Block] = [Table(header, scores), Table(["run", "selected score"], rows)]
    return Section(f"Folds and seeds of {group.name}", about + refit, blocks)


def training_section(models: Sequence[ModelData]) -> Section:
    """Losses and scores over the steps of training."""
    description = "Losses of the training and validation photos, and scores of the validation photos, by step."
    section = Section(
        "Training",
        description,
        curve_blocks({name: history for model in models for name, history in model.curves().items()}),
    )
    if not section.blocks:
        section.description = "Unknown: the model folder has no run in MLflow and no history.jsonl beside it."
    return section


def curve_blocks(runs: dict[str, MetricHistory], prefix: str = "") -> list[Block]:
    """Plots of the losses and of the validation scores of some runs, as far as they were logged."""
    panels = {"losses": loss_panels(runs), "scores": score_panels(runs)}
    return [
        make_plot(f"{prefix}{name}", name.capitalize(), plot_curve_panels(groups))
        for name, groups in panels.items()
        if groups
    ]


def mos_section(models: Sequence[ModelData]) -> Section:
    """Predicted against true mos: scatter, calibration, residuals, and of one model the scores of each decile."""
    section = Section("Mos")
    for model in models:
        true, predicted = np.array(model.predictions.mos_true), np.array(model.predictions.mos)
        if not len(finite_pairs(true, predicted)[0]):
            continue
        suffix, of_model = (f"_{model.name}", f", {model.name}") if len(models) > 1 else ("", "")
        section.blocks += [
            make_plot(f"mos{suffix}", f"Predicted and true mos{of_model}", plot_mos_scatter(true, predicted)),
            make_plot(f"calibration{suffix}", f"Calibration{of_model}", plot_mos_calibration(true, predicted)),
            make_plot(f"residuals{suffix}", f"Residuals{of_model}", plot_mos_residuals(true, predicted)),
        ]
    if section.blocks and len(models) == 1:
        section.blocks.append(decile_table(models[0]))
    return section


def decile_table(data: ModelData) -> Table:
    """Scores by deciles of true mos; CIDEr-D uses the document frequencies of all images."""
    predictions = data.predictions
    groups = deciles(np.array(predictions.mos_true))
    columns = score_groups(score_predictions(predictions), groups)
    header, *rows = score_rows(decile_columns(columns), "decile of true mos")
    return Table(header, rows)


def resource_section(models: Sequence[ModelData]) -> Section:
    """CPU, GPU and memory over the time of training."""
    section = Section("Resources")
    if groups := resource_panels({model.name: model.history for model in models}):
        section.blocks.append(make_plot("resources", "Use of the machine", plot_curve_panels(groups, "minutes")))
    else:
        section.description = "Unknown: MLflow has no such metrics of this model's run."
    return section


def config_section(models: Sequence[ModelData]) -> Section:
    """The config and environment of one model, or the differences between the configs of several."""
    if len(models) > 1:
        return Section("Config", "Keys with different values.", [config_differences(models)])
    config = yaml.safe_dump(to_dict(models[0].model.loaded.config), sort_keys=False, allow_unicode=True)
    environment = models[0].model.folder.parent / "environment.json"
    texts = [config, *([environment.read_text(encoding="utf-8")] if environment.is_file() else [])]
    return Section("Config", "", list(map(Text, texts)))


def config_differences(models: Sequence[ModelData]) -> Table:
    """Keys whose values are not the same for all models."""
    configs = [flatten_tree(to_dict(model.model.loaded.config)) for model in models]
    keys = dict.fromkeys(key for config in configs for key in config)
    rows = [[key, *(str(config.get(key, "-")) for config in configs)] for key in keys]
    return Table(["key", *(model.name for model in models)], [row for row in rows if len(set(row[1:])) > 1])
