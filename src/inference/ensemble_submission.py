"""Several submissions as one submission."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import Namespace

from src.common.errors import UserError
from src.common.files import sha256
from src.inference.blending import blend_mos, consensus_captions
from src.inference.submission import MOS_RANGE, Submission, matches_json, read_submission


def ensemble_submissions(paths: list[Path], options: Namespace) -> tuple[Submission, dict[str, Any]]:
    """Submissions on disk as one, and its provenance.

    Raises:
        UserError: fewer than two, a file that is no submission, or one for other images.
    """
    if len(paths) < 2:
        raise UserError("--submissions: name at least two")
    members = [read_submission(path) for path in paths]
    for path in paths:
        if matches_json(path) is False:
            print(f"{path}: was changed after its json was written", file=sys.stderr)
    blended = blend_submissions(members, [str(path) for path in paths], options.mos, options.outliers)
    origins = [member_origin(path) for path in paths]
    return blended, {"members": origins, "join": options.mos, "comments": "consensus", "mos_range": mos_span(members)}


def member_origin(path: Path) -> dict[str, Any]:
    """A member's file, its hash, and its run where its json names it."""
    beside = path.with_suffix(".json")
    facts = json.loads(beside.read_text(encoding="utf-8")) if matches_json(path) else {}
    return {"file": str(path), "sha256": sha256(path), "run": facts.get("run", ""), "model": facts.get("model", "")}


def blend_submissions(
    members: Sequence[Submission], labels: Sequence[str], mos: str = "mean", outliers: float = 0.0
) -> Submission:
    """Submissions as one, in the first one's order. A member may lack mos or comments; the others then decide.

    Raises:
        UserError: members are for different images; `labels` name them.
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


def row_order(names: Sequence[str], order: Sequence[str], label: str) -> list[int]:
    """The row among `names` of each image of `order`.

    Raises:
        UserError: the two do not hold the same images.
    """
    rows = {name: i for i, name in enumerate(names)}
    if missing := [name for name in order if name not in rows]:
        example = f"{len(missing)} photos of the first one, such as {missing[0]}"
        raise UserError(f"{label}: lacks {example}; join submissions for the same photos")
    if len(names) != len(order):
        extra = sorted(set(names) - set(order)) or ["one that is named twice"]
        remedy = "join submissions for the same photos"
        raise UserError(f"{label}: has photos that the first one lacks, such as {extra[0]}; {remedy}")
    return [rows[name] for name in order]


def mos_span(members: Sequence[Submission]) -> tuple[float, float]:
    """The challenge's range, widened to the members' values: other data have other units."""
    values = [value for member in members for value in member.mos or []]
    return min([MOS_RANGE[0], *values]), max([MOS_RANGE[1], *values])
