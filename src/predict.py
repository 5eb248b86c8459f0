"""python -m src.predict: photos and a model to a submission, checked before it is written, or to printed lines."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from src.common.errors import EXIT_FALLBACKS, UserError, run_command
from src.config.cli import CommandParser, add_image_options, add_prediction_options, make_parser, parse_with_overrides
from src.config.schema import Whole
from src.tracking.run_group import group_members

DESCRIPTION = "Predicts photos with a trained model and writes a submission, checked before it replaces an older one."


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, predicts, and says what was written. 3: some photos could not be read."""
    options, overrides = parse_with_overrides(make_options(), args)
    if not (options.output or options.image):
        raise UserError("--output: name the submission to write (submissions/X.csv), or single photos with --image")
    group_members(options.model)  # before torch loads, which takes seconds
    if options.image:
        from src.inference.predict_images import predict_images

        for text in predict_images(options, overrides):
            print(text, flush=True)
        return 0

    from src.inference.predict_submission import predict_submission

    summary = predict_submission(options, overrides)
    output = Path(options.output)
    print(f"wrote {output} and {output.with_suffix('.json')}: {summary}")
    ensemble = f"python -m src.ensemble --submissions {quote(options.output)} OTHER.csv --output ..."
    print(f"next: hand {output.name} in, or: {ensemble}")
    return EXIT_FALLBACKS if summary.fallbacks else 0


def make_options() -> CommandParser:
    """The command's options."""
    parser = make_parser("predict", DESCRIPTION, config=False)
    parser.add_argument("--model", type=str, required=True, help="model folder, run name, run id, best, or a group")
    parser.add_argument("--output", type=str, default="", help="the submission to write: submissions/X.csv")
    about = "single photos, files or https addresses: prints their predictions and writes no submission"
    parser.add_argument("--image", type=str, nargs="+", default=[], help=about)
    add_image_options(parser)
    about = "img_name,comments or img_name,mos: leave the other column out"
    parser.add_argument("--columns", type=str, default="", help=about)
    about = "style of the captions, by data set; default: the challenge's, where the model knows it"
    add_prediction_options(parser, about)
    about = "processes of Ray, here or on the cluster of RAY_ADDRESS; cut short, the same command goes on. 0: none"
    parser.add_argument("--workers", type=Whole, default=0, help=about)
    return parser


if __name__ == "__main__":
    run_command(main)
