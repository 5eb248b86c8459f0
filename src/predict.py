"""python -m src.predict: photos and a model to a submission, checked before it is written."""

import math
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256 as sha
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from src.command import Parser, make_parser
from src.config import Count, GenerationConfig, Whole, to_dict
from src.data.sample import Sample
from src.errors import FALLBACK, UserError, run_command
from src.files import sha256
from src.outbox import RUN_ID
from src.submission import COMMENTS, MOS, NAME, RANGE, Submission, check_output, write

if TYPE_CHECKING:
    from src.answering import Settings
    from src.learning.answers import Answers
    from src.model.folder import Loaded

DESCRIPTION = "Answers photos with a trained model and writes a submission, checked before it replaces an older one."


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, answers, writes, and says what was written. 3: some photos could not be read."""
    parser = make_options()
    options = parser.parse_args(args)
    output = Path(options.output)
    check_output(output)
    samples = find_photos(options.data, options.images, options.sample)
    loaded, folder = load_model(options.model)
    settings = make_settings(parser, args, loaded)
    check_style_used(options.style, [settings])
    began = time.perf_counter()
    if options.workers:
        lost, kept = predict_spread(loaded, folder, samples, settings, options)
    else:
        kept = 0
        submission, lost = predict(loaded, samples, settings)
        origin = {**about_model(loaded, folder), **about_answers(options.data, [loaded], samples, settings, lost)}
        write(output, submission, origin, mos_range([loaded]))
    rate = (len(samples) - kept) / (time.perf_counter() - began)
    photos = f"{len(samples)} photos" + (f", {kept} of them answered before" if kept else "")
    print(f"wrote {output} and {output.with_suffix('.json')}: {photos}, {rate:.1f} photos/s")
    print(f"next: hand {output.name} in, or: python -m src.ensemble --submissions {output} OTHER.csv --output ...")
    return FALLBACK if lost else 0


def make_options() -> Parser:
    """The command's options."""
    parser = make_parser("predict", DESCRIPTION, config=False)
    parser.add_argument("--model", type=str, required=True, help="model folder, run name, run id, or best")
    parser.add_argument("--output", type=str, required=True, help="the submission to write: submissions/X.csv")
    add_photo_options(parser)
    parser.add_argument(
        "--columns", type=str, default="", help="img_name,comments or img_name,mos: leave the other column out"
    )
    add_model_options(parser, "style of the captions, by data set; default: the challenge's, where the model knows it")
    about = "processes of Ray, here or on the cluster of RAY_ADDRESS; cut short, the same command goes on. 0: none"
    parser.add_argument("--workers", type=Whole, default=0, help=about)
    return parser


def add_photo_options(parser: Parser) -> None:
    """Options that say which photos."""
    about = "photos: a table with img_name and perhaps img_path (test.csv), a .txt with a name a line, or a folder"
    parser.add_argument("--data", type=str, default="", help=about)
    parser.add_argument("--images", type=str, default="", help="folder of the photos, where the table names no paths")
    about = "the sample submission: names and order of the rows; default: sample_submission.csv beside the table"
    parser.add_argument("--sample", type=str, default="", help=about)


def add_model_options(parser: Parser, style: str) -> None:
    """Options that say how a model answers; `style` explains that option."""
    parser.add_argument("--style", type=str, default="", help=style)
    parser.add_argument("--batch-size", type=Count, default=32, help="photos at a time: less needs less memory")
    parser.add_argument("--cache", type=bool, default=False, help="keep features in the cache for the next time")
    parser.add_class_arguments(GenerationConfig, "generate")


def load_model(name: str) -> tuple["Loaded", Path]:
    """The model of a folder, run name, run id or `best`, and its folder.

    Raises:
        UserError: there is none.
    """
    from src.data.pairs import warn_of_model
    from src.model.folder import load
    from src.runs import find_model

    folder = find_model(name)
    loaded = load(folder)
    warn_of_model(name, loaded.config.data)
    return loaded, folder


def make_settings(parser: Parser, args: Sequence[str] | None, loaded: "Loaded", labelled: bool = False) -> "Settings":
    """How to answer: as the model was trained to, but for what the command line says.

    Args:
        parser: of the command.
        args: its command line.
        loaded: the model.
        labelled: answer only what there is a label for, each photo in the style of its own source.

    Returns:
        The settings, without a style where no captions are written.

    Raises:
        UserError: the model does not know the style, or cannot fill the columns.
    """
    from src.answering import Settings, check_style, default_style

    parser.set_defaults({f"generate.{key}": value for key, value in asdict(loaded.config.generate).items()})
    options = parser.parse_args(args)
    columns = choose_columns(options.get("columns", ""), loaded)
    style = ""
    if COMMENTS in columns:
        style = options.style or ("" if labelled else default_style(loaded))
        if style:
            check_style(loaded, style)
    generation = GenerationConfig(**options.generate.as_dict())
    asked = {"mos": MOS in columns, "captions": COMMENTS in columns}
    return Settings(generation, style, options.batch_size, options.cache, labelled, **asked)


