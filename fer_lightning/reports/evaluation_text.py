"""Console tables of an evaluation: headline with intervals, classes, slices with their gaps, conformal sets."""

from collections.abc import Sequence
from itertools import groupby

from fer_lightning.labels import EMOTIONS
from fer_lightning.reports.tables import text_table
from fer_lightning.runs.artifacts import CalibrationRecord
from fer_lightning.runs.evaluation import ConformalFigures, Evaluation, Range, SliceFigures, SliceGap

_HEADLINE = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "macro_f1_present": "macro-F1, present classes",
    "minority_f1": "minority-F1",
    "nll": "NLL",
    "brier": "Brier",
    "ece": "ECE",
    "adaptive_ece": "ECE, equal mass",
    "classwise_ece": "ECE, class-wise",
    "debiased_ece": "ECE, debiased RMS",
    "mce": "MCE",
    "soft_label_ece": "ECE, soft labels",
    "aurc": "area, risk-coverage",
    "mean_confidence": "mean confidence",
    "mean_entropy": "mean entropy",
}
_LONGEST_NAME = 40
_LONGEST_PATH = 30


def _number(value: float, digits: int = 4) -> str:
    """Write a figure without the zero before its point."""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def _with_range(value: float, around: Range | None) -> str:
    """Write a figure and its interval, `.8601 [.842, .877]`."""
    return (
        _number(value) if around is None else f"{_number(value)} [{_number(around.low, 3)}, {_number(around.high, 3)}]"
    )


def headline_table(evaluation: Evaluation) -> str:
    """Return the figures of all rows, raw and calibrated, with their intervals."""
    columns = [("raw", evaluation.raw, evaluation.raw_ranges)]
    if evaluation.scaled is not None:
        columns.append(("calibrated", evaluation.scaled, evaluation.scaled_ranges))
    rows = []
    for name, shown in _HEADLINE.items():
        values = [getattr(figures, name) for _, figures, _ in columns]
        if None not in values and (name != "macro_f1_present" or evaluation.result.absent_classes):
            ranges = [(ranges or {}).get(name) for _, _, ranges in columns]
            label = f"{shown} ({evaluation.raw.num_voted_rows} rows)" if name == "soft_label_ece" else shown
            rows.append([label, *map(_with_range, values, ranges)])
    for risk in evaluation.raw.coverage_at_risk:
        shares = [f"{100 * figures.coverage_at_risk[risk]:.1f} %" for _, figures, _ in columns]
        rows.append([f"coverage at error {risk}", *shares])
    num_rows, num_groups = evaluation.result.n, evaluation.num_groups
    size = f"n={num_rows}" if num_groups == num_rows else f"n={num_rows} in {num_groups} linked groups"
    return text_table([size, *(name for name, _, _ in columns)], rows)


def _ece_note(evaluation: Evaluation) -> str:
    """Explain an ECE above its own interval, where there is one."""
    pairs = [(evaluation.raw, evaluation.raw_ranges), (evaluation.scaled, evaluation.scaled_ranges)]
    above = any(figures and ranges and figures.ece > ranges["ece"].high for figures, ranges in pairs)
    return "\nan ECE above its interval: chance alone makes it that large with so few rows" if above else ""


def class_table(evaluation: Evaluation) -> str:
    """Return the figures of each class, calibrated where there is a calibration."""
    figures, ranges = evaluation.raw, evaluation.raw_ranges
    if evaluation.scaled is not None:
        figures, ranges = evaluation.scaled, evaluation.scaled_ranges
    rows = [
        [
            name,
            str(evaluation.result.support[name]),
            _number(figures.per_class_precision[name]),
            _number(figures.per_class_recall[name]),
            _with_range(figures.per_class_f1[name], (ranges or {}).get(f"f1_{name}")),
            _number(figures.per_class_ece[name]),
        ]
        for name in EMOTIONS
    ]
    return text_table(["class", "rows", "precision", "recall", "F1", "ECE"], rows)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."


def _short_path(path: str) -> str:
    """Keep the end of a path, which tells manifests apart."""
    return path if len(path) <= _LONGEST_PATH else f"...{path[3 - _LONGEST_PATH :]}"


def _p_value(p_value: float) -> str:
    return "p < .001" if p_value < 0.001 else f"p = {_number(p_value, 3)}"


