"""The figure of a sweep: panels, scales, lines, intervals and heat maps."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

from fer_lightning.reports.response_figure import response_figure
from fer_lightning.runs.sweep_response import ResponsePoint
from tests.runs.finished_runs import metrics


def points(options: dict[str, list[str]], *, seeds: int = 3) -> list[ResponsePoint]:
    rng = np.random.default_rng(0)
    return [
        ResponsePoint(
            options=dict(zip(options, values, strict=True)), row_set="ab" * 32, raw=metrics(rng.uniform(), nll=1.0)
        )
        for values in itertools.product(*options.values())
        for _ in range(seeds)
    ]


def panels(figure: Figure) -> list[str]:
    """Return what the panels of the left column are drawn against."""
    return [axes.get_xlabel() for axes in figure.axes if axes.get_ylabel() == "val macro-F1"]


def test_one_numeric_option_is_one_row_of_two_panels() -> None:
    drawn = points({"distillation.kd_temperature": ["1", "2", "4", "5", "6"]})
    figure = response_figure(drawn)
    left, right = figure.axes
    assert (left.get_ylabel(), right.get_ylabel()) == ("val macro-F1", "val NLL")
    assert left.get_xscale() == "linear"
    assert [text.get_text() for text in left.get_xticklabels()] == ["1", "2", "4", "5", "6"]
    runs, means = left.lines[:2]
    assert sorted(np.asarray(runs.get_ydata())) == sorted(point.raw.macro_f1 for point in drawn)
    assert list(np.asarray(means.get_xdata())) == [1, 2, 4, 5, 6]
    assert np.asarray(means.get_ydata())[0] == pytest.approx(np.mean([point.raw.macro_f1 for point in drawn[:3]]))
    assert len(left.containers) == 5


def test_single_runs_have_no_interval() -> None:
    figure = response_figure(points({"a": ["1", "2"]}, seeds=1))
    assert len(figure.axes[0].containers) == 0


def test_values_that_span_decades_are_on_a_log_scale() -> None:
    figure = response_figure(points({"optimizer.lr": ["1e-4", "1e-3", "1e-2"]}))
    assert figure.axes[0].get_xscale() == "log"


def test_categories_are_named_and_their_marks_are_not_joined() -> None:
    figure = response_figure(points({"loss": ["focal", "arcface"]}))
    left = figure.axes[0]
    assert [text.get_text() for text in left.get_xticklabels()] == ["focal", "arcface"]
    assert left.lines[1].get_linestyle() == "None"


def test_two_numeric_options_are_lines_of_each_other_and_a_heat_map() -> None:
    drawn = points({"alpha": ["0.5", "1"], "beta": ["1", "2", "4"]}, seeds=2)
    figure = response_figure(drawn)
    assert panels(figure) == ["alpha", "beta"]
    assert figure.axes[1].get_legend_handles_labels()[1] == ["beta=1", "beta=2", "beta=4"]
    assert figure.axes[1].get_legend() is not None
    heat = next(axes for axes in figure.axes if axes.get_title() == "val macro-F1")
    cells = np.asarray(heat.images[0].get_array())
    assert (cells.shape, heat.get_xlabel(), heat.get_ylabel()) == ((3, 2), "alpha", "beta")
    here = [point.raw.macro_f1 for point in drawn if point.options == {"alpha": "1", "beta": "4"}]
    assert cells[2, 1] == pytest.approx(np.mean(here))
    assert len(heat.texts) == 6


def test_a_search_is_points_without_lines() -> None:
    rng = np.random.default_rng(1)
    drawn = [points({"a": [str(a)], "b": [str(b)]}, seeds=1)[0] for a, b in rng.uniform(0.001, 10, (20, 2))]
    figure = response_figure(drawn)
    assert [np.size(line.get_xdata()) for line in figure.axes[0].lines] == [20]
    heat = next(axes for axes in figure.axes if axes.get_title() == "val NLL")
    assert len(heat.images) == 0
    assert np.size(heat.collections[0].get_offsets()) == 40


def test_limits_follow_the_runs_and_not_wide_intervals() -> None:
    drawn = points({"a": ["1", "2"]}, seeds=2)
    left = response_figure(drawn).axes[0]
    figures = [point.raw.macro_f1 for point in drawn]
    low, high = left.get_ylim()
    assert low <= min(figures)
    assert high >= max(figures)
    assert high - low <= 2.3 * (max(figures) - min(figures))
