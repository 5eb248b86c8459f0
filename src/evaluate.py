"""python -m src.evaluate: every score with its 95 % interval, of a model or of a CSV of predictions.
Held by tests/evaluation.
"""

from collections.abc import Sequence
from shlex import quote

from src.common.errors import EXIT_FALLBACKS, run_command
from src.config.cli import CommandParser, add_prediction_options, make_parser, parse_with_overrides
from src.config.schema import Whole
from src.data.split import PARTS
from src.metrics.compute import optional_metrics
from src.tracking.run_group import group_members


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, evaluates, and prints the tables. 3: some images have a fallback."""
    parser = make_options()
    values, overrides = parse_with_overrides(parser, args)
    for name in [*values.model, *(name for name in values.against if not name.endswith(".csv"))]:
        group_members(name)  # before torch loads, which takes seconds

    from src.evaluation.evaluator import EvaluationOptions, evaluate, write_outputs

    evaluation = evaluate(EvaluationOptions(values, overrides))
    print(evaluation)
    for message in write_outputs(evaluation, values):
        print(message)
    if len(values.model) == 1:
        print(f"next: python -m src.predict --model {quote(values.model[0])} --data PHOTOS --output submissions/X.csv")
    return EXIT_FALLBACKS if evaluation.evaluation_set.provenance.get("fallbacks") else 0


def make_options() -> CommandParser:
    """The command's options."""
    parser = make_parser("evaluate", "Every score with its 95 % interval over photos.", config=False)
    about = "model folder, run name, run id, best, or a group, whose models each predict their own part; or several"
    parser.add_argument("--model", type=str, nargs="+", default=[], help=about)
    parser.add_argument("--part", choices=PARTS, default="val", help="which photos of the config's split")
    parser.add_argument("--config", type=str, default="", help="score on this experiment's data, not the model's own")
    parser.add_argument("--predictions", type=str, default="", help="score this submission instead of a model")
    about = "truth for --predictions: a table like train.csv, or an experiment's YAML (--part of its data)"
    parser.add_argument("--truth", type=str, default="", help=about)
    parser.add_argument(
        "--json", type=str, default="", help="also write scores and an entry for each photo to this file"
    )
    about = "also write predictions and scores of each photo to this file; docs/details.schema.json describes it"
    parser.add_argument("--details", type=str, default="", help=about)
    about = "also write the attention of each word to --details"
    parser.add_argument("--attention", type=bool, default=False, help=about)
    about = "also write each photo's embedding to --details; of more than 200 photos, to a .npz beside it"
    parser.add_argument("--embeddings", type=bool, default=False, help=about)
    about = "also score the photos of each decile of true mos"
    parser.add_argument("--deciles", type=bool, default=False, help=about)
    about = "models or submissions (X.csv) to compare with on the same photos, such as single-task models"
    parser.add_argument("--against", type=str, nargs="+", default=[], help=about)
    about = "number of random cuts into a public (30 %%) and a private leaderboard, to rank on each; 0: none"
    parser.add_argument("--boards", type=Whole, default=0, help=about)
    for option in (metric.option for metric in optional_metrics()):
        parser.add_argument(f"--{option.name}", type=option.type, default=option.type(), help=option.help)
    parser.add_argument("--log", type=bool, default=False, help="also log the scores to the model's run in MLflow")
    parser.add_argument("--meteor", type=bool, default=True, help="also METEOR, which needs Java")
    add_prediction_options(parser, "style of the captions, by data set; default: that of each photo's own data set")
    return parser


if __name__ == "__main__":
    run_command(main)
