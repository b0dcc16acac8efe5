"""A comparison of students in four panels: macro-F1, minority-F1, NLL and ECE, one row an arm, each seed a dot."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fer_lightning.reports.figures import save_figure
from fer_lightning.reports.student_comparison_page import FIGURE_FILE, heading
from fer_lightning.runs.student_comparison import ArmFigure, JudgedSplit, StudentComparison

_BLUE, _ORANGE, _GREY, _RED = "#2b6cb0", "#c05621", "#718096", "#c53030"
_PANELS = {"macro_f1": "macro-F1", "minority_f1": "minority-F1", "nll": "NLL", "ece": "ECE"}
_BOTH_KINDS = ("nll", "ece")
_MOST_ROOM = 4.0  # times its own range: more, and a kind of figures is squeezed
_DOTS_BELOW = 0.14  # of a row


@dataclass(frozen=True)
class _Kind:
    """Figures of one kind, and how they are drawn."""

    arms: Sequence[ArmFigure]
    ensemble: float | None
    colour: str
    face: str
    ensemble_colour: str
    ensemble_line: str
    shift: float = 0.0
    """Downwards, in rows."""

    def ends(self) -> tuple[float, float]:
        """Return the smallest and the largest number drawn."""
        numbers = [number for arm in self.arms for number in (arm.low, arm.high, *arm.values)]
        finite = [number for number in numbers if math.isfinite(number)]
        finite += [] if self.ensemble is None or not math.isfinite(self.ensemble) else [self.ensemble]
        return (min(finite), max(finite)) if finite else (0.0, 0.0)


def _raw(judged: JudgedSplit, name: str, shift: float) -> _Kind:
    ensemble = None if judged.ensemble is None else judged.ensemble.raw[name]
    arms = [arm.raw.figures[name] for arm in judged.arms.values()]
    return _Kind(arms, ensemble, _ORANGE, "white", _ORANGE, ":", shift)


def _main(judged: JudgedSplit, name: str, *, scaled: bool) -> _Kind:
    """Return calibrated figures, or those that no panel shows twice."""
    of_ensemble = None
    if judged.ensemble is not None:
        figures = judged.ensemble.scaled if scaled else judged.ensemble.raw
        of_ensemble = None if figures is None else figures[name]
    arms = [
        (arm.scaled if scaled and arm.scaled is not None else arm.raw).figures[name] for arm in judged.arms.values()
    ]
    return _Kind(arms, of_ensemble, _BLUE, _BLUE, _RED, "--", -0.2 if scaled else 0.0)


def _draw(axes: Axes, kind: _Kind, baseline: int) -> None:
    """Draw mean, interval and seeds of each arm, the baseline's mean and the ensemble as lines."""
    if math.isfinite(kind.arms[baseline].mean):
        axes.axvline(kind.arms[baseline].mean, color=kind.colour, linewidth=0.8, alpha=0.5, zorder=0)
    if kind.ensemble is not None and math.isfinite(kind.ensemble):
        axes.axvline(kind.ensemble, color=kind.ensemble_colour, linestyle=kind.ensemble_line, linewidth=1.4)
    for row, arm in enumerate(kind.arms):
        place = row + kind.shift
        ends = [end for end in (arm.low, arm.high) if math.isfinite(end)]
        axes.plot(ends, [place] * len(ends), color=kind.colour, linewidth=1.7, solid_capstyle="butt")
        if math.isfinite(arm.mean):
            axes.plot(arm.mean, place, "o", color=kind.colour, markerfacecolor=kind.face, markersize=5.5)
        seeds = [value for value in arm.values if math.isfinite(value)]
        axes.plot(seeds, [place + _DOTS_BELOW] * len(seeds), ".", color=kind.colour, markersize=4, alpha=0.85)


def _squeezed(first: _Kind, second: _Kind) -> bool:
    """Whether one axis for both would leave one of them no room."""
    (low, high), (other_low, other_high) = first.ends(), second.ends()
    both = max(high, other_high) - min(low, other_low)
    return both > _MOST_ROOM * min(high - low, other_high - other_low)


def _panel(axes: Axes, judged: JudgedSplit, name: str, baseline: int) -> None:
    """Draw a figure; NLL and ECE raw and calibrated, on axes of their own where they lie far apart."""
    scaled = name in _BOTH_KINDS and any(arm.scaled is not None for arm in judged.arms.values())
    main = _main(judged, name, scaled=scaled)
    _draw(axes, main, baseline)
    axes.set_title(_PANELS[name], fontsize=11, pad=8)
    if scaled:
        raw = _raw(judged, name, 0.12)
        twin = axes.twiny() if _squeezed(main, raw) else axes
        _draw(twin, raw, baseline)
        if twin is not axes:
            twin.margins(x=0.14)  # else both kinds' outermost lines would fall together
            axes.set_xlabel("calibrated", color=_BLUE)
            axes.tick_params(axis="x", colors=_BLUE)
            twin.set_xlabel("raw", color=_ORANGE)
            twin.tick_params(axis="x", colors=_ORANGE)
    axes.axhspan(baseline - 0.5, baseline + 0.5, color=_GREY, alpha=0.13, linewidth=0)
    axes.grid(axis="x", alpha=0.25)
    axes.locator_params(axis="x", nbins=6)


def _legend(judged: JudgedSplit) -> list[Artist]:
    shown: list[Artist] = [
        Line2D([], [], color=_BLUE, marker="o", markersize=5.5, label="mean over seeds, interval over rows"),
        Line2D([], [], color=_BLUE, marker=".", linestyle="none", label="a seed"),
        Line2D([], [], color=_BLUE, linewidth=0.8, alpha=0.5, label="mean of the baseline"),
    ]
    if any(arm.scaled is not None for arm in judged.arms.values()):
        label = "raw (filled: calibrated)"
        shown.insert(1, Line2D([], [], color=_ORANGE, marker="o", markerfacecolor="white", markersize=5.5, label=label))
    if judged.ensemble is not None:
        shown.append(Line2D([], [], color=_RED, linestyle="--", label="ensemble"))
        if judged.ensemble.scaled is not None:
            shown.append(Line2D([], [], color=_ORANGE, linestyle=":", label="ensemble, raw"))
    return shown


def student_comparison_figure(comparison: StudentComparison, judged: JudgedSplit) -> Figure:
    """Draw the arms of a split.

    Args:
        comparison: for the names.
        judged: one of its splits.
    """
    names = list(judged.arms)
    baseline = names.index(comparison.baseline)
    figure = Figure(figsize=(13, 2.6 + 2 * 0.52 * len(names)), layout="constrained")
    panels = figure.subplots(2, 2, sharey=True)
    for axes, name in zip(panels.flat, _PANELS, strict=True):
        _panel(axes, judged, name, baseline)
    panels[0, 0].set_ylim(len(names) - 0.5, -0.5)
    for axes in panels[:, 0]:
        axes.set_yticks(
            range(len(names)), [f"{name}\n(baseline)" if name == names[baseline] else name for name in names]
        )
        axes.get_yticklabels()[baseline].set_fontweight("bold")
    seeds = f"{len(comparison.seeds)} seed{'s' * (len(comparison.seeds) != 1)}"
    title = f"{comparison.name}: {comparison.student.backbone}, {seeds}\n{heading(judged)}"
    figure.suptitle(title, fontsize=11)
    figure.legend(handles=_legend(judged), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def write_student_comparison_figure(folder: Path, comparison: StudentComparison) -> None:
    """Write the figure of the split that judges, the last one, as PNG."""
    save_figure(folder / FIGURE_FILE, student_comparison_figure(comparison, comparison.splits[-1]))