def _gap_line(gap: SliceGap) -> str:
    shown = f"gap {_with_range(gap.accuracy_gap, gap.accuracy_gap_range)}"
    if gap.num_compared > 2:
        shown += f" (the two furthest apart of {gap.num_compared})"
    if gap.p_value is not None:
        shown += f"; as large by chance alone: {_p_value(gap.p_value)}"
    return f"{shown}\n  {_short(gap.best)} over {_short(gap.worst)}"


def slices_text(slices: Sequence[SliceFigures], gaps: Sequence[SliceGap]) -> str:
    """Return a table for each slicing, and below it how far apart the best and the worst of its large slices are."""
    gap_of = {gap.by: gap for gap in gaps}
    linked = any(part.num_groups != part.n for part in slices)
    texts = []
    for by, parts in groupby(slices, key=lambda part: part.by):
        rows = [
            [
                _short(part.value),
                str(part.n),
                *([str(part.num_groups)] if linked else []),
                _with_range(part.accuracy, part.accuracy_range),
                "" if by == "label" else _number(part.macro_f1_present),  # of one class it says nothing
                _number(part.nll),
                _number(part.ece),
            ]
            for part in parts
        ]
        counts = ["rows", "groups"] if linked else ["rows"]
        table = text_table([_short(by), *counts, "accuracy", "macro-F1", "NLL", "ECE"], rows)
        texts.append("\n".join([table, _gap_line(gap_of[by])] if by in gap_of else [table]))
    return "\n\n".join(texts)


def conformal_text(conformal: ConformalFigures) -> str:
    """Return what conformal sets promise and keep."""
    return (
        f"conformal sets: {_number(conformal.coverage)} hold the true class (promised {_number(1 - conformal.alpha)}), "
        f"{conformal.mean_size:.2f} classes on average\n"
        f"  {_number(conformal.singleton_share)} of one class, {_number(conformal.empty_share)} empty; {conformal.how}"
    )


def calibration_line(record: CalibrationRecord, *, kept: bool) -> str:
    """Return what is deployed beside the weights, e.g. `deployed calibration: temperature 2.592, fitted on val (320 rows)`.

    Args:
        record: of the calibration.
        kept: it is kept with the model; else it was fitted by this command.
    """
    without = record.calibration_temperature is None or record.method == "none"  # the latter has one of 1
    temperature = "" if without else f" {record.calibration_temperature:.4g}"
    bound = ", AT A BOUND of its search: not an optimum" if record.at_bound else ""
    fitted = f"fitted on {record.fitted_on_split} ({record.fitted_on_rows} rows)"
    what = "deployed calibration" if kept else "fitted now, and kept with no model"
    return f"{what}: {record.method}{temperature}, {fitted}{bound}"


def evaluation_text(evaluation: Evaluation) -> str:
    """Return all tables of an evaluation for the console."""
    scores = "raw" if evaluation.scaled is None else "calibrated"
    notes = [f"classes and slices below: {scores} scores"]
    if evaluation.raw_ranges is not None:
        notes.append(f"[{100 * evaluation.confidence:g} % intervals] of {evaluation.num_resamples} resamples")
    parts = [
        headline_table(evaluation),
        "; ".join(notes) + _ece_note(evaluation),
        class_table(evaluation),
        slices_text(evaluation.slices, evaluation.gaps),
    ]
    if evaluation.conformal is not None:
        parts.append(conformal_text(evaluation.conformal))
    return "\n\n".join(parts)


def manifests_text(evaluations: Sequence[Evaluation]) -> str:
    """Return one line for each of several evaluations, of calibrated scores where there are some."""
    rows = []
    for evaluation in evaluations:
        figures, ranges = evaluation.raw, evaluation.raw_ranges or {}
        if evaluation.scaled is not None:
            figures, ranges = evaluation.scaled, evaluation.scaled_ranges or {}
        rows.append(
            [
                _short_path(evaluation.manifest),
                f"{evaluation.result.n}/{evaluation.requested_rows}",
                "raw" if evaluation.scaled is None else "calibrated",
                _with_range(figures.accuracy, ranges.get("accuracy")),
                _with_range(figures.macro_f1, ranges.get("macro_f1")),
                _number(figures.minority_f1),
                _number(figures.nll),
                _number(figures.ece),
            ]
        )
    header = ["manifest", "rows", "scores", "accuracy", "macro-F1", "minority", "NLL", "ECE"]
    return text_table(header, rows)
