"""Every score of a table of images, with intervals: what epochs log, evaluate prints and submissions carry.

The scores are those of all metrics: the files of this folder, and of SRC_PLUGINS, that define METRICS (see base.py).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from src.common.plugins import load_plugin, plugin_names
from src.metrics.base import (
    CaptionTable,
    DerivedMetric,
    ImageMetric,
    Metric,
    MetricResult,
    MosTable,
    OptionalMetric,
    ResampledScores,
    Score,
    ScoreInfo,
    Scores,
    SumMetric,
    TableMetric,
)
from src.metrics.bootstrap import bootstrap, percentile_interval, resampled_means
from src.metrics.meteor import Meteor

PACKAGE = "src.metrics"


def metrics() -> list[Metric]:
    """The metrics that are always computed, in the order of tables."""
    return [metric for metric in _load_metrics() if not isinstance(metric, OptionalMetric)]


def optional_metrics() -> list[OptionalMetric]:
    """The metrics that only evaluate computes, each on demand."""
    return [metric for metric in _load_metrics() if isinstance(metric, OptionalMetric)]


def _load_metrics() -> list[Metric]:
    modules = [load_plugin(PACKAGE, name, "metric") for name in plugin_names(PACKAGE)]
    return sorted((m for module in modules for m in getattr(module, "METRICS", [])), key=lambda metric: metric.order)


def score_infos() -> dict[str, tuple[ScoreInfo, Metric]]:
    """Name -> what its metric says of it, of every score that is always computed, in the order of tables."""
    return {info.name: (info, metric) for metric in metrics() for info in metric.scores}


def headline_scores() -> list[str]:
    """The scores that charts and overviews show."""
    return [name for name, (info, _) in score_infos().items() if info.headline]


def compact_scores() -> list[str]:
    """The few scores for tables with many columns."""
    return [name for name, (info, _) in score_infos().items() if info.compact]


def higher_is_better(name: str) -> bool:
    """Whether more of a score is better; also of a name that is no score, such as a count."""
    infos = score_infos()
    return name not in infos or infos[name][0].higher_is_better


def selectable_scores(mos: bool, captions: bool) -> list[str]:
    """The scores of these heads of which more is better."""
    heads = {"any"} | ({"mos"} if mos else set()) | ({"captions"} if captions else set())
    return [name for name, (info, metric) in score_infos().items() if info.higher_is_better and metric.head in heads]


def image_scores(table: CaptionTable, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Some scores of each image of a table: name -> [P].

    Raises:
        KeyError: a score has no values per image.
    """
    chosen = [metric for metric in metrics() if set(metric.names) & set(names)]
    results = [metric.result(metric.count(table)) for metric in chosen if isinstance(metric, ImageMetric | SumMetric)]
    values = {name: column for result in results for name, column in result.per_image.items()}
    return {name: values[name] for name in names}


