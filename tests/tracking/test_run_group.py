"""Groups by name and folder, their members, and out-of-fold tables as text."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from src.common.errors import UserError
from src.tracking.finished_runs import MODEL_FILES, RunGroup
from src.tracking.run_group import OOF_COLUMNS, group_members, read_oof, write_group, write_oof
from src.tracking.run_registry import find_model

MEMBERS = [f"both-fold{fold}-seed{seed}" for fold in range(2) for seed in range(2)]


def make_run(folder: Path) -> Path:
    """A folder that passes for a run's, with a model."""
    (folder / "model").mkdir(parents=True)
    for file in MODEL_FILES:
        (folder / "model" / file).touch()
    return folder / "model"


@pytest.fixture
def group(elsewhere: Path) -> RunGroup:
    for name in MEMBERS:
        make_run(Path("runs", name))
    made = RunGroup(Path("runs/both"), "both", 2, 2, MEMBERS)
    write_group(made)
    return made


def test_a_group_is_its_members_by_name_and_by_folder(group: RunGroup) -> None:
    folders = [Path("runs", name, "model") for name in MEMBERS]
    assert group_members("both") == group_members("runs/both") == folders
    assert group_members(MEMBERS[1]) == [folders[1]]
    Path("runs").rename("moved")
    assert group_members("moved/both") == [Path("moved", name, "model") for name in MEMBERS]


def test_a_sweep_stands_for_the_folds_of_its_best(group: RunGroup) -> None:
    Path("runs/sweep-both").mkdir()
    Path("runs/both").rename("runs/both-best")
    assert len(group_members("both")) == 4


def test_what_is_no_whole_group_is_one_line(group: RunGroup) -> None:
    with pytest.raises(UserError, match="both: a group of 4 models; name one here, such as both-fold0-seed0"):
        find_model("both")
    Path("runs", MEMBERS[2]).rename("gone")
    with pytest.raises(UserError, match=r"group.json: its run both-fold1-seed0 has no model; give the .* again"):
        group_members("both")
    file = Path("runs/both/group.json")
    for damaged in ("{", json.dumps({"format": 1}), json.dumps(json.loads(file.read_text()) | {"format": 2})):
        file.write_text(damaged)
        with pytest.raises(UserError, match=r"group.json: is damaged, or no group of format 1"):
            group_members("both")


def test_an_out_of_fold_table_reads_as_it_was_written(elsewhere: Path) -> None:
    rows = [
        ("a", "0213074526", 0, 0, 5.123456789, 'a "sharp", calm photo', 5.5),
        ("a", "1e5", 1, 7, math.nan, "nan", math.nan),
        ("b", "사진", 1, 7, 3.0, "", 2.0),
    ]
    table = pd.DataFrame(rows, columns=OOF_COLUMNS)
    write_oof(Path("runs/x"), table)
    pd.testing.assert_frame_equal(read_oof(Path("runs/x")), table)
    Path("runs/x/oof.csv").write_text("img_name,mos\na,1\n")
    with pytest.raises(UserError, match="must have the columns source,img_name,fold"):
        read_oof(Path("runs/x"))
