"""python -m src.evaluate: every score with its 95 % interval, of a model or of a CSV of predictions."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jsonargparse import Namespace

from src.asked import Found, of_file, of_models
from src.command import Parser, make_parser
from src.config import Whole
from src.data.split import ORDER
from src.errors import FALLBACK, UserError, run_command
from src.files import check_place, write_text
from src.predict import add_model_options, run_id
from src.runs import find_model
from src.scored import ALL, known, score_sources, table

if TYPE_CHECKING:
    from src.learning.answers import Answers
    from src.scoring.report import Score, Scores


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, scores, and prints the tables. 3: some photos could not be answered."""
    options = make_options().parse_args(args)
    check(options)
    found = of_file(options) if options.predictions else of_models(options, make_options(), args)
    answers, about = found.answers, found.about
    scores = score_sources(answers, options.meteor)
    add_extra(found, scores, options)
    print(about["title"])
    print(table({source: found.scores for source, found in scores.items()}))
    more = further(found, options, make_options(), args)
    if options.json:
        write_json(Path(options.json), about | more, answers, scores)
        print(f"wrote {options.json}")
    if options.details:
        from src.details import write_details

        write_details(Path(options.details), found, scores, options.attention)
        print(f"wrote {options.details}; docs/details.schema.json says what is in it")
    if options.log:
        log_scores(about["run_id"], options.part, scores[ALL].scores)
        print(f"logged to run {about['run_id']}: make ui shows it")
    if len(options.model) == 1:
        print(f"next: python -m src.predict --model {options.model[0]} --data PHOTOS --output submissions/X.csv")
    return FALLBACK if about.get("fallbacks") else 0


def check(options: Namespace) -> None:
    """Raises UserError where options ask for nothing, do not go together, or name what is not there."""
    check_choice(options)
    for place in filter(None, (options.json, options.details)):
        check_place(Path(place))
    check_models(options)
    from src.against import check_rivals
    from src.extra import check_extra

    check_extra(options)
    check_rivals(options.against, options.predictions or " + ".join(options.model))


def check_models(options: Namespace) -> None:
    """Raises UserError where a model is not there, or is not of the kind that --log or --attention needs."""
    folders = [find_model(name) for name in options.model]
    if options.log and not run_id(folders[0]):
        raise UserError("--log: the model folder is of no run in MLflow; leave it out")
    if options.attention:
        from src.looking import attends
        from src.model.folder import describe

        for folder in folders:
            if not attends(describe(folder)):
                raise UserError(f"--attention: the decoder of {folder} attends to no place; leave it out")


def check_choice(options: Namespace) -> None:
    """Raises UserError where options ask for nothing, or do not go together."""
    if bool(options.model) == bool(options.predictions):
        raise UserError("give either --model RUN or --predictions X.csv with --truth TABLE.csv or CONFIG.yaml")
    if options.log and options.predictions:
        raise UserError("--log: a submission is of no run in MLflow; leave it out")
    if options.log and len(options.model) > 1:
        raise UserError("--log: the scores are of several runs; leave it out, or name one model")
    if options.attention and not (options.model and options.details):
        raise UserError("--attention: is kept in --details X.json, of a --model; name both")


def add_extra(found: Found, scores: dict[str, "Scores"], options: Namespace) -> None:
    """Adds the scores that need a download, where asked for, to those of all photos and of each source."""
    from src.extra import extra_scores
    from src.scoring.intervals import bootstrap_mean
    from src.scoring.report import Score

    for name, values in extra_scores(found.answers, [sample.path for sample in found.samples], options).items():
        for group, one in scores.items():
            own = values[[i for i, source in enumerate(found.answers.sources) if group in (ALL, source)]]
            one.per_photo[name] = own
            if len(own := own[np.isfinite(own)]):
                one.scores[name] = Score(float(own.mean()), *bootstrap_mean(own))


def further(found: Found, options: Namespace, parser: Parser, args: Sequence[str] | None) -> dict[str, Any]:
    """Prints deciles, comparisons and boards, as asked for. Returns them as plain types."""
    from src.against import boards, pairs, rivals, tenths
    from src.scoring.meteor import meteor_if_there

    more: dict[str, Any] = {}
    if not (options.deciles or options.against or options.boards):
        return more
    with meteor_if_there(options.meteor and any(found.answers.captions)) as meteor:
        every = rivals(found, options.against, parser, args, meteor)
    if options.deciles:
        more["deciles"] = tenths(every)
    if options.against:
        more["against"] = pairs(every)
    if options.boards:
        more["boards"] = boards(every, options.boards)
    return more


def make_options() -> Parser:
    """The command's options."""
    parser = make_parser("evaluate", "Every score with its 95 % interval over photos.", config=False)
    about = "model folder, run name, run id, or best; of several, such as all folds, each answers its own part"
    parser.add_argument("--model", type=str, nargs="+", default=[], help=about)
    parser.add_argument("--part", choices=ORDER, default="val", help="which photos of the config's split")
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
    add_model_options(parser, "style of the captions, by data set; default: that of each photo's own data set")
    return parser


def add_extra_options(parser: Parser) -> None:
    """Options for scores that need something downloaded."""
    parser.add_argument("--spice", type=bool, default=False, help="SPICE too; first: python -m src.prepare spice")
    parser.add_argument("--bert", type=str, default="", help="BERTScore too, by this model: a folder or hub name")
    parser.add_argument("--glove", type=str, default="", help="similarity too, by this file of GloVe vectors (text)")
    about = "similarity too, by this sentence-transformers model that pools by the mean: a folder or hub name"
    parser.add_argument("--sentence", type=str, default="", help=about)
    parser.add_argument("--clip", type=str, default="", help="CLIPScore too, by this CLIP: a folder or hub name")


def write_json(path: Path, about: dict[str, Any], answers: "Answers", scores: dict[str, "Scores"]) -> None:
    """Scores of every group and one entry a photo: truth, answer and its own scores; null where there is none."""
    values = {name: {key: asdict(score) for key, score in group.scores.items()} for name, group in scores.items()}
    own = scores[ALL].per_photo
    photos = [
        {
            **{key: known(column[i]) for key, column in vars(answers).items()},
            **{key: known(float(column[i])) for key, column in own.items()},
        }
        for i in range(len(answers))
    ]
    text = json.dumps({**about, "scores": values, "photos": photos}, ensure_ascii=False, indent=1, allow_nan=False)
    write_text(path, text + "\n")


def log_scores(run_id: str, part: str, scores: dict[str, "Score"]) -> None:
    """Adds the scores to a run in MLflow as eval/PART/SCORE."""
    from src.runs import open_client

    client = open_client()
    for name, score in scores.items():
        client.log_metric(run_id, f"eval/{part}/{name}", score.value)


if __name__ == "__main__":
    run_command(main)
