"""Figure of a sweep: val macro-F1 and NLL of best.pt against each swept option, single runs and means over seeds."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator
from numpy.typing import NDArray

from fer_lightning.runs.sweep_response import (
    ResponseLine,
    ResponsePoint,
    VariedOption,
    lines_along,
    means_over_seeds,
    varied_options,
)

_BRIGHT_IS_HIGH = "viridis"
_FIGURES = (("macro_f1", "val macro-F1", _BRIGHT_IS_HIGH), ("nll", "val NLL", "viridis_r"))
_COLOURS = ("#2b6cb0", "#c53030", "#2f855a", "#6b46c1", "#b7791f", "#d53f8c", "#718096", "#000000")
_GREY = "#718096"
_APART_CATEGORIES = 0.4
_APART = 0.03
_MOST_TICKS = 9
_MOST_AXES = 6
_ROW_INCHES = 3.4
_SMALLEST_RANGE = 1e-3
_FILLED_SHARE = 0.5
"""Of a grid's cells, from which on two options are drawn as a heat map."""


def _values(points: Sequence[ResponsePoint], figure: str) -> list[float]:
    return [getattr(point.raw, figure) for point in points]


def _beside(axis: VariedOption, line: int, count: int) -> Callable[[float], float]:
    """Return where on an axis the marks of a line stand, a little apart, so that those of several do not cover each other."""
    share = line / (count - 1) - 0.5 if count > 1 else 0.0
    if not axis.numeric:
        return lambda place: place + _APART_CATEGORIES * share
    low, high = float(axis.values[0]), float(axis.values[-1])
    if axis.logarithmic:
        return lambda place: float(place * (high / low) ** (_APART * share))
    return lambda place: place + _APART * share * (high - low)


def _draw_line(
    axes: Axes,
    axis: VariedOption,
    line: ResponseLine,
    figure: str,
    *,
    beside: Callable[[float], float],
    colour: str,
) -> None:
    """Draw single runs small, and their means with the intervals over seeds."""
    places = [beside(axis.place(point)) for point in line.points]
    axes.plot(places, _values(line.points, figure), "o", color=colour, markersize=3.5, alpha=0.5)
    means = means_over_seeds(axis, line.points, figure)
    where = [beside(place) for place in means]
    mark = "-o" if axis.numeric else "D"
    axes.plot(
        where, [item.mean for item in means.values()], mark, color=colour, linewidth=1.5, markersize=5, label=line.label
    )
    for place, item in zip(where, means.values(), strict=True):
        if item.low is not None:
            axes.errorbar(place, item.mean, yerr=item.mean - item.low, color=colour, linewidth=1.2, capsize=3)


def _set_scale(axes: Axes, axis: VariedOption) -> None:
    axes.set_xlabel(axis.option)
    axes.grid(alpha=0.25)
    if not axis.numeric:
        axes.set_xticks(range(len(axis.values)), axis.values, rotation=20 if max(map(len, axis.values)) > 12 else 0)
        axes.set_xlim(-0.5, len(axis.values) - 0.5)
        return
    if axis.logarithmic:
        axes.set_xscale("log")
    if len(axis.values) <= _MOST_TICKS:
        axes.set_xticks([float(value) for value in axis.values], axis.values)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())


def _limit(axes: Axes, values: Sequence[float]) -> None:
    """Show the runs: an interval of two seeds is so wide that nothing else would be seen; it goes beyond the panel."""
    room = 0.6 * max(max(values) - min(values), _SMALLEST_RANGE)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, min(values) - room), min(high, max(values) + room))


def _panel(
    axes: Axes, axis: VariedOption, others: Sequence[VariedOption], points: Sequence[ResponsePoint], figure: str
) -> None:
    lines = lines_along(axis, others, points)
    if len(lines) > len(_COLOURS):  # a search: hardly two points have the other options in common
        places = [axis.place(point) for point in points]
        axes.plot(places, _values(points, figure), "o", color=_COLOURS[0], markersize=4, alpha=0.7)
    else:
        for place, line in enumerate(lines):
            beside = _beside(axis, place, len(lines))
            _draw_line(axes, axis, line, figure, beside=beside, colour=_COLOURS[place])
    _set_scale(axes, axis)
    _limit(axes, _values(points, figure))


