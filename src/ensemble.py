"""python -m src.ensemble: several submissions, or several models, into one submission."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import Namespace

from src.command import Parser, make_parser
from src.config import AtLeast0
from src.errors import FALLBACK, UserError, run_command
from src.files import sha256
from src.predict import (
    about_answers,
    about_model,
    add_model_options,
    add_photo_options,
    check_style_used,
    complete,
    find_photos,
    load_model,
    make_settings,
)
from src.submission import RANGE, Submission, check_output, matches, read, write

FEW = 10  # photos below which document frequencies, and so CIDEr-D, say nothing


def main(args: Sequence[str] | None = None) -> int:
    """Reads the command line, joins, and says what was written. 3: some photos could not be read."""
    parser = make_options()
    options = parser.parse_args(args)
    output = Path(options.output)
    check_output(output)
    if bool(options.submissions) == bool(options.models):
        raise UserError("give either --submissions A.csv B.csv ... or --models RUN RUN ... with --data PHOTOS")
    if options.submissions:
        joined, facts = join_files([Path(name) for name in options.submissions], options)
    else:
        joined, facts = join_models(parser, args)
    write(output, joined, {**facts, "join": options.mos, "outliers": options.outliers}, facts["mos_range"])
    print(f"wrote {output} and {output.with_suffix('.json')}: {len(joined.names)} photos")
    print(f"next: python -m src.evaluate --predictions {output} --truth TABLE.csv")
    return FALLBACK if facts.get("fallbacks") else 0


def make_options() -> Parser:
    """The command's options."""
    parser = make_parser("ensemble", "Joins several submissions, or several models, into one submission.", config=False)
    parser.add_argument("--submissions", nargs="+", default=[], help="submissions to join; the best one first")
    about = "models to join: folders, run names or ids, or best; where they share a vocabulary, captions come from"
    about += " their mean probabilities word by word, else by vote"
    parser.add_argument("--models", nargs="+", default=[], help=about)
    parser.add_argument("--output", type=str, required=True, help="the submission to write, submissions/X.csv")
    about = "mean of the mos, or of their ranks (where scales differ)"
    parser.add_argument("--mos", choices=["mean", "rank"], default="mean", help=about)
    about = "leave out of a photo's mos those more than this many quartile ranges outside the quartiles (1.5, say);"
    about += " 0: none"
    parser.add_argument("--outliers", type=AtLeast0, default=0.0, help=about)
    add_photo_options(parser)
    add_model_options(parser, "style of the captions, by data set; default: the challenge's, where a model knows it")
    return parser


def join_models(parser: Parser, args: Sequence[str] | None) -> tuple[Submission, dict[str, Any]]:
    """Several models' joint answers, and what its json says of them.

    Raises:
        UserError: fewer than two, no photos, or a model that cannot be found.
    """
    from src.joint import answer_together, combined, share_words

    options = parser.parse_args(args)
    if len(options.models) < 2:
        raise UserError("--models: name at least two")
    samples = find_photos(options.data, options.images, options.sample)
    found = [load_model(name) for name in options.models]
    members = [loaded for loaded, _ in found]
    settings = [make_settings(parser, args, loaded) for loaded in members]
    check_style_used(options.style, settings)
    answers, failed = answer_together(members, samples, settings, options.mos, options.outliers)
    joined, lost = complete(answers, failed, members, combined(settings))
    facts = {
        **about_answers(options.data, members, samples, combined(settings), lost),
        "members": [about_model(loaded, folder) for loaded, folder in found],
        "comments": "mean probabilities" if share_words(members) else "consensus",
    }
    return joined, facts


def join_files(paths: list[Path], options: Namespace) -> tuple[Submission, dict[str, Any]]:
    """Submissions on disk as one, and what its json says of them.

    Raises:
        UserError: fewer than two, a file that is no submission, or one for other photos.
    """
    if len(paths) < 2:
        raise UserError("--submissions: name at least two")
    members = [read(path) for path in paths]
    for path in paths:
        if matches(path) is False:
            print(f"{path}: is not the file that its json describes; it was changed since", file=sys.stderr)
    joined = join(members, [str(path) for path in paths], options.mos, options.outliers)
    facts = {"members": [origin(path) for path in paths], "comments": "consensus", "mos_range": span(members)}
    return joined, facts


def origin(path: Path) -> dict[str, Any]:
    """A member's file, its hash, and its run where its json names one."""
    beside = path.with_suffix(".json")
    facts = json.loads(beside.read_text(encoding="utf-8")) if matches(path) else {}
    return {"file": str(path), "sha256": sha256(path), "run": facts.get("run", ""), "model": facts.get("model", "")}


