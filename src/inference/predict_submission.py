"""A model's predictions as a submission, in this process or in several."""

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from src.common.errors import UserError
from src.data.sample import Sample
from src.inference.submission import Submission, write

if TYPE_CHECKING:
    from src.inference.batch_prediction import Settings
    from src.models.model_folder import Loaded
from src.inference.fallbacks import complete, mos_range
from src.inference.provenance import about_answers, about_model


def predict(loaded: "Loaded", samples: list[Sample], settings: "Settings") -> tuple[Submission, dict[str, str]]:
    """A model's submission for photos, in their order; see `complete`."""
    from src.inference.batch_prediction import answer_photos

    answers, failed = answer_photos(loaded, samples, settings)
    return complete(answers, failed, [loaded], settings)


def predict_spread(
    loaded: "Loaded", folder: Path, samples: list[Sample], settings: "Settings", options: Namespace
) -> tuple[dict[str, str], int]:
    """Writes a submission that several processes answer; its bytes are those of `predict`'s.

    Returns:
        What was wrong with photos, as `complete`, and how many photos were answered before; see `Spread`.

    Raises:
        UserError: the cache, which one process writes, is asked for.
    """
    from src.inference.distributed_prediction import answer_spread, clear

    if settings.cache:
        raise UserError(f"--workers {options.workers}: they keep no features; leave --cache out")
    output = Path(options.output)
    spread, parts = answer_spread(folder, samples, settings, options.workers, output)
    submission, lost = complete(spread.answers, spread.failed, [loaded], settings)
    about = about_answers(options.data, [loaded], samples, settings, lost, spread.hashes)
    write(output, submission, {**about_model(loaded, folder), **about}, mos_range([loaded]))
    clear(parts, output)
    return lost, spread.kept
