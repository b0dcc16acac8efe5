"""What stands in the cells of leaderboards, for consoles, Markdown and HTML."""

from collections.abc import Mapping, Sequence

from fer_lightning.runs.leaderboard import OverSeeds

NONE = "-"
RANKING_LABELS = {
    "macro_f1": "macro-F1",
    "minority_f1": "minority-F1",
    "ece": "ECE",
    "ece_scaled": "ECE scaled",
    "accuracy": "accuracy",
    "nll": "NLL",
    "nll_scaled": "NLL scaled",
}
"""Figures that runs of any kind are ranked by, in the order of tables."""


def bare(number: float) -> str:
    """Return four decimals without a leading zero, e.g. `.7902`."""
    return f"{number:.4f}".replace("0.", ".", 1) if abs(number) < 1 else f"{number:.4f}"


def cell(number: float | None) -> str:
    """Return a figure, `-` where there is none."""
    return NONE if number is None else bare(number)


def weights_text(weights: Mapping[str, float]) -> str:
    """Return the shares of teachers, e.g. `0.7 RN18 + 0.3 B3`."""
    return " + ".join(f"{weight:.4g} {name}" for name, weight in weights.items()) or NONE


def spread(figure: OverSeeds | None) -> str:
    """Return mean and deviation, e.g. `.7902±.0031`."""
    if figure is None:
        return NONE
    return f"{bare(figure.mean)}±{NONE if figure.deviation is None else bare(figure.deviation)}"


def mean_of(figure: OverSeeds | None) -> str:
    """Return the mean, with the deviation where there is one."""
    return bare(figure.mean) if figure is not None and figure.deviation is None else spread(figure)


def interval(figure: OverSeeds | None) -> str:
    """Return the interval of the mean, e.g. `[.7825, .7979]`."""
    if figure is None or figure.low is None or figure.high is None:
        return NONE
    return f"[{bare(figure.low)}, {bare(figure.high)}]"


def full(figure: OverSeeds | None) -> str:
    """Return mean, deviation and interval, e.g. `0.7902 ± 0.0031 [0.7825, 0.7979]`."""
    if figure is None:
        return NONE
    if figure.deviation is None or figure.low is None or figure.high is None:
        return f"{figure.mean:.4f} ± {NONE}"
    return f"{figure.mean:.4f} ± {figure.deviation:.4f} [{figure.low:.4f}, {figure.high:.4f}]"


def whole(numbers: Sequence[int]) -> str:
    """Return a number, or the range of several."""
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}-{high}"


def shortened(name: str, widest: int) -> str:
    """Return a name, without its middle where it is too wide."""
    half = (widest - 3) // 2
    return name if len(name) <= widest else f"{name[:half]}...{name[-half:]}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
