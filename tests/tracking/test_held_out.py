"""Predictions that a run or a group left for images that it was not trained on."""

import json
from pathlib import Path

import numpy as np
import pytest

from src.common.errors import UserError
from src.tracking.held_out import blend_table, read_blend, read_held_out
from src.tracking.run_group import write_oof_file


def write_run(folder: Path, names: list[str], references: list[list[str]]) -> None:
    count = len(names)
    columns = {"names": names, "sources": ["s"] * count, "mos": [5.0] * count, "mos_true": [4.0] * count}
    folder.mkdir()
    (folder / "answers.json").write_text(json.dumps(columns | {"captions": names, "references": references}))


def test_a_group_has_the_mean_of_its_seeds_and_its_runs_references(tmp_path: Path) -> None:
    write_run(tmp_path / "g-0", ["00", "1e5"], [["a", "b"], []])
    (tmp_path / "g").mkdir()
    group = {"format": 1, "name": "g", "folds": 1, "seeds": 2, "members": ["g-0", "gone"], "refit": ""}
    (tmp_path / "g/group.json").write_text(json.dumps(group))
    rows = ["source,img_name,fold,seed,mos,comments,mos_true", "s,00,0,0,5.0,nan,4.5", "s,1e5,0,0,,dull,"]
    (tmp_path / "g/oof.csv").write_text("\n".join([*rows, "s,00,0,1,6.0,soft,4.5", "s,1e5,0,1,,,"]) + "\n")
    held_out = read_held_out(tmp_path / "g")
    assert held_out is not None
    assert held_out.images == [("s", "00"), ("s", "1e5")]
    np.testing.assert_array_equal(held_out.mos, [5.5, np.nan])
    np.testing.assert_array_equal(held_out.mos_true, [4.5, np.nan])
    assert held_out.captions == ["nan", "dull"]
    assert held_out.references == [["a", "b"], []]
    assert held_out.rated == [("s", "00")]


def test_a_run_has_its_validation_part_and_a_folder_without_files_nothing(tmp_path: Path) -> None:
    write_run(tmp_path / "run", ["b", "a", "b"], [["x"], ["y"], ["z"]])  # pairs of a split that leaks
    held_out = read_held_out(tmp_path / "run")
    assert held_out is not None
    assert held_out.images == [("s", "b"), ("s", "a")]
    assert held_out.select([("s", "a")]).references == [["y"]]
    assert read_held_out(tmp_path) is None


def test_a_blends_table_reads_back(tmp_path: Path) -> None:
    images = [("s", "00"), ("s", "a,b")]
    write_oof_file(
        tmp_path / "x.oof.csv", blend_table(images, np.array([0, 1]), np.array([5.25, 6.0]), np.array([5, 6]))
    )
    held_out = read_blend(tmp_path / "x.oof.csv")
    assert held_out.images == images
    np.testing.assert_array_equal(held_out.mos, [5.25, 6.0])
    (tmp_path / "x.oof.csv").write_text("source,img_name,fold,seed,mos,comments,mos_true\ns,a,0,0,high,,5\n")
    with pytest.raises(UserError, match=r"x.oof.csv: .*high.*; blend the models again"):
        read_blend(tmp_path / "x.oof.csv")
