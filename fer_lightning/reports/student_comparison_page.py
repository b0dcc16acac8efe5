"""A comparison of students as console text and Markdown."""

from fer_lightning.reports.leaderboard_cells import NONE, bare, cell, markdown_table
from fer_lightning.reports.student_comparison_text import (
    difference_text,
    fairness,
    limits_text,
    p_text,
    signed,
    verdict_text,
    what_decides,
    what_intervals_cover,
)
from fer_lightning.reports.tables import text_table
from fer_lightning.runs.student_comparison import ArmDifference, ArmFigure, JudgedArm, JudgedSplit, StudentComparison

FIGURE_FILE = "student_comparison.png"
_LABELS = {
    "macro_f1": "macro-F1",
    "macro_f1_present": "macro-F1 of present classes",
    "minority_f1": "minority-F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "nll": "NLL",
    "ece": "ECE",
    "brier": "Brier",
}
_CALIBRATED = ("nll", "ece", "brier")
_ENSEMBLE = "ensemble"


def _any_scaled(judged: JudgedSplit) -> bool:
    return any(arm.scaled is not None for arm in judged.arms.values())


def _columns(judged: JudgedSplit, names: tuple[str, ...]) -> list[tuple[str, bool]]:
    """Return figures to show, with whether they are calibrated; those of present classes where a class is absent."""
    shown = [name for name in names if name != "macro_f1_present" or judged.absent_classes]
    both = (False, True) if _any_scaled(judged) else (False,)
    return [(name, scaled) for name in shown for scaled in (both if name in _CALIBRATED else (False,))]


def _deployed(judged: JudgedSplit, names: tuple[str, ...]) -> list[tuple[str, bool]]:
    """Return figures to show, calibrated where that changes them."""
    return [(name, name in _CALIBRATED and _any_scaled(judged)) for name in names]


def _own(judged: JudgedArm, name: str, *, scaled: bool) -> ArmFigure | None:
    figures = judged.scaled if scaled else judged.raw
    return None if figures is None else figures.figures[name]


def _change(judged: JudgedArm, name: str, *, scaled: bool) -> ArmDifference | None:
    figures = judged.scaled if scaled else judged.raw
    return None if figures is None or figures.differences is None else figures.differences[name]


def _of_ensemble(judged: JudgedSplit, name: str, *, scaled: bool) -> float | None:
    if judged.ensemble is None:
        return None
    figures = judged.ensemble.scaled if scaled else judged.ensemble.raw
    return None if figures is None else figures[name]


def _label(name: str, *, scaled: bool) -> str:
    return f"{_LABELS[name]} scaled" if scaled else _LABELS[name]


def _arm_name(comparison: StudentComparison, name: str) -> str:
    return f"{name} (baseline)" if name == comparison.baseline else name


def heading(judged: JudgedSplit) -> str:
    """Return which rows a table is of."""
    absent = f"; no rows of {', '.join(judged.absent_classes)}" if judged.absent_classes else ""
    groups = f"n={judged.n} in {judged.num_groups} linked groups"
    return f"{judged.split} rows {judged.row_set_fingerprint[:8]} ({groups}{absent})"


def _retention(judged: JudgedArm) -> str:
    return NONE if judged.retention is None else f"{100 * judged.retention:.1f} %"


def _figures_on_console(comparison: StudentComparison, judged: JudgedSplit) -> str:
    columns = _columns(judged, ("macro_f1", "macro_f1_present", "minority_f1", "accuracy", "nll", "ece"))
    header = ["arm", "over rows", *(_label(name, scaled=scaled) for name, scaled in columns), "of ensemble"]
    rows = []
    for name, arm in judged.arms.items():
        macro_f1 = arm.raw.figures["macro_f1"]
        own = [_own(arm, figure, scaled=scaled) for figure, scaled in columns]
        cells = [cell(None if figure is None else figure.mean) for figure in own]
        limits = limits_text(macro_f1.low, macro_f1.high, bare)
        rows.append([_arm_name(comparison, name), limits, *cells, _retention(arm)])
    if judged.ensemble is not None:
        cells = [cell(_of_ensemble(judged, figure, scaled=scaled)) for figure, scaled in columns]
        rows.append([_ENSEMBLE, NONE, *cells, NONE])
    shown = [[row[0], row[2], row[1], *row[3:]] for row in (header, *rows)]  # the interval behind its figure
    return text_table(shown[0], shown[1:])


def _differences_on_console(judged: JudgedSplit) -> str:
    deployed = _deployed(judged, ("macro_f1", "minority_f1", "nll", "ece"))
    header = ["less baseline, over rows", *(_label(name, scaled=scaled) for name, scaled in deployed)]
    header[2:2] = ["p", "over rows and seeds"]
    rows = []
    for name, arm in judged.arms.items():
        macro_f1 = _change(arm, "macro_f1", scaled=False)
        if macro_f1 is not None:
            told = [difference_text(_change(arm, figure, scaled=scaled)) for figure, scaled in deployed]
            both = limits_text(macro_f1.low_of_rows_and_seeds, macro_f1.high_of_rows_and_seeds)
            rows.append([name, told[0], p_text(macro_f1.p_value), both, *told[1:]])
    return text_table(header, rows)


