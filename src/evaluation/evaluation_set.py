"""The predictions to score: of one model or several for a part of their data, or of a submission, beside the truth."""

import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from src.common.errors import UserError
from src.config.cli import Overrides
from src.config.loader import load_config
from src.config.schema import Config, SourceConfig
from src.data.sample import Sample
from src.data.sources import load_part, read_source
from src.inference.ensemble import combine_options, predict_ensemble
from src.inference.fallbacks import ensemble_fallback, fill_missing
from src.inference.model_loading import load_members, load_model
from src.inference.predict_options import PredictOptions, check_style_option, make_predict_options
from src.inference.predictions import Predictions
from src.inference.predictor import Predictor
from src.inference.provenance import model_provenance
from src.inference.submission import Submission, read_submission
from src.models.model_folder import LoadedModel
from src.tracking.finished_runs import find_group
from src.tracking.run_group import group_members

Image = tuple[str, str]
"""Source and name of an image."""


@dataclass(frozen=True)
class EvaluationOptions:
    """The command line of evaluate or report.

    Attributes:
        values: all options, defaults included.
        overrides: the options that the person typed, by dotted key; they override a model's own settings.
    """

    values: Namespace
    overrides: Overrides


@dataclass
class EvaluationSet:
    """Predictions to score.

    Attributes:
        name: of the models or the file.
        predictions: beside the truth.
        samples: the images, in the same order.
        provenance: title, origin, and the names of images whose prediction is a fallback.
        models: the predictions of each model; empty for a file.
    """

    name: str
    predictions: Predictions
    samples: list[Sample]
    provenance: dict[str, Any]
    models: "list[ModelPredictions]" = field(default_factory=list)


@dataclass(kw_only=True)
class ModelPredictions(EvaluationSet):
    """A model's predictions for one part of a data set, with the model, its folder and the options of prediction.

    Those of several models of a group have the first one's; the provenance of all is in `members` of the provenance.
    """

    loaded: LoadedModel
    folder: Path
    options: PredictOptions


def models_evaluation_set(options: EvaluationOptions) -> EvaluationSet:
    """The predictions of one model, or of several, each for its own images; of a group as predict_group."""
    names = options.values.model
    models = [
        model for n in names for model in (predict_group(n, options) if find_group(n) else [predict_part(n, options)])
    ]
    check_style_option(options.values.style, [model.options for model in models])
    warn_repeated_images(models)
    provenance = models[0].provenance
    if len(models) > 1:
        provenance = {
            "title": "\n".join(dict.fromkeys(model.provenance["title"] for model in models)),
            "models": [model.provenance for model in models],
            "fallbacks": [name for model in models for name in model.provenance["fallbacks"]],
        }
    predictions = Predictions.join(model.predictions for model in models)
    samples = [sample for model in models for sample in model.samples]
    return EvaluationSet(" + ".join(names), predictions, samples, provenance, models)


def warn_repeated_images(models: Sequence[ModelPredictions]) -> None:
    """Prints to stderr how many images have predictions of several models."""
    counts = Counter(path for model in models for path in {sample.path for sample in model.samples})
    if repeated := sum(count > 1 for count in counts.values()):
        consequence = "each prediction counts as an image, so intervals are too narrow"
        print(f"{repeated} of {len(counts)} photos were predicted by several models: {consequence}", file=sys.stderr)


def predict_part(
    name: str, options: EvaluationOptions, config: Config | None = None, cache_as_trained: bool = False
) -> ModelPredictions:
    """A model's predictions for --part of its own data, or of the experiment that --config names.

    Args:
        name: of the model.
        options: with --part, --config and the prediction options.
        config: its data and `generate` replace the model's own; what the person typed still comes first.
        cache_as_trained: use the feature cache where training did, unless the person typed --cache.
    """
    values = options.values
    loaded, folder = load_model(name)
    if config:
        loaded = replace(loaded, config=replace(loaded.config, generate=config.generate))
    predict_options = evaluation_predict_options(loaded, options, cache_as_trained)
    samples = load_part(load_config(values.config) if values.config else config or loaded.config, values.part)
    predictions, fallbacks = predict_with_fallbacks(loaded, samples, predict_options)
    data = values.config or ("the comparison's data" if config else "the model's own data")
    provenance = model_provenance(loaded, folder) | {"part": values.part, "fallbacks": fallbacks}
    provenance |= {"title": f"{name} on {len(samples)} photos ({values.part} of {data})"}
    return ModelPredictions(
        name, predictions, samples, provenance, loaded=loaded, folder=folder, options=predict_options
    )


def predict_group(
    name: str, options: EvaluationOptions, samples: Sequence[Sample] = (), cache_as_trained: bool = False
) -> list[ModelPredictions]:
    """A group's predictions, each image's by the models that hold it in their own --part, which of val did not train.

    Args:
        name: of the group.
        options: with --part, --config and the prediction options.
        samples: the images; empty: those of --config, else of the models' own data. An image that is in no model's part
            is predicted by all.
        cache_as_trained: as of predict_part.

    Returns:
        One entry for each set of models, such as those of a fold.
    """
    values = options.values
    members = load_members(group_members(name))
    parts = member_parts(
        [loaded.config for loaded, _ in members], values.part, name if samples or values.config else ""
    )
    if not samples:
        every = [sample for part in parts for sample in part.values()]
        samples = load_part(load_config(values.config), values.part) if values.config else every
    sets: dict[tuple[int, ...], dict[Image, Sample]] = {}
    for sample in samples:
        image = (sample.source, sample.name)
        models = tuple(i for i, part in enumerate(parts) if image in part) or tuple(range(len(members)))
        sets.setdefault(models, {})[image] = sample
    count = sum(map(len, sets.values()))
    title = f"{name} on {count} photos ({values.part} of {values.config or 'the data of its models'})"
    return [
        predict_with_members(
            name, [members[i] for i in models], list(images.values()), options, cache_as_trained, title
        )
        for models, images in sets.items()
    ]


