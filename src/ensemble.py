"""python -m src.ensemble: several submissions, or several models, into one submission; runs of one model into one."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from src.common.errors import EXIT_FALLBACKS, UserError, run_command
from src.config.cli import CommandParser, add_image_options, add_prediction_options, make_parser, parse_with_overrides
from src.config.schema import AtLeast0
from src.tracking.run_group import group_members


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, joins, and says what was written. 3: some photos could not be read."""
    options, overrides = parse_with_overrides(make_options(), args)
    for name in options.models:
        group_members(name)  # before scipy and torch load, which takes seconds
    if options.soup:
        from src.evaluation.model_soup import make_soup

        print(f"{make_soup(options)}\nnext: python -m src.evaluate --model {quote(options.soup)} --part test")
        return 0

    from src.inference.ensemble_submission import ensemble_submissions
    from src.inference.submission import check_submission_path, write_submission

    if not options.output:
        raise UserError("missing on the command line: --output (the submission to write, submissions/X.csv)")
    output = Path(options.output)
    check_submission_path(output)
    if bool(options.submissions) == bool(options.models):
        raise UserError("give either --submissions A.csv B.csv ... or --models RUN RUN ... with --data PHOTOS")
    if options.learn and not options.models:
        raise UserError("--learn: weighs --models by their held-out predictions; a submission has none")
    if options.submissions:
        submission, provenance = ensemble_submissions([Path(name) for name in options.submissions], options)
    elif options.learn:
        from src.evaluation.learned_blend import ensemble_learned

        submission, provenance = ensemble_learned(options, overrides)
    else:
        from src.inference.ensemble import ensemble_models

        submission, provenance = ensemble_models(options, overrides)
    write_submission(output, submission, provenance | {"outliers": options.outliers}, provenance["mos_range"])
    print(f"wrote {output} and {output.with_suffix('.json')}: {len(submission.names)} photos")
    print(f"next: python -m src.evaluate --predictions {quote(options.output)} --truth TABLE.csv")
    return EXIT_FALLBACKS if provenance.get("fallbacks") else 0


def make_options() -> CommandParser:
    """The command's options."""
    parser = make_parser("ensemble", "Joins several submissions, or several models, into one submission.", config=False)
    parser.add_argument("--submissions", nargs="+", default=[], help="submissions to join; the best one first")
    about = "models to join: folders, run names or ids, best, or groups; where they share a vocabulary, captions come"
    about += " from their mean probabilities word by word, else by vote"
    parser.add_argument("--models", nargs="+", default=[], help=about)
    parser.add_argument("--output", type=str, default="", help="the submission to write, submissions/X.csv")
    about = "instead of a submission, write this model folder: the average of the --models' weights, greedily chosen on"
    about += " their validation photos; they must be runs of one model on one split"
    parser.add_argument("--soup", type=str, default="", help=about)
    about = "mean of the mos, or of their ranks (where scales differ)"
    parser.add_argument("--mos", choices=["mean", "rank"], default="mean", help=about)
    about = "leave out of a photo's mos those more than this many quartile ranges outside the quartiles (1.5, say);"
    about += " 0: none"
    parser.add_argument("--outliers", type=AtLeast0, default=0.0, help=about)
    about = "learn the weights of the models' mos from predictions for photos that none of them was trained on"
    parser.add_argument("--learn", action="store_true", help=about)
    add_image_options(parser)
    add_prediction_options(
        parser, "style of the captions, by data set; default: the challenge's, where a model knows it"
    )
    return parser


if __name__ == "__main__":
    run_command(main)
