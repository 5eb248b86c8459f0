"""python -m src.evaluate: every score with its 95 % interval, of a model or of a CSV of predictions."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jsonargparse import Namespace

from src.command import Parser, load_config, make_parser
from src.config import Config, SourceConfig
from src.data.sample import Sample
from src.errors import UserError, run_command
from src.files import write_text
from src.predict import FALLBACK, about_model, add_model_options, fallback_of, fill, load_model, make_settings
from src.submission import Submission, read

if TYPE_CHECKING:
    from src.answering import Settings
    from src.learning.answers import Answers
    from src.model.folder import Loaded
    from src.scoring.meteor import Meteor
    from src.scoring.report import Drawn, Score, Scores

PARTS = ("train", "val", "test")
ALL = "all"


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, scores, and prints the tables. 3: some photos could not be answered."""
    options = make_options().parse_args(args)
    check(options)
    found = of_file(options) if options.predictions else of_models(options, args)
    answers, about = found.answers, found.about
    scores = score_sources(answers, options.meteor)
    add_extra(found, scores, options)
    print(about["title"])
    print(table({source: found.scores for source, found in scores.items()}))
    more = further(found, options, args)
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
    """Raises UserError where options ask for nothing, or do not go together."""
    if bool(options.model) == bool(options.predictions):
        raise UserError("give either --model RUN or --predictions X.csv with --truth TABLE.csv or CONFIG.yaml")
    if options.log and len(options.model) > 1:
        raise UserError("--log: the scores are of several runs; leave it out, or name one model")
    if options.attention and not (options.model and options.details):
        raise UserError("--attention: is kept in --details X.json, of a --model; name both")
    if options.boards < 0:
        raise UserError(f"--boards {options.boards}: must be a number of cuts, such as 200")


def add_extra(found: "Found", scores: dict[str, "Scores"], options: Namespace) -> None:
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


def further(found: "Found", options: Namespace, args: Sequence[str] | None) -> dict[str, Any]:
    """Prints deciles, comparisons and boards, as asked for. Returns them as plain types."""
    from src.against import boards, pairs, rivals, tenths
    from src.scoring.meteor import meteor_if_there

    more: dict[str, Any] = {}
    if not (options.deciles or options.against or options.boards):
        return more
    with meteor_if_there(options.meteor and any(found.answers.captions)) as meteor:
        every = rivals(found, options.against, make_options(), args, meteor)
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
    parser.add_argument("--boards", type=int, default=0, help=about)
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


def of_models(options: Namespace, args: Sequence[str] | None) -> "Found":
    """The answers of one model, or of several, each for its own photos."""
    from src.learning.answers import Answers

    parts = [ask_model(name, make_options(), args) for name in options.model]
    about = parts[0].about
    if len(parts) > 1:
        about = {
            "title": "\n".join(one.about["title"] for one in parts),
            "models": [one.about for one in parts],
            "fallbacks": [name for one in parts for name in one.about["fallbacks"]],
        }
    samples = [sample for one in parts for sample in one.samples]
    return Found(" + ".join(options.model), Answers.join(one.answers for one in parts), samples, about, parts)


@dataclass
class Asked:
    """A model's answers for one part of some data.

    Attributes:
        loaded: the model.
        folder: its folder.
        samples: the photos.
        settings: how it answered.
        answers: its answers, in the photos' order.
        about: which model and photos, and names of photos whose answer is a fallback.
    """

    loaded: "Loaded"
    folder: Path
    samples: list[Sample]
    settings: "Settings"
    answers: "Answers"
    about: dict[str, Any]


@dataclass
class Found:
    """What is to be scored.

    Attributes:
        name: of the model or file.
        answers: beside the truth.
        samples: the photos, in the answers' order.
        about: title, origin, and names of photos whose answer is a fallback.
        parts: the models' own answers; none of a file.
    """

    name: str
    answers: "Answers"
    samples: list[Sample]
    about: dict[str, Any]
    parts: list[Asked]


def ask_model(name: str, parser: Parser, args: Sequence[str] | None, cache_as_trained: bool = False) -> Asked:
    """Has a model answer for one part of its own data, or of another experiment's.

    Args:
        name: of the model.
        parser: of the command, with --part, --config and add_model_options.
        args: its command line.
        cache_as_trained: unless the command line says otherwise, take features from the cache where training did.
    """
    from src.answering import answer_photos

    loaded, folder = load_model(name)
    if cache_as_trained:
        parser.set_defaults(cache=loaded.config.data.cache and loaded.config.model.backbone.frozen)
    settings = make_settings(parser, args, loaded, labelled=True)
    options = parser.parse_args(args)
    samples = part_of(load_config(options.config) if options.config else loaded.config, options.part)
    answers, failed = answer_photos(loaded, samples, settings)
    lost = fill(answers, failed, fallback_of([loaded], settings), settings)
    about = about_model(loaded, folder) | {"part": options.part, "fallbacks": list(lost)}
    where = options.config or "the model's own data"
    about |= {"title": f"{name} on {len(samples)} photos ({options.part} of {where})"}
    return Asked(loaded, folder, samples, settings, answers, about)


