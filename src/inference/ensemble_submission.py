"""Several models or submissions as one submission."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import Namespace

from src.common.errors import UserError
from src.common.files import sha256
from src.config.loader import Parser
from src.data.image_list import find_photos
from src.inference.blending import join_mos, vote
from src.inference.fallbacks import complete
from src.inference.model_loading import load_model
from src.inference.predict_options import check_style_used, make_settings
from src.inference.provenance import about_answers, about_model
from src.inference.submission import RANGE, Submission, matches, read


def join_models(parser: Parser, args: Sequence[str] | None) -> tuple[Submission, dict[str, Any]]:
    """Several models' joint answers, and what its json says of them.

    Raises:
        UserError: fewer than two, no photos, or a model that cannot be found.
    """
    from src.inference.ensemble import answer_together, combined, share_words

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