def check_style_used(style: str, settings: Sequence["Settings"]) -> None:
    """Raises UserError where a style is asked for and none of the models that answer together writes captions."""
    if style and not any(one.captions for one in settings):
        raise UserError("--style: no captions are written; leave it out")


def find_photos(data: str, images: str = "", sample: str = "") -> list[Sample]:
    """The photos to answer, in the sample submission's order.

    Args:
        data: a table, a list of names or a folder.
        images: the folder of the photos; empty: as the table says.
        sample: the sample submission; empty: sample_submission.csv beside the table, if it names the same photos.

    Raises:
        UserError: nothing there, or the sample names a photo that is not among them.
    """
    from src.data.table import index_photos, read_photos

    if not data:
        raise UserError("--data: name a table such as test.csv, a list of photo names or a folder of photos")
    table = Path(data)
    samples = read_photos(table)
    if images:
        folder = Path(images)
        if not folder.is_dir():
            raise UserError(f"--images: {folder} is no folder; name the one that holds the photos")
        known = index_photos(folder)
        samples = [replace(one, path=known.get(one.name, folder / one.name)) for one in samples]
    beside = table.parent / "sample_submission.csv"
    if sample:
        names = [one.name for one in read_photos(Path(sample))]
        return in_order(samples, names, sample, index_photos(table) if table.is_dir() else {})
    if table.suffix == ".csv" and beside.is_file():
        names = [one.name for one in read_photos(beside)]
        if set(names) == {one.name for one in samples}:
            return in_order(samples, names, str(beside))
        print(f"{beside}: names other photos than {data}; rows keep the order of {data}", file=sys.stderr)
    return samples


def in_order(samples: list[Sample], names: list[str], where: str, also: dict[str, Path] | None = None) -> list[Sample]:
    """The samples that a sample submission names, in its order.

    Args:
        samples: the photos.
        names: in the sample submission.
        where: the sample submission.
        also: what else photos are called, such as their names without suffix: name -> path.

    Raises:
        UserError: it names a photo that is not among them.
    """
    paths = {one.path: one for one in samples}
    known = {name: replace(paths[path], name=name) for name, path in (also or {}).items() if path in paths}
    known |= {one.name: one for one in samples}
    if lost := [name for name in names if name not in known]:
        raise UserError(f"{where}: names {len(lost)} photos that --data lacks, such as {lost[0]}; check both")
    chosen = [known[name] for name in names]
    if over := len(paths.keys() - {one.path for one in chosen}):
        print(f"{where}: does not name {over} of the photos; they are left out", file=sys.stderr)
    return chosen


def choose_columns(wanted: str, loaded: "Loaded") -> list[str]:
    """The columns to write: those asked for, else those that the model has heads for.

    Raises:
        UserError: an unknown column, or one that the model cannot fill.
    """
    model = loaded.config.model
    able = [NAME] + [MOS] * model.mos.enabled + [COMMENTS] * model.decoder.enabled
    columns = [word.strip() for word in wanted.split(",")] if wanted else able
    if columns not in ([NAME, MOS, COMMENTS], [NAME, COMMENTS], [NAME, MOS]):
        raise UserError(f"--columns {wanted}: give img_name,mos,comments or img_name,comments or img_name,mos")
    for column in columns:
        if column not in able:
            raise UserError(f"--columns: this model gives no {column}; it gives {','.join(able)}")
    return columns


def predict(loaded: "Loaded", samples: list[Sample], settings: "Settings") -> tuple[Submission, dict[str, str]]:
    """A model's submission for photos, in their order; see `complete`."""
    from src.answering import answer_photos

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
    from src.spread import answer_spread, clear

    if settings.cache:
        raise UserError(f"--workers {options.workers}: they keep no features; leave --cache out")
    output = Path(options.output)
    spread, parts = answer_spread(folder, samples, settings, options.workers, output)
    submission, lost = complete(spread.answers, spread.failed, [loaded], settings)
    about = about_answers(options.data, [loaded], samples, settings, lost, spread.hashes)
    write(output, submission, {**about_model(loaded, folder), **about}, mos_range([loaded]))
    clear(parts, output)
    return lost, spread.kept


