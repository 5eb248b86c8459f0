"""Bars of scores and tables of ranks."""

from src.plots.ranking import plot_rank_table, plot_score_bars
from tests.plots.drawing import draw


def test_the_first_model_is_on_top_with_its_interval() -> None:
    figure = plot_score_bars({"a": (0.5, 0.4, 0.6), "b": (0.7, None, None)}, "plcc")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]
    assert [list(line.get_xdata()) for line in axes.lines] == [[0.4, 0.6]]
    draw(figure)


def test_each_rank_has_its_percentage() -> None:
    figure = plot_rank_table({"a": [0.75, 0.25], "b": [0.25, 0.75]}, "public")
    assert [text.get_text() for text in figure.axes[0].texts] == ["75%", "25%", "25%", "75%"]
    draw(figure)
