"""Console text of an ensemble: its figures beside each teacher's, the paired differences, and what they come to."""

from collections.abc import Sequence

from fer_lightning.reports.leaderboard_cells import bare, cell
from fer_lightning.reports.tables import text_table
from fer_lightning.runs.artifacts import CalibrationRecord, EvaluatedCheckpoint
from fer_lightning.runs.ensemble import Ensemble, EnsembleMetrics, EnsembleTeacher, PairedFigure, TeacherComparison

_FIGURES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "minority_f1": "minority-F1",
    "nll": "NLL",
    "ece": "ECE",
    "brier": "Brier",
}


def _row(name: str, result: EvaluatedCheckpoint) -> list[str]:
    raw, scaled = result.raw, result.scaled
    hits = [raw.accuracy, raw.macro_f1, raw.minority_f1]
    kept = [None, None, None] if scaled is None else [scaled.nll, scaled.ece, scaled.brier]
    pairs = zip((raw.nll, raw.ece, raw.brier), kept, strict=True)
    return [name, *(cell(value) for value in (*hits, *(value for pair in pairs for value in pair)))]


def figures_text(metrics: EnsembleMetrics) -> str:
    """Return the ensemble and each teacher alone, one table for each split."""
    header = ["accuracy", "macro-F1", "minority", "NLL", "scaled", "ECE", "scaled", "Brier", "scaled"]
    texts = []
    for number, result in enumerate(metrics.evaluated):
        rows = [_row("ensemble", result)]
        rows += [_row(name, judged[number]) for name, judged in metrics.teachers.items()]
        texts.append(text_table([f"{result.split}, n={result.n}", *header], rows))
    return "\n\n".join(texts)


def _p_value(p_value: float) -> str:
    return "p < .001" if p_value < 0.001 else f"p = {p_value:.3f}".replace("0.", ".", 1)


def _signed(figure: PairedFigure) -> str:
    sign = "+" if figure.difference >= 0 else ""
    return f"{sign}{bare(figure.difference)} [{bare(figure.low)}, {bare(figure.high)}]"


def _chosen_here(split: str, *, searched: bool) -> str:
    """Say whom a choice by the rows of the comparison flatters: the best of many weights, or the best of a few teachers."""
    if searched:
        return f"weights and teacher were chosen by these {split} rows: the difference flatters the ensemble"
    return f"{split} rows chose the teacher as the best one, which flatters it; the weights were not chosen by them"


def comparison_text(comparison: TeacherComparison, *, calibrated: bool, searched: bool) -> str:
    """Return the paired differences of an ensemble and a teacher.

    Args:
        comparison: on one split.
        calibrated: whether both were calibrated first.
        searched: whether the weights were found on val, and not given.
    """
    rows = [
        [label, bare(figure.teacher), bare(figure.ensemble), _signed(figure), _p_value(figure.p_value)]
        for name, label in _FIGURES.items()
        if (figure := comparison.figures.get(name)) is not None
    ]
    interval = f"difference [{100 * comparison.confidence:g} %]"
    of = f"{comparison.split}, n={comparison.n}{', calibrated' if calibrated else ''}"
    header = [of, comparison.teacher, "ensemble", interval, ""]
    notes = [_chosen_here(comparison.split, searched=searched)] if comparison.chosen_here else []
    return "\n".join([text_table(header, rows), *notes])


def verdict(comparison: TeacherComparison) -> str:
    """Return in a sentence whether the ensemble beats the teacher, by interval and p-value of macro-F1."""
    figure = comparison.figures["macro_f1"]
    told = f"macro-F1 {_signed(figure)}, {_p_value(figure.p_value)}, n={comparison.n}"
    teacher = f"its best single teacher {comparison.teacher} on {comparison.split}"
    leaves_0_out = figure.low > 0 or figure.high < 0
    if leaves_0_out and figure.p_value > 1 - comparison.confidence:
        return f"nothing is certain between the ensemble and {teacher}: the interval leaves 0 out, the p-value does not ({told})"
    if figure.low > 0:
        return f"the ensemble beats {teacher}: {told}"
    if figure.high < 0:
        return f"the ensemble is worse than {teacher}: {told}"
    return f"the ensemble does not beat {teacher}: the interval holds 0 ({told})"


def line_of(name: str, metrics: EnsembleMetrics) -> str:
    """Return one line for a job of a sweep."""
    val = metrics.evaluated[0]
    ece = val.raw.ece if val.scaled is None else val.scaled.ece
    figures = f"macro-F1 {bare(val.raw.macro_f1)}, minority {bare(val.raw.minority_f1)}, ECE {bare(ece)}"
    return f"{name}: val {figures}, accuracy {bare(val.raw.accuracy)}"


def alarms(ensemble: Ensemble) -> list[str]:
    """Return what has to be said loudly: temperatures that ended at a bound of their search."""
    found = [
        f"the temperature of {teacher.name} is AT A BOUND of its search ({teacher.calibration_temperature:g}): not an optimum"
        for teacher in ensemble.teachers
        if teacher.temperature_at_bound
    ]
    record: CalibrationRecord | None = ensemble.calibration
    if record is not None and record.at_bound:
        shown = "" if record.calibration_temperature is None else f" ({record.calibration_temperature:g})"
        found.append(f"the ensemble's calibration is AT A BOUND of its search{shown}: not an optimum")
    return found


def teachers_text(teachers: Sequence[EnsembleTeacher]) -> str:
    """Return which teacher each short name stands for, a line for each."""
    return "\n".join(f"{teacher.name} is {teacher.given}" for teacher in teachers)


def twins(same: Sequence[tuple[str, str]]) -> list[str]:
    """Return a warning for each pair of teachers with the very same logits."""
    return [
        f"{first} and {second} have the very same logits on val: they are one network, which counts twice"
        for first, second in same
    ]


def seen_in_training(seen: Sequence[tuple[str, str, int]]) -> list[str]:
    """Return a warning for each teacher and split whose rows it was trained on."""
    return [
        f"{name} was trained on {number} of the {split} rows: their figures say nothing about other rows"
        for name, split, number in seen
    ]