def console_text(comparison: StudentComparison) -> str:
    """Return the figures and differences of each split, then the verdict."""
    parts = [
        "\n".join([heading(judged), _figures_on_console(comparison, judged), "", _differences_on_console(judged)])
        for judged in comparison.splits
    ]
    notes = [*fairness(comparison), what_decides(comparison)]
    return "\n\n".join([*parts, "\n".join(notes), "\n".join(verdict_text(comparison))])


def _figure_cell(figure: ArmFigure | None) -> str:
    return NONE if figure is None else f"{bare(figure.mean)} {limits_text(figure.low, figure.high, bare)}"


def _markdown_figures(comparison: StudentComparison, judged: JudgedSplit) -> str:
    columns = _columns(judged, tuple(_LABELS))
    rows = [
        [
            _arm_name(comparison, name),
            *(_figure_cell(_own(arm, figure, scaled=scaled)) for figure, scaled in columns),
            _retention(arm),
        ]
        for name, arm in judged.arms.items()
    ]
    if judged.ensemble is not None:
        cells = [cell(_of_ensemble(judged, figure, scaled=scaled)) for figure, scaled in columns]
        rows.append([_ENSEMBLE, *cells, NONE])
    header = ["arm", *(_label(name, scaled=scaled) for name, scaled in columns), "of the ensemble's macro-F1"]
    return markdown_table(header, rows)


def _markdown_differences(judged: JudgedSplit) -> str:
    rows = []
    for name, arm in judged.arms.items():
        for figure, scaled in _columns(judged, tuple(_LABELS)):
            change = _change(arm, figure, scaled=scaled)
            if change is not None:
                over_seeds = limits_text(change.low_of_seeds, change.high_of_seeds)
                both = limits_text(change.low_of_rows_and_seeds, change.high_of_rows_and_seeds)
                each = ", ".join(map(signed, change.values))
                told = [difference_text(change), p_text(change.p_value), over_seeds, both, each]
                rows.append([name, _label(figure, scaled=scaled), *told])
    header = ["arm", "figure", "less baseline, over rows", "p", "over seeds", "over rows and seeds", "each seed"]
    return markdown_table(header, rows)


def _markdown_arms(comparison: StudentComparison) -> str:
    rows = [
        [
            _arm_name(comparison, arm.name),
            ", ".join(f"{key}={value}" for key, value in arm.options.items()) or NONE,
            ", ".join(NONE if value is None else f"{value:.4g}" for value in arm.kd_temperatures),
            ", ".join(str(epoch + 1) for epoch in arm.best_epochs),
            ", ".join(f"`{run}`" for run in arm.runs),
            ", ".join(f"`{sha256[:8]}`" for sha256 in arm.checkpoint_sha256s),
        ]
        for arm in comparison.arms
    ]
    header = ["arm", "differs from the baseline in", "KD temperature", "best epoch (from 1)", "runs", "checkpoints"]
    return markdown_table(header, rows)


def _what_was_compared(comparison: StudentComparison) -> list[str]:
    student, ensemble = comparison.student, comparison.ensemble
    lines = [f"student {student.backbone}, {student.num_parameters:,} parameters"]
    if ensemble is not None:
        size = "" if ensemble.num_parameters is None else f", {ensemble.num_parameters:,} parameters"
        lines.append(f"ensemble {ensemble.name} `{ensemble.sha256[:8]}`{size}")
    return [*lines, f"manifest `{comparison.manifest}` `{comparison.manifest_sha256[:8]}`"]


def markdown_page(comparison: StudentComparison) -> str:
    """Return the whole comparison as Markdown."""
    num_seeds = len(comparison.seeds)
    covered = what_intervals_cover(comparison.splits[0], num_seeds)
    notes = [*_what_was_compared(comparison), *fairness(comparison), what_decides(comparison), *covered]
    first, *targets = verdict_text(comparison)
    parts = [f"# {comparison.name}", f"**{first}**", "\n".join(f"- {line}" for line in targets)]
    parts += [f"![macro-F1, minority-F1, NLL and ECE of each arm]({FIGURE_FILE})", "## What was compared"]
    parts += ["\n".join(f"- {note}" for note in notes), _markdown_arms(comparison)]
    for judged in comparison.splits:
        scaled = sorted({how for arm in judged.arms.values() for how in arm.scaled_how})
        parts += [f"## {heading(judged)}", f"Scaled: {'; '.join(scaled)}. Intervals are over rows."]
        parts += [
            _markdown_figures(comparison, judged),
            f"### Less {comparison.baseline}",
            _markdown_differences(judged),
        ]
    return "\n\n".join(part for part in parts if part) + "\n"
