"""Figure of `task=inspect_softlabels`: largest probability and entropy of the targets against the KD temperature."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from fer_lightning.labels import EMOTIONS
from fer_lightning.runs.sharpness_report import PartSharpness, SharpnessReport

_BLUE, _RED, _GREY = "#2b6cb0", "#c53030", "#718096"
_CLASS_COLOURS = dict(
    zip(EMOTIONS, ("#c53030", "#2f855a", "#6b46c1", "#b7791f", "#2b6cb0", "#d53f8c", "#718096"), strict=True)
)


def _bands(axes: Axes, part: PartSharpness, name: str, label: str) -> None:
    """Draw the median, the middle half and nine tenths of the rows."""
    temperatures = [figures.kd_temperature for figures in part.figures]
    spreads = [getattr(figures, name) for figures in part.figures]
    for low, high, alpha, what in (("5", "95", 0.15, "5 to 95 % of the rows"), ("25", "75", 0.3, "25 to 75 %")):
        lower, upper = ([spread.quantiles[percent] for spread in spreads] for percent in (low, high))
        axes.fill_between(temperatures, lower, upper, color=_BLUE, alpha=alpha, linewidth=0, label=what)
    medians, means = [spread.quantiles["50"] for spread in spreads], [spread.mean for spread in spreads]
    axes.plot(temperatures, medians, color=_BLUE, linewidth=1.5, marker="o", markersize=3.5, label="median")
    axes.plot(temperatures, means, color=_RED, linewidth=1.5, marker="s", markersize=3.5, label="mean")
    axes.set_ylabel(label)


def _classes(axes: Axes, part: PartSharpness) -> None:
    for name, of_class in part.classes.items():
        temperatures = [figures.kd_temperature for figures in of_class]
        shares = [figures.entropy_share.mean for figures in of_class]
        axes.plot(temperatures, shares, color=_CLASS_COLOURS[name], linewidth=1.3, marker="o", markersize=3, label=name)
    axes.set_ylabel("mean entropy, share of log 7")


def _target(axes: Axes, part: PartSharpness) -> None:
    target = part.target
    axes.axhline(target.target_entropy, color=_GREY, linewidth=1, linestyle="--")
    if target.reached:
        axes.axvline(target.kd_temperature, color=_GREY, linewidth=1, linestyle="--")
        axes.annotate(
            f"T = {target.kd_temperature:.3g}",
            (target.kd_temperature, target.target_entropy),
            xytext=(5, -12),
            textcoords="offset points",
            fontsize=9,
        )


def sharpness_figure(report: SharpnessReport) -> Figure:
    """Draw the spreads over all rows, and the mean entropy of each class, with the temperature for the wanted entropy."""
    part = report.parts[-1]
    figure = Figure(figsize=(13, 4.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _bands(left, part, "max_prob", "largest probability")
    _bands(middle, part, "entropy_share", "entropy, share of log 7")
    _target(middle, part)
    _classes(right, part)
    for axes in (left, middle, right):
        axes.set_xscale("log")
        axes.set_xticks(report.kd_temperatures)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("KD temperature")
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.25)
    left.legend(frameon=False, fontsize=8)
    right.legend(frameon=False, fontsize=8)
    figure.suptitle(f"{report.kind}, {part.split} rows (n={part.n}), {report.logits_sha256[:8]}", fontsize=10)
    return figure