def _cells(pair: Sequence[VariedOption], points: Sequence[ResponsePoint], figure: str) -> NDArray[np.float64]:
    """Return the mean figure of each combination of two options, NaN where there is no run."""
    numbers = [[float(value) for value in option.values] for option in pair]
    cells = np.full((len(numbers[1]), len(numbers[0])), np.nan)
    for row, line in enumerate(numbers[1]):
        members = [point for point in points if pair[1].place(point) == line]
        for place, item in means_over_seeds(pair[0], members, figure).items():
            cells[row, numbers[0].index(place)] = item.mean
    return cells


def _grid(axes: Axes, pair: Sequence[VariedOption], cells: NDArray[np.float64], palette: str) -> ScalarMappable:
    """Draw a grid as coloured cells with their means."""
    image = axes.imshow(cells, origin="lower", aspect="auto", cmap=palette)
    axes.set_xticks(range(len(pair[0].values)), pair[0].values)
    axes.set_yticks(range(len(pair[1].values)), pair[1].values)
    low, high = float(np.nanmin(cells)), float(np.nanmax(cells))
    for row, column in np.argwhere(~np.isnan(cells)):
        dark = (cells[row, column] < (low + high) / 2) == (palette == _BRIGHT_IS_HIGH)
        colour = "white" if dark else "black"
        axes.text(column, row, f"{cells[row, column]:.3f}", ha="center", va="center", fontsize=8, color=colour)
    return image


def _scattered(
    axes: Axes, pair: Sequence[VariedOption], points: Sequence[ResponsePoint], figure: str, palette: str
) -> ScalarMappable:
    """Draw a search as coloured points."""
    across, up = ([option.place(point) for point in points] for option in pair)
    marks = axes.scatter(across, up, c=_values(points, figure), cmap=palette, s=36, edgecolors=_GREY, linewidths=0.5)
    axes.set_xscale("log" if pair[0].logarithmic else "linear")
    axes.set_yscale("log" if pair[1].logarithmic else "linear")
    axes.grid(alpha=0.25)
    return marks


def _heat_map(
    axes: Axes, pair: Sequence[VariedOption], points: Sequence[ResponsePoint], figure: str, palette: str
) -> ScalarMappable:
    """Draw two numeric options against each other, and return what the colour bar is of."""
    cells = _cells(pair, points, figure)
    axes.set_xlabel(pair[0].option)
    axes.set_ylabel(pair[1].option)
    if (~np.isnan(cells)).mean() >= _FILLED_SHARE:
        return _grid(axes, pair, cells, palette)
    return _scattered(axes, pair, points, figure, palette)


def response_figure(points: Sequence[ResponsePoint]) -> Figure:
    """Draw how val macro-F1 and NLL of best.pt respond to the swept options.

    One row of panels for each option that varies, its values on a log scale where they span a decade, the other options as
    lines; two numeric options also as a heat map. Small dots are single runs; means over seeds carry a 95 % t interval.

    Args:
        points: finished jobs, judged on the same rows; at least one option varies.
    """
    options = varied_options(points)
    shown = options[:_MOST_AXES]
    numeric = [option for option in options if option.numeric]
    pair = numeric if len(numeric) == 2 else []
    rows = len(shown) + bool(pair)
    figure = Figure(figsize=(11, _ROW_INCHES * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, len(_FIGURES), squeeze=False)
    for row, axis in enumerate(shown):
        others = [option for option in options if option is not axis]
        for column, (name, label, _) in enumerate(_FIGURES):
            _panel(panels[row, column], axis, others, points, name)
            panels[row, column].set_ylabel(label)
        if len(panels[row, -1].get_legend_handles_labels()[0]) > 1:
            panels[row, -1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    if pair:
        for column, (name, label, palette) in enumerate(_FIGURES):
            figure.colorbar(_heat_map(panels[-1, column], pair, points, name, palette), ax=panels[-1, column])
            panels[-1, column].set_title(label, fontsize=10)
    figure.suptitle(
        f"{len(points)} runs, best.pt on val (row set {points[0].row_set[:8]}), uncalibrated; bars: 95 % t interval of the "
        "mean over seeds",
        fontsize=10,
    )
    return figure
