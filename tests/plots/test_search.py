"""Plots of a hyperparameter search."""

import io

import numpy as np
import pytest

from src.plots.search import (
    ParameterScale,
    plot_importances,
    plot_objective_history,
    plot_parallel_coordinates,
    plot_parameter_scatter,
    plot_pareto_front,
    plot_schedules,
)
from tests.plots.drawing import draw

TRIALS = [{"lr": 1e-4, "kind": "lstm"}, {"lr": 1e-2, "kind": "gru", "layers": 2}, {"lr": 1e-3, "kind": "lstm"}]


def test_objective_history_keeps_the_best() -> None:
    figure = plot_objective_history([0.5, None, 0.4, 0.9, 0.7], "selected")
    best = figure.axes[0].lines[1].get_ydata()
    np.testing.assert_array_equal(best, [0.5, 0.5, 0.5, 0.9, 0.9])
    draw(figure)
    draw(plot_objective_history([None, None]))
    draw(plot_objective_history([]))


def test_parameters_are_placed_by_logarithm_or_by_word() -> None:
    figure = plot_parameter_scatter(TRIALS, [1.0, 2.0, None], "selected")
    lr, kind, layers = figure.axes[:3]
    np.testing.assert_allclose(np.asarray(lr.lines[0].get_xdata()), [0, 1])
    np.testing.assert_allclose(np.asarray(kind.lines[0].get_xdata()), [1, 0])
    np.testing.assert_allclose(np.asarray(layers.lines[0].get_xydata()), [[0.5, 2.0]])
    assert [label.get_text() for label in kind.get_xticklabels()] == ["gru", "lstm"]
    assert ParameterScale([1e-4, 1e-2], log=True).position(1e-3) == pytest.approx(0.5)
    assert ParameterScale([1e-4, 1e-2]).position(1e-3) < 0.1
    assert ParameterScale([1, 3]).position(2) == pytest.approx(0.5)
    draw(figure)


def test_parallel_coordinates_draw_the_best_last_and_darkest() -> None:
    figure = plot_parallel_coordinates(TRIALS, [2.0, 1.0, None], "selected")
    worse, better = figure.axes[0].lines[:2]
    assert float(str(better.get_color())) < float(str(worse.get_color()))
    assert list(np.isnan(np.asarray(better.get_ydata(), dtype=float))) == [False, False, True, False]
    draw(figure)
    draw(plot_parallel_coordinates([], [], "selected"))
    plot_parameter_scatter([], [], "selected").savefig(io.BytesIO())


def test_the_most_important_parameter_is_on_top() -> None:
    figure = plot_importances({"lr": 0.7, "layers": 0.1, "kind": 0.2}, "selected")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["layers", "kind", "lr"]
    draw(figure)


def test_the_pareto_front_is_drawn_in_order() -> None:
    figure = plot_pareto_front([(0.1, 0.9), (0.9, 0.1), (0.5, 0.5), (0.2, 0.2)], [0, 1, 2], ("plcc", "cider_d"))
    np.testing.assert_allclose(np.asarray(figure.axes[0].lines[1].get_xydata()), [(0.1, 0.9), (0.5, 0.5), (0.9, 0.1)])
    draw(figure)
    draw(plot_pareto_front([], [], ("plcc", "cider_d")))


def test_schedules_are_steps_over_epochs_with_the_best_in_front() -> None:
    schedules = {
        "a": {"lr": [(0, 2, 1e-3), (2, 6, 1e-1)], "kind": [(0, 6, "x")]},
        "b": {"lr": [(0, 6, 1e-2)], "kind": [(0, 6, "y")]},
    }
    figure = plot_schedules(schedules, "a", {"lr"})
    lr, kind = figure.axes[:2]
    np.testing.assert_allclose(np.asarray(lr.lines[-1].get_xydata()), [[0, 0], [2, 0], [2, 1], [6, 1]])
    np.testing.assert_allclose(np.asarray(lr.lines[0].get_xydata()), [[0, 0.5], [6, 0.5]])
    assert [label.get_text() for label in kind.get_yticklabels()] == ["x", "y"]
    draw(figure)
