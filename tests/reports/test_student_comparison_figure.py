"""The figure of a comparison of students: four panels, a row an arm, every seed, raw and calibrated apart."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.lines import Line2D

from fer_lightning.reports.student_comparison_figure import (
    student_comparison_figure,
    write_student_comparison_figure,
)
from fer_lightning.runs.student_comparison import ArmFigure, JudgedSplit
from tests.runs.compared_students import NOISES, comparison, judged

BLUE, ORANGE, RED = "#2b6cb0", "#c05621", "#c53030"
TEST = judged(factor=1.15)


def panels(split: JudgedSplit) -> list[Axes]:
    return student_comparison_figure(comparison([split]), split).axes


def lines(axes: Axes, colour: str, *, marker: str = "None", style: str | None = None) -> list[Line2D]:
    return [
        line
        for line in axes.lines
        if same_color(line.get_color(), colour)
        and line.get_marker() == marker
        and (style is None or line.get_linestyle() == style)
    ]


def test_four_panels_with_a_row_for_each_arm() -> None:
    axes = panels(TEST)
    assert [each.get_title() for each in axes] == ["macro-F1", "minority-F1", "NLL", "ECE"]
    names = [label.get_text() for label in axes[0].get_yticklabels()]
    assert names == ["ce\n(baseline)", "kd", "dkd"]
    assert axes[0].get_ylim() == (2.5, -0.5)  # the first one on top
    assert axes[0].get_yticklabels()[0].get_fontweight() == "bold"


def test_every_mean_interval_and_seed_is_drawn_where_it_lies() -> None:
    axes = panels(TEST)[0]
    means = [float(np.asarray(line.get_xdata())[0]) for line in lines(axes, BLUE, marker="o")]
    figures = [of_arm.raw.figures["macro_f1"] for of_arm in TEST.arms.values()]
    assert means == [figure.mean for figure in figures]
    seeds = [list(np.asarray(line.get_xdata())) for line in lines(axes, BLUE, marker=".")]
    assert seeds == [figure.values for figure in figures]
    intervals = [
        list(np.asarray(line.get_xdata())) for line in lines(axes, BLUE, style="-") if line.get_linewidth() > 1
    ]
    assert intervals == [[figure.low, figure.high] for figure in figures]


def test_the_ensemble_is_dashed_and_raw_figures_are_hollow() -> None:
    nll = panels(TEST)[2]
    assert TEST.ensemble is not None
    assert TEST.ensemble.scaled is not None
    (dashed,), (dotted,) = lines(nll, RED, style="--"), lines(nll, ORANGE, style=":")
    assert list(np.asarray(dashed.get_xdata())) == [TEST.ensemble.scaled["nll"]] * 2
    assert list(np.asarray(dotted.get_xdata())) == [TEST.ensemble.raw["nll"]] * 2
    assert {line.get_markerfacecolor() for line in lines(nll, ORANGE, marker="o")} == {"white"}
    assert {line.get_markerfacecolor() for line in lines(nll, BLUE, marker="o")} == {BLUE}
    heights = [
        [float(np.asarray(line.get_ydata())[0]) for line in lines(nll, colour, marker="o")] for colour in (BLUE, ORANGE)
    ]
    assert all(of_raw - of_scaled > 0.25 for of_scaled, of_raw in zip(*heights, strict=True))


def test_raw_figures_far_off_get_an_axis_of_their_own() -> None:
    axes = panels(judged(factor=8.0))
    twins = [each for each in axes[4:] if each.get_xlabel() == "raw"]
    assert twins
    assert axes[2].get_xlabel() == "calibrated"
    assert lines(axes[2], ORANGE, marker="o") == []
    assert len(lines(twins[0], ORANGE, marker="o")) == len(NOISES)
    assert len(panels(TEST)) == 4


def _infinite(figure: ArmFigure) -> ArmFigure:
    return replace(figure, mean=math.inf, high=math.inf, values=[figure.values[0], math.inf])


def test_what_is_infinite_is_left_out(tmp_path: Path) -> None:
    of_arm = TEST.arms["kd"]
    figures = {**of_arm.raw.figures, "nll": _infinite(of_arm.raw.figures["nll"])}
    worse = replace(of_arm, raw=replace(of_arm.raw, figures=figures))
    split = replace(TEST, arms={**TEST.arms, "kd": worse})
    assert len(lines(panels(split)[2], ORANGE, marker="o")) == 2
    write_student_comparison_figure(tmp_path, comparison([split]))
    assert [path.name for path in tmp_path.iterdir()] == ["student_comparison.png"]


@pytest.mark.parametrize("calibrated", [False, True])
def test_what_there_is_not_is_not_in_the_legend(calibrated: bool) -> None:
    split = judged(calibrated=calibrated)
    figure = student_comparison_figure(comparison([split]), replace(split, ensemble=None))
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert ("raw (filled: calibrated)" in shown) == calibrated
    assert not any("ensemble" in text for text in shown)