def member_parts(configs: Sequence[Config], part: str, foreign: str = "") -> list[dict[Image, Sample]]:
    """The images of each config's own part; configs with the same data settings share them.

    Args:
        configs: of models.
        part: train, val or test.
        foreign: name of a group that predicts images of other data, so that its own data may be absent: it is then
            unknown which images its models trained on, which a line on stderr says. Empty: the data must be here.
    """
    parts: dict[str, dict[Image, Sample]] = {}
    for config in configs:
        key = repr(config.data)
        if key not in parts:
            try:
                parts[key] = {(sample.source, sample.name): sample for sample in load_part(config, part)}
            except UserError as error:
                if not foreign:
                    raise
                print(f"{foreign}: it is unknown whether it was trained on these photos: {error}", file=sys.stderr)
                parts[key] = {}
    return [parts[repr(config.data)] for config in configs]


def predict_with_members(
    name: str,
    members: Sequence[tuple[LoadedModel, Path]],
    samples: list[Sample],
    options: EvaluationOptions,
    cache_as_trained: bool,
    title: str,
) -> ModelPredictions:
    """The predictions of some models of a group as one: mean mos, captions as of an ensemble."""
    models = [loaded for loaded, _ in members]
    each = [evaluation_predict_options(loaded, options, cache_as_trained) for loaded in models]
    predictors = [Predictor.of_model(loaded) for loaded in models]
    predictions, failed = predict_ensemble(predictors, samples, each)
    shared = combine_options(each)
    fallbacks = list(fill_missing(predictions, failed, ensemble_fallback(models, shared), shared))
    origins = [model_provenance(loaded, folder) | {"part": options.values.part} for loaded, folder in members]
    provenance = origins[0] | {"members": origins, "fallbacks": fallbacks, "title": title}
    return ModelPredictions(
        name, predictions, samples, provenance, loaded=models[0], folder=members[0][1], options=shared
    )


def evaluation_predict_options(
    loaded: LoadedModel, options: EvaluationOptions, cache_as_trained: bool
) -> PredictOptions:
    """How a model predicts in an evaluation; cache_as_trained as of predict_part."""
    predict_options = make_predict_options(options.values, options.overrides, loaded, labelled=True)
    if cache_as_trained and "cache" not in options.overrides:
        predict_options.cache = loaded.config.data.cache and loaded.config.model.backbone.cacheable
    return predict_options


def predict_with_fallbacks(
    loaded: LoadedModel, samples: list[Sample], options: PredictOptions
) -> tuple[Predictions, list[str]]:
    """Predictions for all images, and the names of those whose prediction is a fallback."""
    predictions, failed = Predictor.of_model(loaded).predict(samples, options)
    return predictions, list(fill_missing(predictions, failed, ensemble_fallback([loaded], options), options))


def submission_evaluation_set(options: Namespace) -> EvaluationSet:
    """The rows of the submission --predictions beside the truth for the same images.

    Raises:
        UserError: it is no submission, or none of its images is in the truth.
    """
    source = options.truth or options.config
    submission, truth = read_submission(Path(options.predictions)), read_truth(source, options.part)
    names = set(submission.names)
    samples = [sample for sample in truth if sample.name in names]
    if not samples:
        raise UserError(f"{options.predictions}: none of its photos is in {source}; check both for img_name")
    if len(samples) < max(len(truth), len(submission.names)):
        counts = f"{len(submission.names)} predictions and {len(truth)} photos"
        print(f"{counts} have {len(samples)} names in common; these are scored", file=sys.stderr)
    provenance = {"title": f"{options.predictions} on {len(samples)} photos of {source}"}
    predictions = submission_predictions(submission, samples)
    return EvaluationSet(options.predictions, predictions, samples, provenance)


def submission_predictions(submission: Submission, samples: Sequence[Sample]) -> Predictions:
    """A submission's rows for images that are all in it, beside the truth."""
    row_of_name = {name: i for i, name in enumerate(submission.names)}
    rows = [row_of_name[sample.name] for sample in samples]
    return Predictions(
        names=[sample.name for sample in samples],
        sources=[sample.source for sample in samples],
        mos=[submission.mos[i] if submission.mos else math.nan for i in rows],
        mos_true=[math.nan if sample.mos is None else sample.mos for sample in samples],
        captions=[submission.comments[i] if submission.comments else "" for i in rows],
        references=[list(sample.captions) for sample in samples],
    )


def read_truth(truth: str, part: str) -> list[Sample]:
    """Labelled images of a table like train.csv, or of one part of an experiment's data.

    Raises:
        UserError: neither is named, or it cannot be read.
    """
    if not truth:
        raise UserError("--truth: name a table with mos or comments, or an experiment's YAML")
    path = Path(truth)
    if path.suffix in (".yaml", ".yml"):
        return load_part(load_config(path), part)
    if not path.is_file():
        raise UserError(f"--truth {truth}: no such file; name a table with mos or comments, or an experiment's YAML")
    return read_source(SourceConfig(path=str(path.parent), captions=path.name, name=path.stem))
