"""Turns a comparison over seeds into the records of arms: figures, differences, and those of the present classes."""

from collections.abc import Mapping

from fer_lightning.functional.seed_comparison import SeedDifference, SeedFigure
from fer_lightning.labels import NUM_CLASSES
from fer_lightning.runs.student_comparison import ArmDifference, ArmFigure, ArmFigures


def _figure(figure: SeedFigure) -> ArmFigure:
    return ArmFigure(mean=figure.estimate, low=figure.low, high=figure.high, values=list(figure.per_seed))


def _difference(row: SeedDifference) -> ArmDifference:
    return ArmDifference(
        difference=row.difference,
        low=row.low,
        high=row.high,
        p_value=row.p_value,
        values=list(row.per_seed),
        deviation=row.over_seeds.deviation,
        low_of_seeds=row.over_seeds.low,
        high_of_seeds=row.over_seeds.high,
        low_of_rows_and_seeds=row.low_of_rows_and_seeds,
        high_of_rows_and_seeds=row.high_of_rows_and_seeds,
    )


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


def _share_times(figure: ArmFigure, factor: float) -> ArmFigure:
    values = [factor * value for value in figure.values]
    return ArmFigure(
        mean=factor * figure.mean, low=factor * figure.low, high=min(1.0, factor * figure.high), values=values
    )


def _change_times(change: ArmDifference, factor: float) -> ArmDifference:
    return ArmDifference(
        difference=factor * change.difference,
        low=max(-1.0, factor * change.low),
        high=min(1.0, factor * change.high),
        p_value=change.p_value,
        values=[factor * value for value in change.values],
        deviation=_times(change.deviation, factor),
        low_of_seeds=_times(change.low_of_seeds, factor),
        high_of_seeds=_times(change.high_of_seeds, factor),
        low_of_rows_and_seeds=_times(change.low_of_rows_and_seeds, factor),
        high_of_rows_and_seeds=_times(change.high_of_rows_and_seeds, factor),
    )


def arm_figures(
    figures: Mapping[str, SeedFigure], differences: Mapping[str, SeedDifference] | None, *, num_present: int
) -> ArmFigures:
    """Return the record of an arm, `macro_f1_present` added: absent classes have F1 0, so it is a constant times macro-F1.

    Args:
        figures: of the arm, by name.
        differences: to the baseline; None for itself.
        num_present: classes that have rows.
    """
    factor = NUM_CLASSES / num_present
    own = {name: _figure(figure) for name, figure in figures.items()}
    own["macro_f1_present"] = _share_times(own["macro_f1"], factor)
    if differences is None:
        return ArmFigures(figures=own, differences=None)
    changes = {name: _difference(row) for name, row in differences.items()}
    changes["macro_f1_present"] = _change_times(changes["macro_f1"], factor)
    return ArmFigures(figures=own, differences=changes)