def of_file(options: Namespace) -> Found:
    """A submission's rows beside the truth for the same photos.

    Raises:
        UserError: it is no submission, or none of its photos is in the truth.
    """
    where = options.truth or options.config
    found, truth = read(Path(options.predictions)), read_truth(where, options.part)
    named = set(found.names)
    samples = [sample for sample in truth if sample.name in named]
    if not samples:
        raise UserError(f"{options.predictions}: none of its photos is in {where}; check both for img_name")
    if len(samples) < max(len(truth), len(found.names)):
        counts = f"{len(found.names)} predictions and {len(truth)} photos"
        print(f"{counts} have {len(samples)} names in common; these are scored", file=sys.stderr)
    answers = from_submission(found, samples)
    about = {"title": f"{options.predictions} on {len(samples)} photos of {where}"}
    return Found(options.predictions, answers, samples, about, [])


def from_submission(found: Submission, samples: Sequence[Sample]) -> "Answers":
    """A submission's rows for photos that it all names, beside the truth."""
    from src.learning.answers import Answers

    place = {name: i for i, name in enumerate(found.names)}
    at = [place[sample.name] for sample in samples]
    return Answers(
        names=[sample.name for sample in samples],
        sources=[sample.source for sample in samples],
        mos=[found.mos[i] if found.mos else math.nan for i in at],
        mos_true=[math.nan if sample.mos is None else sample.mos for sample in samples],
        captions=[found.comments[i] if found.comments else "" for i in at],
        references=[list(sample.captions) for sample in samples],
    )


def read_truth(truth: str, part: str) -> list[Sample]:
    """Labelled photos of a table like train.csv, or of one part of an experiment's data.

    Raises:
        UserError: neither was named, or it cannot be read.
    """
    if not truth:
        raise UserError("--truth: name a table with mos or comments, or an experiment's YAML")
    path = Path(truth)
    if path.suffix in (".yaml", ".yml"):
        return part_of(load_config(path), part)
    from src.data.read import read_source

    return read_source(SourceConfig(format="samsung", path=str(path.parent), captions=path.name, name=path.stem))


def part_of(config: Config, part: str) -> list[Sample]:
    """The photos of train, val or test as the config splits them.

    Raises:
        UserError: that part is empty, or none of its photos has a label.
    """
    from src.data.read import given_splits, read_all
    from src.data.split import parts_of, split_photos

    samples = read_all(config.data)
    found = parts_of(samples, split_photos(samples, config.data, given_splits(config.data)), part)
    if not any(sample.captions or sample.mos is not None for sample in found):
        kind = "labelled photos" if found else "photos"
        raise UserError(f"--part {part}: the split has no {kind} there; choose another part or set data.{part}")
    return found


def score_sources(answers: "Answers", with_meteor: bool = True) -> dict[str, "Scores"]:
    """All scores with intervals: of all photos, and of each source where there are several."""
    from src.scoring.meteor import meteor_if_there

    sources = sorted(set(answers.sources))
    groups = {ALL: list(range(len(answers)))}
    if len(sources) > 1:
        groups |= {one: [i for i, source in enumerate(answers.sources) if source == one] for one in sources}
    with meteor_if_there(with_meteor and any(answers.captions)) as meteor:
        return {name: score_rows(answers, rows, meteor) for name, rows in groups.items()}


def score_rows(answers: "Answers", rows: list[int], meteor: "Meteor | None") -> "Scores":
    """Scores of some photos. How varied captions are is told of the photos that were captioned."""
    return measure_rows(answers, rows, meteor, intervals=True)[0]


def measure_rows(
    answers: "Answers", rows: Sequence[int], meteor: "Meteor | None", intervals: bool = False
) -> "tuple[Scores, Drawn]":
    """As score_rows, and also what gives the scores of any choice of these photos (report.measure)."""
    from src.scoring.report import measure, score_photos

    names, captions = [answers.names[i] for i in rows], [answers.captions[i] for i in rows]
    found, draw = measure(
        names=names,
        mos=np.array([answers.mos[i] for i in rows]),
        mos_true=np.array([answers.mos_true[i] for i in rows]),
        candidates=captions,
        references=[answers.references[i] for i in rows],
        meteor=meteor,
        intervals=intervals,
    )
    captioned = [caption for caption in captions if caption]
    if len(captioned) < len(captions):
        variety = score_photos(names=[""] * len(captioned), candidates=captioned)
        found.scores.update(variety.scores)
    return found, draw


def table(scores: dict[str, dict[str, "Score"]]) -> str:
    """Scores as aligned lines, a column for each group of photos, 95 % intervals in brackets."""
    groups, names = list(scores), list(dict.fromkeys(name for group in scores.values() for name in group))
    rows = [["score", *groups]]
    rows += [[name, *(cell(scores[group].get(name)) for group in groups)] for name in names]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def cell(score: "Score | None") -> str:
    """0.7421 [0.7011, 0.7790]"""
    if score is None:
        return "-"
    value = f"{score.value:.4f}" if not score.value.is_integer() or abs(score.value) < 2 else f"{score.value:.0f}"
    return value if score.low is None else f"{value} [{score.low:.4f}, {score.high:.4f}]"


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


def known(value: Any) -> Any:
    """The value, or None for a NaN, which JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def log_scores(run_id: str, part: str, scores: dict[str, "Score"]) -> None:
    """Adds the scores to a run in MLflow as eval/PART/SCORE.

    Raises:
        UserError: the model is of no run in MLflow.
    """
    if not run_id:
        raise UserError("--log: the model folder is of no run in MLflow; leave it out")
    from src.runs import open_client

    client = open_client()
    for name, score in scores.items():
        client.log_metric(run_id, f"eval/{part}/{name}", score.value)


if __name__ == "__main__":
    run_command(main)
