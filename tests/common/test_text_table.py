"""Aligned text."""

import pytest

from src.common.text_table import format_table


def test_columns_are_aligned_to_the_left_or_right_without_spaces_at_the_end() -> None:
    rows = [["score", "value", ""], ["plcc", "0.5", "a"], ["cider_d", "10.25", ""]]
    assert format_table(rows) == "score    value\nplcc     0.5    a\ncider_d  10.25"
    assert format_table(rows, right={1}) == "score    value\nplcc       0.5  a\ncider_d  10.25"


def test_no_rows_are_no_text_and_rows_of_two_lengths_are_refused() -> None:
    assert format_table([]) == ""
    with pytest.raises(ValueError, match="shorter"):
        format_table([["a", "b"], ["c"]])