def score_images(
    names: Sequence[str],
    mos: np.ndarray | None = None,
    mos_true: np.ndarray | None = None,
    candidates: Sequence[str] | None = None,
    references: Sequence[Sequence[str]] | None = None,
    meteor: Meteor | None = None,
    intervals: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> Scores:
    """All scores that a table of P images allows, each over the images that carry its label.

    Correlations need two images or more, captioning needs METEOR, and combined is left out where captions are scored
    without METEOR.

    Args:
        names: of the images.
        mos: [P] predicted; NaN throughout without a mos head.
        mos_true: [P] NaN where unknown.
        candidates: P generated captions; all empty without a decoder.
        references: P lists, empty where unknown.
        meteor: its process; without one, meteor and captioning are left out.
        intervals: bootstrap over images; costs about a second for 10,000 images.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: columns of unequal length, or some but not all predicted mos are not finite.
        UserError: METEOR cannot run.
    """
    scores, unknown = Scores(names=list(names)), np.full(len(names), np.nan)
    predicted, true = (unknown if x is None else np.asarray(x, dtype=np.float64) for x in (mos, mos_true))
    captions = [""] * len(names) if candidates is None else list(candidates)
    texts = [[]] * len(names) if references is None else references
    _check_lengths(len(names), mos=predicted, mos_true=true, candidates=captions, references=texts)
    tables = _tables(metrics(), scores.names, (predicted, true), (captions, texts), meteor)
    _add_derived(scores, [_measure_table(scores, *table) for table in tables])
    if intervals and names and scores.scores:
        for name, drawn in bootstrap(scores.resample, len(names), resamples, seed).items():
            low, high = percentile_interval(drawn)
            if np.isfinite(low):
                scores.scores[name] = Score(scores.scores[name].value, low, high)
    return scores


def _check_lengths(images: int, **columns: Sequence | np.ndarray) -> None:
    for name, column in columns.items():
        if len(column) != images:
            raise ValueError(f"{images} photos but {len(column)} {name}")


def _tables(
    metrics: Sequence[Metric],
    names: Sequence[str],
    mos: tuple[np.ndarray, np.ndarray],
    captions: tuple[Sequence[str], Sequence[Sequence[str]]],
    meteor: Meteor | None,
) -> Iterator[tuple[np.ndarray, MosTable | CaptionTable, list[Metric]]]:
    """(rows, their table, its metrics): of images with mos, with a caption, and with references."""
    if len(rows := _rated_rows(names, *mos)):
        yield rows, MosTable(mos[0][rows], mos[1][rows]), [m for m in metrics if m.head == "mos"]
    candidates, references = captions
    captioned = [i for i, caption in enumerate(candidates) if caption]
    referenced = [i for i, texts in enumerate(references) if len(texts)] if captioned else []
    for kind, chosen in ((False, captioned), (True, referenced)):
        if chosen:
            table = CaptionTable([candidates[i] for i in chosen], [references[i] for i in chosen], meteor=meteor)
            yield np.array(chosen), table, [m for m in metrics if m.head == "captions" and m.needs_references == kind]


def _rated_rows(names: Sequence[str], predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """The rows with a true mos; none where none of these has a predicted one."""
    rows = np.flatnonzero(np.isfinite(true))
    lost = rows[~np.isfinite(predicted[rows])]
    if len(lost) == len(rows):
        return rows[:0]
    if len(lost):
        raise ValueError(f"{len(lost)} of {len(rows)} photos have no finite predicted mos, first: {names[lost[0]]}")
    return rows


def _measure_table(
    scores: Scores, rows: np.ndarray, table: MosTable | CaptionTable, metrics: Sequence[Metric]
) -> ResampledScores:
    """Adds the scores of a table, whose images are some rows; returns how to resample them."""
    by_part = [metric for metric in metrics if isinstance(metric, ImageMetric | SumMetric)]
    counts = [[metric.count(part) for metric in by_part] for part in table.parts()] if by_part else []
    joined = iter([np.concatenate(column) for column in zip(*counts, strict=True)])
    results = []
    for metric in metrics:
        if isinstance(metric, ImageMetric | SumMetric):
            results.append(metric.result(next(joined)))
        elif isinstance(metric, TableMetric):
            results.append(metric.measure(table))
    for result in results:
        scores.scores |= {name: Score(value) for name, value in result.values.items()}
        for name, values in result.per_image.items():
            scores.per_image[name] = np.full(len(scores.names), np.nan)
            scores.per_image[name][rows] = values
    return _resampler(rows, results)


def _resampler(rows: np.ndarray, results: Sequence[MetricResult]) -> ResampledScores:
    """Means of values per image, shifted to their scores, all at once; then what the other metrics give."""
    means = [result for result in results if result.resample is None]
    columns = {name: values for result in means for name, values in result.per_image.items()}
    shifts = {name: result.values[name] - float(columns[name].mean()) for result in means for name in result.per_image}
    table = np.column_stack([*columns.values()]).astype(np.float64) if columns else np.empty((len(rows), 0))

    def resample(weights: np.ndarray) -> dict[str, np.ndarray]:
        w = weights[:, rows]
        drawn = dict(zip(columns, resampled_means(w, table).T, strict=True))
        drawn = {name: value + shifts[name] if shifts[name] else value for name, value in drawn.items()}
        for result in results:
            drawn |= result.resample(w) if result.resample else {}
        return drawn

    return resample


def _add_derived(scores: Scores, resamplers: Sequence[ResampledScores]) -> None:
    """Adds the scores made of these scores, puts all in order, and sets how to resample them."""
    every = metrics()

    def derive(values: dict[str, Any]) -> dict[str, Any]:
        for metric in every:
            values |= metric.derive(values) if isinstance(metric, DerivedMetric) else {}
        return values

    def resample(weights: np.ndarray) -> dict[str, np.ndarray]:
        drawn = {name: values for part in resamplers for name, values in part(weights).items()}
        return derive({name: values for name, values in drawn.items() if name in scores.scores})

    values = derive({name: score.value for name, score in scores.scores.items()})
    names = [name for metric in every for name in metric.names if name in values]
    scores.scores = {name: Score(float(values[name])) for name in names}
    scores.resample = resample
