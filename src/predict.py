"""python -m src.predict: photos and a model to a submission, checked before it is written."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from src.common.errors import EXIT_FALLBACKS, run_command
from src.config.cli import add_image_options, add_prediction_options, parse_with_overrides
from src.config.loader import CommandParser, make_parser
from src.config.schema import Whole
from src.data.image_list import find_images
from src.inference.fallbacks import mos_range
from src.inference.model_loading import load_model
from src.inference.predict_options import check_style_option, make_predict_options
from src.inference.predict_submission import predict_submission, predict_submission_distributed
from src.inference.provenance import model_provenance, prediction_provenance
from src.inference.submission import check_submission_path, write_submission

if TYPE_CHECKING:
    pass

DESCRIPTION = "Answers photos with a trained model and writes a submission, checked before it replaces an older one."


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, answers, writes, and says what was written. 3: some photos could not be read."""
    options, overrides = parse_with_overrides(make_options(), args)
    output = Path(options.output)
    check_submission_path(output)
    samples = find_images(options.data, options.images, options.sample)
    loaded, folder = load_model(options.model)
    settings = make_predict_options(options, overrides, loaded)
    check_style_option(options.style, [settings])
    began = time.perf_counter()
    if options.workers:
        lost, kept = predict_submission_distributed(loaded, folder, samples, settings, options)
    else:
        kept = 0
        submission, lost = predict_submission(loaded, samples, settings)
        origin = {
            **model_provenance(loaded, folder),
            **prediction_provenance(options.data, [loaded], samples, settings, lost),
        }
        write_submission(output, submission, origin, mos_range([loaded]))
    rate = (len(samples) - kept) / (time.perf_counter() - began)
    photos = f"{len(samples)} photos" + (f", {kept} of them answered before" if kept else "")
    print(f"wrote {output} and {output.with_suffix('.json')}: {photos}, {rate:.1f} photos/s")
    print(f"next: hand {output.name} in, or: python -m src.ensemble --submissions {output} OTHER.csv --output ...")
    return EXIT_FALLBACKS if lost else 0


def make_options() -> CommandParser:
    """The command's options."""
    parser = make_parser("predict", DESCRIPTION, config=False)
    parser.add_argument("--model", type=str, required=True, help="model folder, run name, run id, or best")
    parser.add_argument("--output", type=str, required=True, help="the submission to write: submissions/X.csv")
    add_image_options(parser)
    parser.add_argument(
        "--columns", type=str, default="", help="img_name,comments or img_name,mos: leave the other column out"
    )
    add_prediction_options(
        parser, "style of the captions, by data set; default: the challenge's, where the model knows it"
    )
    about = "processes of Ray, here or on the cluster of RAY_ADDRESS; cut short, the same command goes on. 0: none"
    parser.add_argument("--workers", type=Whole, default=0, help=about)
    return parser


if __name__ == "__main__":
    run_command(main)
