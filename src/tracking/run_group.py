"""A group: the runs of one experiment on its folds and with several seeds, usable wherever a model's name is.

Its folder runs/X/ holds group.json, with the names of its runs, and oof.csv, their out-of-fold predictions.
"""

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from src.common.errors import UserError
from src.common.files import atomic_write, write_text
from src.tracking.finished_runs import GROUP, GROUP_FORMAT, RunGroup, find_group, is_model_folder
from src.tracking.run_registry import find_model

OOF, OOF_SCORES = "oof.csv", "oof_scores.json"
OOF_COLUMNS = ["source", "img_name", "fold", "seed", "mos", "comments", "mos_true"]


def group_members(name: str) -> list[Path]:
    """The model folders behind a name: those of a group's runs, by fold and then seed; of a plain model its own.

    Args:
        name: of a group, its folder, or a sweep whose best configuration was trained on folds; else a model's, as
            find_model takes it.

    Raises:
        UserError: no group or model has this name, or a run of the group is gone.
    """
    group = find_group(name)
    return [member_model(group, member) for member in group.members] if group else [find_model(name)]


def member_model(group: RunGroup, member: str) -> Path:
    """The model folder of a group's run: beside the group's folder, else wherever MLflow has it.

    Raises:
        UserError: it is nowhere.
    """
    beside = group.folder.parent / member / "model"
    if is_model_folder(beside):
        return beside
    try:
        return find_model(member)
    except UserError as error:
        remedy = "give the group's training command again"
        raise UserError(f"{group.folder / GROUP}: its run {member} has no model; {remedy}") from error


def write_group(group: RunGroup) -> None:
    """Writes a group's file into its folder."""
    content = {key: value for key, value in asdict(group).items() if key != "folder"}
    write_text(group.folder / GROUP, json.dumps({"format": GROUP_FORMAT, **content}, indent=1) + "\n")


def write_oof(folder: Path, table: pd.DataFrame) -> None:
    """Writes out-of-fold predictions into a group's folder, see `write_oof_file`."""
    write_oof_file(folder / OOF, table)


def write_oof_file(path: Path, table: pd.DataFrame) -> None:
    """Writes out-of-fold predictions.

    Args:
        path: of the file.
        table: OOF_COLUMNS, one row an image and seed; NaN or empty where a head or a label is missing.
    """
    with atomic_write(path) as part:
        table[OOF_COLUMNS].to_csv(part, index=False, encoding="utf-8", lineterminator="\n")


def read_oof(folder: Path) -> pd.DataFrame:
    """The out-of-fold predictions of a group's folder, see `read_oof_file`."""
    return read_oof_file(folder / OOF, "give the group's training command again")


def read_oof_file(path: Path, remedy: str) -> pd.DataFrame:
    """Out-of-fold predictions, as `write_oof_file` takes them; mos and mos_true in the data's units.

    Raises:
        UserError: the file is missing or no such table.
    """
    text = dict.fromkeys(["source", "img_name", "comments"], str)
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values={"mos": "", "mos_true": ""}, dtype=text)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read; {remedy}") from error
    if list(table.columns) != OOF_COLUMNS:
        raise UserError(f"{path}: must have the columns {','.join(OOF_COLUMNS)}; {remedy}")
    try:
        return table.astype({"mos": float, "mos_true": float})
    except ValueError as error:
        raise UserError(f"{path}: {error}; {remedy}") from error
