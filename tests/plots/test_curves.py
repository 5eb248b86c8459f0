"""Curves of losses and scores."""

from src.plots.curves import plot_curve_panels, plot_curves
from tests.plots.drawing import draw


def test_curves_differ_without_colour() -> None:
    figure = plot_curves({name: [(0, 1.0), (1, 0.5)] for name in "abcd"}, y="loss")
    lines = figure.axes[0].lines
    assert len({line.get_linestyle() for line in lines}) == 4
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == list("abcd")  # type: ignore[union-attr]
    draw(figure)
    draw(plot_curves({}))


def test_each_panel_holds_its_own_series() -> None:
    figure = plot_curve_panels({"loss": {"train": [(0, 2.0)], "val": [(0, 3.0)]}, "plcc": {"run": [(0, 0.5)]}})
    assert [axes.get_title() for axes in figure.axes] == ["loss", "plcc"]
    assert [[line.get_label() for line in axes.lines] for axes in figure.axes] == [["train", "val"], ["run"]]
    draw(figure)
    assert len(plot_curve_panels({}).axes) == 1