def complete(
    answers: "Answers", failed: dict[str, str], members: Sequence["Loaded"], settings: "Settings"
) -> tuple[Submission, dict[str, str]]:
    """A submission of models' answers, all rows filled and mos in range.

    Args:
        answers: of the models.
        failed: why photos could not be read, by name.
        members: the models, which decide the columns and what a missing answer becomes.
        settings: how they answered.

    Returns:
        The submission and, by name, what was wrong with photos whose rows hold a fallback.
    """
    fallback = fallback_of(members, settings)
    lost = fill(answers, failed, fallback, settings)
    low, high = mos_range(members)
    mos = [min(max(value, low), high) for value in answers.mos] if fallback.mos is not None else None
    return Submission(answers.names, mos, answers.captions if fallback.comment is not None else None), lost


@dataclass
class Fallback:
    """What a row holds where there is no answer: training mean and commonest comment; None where none is asked for."""

    mos: float | None
    comment: str | None


def fallback_of(members: Sequence["Loaded"], settings: "Settings") -> Fallback:
    """The fallback of models that answer together: their mean, and the first one's comment in the style."""
    means = [one.meta["mos_mean"] for one in members if one.config.model.mos.enabled and settings.mos]
    told = [one.meta for one in members if one.config.model.decoder.enabled and settings.captions]
    comments = [meta.get("comments", {}).get(settings.style) or meta["comment"] for meta in told]
    return Fallback(sum(means) / len(means) if means else None, comments[0] if comments else None)


def fill(answers: "Answers", failed: dict[str, str], fallback: Fallback, settings: "Settings") -> dict[str, str]:
    """Puts the fallback where an answer is missing that was asked for.

    Returns:
        By name, what was wrong with each such photo, which is also named on stderr.
    """
    lost: dict[str, str] = {}
    for i, name in enumerate(answers.names):
        rated = fallback.mos is not None and not (settings.labelled and math.isnan(answers.mos_true[i]))
        if rated and not math.isfinite(answers.mos[i]):
            answers.mos[i] = fallback.mos or 0.0
            lost[name] = failed.get(name, "the model gives no finite mos")
        described = fallback.comment is not None and not (settings.labelled and not answers.references[i])
        if described and not answers.captions[i].strip():
            answers.captions[i] = fallback.comment or ""
            lost[name] = failed.get(name, "the model gives an empty caption")
    for name, why in lost.items():
        print(f"photo {name}: {why}; its row has the training mean or commonest comment", file=sys.stderr)
    return lost


def mos_range(members: Sequence["Loaded"]) -> tuple[float, float]:
    """What mos may be: the challenge's range, widened to the training data's, whose units may be others."""
    ranges = [RANGE, *(one.meta["mos_range"] for one in members if one.meta.get("mos_range"))]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def relative(folder: Path) -> str:
    """A folder's path from the current one, where it lies within; a submission's origin is read on other machines."""
    here = Path.cwd()
    return str(folder.resolve().relative_to(here) if folder.resolve().is_relative_to(here) else folder)


def about_model(loaded: "Loaded", folder: Path) -> dict[str, Any]:
    """Which model it was: run, config, hashes of its weights and of its training data, validation scores."""
    return {
        "run": loaded.config.track.name,
        "run_id": run_id(folder),
        "model": relative(folder),
        "model_hash": sha256(folder / "model.safetensors"),
        "training_data_hash": loaded.meta.get("data_hash", ""),
        "validation_scores": loaded.meta.get("scores", {}),
        "config": to_dict(loaded.config),
    }


def run_id(folder: Path) -> str:
    """MLflow's id of the run that a model folder is of; empty where it is of none."""
    kept = folder.parent / RUN_ID
    if kept.is_file():
        return kept.read_text(encoding="utf-8").strip()
    return folder.name if re.fullmatch("[0-9a-f]{32}", folder.name) else ""  # fetched from MLflow: named by its run


def about_answers(
    data: str,
    members: Sequence["Loaded"],
    samples: list[Sample],
    settings: "Settings",
    lost: dict[str, str],
    hashes: "list[str | None] | None" = None,
) -> dict[str, Any]:
    """Which photos were answered, and how; their `hashes` where they are known already."""
    from src.data.hashes import photo_hashes

    hashes = hashes or photo_hashes([one.path for one in samples], Path(members[0].config.data.split_dir))
    return {
        "data": data,
        "data_hash": data_hash(samples, hashes),
        "style": settings.style,
        "generate": asdict(settings.generation),
        "mos_range": mos_range(members),
        "fallbacks": list(lost),
    }


def data_hash(samples: list[Sample], hashes: Sequence[str | None]) -> str:
    """SHA-256 over the photos' names and their own SHA-256, in their order."""
    digest = sha()
    for sample, photo in zip(samples, hashes, strict=True):
        digest.update(f"{sample.name}\0{photo}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


if __name__ == "__main__":
    run_command(main)
