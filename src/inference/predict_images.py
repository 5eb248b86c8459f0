"""Predictions of single images, files or addresses on the web, as text: the work of `predict --image`.

Held by tests/inference/test_predict_submission.py.
"""

from collections.abc import Iterator
from pathlib import Path

from jsonargparse import Namespace

from src.common.errors import UserError
from src.common.files import check_readable, stat_file
from src.config.cli import Overrides
from src.data.image_io import MAX_PIXELS
from src.inference.group_predictor import load_predictor
from src.inference.predict_options import make_predict_options
from src.inference.predictor import ImageLimits, Prediction, PredictionError, Predictor, compare_with_training

TABLE_OPTIONS = ("data", "images", "sample", "output", "workers", "cache")
LIMITS = ImageLimits(megabytes=1000.0, megapixels=MAX_PIXELS / 1e6)


def predict_images(options: Namespace, overrides: Overrides) -> Iterator[str]:
    """The predictions of each image of --image: name, mos among the training images, and captions, the best first.

    Raises:
        UserError: no such model, or options that do not go together; at the end, images that cannot be read.
    """
    if others := [f"--{name}" for name in TABLE_OPTIONS if options[name]]:
        raise UserError(f"--image: prints and writes no file; leave {' and '.join(others)} out, or leave it out")
    predictor, failed = load_predictor(options.model, LIMITS), []
    predict_options = make_predict_options(options, overrides, predictor.description)
    for name in options.image:
        try:
            prediction = predictor.predict_bytes([read_image(name)], predict_options)[0]
        except UserError as error:
            failed.append(str(error))
            continue
        if isinstance(prediction, PredictionError):
            failed.append(f"{name}: {prediction.reason}")
        else:
            yield "\n  ".join([name, *prediction_lines(prediction, predictor)])
    if failed:
        raise UserError("; ".join(failed))


def read_image(name: str) -> bytes:
    """The content of a file, or of an address.

    Raises:
        UserError: it cannot be read or fetched.
    """
    if "://" in name:
        from src.data.image_url import download_image  # its HTTP client takes half a second to load

        return download_image(name)
    if Path(name).is_dir():
        raise UserError(f"{name}: is a folder; name it with --data, and --output a submission")
    check_readable(Path(name))
    stat_file(Path(name))
    return Path(name).read_bytes()


def prediction_lines(prediction: Prediction, predictor: Predictor) -> Iterator[str]:
    """A prediction as lines for people."""
    if prediction.note:
        yield f"({prediction.note})"
    if prediction.mos is not None:
        comparison = compare_with_training(prediction.place, predictor.description.meta)
        yield f"mos {prediction.mos:.2f}" + (f" ({comparison})" if comparison else "")
    for caption in prediction.captions:
        yield f"{caption.text} ({caption.score:.2f})"
