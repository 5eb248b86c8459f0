"""Submissions as files: what is written, read back by other means, and what the check refuses."""

import csv
import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

from src.common.errors import UserError
from src.inference.submission import (
    Submission,
    check_submission,
    check_submission_path,
    matches_json,
    read_submission,
    single_line,
    write_submission,
)

NAMES = ["0213074526", "1e5", "00", "with space", "사진 하나", "NA", "null", 'a,"b"', "true", "-0"]


def submission(comment: str = 'A clear photo, with "soft" light.') -> Submission:
    return Submission(NAMES, [5.0 + i / 7 for i in range(len(NAMES))], [comment] * len(NAMES))


def test_names_survive_and_both_readers_agree(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "X.csv"
    write_submission(path, submission(), {"run": "r"})
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert frame["img_name"].tolist() == [row["img_name"] for row in rows] == NAMES
    assert frame.columns.tolist() == ["img_name", "mos", "comments"]
    assert [float(row["mos"]) for row in rows] == pytest.approx([5.0 + i / 7 for i in range(len(NAMES))], abs=5e-7)
    assert {row["comments"] for row in rows} == {'A clear photo, with "soft" light.'}
    assert not path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert b"\r" not in path.read_bytes()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("two\nlines", "two lines"),
        ("carriage\r\nreturn\u2028and  more ", "carriage return and more"),
        ("nul\x00 and bell\x07!", "nul and bell !"),
        ("half \ud83d emoji", "half ? emoji"),
        ('a "quoted", comma', 'a "quoted", comma'),
        ("한국어 설명", "한국어 설명"),
    ],
)
def test_comments_are_folded_to_one_line(tmp_path: Path, written: str, expected: str) -> None:
    assert single_line(written) == expected
    path = tmp_path / "X.csv"
    write_submission(path, submission(written), {})
    assert set(pd.read_csv(path, dtype=str, keep_default_na=False)["comments"]) == {expected}
    assert len(path.read_text(encoding="utf-8").splitlines()) == len(NAMES) + 1


def test_json_describes_the_csv_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "X.csv"
    write_submission(path, submission(), {"run": "r", "fallbacks": ["00"]})
    facts = json.loads((tmp_path / "X.json").read_text(encoding="utf-8"))
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (facts["run"], facts["fallbacks"], facts["photos"]) == ("r", ["00"], len(NAMES))
    assert {"torch", "timm", "python"} <= facts["versions"].keys()
    assert matches_json(path) is True
    path.write_text("img_name,mos,comments\n")
    assert matches_json(path) is False
    (tmp_path / "X.json").unlink()
    assert matches_json(path) is None


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Submission(["a"], [float("nan")], ["x"]), "no finite number"),
        (Submission(["a"], [float("inf")], ["x"]), "no finite number"),
        (Submission(["a"], [10.2], ["x"]), "outside 0 to 10"),
        (Submission(["a"], [5.0], [" \n"]), "comment is empty"),
        (Submission([""], [5.0], ["x"]), "img_name"),
        (Submission(["a", "b", "a"], [5.0] * 3, ["x"] * 3), "row 4: img_name 'a' is that of row 2 too"),
        (Submission([], [], []), "has no rows"),
        (Submission(["a\udcff"], [5.0], ["x"]), "not UTF-8"),
    ],
)
def test_a_failed_check_leaves_the_old_pair(tmp_path: Path, bad: Submission, message: str) -> None:
    path = tmp_path / "X.csv"
    write_submission(path, submission(), {"run": "old"})
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(UserError, match=message) as error:
        write_submission(path, bad, {"run": "new"})
    assert "\n" not in str(error.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


GOOD = "img_name,mos,comments\n00,5.5,fine\n1e5,6,also fine\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD, ""),
        ("img_name,comments\n00,fine\n1e5,also fine\n", ""),
        (GOOD.replace("img_name", "name"), "columns"),
        (GOOD.replace("img_name", '"img\nname"'), r"has columns img\\nname, mos"),
        (GOOD.replace("mos,comments", "comments,mos"), "columns"),
        (GOOD + "2,5,more\n", "3 rows for 2 photos"),
        ("img_name,mos,comments\n1e5,6,x\n00,5,x\n", "must be '00'"),
        (GOOD.replace("00,", "0,"), "must be '00'"),
        (GOOD.replace("1e5", "100000.0"), "must be '1e5'"),
        (GOOD.replace("fine\n1e5", "fine, sharp\n1e5"), "row 2.*4 fields"),
        (GOOD.replace("5.5", ""), "no finite number"),
        (GOOD.replace("also fine", ""), "row 3.*empty"),
        (GOOD.replace("also fine", "NaN"), "row 3.*word for a missing one"),
        (GOOD.replace("fine\n1e5", '"fine\n1e5'), "row 2 is not valid CSV .unexpected end of data"),
        (GOOD.replace("also fine", "fine " * 40_000), "row 3 is not valid CSV .field larger than field limit"),
        ("\ufeff" + GOOD, "byte order mark"),
        ("", "columns"),
    ],
)
def test_check_finds_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "X.csv"
    path.write_text(text, encoding="utf-8")
    if not message:
        assert len(check_submission(path, ["00", "1e5"])) == 2
        return
    with pytest.raises(UserError, match=message):
        check_submission(path, ["00", "1e5"])


def test_check_refuses_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "X.csv"
    path.write_bytes(GOOD.replace("fine", "fein geschärft").encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        check_submission(path, ["00", "1e5"])


def test_a_line_separator_that_is_none_for_csv(tmp_path: Path) -> None:
    path = tmp_path / "X.csv"
    path.write_text(GOOD.replace("fine", "fi\u2028ne"), encoding="utf-8")
    assert read_submission(path).comments == ["fi\u2028ne", "also fi\u2028ne"]


def test_columns_that_are_left_out(tmp_path: Path) -> None:
    write_submission(tmp_path / "c.csv", Submission(["00"], None, ["x"]), {})
    write_submission(tmp_path / "m.csv", Submission(["00"], [3.0], None), {})
    assert (tmp_path / "c.csv").read_text() == "img_name,comments\n00,x\n"
    assert (tmp_path / "m.csv").read_text() == "img_name,mos\n00,3.000000\n"
    assert read_submission(tmp_path / "c.csv") == Submission(["00"], None, ["x"])
    assert read_submission(tmp_path / "m.csv") == Submission(["00"], [3.0], None)


def test_other_units_have_another_range(tmp_path: Path) -> None:
    write_submission(tmp_path / "X.csv", Submission(["a"], [81.0], ["x"]), {}, mos_range=(0, 100))
    assert read_submission(tmp_path / "X.csv").mos == [81.0]


def test_output_is_looked_at_first(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for name in ("X.json", "X", "folder.csv"):
        with pytest.raises(UserError):
            write_submission(tmp_path / name, submission(), {})
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", Path("/proc")):  # where not even root may write
        with pytest.raises(UserError, match="cannot be (made|written) .*choose another --output"):
            check_submission_path(place / "X.csv")
    check_submission_path(tmp_path / "new" / "X.csv")
    assert not list((tmp_path / "new").iterdir())