def join(members: Sequence[Submission], labels: Sequence[str], mos: str = "mean", outliers: float = 0.0) -> Submission:
    """Submissions as one, in the first one's order. A member may lack mos or comments; the others then decide.

    Raises:
        UserError: members are for different photos; `labels` name them.
    """
    names = members[0].names
    rows = [order(member.names, names, label) for member, label in zip(members, labels, strict=True)]
    values = [[m.mos[i] for i in at] for m, at in zip(members, rows, strict=True) if m.mos is not None]
    captions = [[m.comments[i] for i in at] for m, at in zip(members, rows, strict=True) if m.comments is not None]
    return Submission(
        names,
        join_mos(np.array(values), mos, outliers).tolist() if values else None,
        vote(captions) if captions else None,
    )


def order(names: Sequence[str], wanted: Sequence[str], label: str) -> list[int]:
    """Where each wanted photo stands among `names`.

    Raises:
        UserError: the two do not hold the same photos.
    """
    known = {name: i for i, name in enumerate(names)}
    lost = [name for name in wanted if name not in known]
    if lost:
        raise UserError(f"{label}: lacks {len(lost)} photos of the first one, such as {lost[0]}; join like with like")
    if len(names) != len(wanted):
        over = sorted(set(names) - set(wanted)) or ["one that is named twice"]
        raise UserError(f"{label}: has photos that the first one lacks, such as {over[0]}; join like with like")
    return [known[name] for name in wanted]


def span(members: Sequence[Submission]) -> tuple[float, float]:
    """The challenge's range, widened to what the members hold: other data have other units."""
    values = [value for member in members for value in member.mos or []]
    return min([RANGE[0], *values]), max([RANGE[1], *values])


def join_mos(values: np.ndarray, how: str = "mean", outliers: float = 0.0) -> np.ndarray:
    """One mos a photo, in the members' units.

    Args:
        values: [M, P], M members.
        how: mean; or rank: the mean of each photo's ranks, where members' scales differ. It then gets the value that
            stands at that place, on average over the members, in the sorted mos.
        outliers: see `average`.

    Returns:
        [P].
    """
    if how == "mean":
        return average(values, outliers)
    from scipy.stats import rankdata

    rank = average(rankdata(values, axis=1), outliers)
    typical = np.sort(values, axis=1).mean(axis=0)
    return np.interp(rank, np.arange(1, values.shape[1] + 1), typical)


def average(values: np.ndarray, outliers: float = 0.0) -> np.ndarray:
    """Mean over members [M, P] -> [P], without what lies outside Tukey's fences where `outliers` is not 0.

    The fences are `outliers` times the range between the quartiles away from them (Tukey 1977 takes 1.5).
    """
    if not outliers:
        return values.mean(axis=0)
    low, high = np.quantile(values, [0.25, 0.75], axis=0)
    reach = outliers * (high - low)
    kept = (values >= low - reach) & (values <= high + reach)
    kept |= ~kept.any(axis=0)  # two members and narrow fences: neither is nearer the truth
    return np.where(kept, values, 0).sum(axis=0) / kept.sum(axis=0)


def vote(captions: Sequence[Sequence[str]]) -> list[str]:
    """For each of P photos, of the M captions proposed, the one that agrees best with the others; the first of equals.

    With two members nobody can outvote the other: the first one's are taken.
    """
    if len(captions) < 3:
        return list(captions[0])
    best = agreement(captions).round(9).argmax(axis=0)
    return [captions[member][photo] for photo, member in enumerate(best)]


def agreement(captions: Sequence[Sequence[str]]) -> np.ndarray:
    """Mean CIDEr-D of each caption against the other members' captions of its photo: [M, P].

    Mean ROUGE-L for fewer than FEW photos, which have no document frequencies to speak of.
    """
    from src.scoring.captions import cider_d, rouge_l
    from src.scoring.ptb import tokenize

    words = [tokenize(list(member)) for member in captions]
    score = cider_d if len(captions[0]) >= FEW else rouge_l
    others = [words[:i] + words[i + 1 :] for i in range(len(words))]
    pairs = zip(words, others, strict=True)
    return np.stack(
        [score(own, [list(one) for one in zip(*rest, strict=True)], tokenized=True)[1] for own, rest in pairs]
    )


if __name__ == "__main__":
    run_command(main)
