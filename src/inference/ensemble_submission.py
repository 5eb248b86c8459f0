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
from src.config.cli import Overrides
from src.data.image_list import find_images
from src.inference.blending import blend_mos, consensus_captions
from src.inference.fallbacks import complete_submission
from src.inference.model_loading import load_model
from src.inference.predict_options import check_style_option, make_predict_options
from src.inference.provenance import model_provenance, prediction_provenance
from src.inference.submission import MOS_RANGE, Submission, matches_json, read_submission


def ensemble_models(options: Namespace, overrides: Overrides) -> tuple[Submission, dict[str, Any]]:
    """Several models' joint answers, and what its json says of them.

    Raises:
        UserError: fewer than two, no photos, or a model that cannot be found.
    """
    from src.inference.ensemble import combined_options, predict_ensemble, share_vocabulary

    if len(options.models) < 2:
        raise UserError("--models: name at least two")
    samples = find_images(options.data, options.images, options.sample)
    found = [load_model(name) for name in options.models]
    members = [loaded for loaded, _ in found]
    settings = [make_predict_options(options, overrides, loaded) for loaded in members]
    check_style_option(options.style, settings)
    answers, failed = predict_ensemble(members, samples, settings, options.mos, options.outliers)
    joined, lost = complete_submission(answers, failed, members, combined_options(settings))
    facts = {
        **prediction_provenance(options.data, members, samples, combined_options(settings), lost),
        "members": [model_provenance(loaded, folder) for loaded, folder in found],
        "comments": "mean probabilities" if share_vocabulary(members) else "consensus",
    }
    return joined, facts


def ensemble_submissions(paths: list[Path], options: Namespace) -> tuple[Submission, dict[str, Any]]:
    """Submissions on disk as one, and what its json says of them.

    Raises:
        UserError: fewer than two, a file that is no submission, or one for other photos.
    """
    if len(paths) < 2:
        raise UserError("--submissions: name at least two")
    members = [read_submission(path) for path in paths]
    for path in paths:
        if matches_json(path) is False:
            print(f"{path}: is not the file that its json describes; it was changed since", file=sys.stderr)
    joined = blend_submissions(members, [str(path) for path in paths], options.mos, options.outliers)
    facts = {
        "members": [member_origin(path) for path in paths],
        "comments": "consensus",
        "mos_range": mos_span(members),
    }
    return joined, facts


def member_origin(path: Path) -> dict[str, Any]:
    """A member's file, its hash, and its run where its json names one."""
    beside = path.with_suffix(".json")
    facts = json.loads(beside.read_text(encoding="utf-8")) if matches_json(path) else {}
    return {"file": str(path), "sha256": sha256(path), "run": facts.get("run", ""), "model": facts.get("model", "")}


def blend_submissions(
    members: Sequence[Submission], labels: Sequence[str], mos: str = "mean", outliers: float = 0.0
) -> Submission:
    """Submissions as one, in the first one's order. A member may lack mos or comments; the others then decide.

    Raises:
        UserError: members are for different photos; `labels` name them.
    """
    names = members[0].names
    rows = [row_order(member.names, names, label) for member, label in zip(members, labels, strict=True)]
    values = [[m.mos[i] for i in at] for m, at in zip(members, rows, strict=True) if m.mos is not None]
    captions = [[m.comments[i] for i in at] for m, at in zip(members, rows, strict=True) if m.comments is not None]
    return Submission(
        names,
        blend_mos(np.array(values), mos, outliers).tolist() if values else None,
        consensus_captions(captions) if captions else None,
    )


def row_order(names: Sequence[str], wanted: Sequence[str], label: str) -> list[int]:
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


def mos_span(members: Sequence[Submission]) -> tuple[float, float]:
    """The challenge's range, widened to what the members hold: other data have other units."""
    values = [value for member in members for value in member.mos or []]
    return min([MOS_RANGE[0], *values]), max([MOS_RANGE[1], *values])
