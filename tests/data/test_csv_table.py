"""CSV tables against the csv module, and rows and columns that do not fit."""

import csv
from pathlib import Path

import pytest

from src.common.errors import UserError
from src.data.csv_table import read_table


def test_read_table_agrees_with_the_csv_module(tmp_path: Path) -> None:
    rows = [["a", 'says "hi", twice'], ["", "NaN"], ["1e5", "line\nbreak"], ["-0", " spaces "]]
    path = tmp_path / "x.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["img_name", "comments"], *rows])
    assert read_table(path, ["img_name"]).to_numpy().tolist() == rows


@pytest.mark.parametrize("delimiter", ["\t", ";", "|"])
def test_other_separators(tmp_path: Path, delimiter: str) -> None:
    rows = [["a", "one, two; three | four\tfive", "1"]]
    with (tmp_path / "x.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([["img_name", "comments", "mos"], *rows])
    assert read_table(tmp_path / "x.csv", ["img_name"]).to_numpy().tolist() == rows


def test_row_with_too_many_values_is_refused_and_short_ones_are_filled(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("img_name,comments\na\n\nb,x,\n")
    assert read_table(path, []).to_numpy().tolist() == [["a", ""], ["b", "x"]]
    path.write_text("img_name,comments\na,one, two\n")
    with pytest.raises(UserError, match="quote texts with commas"):
        read_table(path, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("img_name,mos\na,1,one\nb,2\n", "row 2 has more fields than the header; quote"),
        ("img_name,mos\na,1\nb,2,two\n", "row 3 has more fields than the header; quote"),
        ("img_name,mos, mos\na,1,2\n", "has 2 columns mos; rename"),
        ("img_name,mos,mos\na,1,2\n", "has 2 columns mos; rename"),
        ('img_name,mos\na,1\nb,"2\nc,3\n', "row 3 is not valid CSV .unexpected end of data.; close its quotes"),
        ('img_name,mos\na,1\nb,"2" 3\n', "row 3 is not valid CSV"),
        (f"img_name,mos\na,1\nb,{'2' * 200_000}\n", "row 3 is not valid CSV .field larger than field limit"),
        ('"img\nname",mos\na,1\n', r"has no column img_name .it has img\\nname, mos.; add it"),
    ],
)
def test_rows_and_columns_that_do_not_fit_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UserError, match=rf"x\.csv: .*{message}") as caught:
        read_table(tmp_path / "x.csv", ["img_name"])
    assert "\n" not in str(caught.value)
    (tmp_path / "x.csv").write_text("img_name,mos,,\na,1,,\n")  # as some spreadsheets save it
    assert read_table(tmp_path / "x.csv", ["img_name"])["mos"].tolist() == ["1"]
