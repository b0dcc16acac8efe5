"""Figures of a weight search: how figures move with the weights, and how differently teachers err."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fer_lightning.reports.figures import save_figure
from fer_lightning.runs.ensemble import FusionFigures, WeightSearchReport

WEIGHTS_FIGURE, DIVERSITY_FIGURE = "weights.png", "diversity.png"
_BLUE, _RED, _GREY = "#2b6cb0", "#c53030", "#718096"
_MOST_BARS = 20
_DARK = 0.6  # of a shade, above which black cannot be read
_HEIGHT = math.sqrt(3) / 2
"""Of a triangle of side 1."""


def _line(axes: Axes, points: Sequence[FusionFigures], names: Sequence[str], space: str) -> None:
    """Draw macro-F1 and ECE over the first teacher's weight."""
    ordered = sorted(points, key=lambda point: point.weights[0])
    shares = [point.weights[0] for point in ordered]
    axes.plot(shares, [point.macro_f1 for point in ordered], "o-", color=_BLUE, markersize=3, label="macro-F1")
    axes.set_ylabel("macro-F1", color=_BLUE)
    axes.set_xlabel(f"weight of {names[0]} (the rest: {names[1]})")
    axes.set_title(space)
    second = axes.twinx()
    second.plot(shares, [point.ece_scaled for point in ordered], "s--", color=_RED, markersize=3)
    second.set_ylabel("ECE, calibrated", color=_RED)


def _triangle(figure: Figure, axes: Axes, points: Sequence[FusionFigures], names: Sequence[str], space: str) -> None:
    """Draw macro-F1 over the shares of three teachers."""
    weights = np.array([point.weights for point in points])
    across, up = weights[:, 1] + weights[:, 2] / 2, weights[:, 2] * _HEIGHT
    axes.plot([0, 1, 0.5, 0], [0, 0, _HEIGHT, 0], color=_GREY, linewidth=1)
    shown = axes.scatter(across, up, c=[point.macro_f1 for point in points], cmap="viridis", s=40)
    best = max(range(len(points)), key=lambda number: points[number].macro_f1)
    axes.scatter(across[best], up[best], s=110, facecolors="none", edgecolors=_RED, linewidths=1.5)
    corners = ((0, -0.07, "center"), (1, -0.07, "center"), (0.5, _HEIGHT + 0.03, "center"))
    for name, (x, y, side) in zip(names, corners, strict=True):
        axes.text(x, y, name, ha=side)
    axes.set_title(space, pad=16)
    axes.set_aspect("equal")
    axes.axis("off")
    figure.colorbar(shown, ax=axes, label="macro-F1", shrink=0.7)


def _bars(axes: Axes, points: Sequence[FusionFigures], names: Sequence[str], space: str) -> None:
    """Draw the weights of the best points, stacked, their macro-F1 beside them."""
    best = sorted(points, key=lambda point: -point.macro_f1)[:_MOST_BARS]
    places, left = np.arange(len(best)), np.zeros(len(best))
    for number, name in enumerate(names):
        shares = np.array([point.weights[number] for point in best])
        axes.barh(places, shares, left=left, label=name)
        left += shares
    axes.set_yticks(places, [f"{point.macro_f1:.4f}" for point in best], fontsize=7)
    axes.invert_yaxis()
    axes.set_ylabel("macro-F1")
    axes.set_xlabel("weight")
    axes.set_title(space)
    axes.legend(fontsize=7)


def weights_figure(points: Sequence[FusionFigures], names: Sequence[str]) -> Figure:
    """Draw the points of a search, one panel for each space.

    Two teachers: macro-F1 and ECE over the weight. Three: a ternary map of macro-F1, the best one circled. More: the weights
    of the best points.

    Args:
        points: of all spaces.
        names: of the teachers.
    """
    spaces = list(dict.fromkeys(point.space for point in points))
    figure = Figure(figsize=(5.4 * len(spaces), 4.6), layout="constrained")
    for axes, space in zip(figure.subplots(1, len(spaces), squeeze=False)[0], spaces, strict=True):
        of_space = [point for point in points if point.space == space]
        if len(names) == 2:
            _line(axes, of_space, names, space)
        elif len(names) == 3:
            _triangle(figure, axes, of_space, names, space)
        else:
            _bars(axes, of_space, names, space)
    return figure


def diversity_figure(report: WeightSearchReport) -> Figure:
    """Draw how often two teachers disagree, and how far their errors correlate, pair by pair."""
    place = {name: number for number, name in enumerate(report.teachers)}
    disagreement, correlation = (np.full((len(place), len(place)), np.nan) for _ in range(2))
    for pair in report.diversity:
        first, second = (place[name] for name in pair.teachers)
        for row, column in ((first, second), (second, first)):
            disagreement[row, column] = pair.disagreement
            correlation[row, column] = math.nan if pair.error_correlation is None else pair.error_correlation
    figure = Figure(figsize=(9.2, 4.2), layout="constrained")
    tables = (("disagreement", disagreement), ("correlation of errors", correlation))
    for axes, (title, table) in zip(figure.subplots(1, 2), tables, strict=True):
        image = axes.imshow(np.ma.masked_invalid(table), cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(place)), report.teachers, rotation=45, ha="right")
        axes.set_yticks(range(len(place)), report.teachers)
        axes.set_title(title)
        for (row, column), value in np.ndenumerate(table):
            if not math.isnan(value):
                ink = "white" if value > _DARK else "black"
                axes.text(column, row, f"{value:.3f}", ha="center", va="center", color=ink, fontsize=9)
        figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def write_search_figures(folder: Path, points: Sequence[FusionFigures], report: WeightSearchReport) -> None:
    """Write the figures of a search as PNG files."""
    save_figure(folder / WEIGHTS_FIGURE, weights_figure(points, report.teachers))
    save_figure(folder / DIVERSITY_FIGURE, diversity_figure(report))
