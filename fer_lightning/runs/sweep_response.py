"""How figures of a sweep's runs respond to its options: which options vary, on what scale, and means over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fer_lightning.functional.intervals import MeanInterval, mean_interval
from fer_lightning.runs.artifacts import Metrics

_DECADE = 10.0


@dataclass(frozen=True)
class ResponsePoint:
    """One finished job."""

    options: dict[str, str]
    """Swept option -> its value, the seed left out; the same options in every point of a sweep."""
    row_set: str
    """Fingerprint of the val rows it was judged on."""
    raw: Metrics
    """Of its best.pt, uncalibrated."""


@dataclass(frozen=True)
class VariedOption:
    """A swept option with more than one value."""

    option: str
    values: tuple[str, ...]
    """Each once: numbers in their order, categories as they first occur."""
    numeric: bool
    logarithmic: bool
    """Positive numbers that span a decade or more."""

    def place(self, point: ResponsePoint) -> float:
        """Return where a point lies on the axis of this option: its number, or the place of its category."""
        value = point.options[self.option]
        return float(value) if self.numeric else float(self.values.index(value))


@dataclass(frozen=True)
class ResponseLine:
    """Points that differ in one option and their seeds only."""

    label: str
    """The values of the other options; empty where there are none."""
    points: list[ResponsePoint]


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _varied(option: str, values: Sequence[str]) -> VariedOption:
    numbers = [_number(value) for value in values]
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers):
        return VariedOption(option, tuple(values), numeric=False, logarithmic=False)
    ordered = tuple(sorted(values, key=float))
    spans = min(known) > 0 and max(known) / min(known) >= _DECADE
    return VariedOption(option, ordered, numeric=True, logarithmic=spans)


def varied_options(points: Sequence[ResponsePoint]) -> list[VariedOption]:
    """Return the options that have more than one value among some points, numbers that are equal counted once."""
    found = []
    for option in dict.fromkeys(option for point in points for option in point.options):
        values = [point.options[option] for point in points]
        distinct = list({_number(value) if _number(value) is not None else value: value for value in values}.values())
        if len(distinct) > 1:
            found.append(_varied(option, distinct))
    return found


def lines_along(
    axis: VariedOption, others: Sequence[VariedOption], points: Sequence[ResponsePoint]
) -> list[ResponseLine]:
    """Return the points as lines along one option: one for each combination of the others.

    Args:
        axis: the option along which a line goes.
        others: the other varied options.
        points: of the sweep.
    """
    groups: dict[tuple[float, ...], list[ResponsePoint]] = {}
    for point in points:
        groups.setdefault(tuple(other.place(point) for other in others), []).append(point)
    lines = []
    for _, members in sorted(groups.items()):
        told = [f"{other.option.rpartition('.')[2]}={members[0].options[other.option]}" for other in others]
        lines.append(ResponseLine(" ".join(told), sorted(members, key=axis.place)))
    return lines


def means_over_seeds(axis: VariedOption, points: Sequence[ResponsePoint], figure: str) -> dict[float, MeanInterval]:
    """Return the mean of a figure at each place of an axis, with its 95 % t interval where there are several points.

    Args:
        axis: the option.
        points: those of one line.
        figure: field of `Metrics`.
    """
    values: dict[float, list[float]] = {}
    for point in points:
        values.setdefault(axis.place(point), []).append(getattr(point.raw, figure))
    return {place: mean_interval(values[place]) for place in sorted(values)}
