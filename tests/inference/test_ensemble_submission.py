"""Several submissions as one, through the command."""

import csv
import json
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.ensemble import main
from src.inference.ensemble_submission import blend_submissions
from src.inference.submission import Submission, read_submission, write_submission
from tests.inference.test_blending import captions

NAMES = ["0213074526", "1e5", "00", "with space", "사진"]


def test_members_may_be_in_another_order_or_lack_a_column() -> None:
    first = Submission(NAMES, [1.0, 2.0, 3.0, 4.0, 5.0])
    second = Submission(NAMES[::-1], [6.0, 5.0, 4.0, 3.0, 2.0], [f"c{i}" for i in range(5)])
    joined = blend_submissions([first, second], ["a", "b"])
    assert joined == Submission(NAMES, [1.5, 2.5, 3.5, 4.5, 5.5], ["c4", "c3", "c2", "c1", "c0"])


def test_command_joins_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / f"{i}.csv" for i in range(3)]
    for i, path in enumerate(paths):
        write_submission(path, Submission(NAMES, [4.0 + i] * 5, captions(3, 5)[i]), {"run": f"run{i}"})
    output = tmp_path / "joined.csv"
    assert main(["--submissions", *map(str, paths), "--output", str(output)]) == 0
    with output.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["img_name"] for row in rows] == NAMES
    assert {float(row["mos"]) for row in rows} == {5.0}
    assert all(row["comments"] in [captions(3, 5)[m][i] for m in range(3)] for i, row in enumerate(rows))
    facts = json.loads(output.with_suffix(".json").read_text())
    assert [member["run"] for member in facts["members"]] == ["run0", "run1", "run2"]
    assert "joined.csv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "message"),
    [(["0213074526", "100000", "00", "with space", "사진"], "lacks 1 photos.*1e5"), ([*NAMES, "more"], "more")],
)
def test_other_photos_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    a, b, output = tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.csv"
    write_submission(a, Submission(NAMES, [5.0] * 5), {})
    write_submission(b, Submission(names, [5.0] * len(names)), {})
    output.write_text("old")
    with pytest.raises(UserError, match=message):
        main(["--submissions", str(a), str(b), "--output", str(output)])
    assert output.read_text() == "old"


def test_bad_options(tmp_path: Path) -> None:
    a = tmp_path / "a.csv"
    write_submission(a, Submission(NAMES, [5.0] * 5), {})
    output = ["--output", str(tmp_path / "o.csv")]
    bad = [[], ["--submissions", str(a)], ["--submissions", str(a), str(a), "--outliers", "-1"], ["--mos", "median"]]
    for words in bad:
        with pytest.raises(UserError):
            main([*words, *output])


def test_a_member_that_was_changed_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    write_submission(a, Submission(NAMES, [5.0] * 5), {})
    write_submission(b, Submission(NAMES, [6.0] * 5), {})
    b.write_text(b.read_text().replace("6.0", "7.0"))
    main(["--submissions", str(a), str(b), "--output", str(tmp_path / "c.csv")])
    assert str(b) in capsys.readouterr().err
    assert read_submission(tmp_path / "c.csv").mos == [6.0] * 5
