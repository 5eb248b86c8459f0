"""A model's predictions as a submission, in this process or in several."""

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from src.common.errors import UserError
from src.data.sample import Sample
from src.inference.submission import Submission, write_submission

if TYPE_CHECKING:
    from src.inference.batch_prediction import PredictOptions
    from src.models.model_folder import LoadedModel
from src.inference.fallbacks import complete_submission, mos_range
from src.inference.provenance import model_provenance, prediction_provenance


def predict_submission(
    loaded: "LoadedModel", samples: list[Sample], settings: "PredictOptions"
) -> tuple[Submission, dict[str, str]]:
    """A model's submission for photos, in their order; see `complete`."""
    from src.inference.batch_prediction import predict_images

    answers, failed = predict_images(loaded, samples, settings)
    return complete_submission(answers, failed, [loaded], settings)


def predict_submission_distributed(
    loaded: "LoadedModel", folder: Path, samples: list[Sample], settings: "PredictOptions", options: Namespace
) -> tuple[dict[str, str], int]:
    """Writes a submission that several processes answer; its bytes are those of `predict`'s.

    Returns:
        What was wrong with photos, as `complete`, and how many photos were answered before; see `DistributedResult`.

    Raises:
        UserError: the cache, which one process writes, is asked for.
    """
    from src.inference.distributed_prediction import predict_distributed, remove_parts_folder

    if settings.cache:
        raise UserError(f"--workers {options.workers}: they keep no features; leave --cache out")
    output = Path(options.output)
    spread, parts = predict_distributed(folder, samples, settings, options.workers, output)
    submission, lost = complete_submission(spread.answers, spread.failed, [loaded], settings)
    about = prediction_provenance(options.data, [loaded], samples, settings, lost, spread.hashes)
    write_submission(output, submission, {**model_provenance(loaded, folder), **about}, mos_range([loaded]))
    remove_parts_folder(parts, output)
    return lost, spread.kept
