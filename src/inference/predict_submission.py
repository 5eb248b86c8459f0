"""A model's predictions as a submission, in this process or in several: the work of the command predict."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import Namespace

from src.common.errors import UserError
from src.config.cli import Overrides
from src.data.image_list import find_images
from src.inference.distributed_prediction import DistributedResult, predict_distributed, remove_parts
from src.inference.ensemble import join_models
from src.inference.fallbacks import complete_submission, mos_range
from src.inference.model_loading import load_model
from src.inference.predict_options import check_style_option, make_predict_options
from src.inference.predictor import Predictor
from src.inference.provenance import model_provenance, prediction_provenance
from src.inference.submission import check_submission_path, write_submission
from src.tracking.run_group import group_members


@dataclass
class PredictSummary:
    """The work that was done.

    Attributes:
        images: rows of the submission.
        stored: images whose predictions an earlier command, cut short, had left.
        seconds: of prediction and writing.
        fallbacks: by name, why rows hold a fallback.
    """

    images: int
    stored: int
    seconds: float
    fallbacks: dict[str, str]

    def __str__(self) -> str:
        stored = f", {self.stored} of them predicted before" if self.stored else ""
        return f"{self.images} photos{stored}, {(self.images - self.stored) / self.seconds:.1f} photos/s"


def predict_submission(options: Namespace, overrides: Overrides) -> PredictSummary:
    """Predicts the images of a command line and writes the submission --output.

    Raises:
        UserError: no such model or images, no place for the output, or options that do not go together.
    """
    output = Path(options.output)
    check_submission_path(output)
    if options.workers and options.cache:
        raise UserError(f"--workers {options.workers}: they keep no features; leave --cache out")
    folders = group_members(options.model)
    if len(folders) > 1:
        return predict_group_submission(folders, options, overrides)
    loaded, folder = load_model(options.model)
    samples = find_images(options.data, options.images, options.sample)
    predict_options = make_predict_options(options, overrides, loaded)
    check_style_option(options.style, [predict_options])
    start = time.perf_counter()
    if options.workers:
        result = predict_distributed(folder, samples, predict_options, options.workers, output)
    else:
        result = DistributedResult(*Predictor.of_model(loaded).predict(samples, predict_options))
    submission, fallbacks = complete_submission(result.predictions, result.failed, [loaded], predict_options)
    provenance = model_provenance(loaded, folder)
    provenance |= prediction_provenance(options.data, [loaded], samples, predict_options, fallbacks, result.hashes)
    write_submission(output, submission, provenance, mos_range([loaded]))
    if options.workers:
        remove_parts(output)
    return PredictSummary(len(samples), result.stored, time.perf_counter() - start, fallbacks)


def predict_group_submission(folders: Sequence[Path], options: Namespace, overrides: Overrides) -> PredictSummary:
    """As predict_submission, by all models of a group: mean mos, captions as of an ensemble.

    Raises:
        UserError: as predict_submission; --workers is given.
    """
    if options.workers:
        raise UserError(f"--workers {options.workers}: a group predicts in one process; leave it out")
    start = time.perf_counter()
    samples = find_images(options.data, options.images, options.sample)
    submission, provenance = join_models(folders, samples, options, overrides)
    provenance |= {"group": options.model, "join": "mean"}
    write_submission(Path(options.output), submission, provenance, provenance["mos_range"])
    fallbacks = dict.fromkeys(provenance["fallbacks"], "")
    return PredictSummary(len(submission.names), 0, time.perf_counter() - start, fallbacks)
