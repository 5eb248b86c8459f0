"""python -m src.evaluate: every score with its 95 % interval, of a model or of a CSV of predictions."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from src.common.errors import EXIT_FALLBACKS, run_command
from src.config.cli import add_prediction_options, parse_with_overrides
from src.config.loader import CommandParser, make_parser
from src.config.schema import Whole
from src.data.split import PARTS
from src.evaluation.evaluation_set import models_evaluation_set, submission_evaluation_set
from src.evaluation.evaluator import (
    add_pretrained_scores,
    check_evaluate_options,
    compare_and_rank,
    log_scores,
    write_json,
)
from src.evaluation.score_table import ALL, score_by_source, score_table
from src.metrics.compute import optional_metrics

if TYPE_CHECKING:
    pass


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, scores, and prints the tables. 3: some photos could not be answered."""
    options, overrides = parse_with_overrides(make_options(), args)
    check_evaluate_options(options)
    found = submission_evaluation_set(options) if options.predictions else models_evaluation_set(options, overrides)
    answers, about = found.answers, found.about
    scores = score_by_source(answers, options.meteor)
    add_pretrained_scores(found, scores, options)
    print(about["title"])
    print(score_table({source: found.scores for source, found in scores.items()}))
    more = compare_and_rank(found, options, overrides)
    if options.json:
        write_json(Path(options.json), about | more, answers, scores)
        print(f"wrote {options.json}")
    if options.details:
        from src.evaluation.per_image_json import write_details

        write_details(Path(options.details), found, scores, options.attention)
        print(f"wrote {options.details}; docs/details.schema.json says what is in it")
    if options.log:
        log_scores(about["run_id"], options.part, scores[ALL].scores)
        print(f"logged to run {about['run_id']}: make ui shows it")
    if len(options.model) == 1:
        print(f"next: python -m src.predict --model {options.model[0]} --data PHOTOS --output submissions/X.csv")
    return EXIT_FALLBACKS if about.get("fallbacks") else 0


def make_options() -> CommandParser:
    """The command's options."""
    parser = make_parser("evaluate", "Every score with its 95 % interval over photos.", config=False)
    about = "model folder, run name, run id, or best; of several, such as all folds, each answers its own part"
    parser.add_argument("--model", type=str, nargs="+", default=[], help=about)
    parser.add_argument("--part", choices=PARTS, default="val", help="which photos of the config's split")
    parser.add_argument("--config", type=str, default="", help="score on this experiment's data, not the model's own")
    parser.add_argument("--predictions", type=str, default="", help="score this submission instead of a model")
    about = "what predictions are held against: a table like train.csv, or an experiment's YAML (--part of its data)"
    parser.add_argument("--truth", type=str, default="", help=about)
    parser.add_argument("--json", type=str, default="", help="also write scores and one row a photo to this file")
    about = "also write every photo's answer and scores to this file, as docs/details.schema.json describes it"
    parser.add_argument("--details", type=str, default="", help=about)
    about = "keep where the decoder looked for each word in --details, too"
    parser.add_argument("--attention", type=bool, default=False, help=about)
    parser.add_argument("--deciles", type=bool, default=False, help="also score each tenth of the photos by true mos")
    about = "models or submissions (X.csv) to compare with on the same photos, such as single-task models"
    parser.add_argument("--against", type=str, nargs="+", default=[], help=about)
    about = "cut the photos so many times into a public (30 %%) and a private board, and rank on each; 0: no boards"
    parser.add_argument("--boards", type=Whole, default=0, help=about)
    add_extra_options(parser)
    parser.add_argument("--log", type=bool, default=False, help="also log the scores to the model's run in MLflow")
    parser.add_argument("--meteor", type=bool, default=True, help="METEOR too, which needs Java")
    add_prediction_options(parser, "style of the captions, by data set; default: that of each photo's own data set")
    return parser


def add_extra_options(parser: CommandParser) -> None:
    """Options for scores that need a download."""
    for option in (metric.option for metric in optional_metrics()):
        parser.add_argument(f"--{option.name}", type=option.type, default=option.type(), help=option.help)


if __name__ == "__main__":
    run_command(main)
