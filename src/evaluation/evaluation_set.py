"""Answers to be scored: of one model or several for a part of their data, or of a submission, beside the truth."""

import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from src.common.errors import UserError
from src.config.cli import Overrides
from src.config.loader import load_config
from src.config.schema import Config, SourceConfig
from src.data.sample import Sample
from src.data.sources import load_part, read_source
from src.inference.fallbacks import ensemble_fallback, fill_missing
from src.inference.model_loading import load_model
from src.inference.predict_options import PredictOptions, check_style_option, make_predict_options
from src.inference.predictor import Predictor
from src.inference.provenance import model_provenance
from src.inference.submission import Submission, read_submission

if TYPE_CHECKING:
    from src.inference.predictions import Predictions
    from src.models.model_folder import LoadedModel


@dataclass
class ModelPredictions:
    """A model's answers for one part of some data.

    Attributes:
        loaded: the model.
        folder: its folder.
        samples: the photos.
        settings: how it answered.
        answers: its answers, in the photos' order.
        about: which model and photos, and names of photos whose answer is a fallback.
    """

    loaded: "LoadedModel"
    folder: Path
    samples: list[Sample]
    settings: "PredictOptions"
    answers: "Predictions"
    about: dict[str, Any]


@dataclass
class EvaluationSet:
    """What is to be scored.

    Attributes:
        name: of the model or file.
        answers: beside the truth.
        samples: the photos, in the answers' order.
        about: title, origin, and names of photos whose answer is a fallback.
        parts: the models' own answers; none of a file.
    """

    name: str
    answers: "Predictions"
    samples: list[Sample]
    about: dict[str, Any]
    parts: list[ModelPredictions]


def models_evaluation_set(options: Namespace, overrides: Overrides) -> EvaluationSet:
    """The answers of one model, or of several, each for its own photos."""
    from src.inference.predictions import Predictions

    parts = [predict_part(name, options, overrides) for name in options.model]
    check_style_option(options.style, [one.settings for one in parts])
    about = parts[0].about
    if len(parts) > 1:
        about = {
            "title": "\n".join(one.about["title"] for one in parts),
            "models": [one.about for one in parts],
            "fallbacks": [name for one in parts for name in one.about["fallbacks"]],
        }
    samples = [sample for one in parts for sample in one.samples]
    warn_repeated_images(parts)
    return EvaluationSet(
        " + ".join(options.model), Predictions.join(one.answers for one in parts), samples, about, parts
    )


def warn_repeated_images(parts: Sequence[ModelPredictions]) -> None:
    """Says on stderr how many photos several models answered for."""
    counts = Counter(path for one in parts for path in {sample.path for sample in one.samples})
    if several := sum(count > 1 for count in counts.values()):
        about = "each answer is scored as a photo of its own, so intervals are too narrow"
        print(f"{several} of {len(counts)} photos were answered by several models: {about}", file=sys.stderr)


def predict_part(
    name: str,
    options: Namespace,
    overrides: Overrides,
    cache_as_trained: bool = False,
    config: Config | None = None,
) -> ModelPredictions:
    """Has a model answer for one part of its own data, or of another experiment's.

    Args:
        name: of the model.
        options: with --part, --config and those of add_prediction_options.
        overrides: the options that a person typed.
        cache_as_trained: unless the command line says otherwise, take features from the cache where training did.
        config: whose photos and generation stand for the model's own; the command line goes over these, too.
    """
    loaded, folder = load_model(name)
    if config:
        loaded = replace(loaded, config=replace(loaded.config, generate=config.generate))
    settings = make_predict_options(options, overrides, loaded, labelled=True)
    if cache_as_trained and "cache" not in overrides:
        settings.cache = loaded.config.data.cache and loaded.config.model.backbone.frozen
    samples = load_part(load_config(options.config) if options.config else config or loaded.config, options.part)
    answers, failed = Predictor.of_model(loaded).predict(samples, settings)
    lost = fill_missing(answers, failed, ensemble_fallback([loaded], settings), settings)
    about = model_provenance(loaded, folder) | {"part": options.part, "fallbacks": list(lost)}
    where = options.config or ("the comparison's data" if config else "the model's own data")
    about |= {"title": f"{name} on {len(samples)} photos ({options.part} of {where})"}
    return ModelPredictions(loaded, folder, samples, settings, answers, about)


def submission_evaluation_set(options: Namespace) -> EvaluationSet:
    """A submission's rows beside the truth for the same photos.

    Raises:
        UserError: it is no submission, or none of its photos is in the truth.
    """
    where = options.truth or options.config
    found, truth = read_submission(Path(options.predictions)), read_truth(where, options.part)
    named = set(found.names)
    samples = [sample for sample in truth if sample.name in named]
    if not samples:
        raise UserError(f"{options.predictions}: none of its photos is in {where}; check both for img_name")
    if len(samples) < max(len(truth), len(found.names)):
        counts = f"{len(found.names)} predictions and {len(truth)} photos"
        print(f"{counts} have {len(samples)} names in common; these are scored", file=sys.stderr)
    answers = submission_predictions(found, samples)
    about = {"title": f"{options.predictions} on {len(samples)} photos of {where}"}
    return EvaluationSet(options.predictions, answers, samples, about, [])


def submission_predictions(found: Submission, samples: Sequence[Sample]) -> "Predictions":
    """A submission's rows for photos that it all names, beside the truth."""
    from src.inference.predictions import Predictions

    place = {name: i for i, name in enumerate(found.names)}
    at = [place[sample.name] for sample in samples]
    return Predictions(
        names=[sample.name for sample in samples],
        sources=[sample.source for sample in samples],
        mos=[found.mos[i] if found.mos else math.nan for i in at],
        mos_true=[math.nan if sample.mos is None else sample.mos for sample in samples],
        captions=[found.comments[i] if found.comments else "" for i in at],
        references=[list(sample.captions) for sample in samples],
    )


def read_truth(truth: str, part: str) -> list[Sample]:
    """Labelled photos of a table like train.csv, or of one part of an experiment's data.

    Raises:
        UserError: neither was named, or it cannot be read.
    """
    if not truth:
        raise UserError("--truth: name a table with mos or comments, or an experiment's YAML")
    path = Path(truth)
    if path.suffix in (".yaml", ".yml"):
        return load_part(load_config(path), part)
    if not path.is_file():
        raise UserError(f"--truth {truth}: no such file; name a table with mos or comments, or an experiment's YAML")
    return read_source(SourceConfig(path=str(path.parent), captions=path.name, name=path.stem))
