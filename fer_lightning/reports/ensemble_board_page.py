"""A leaderboard of ensembles as console text, Markdown, CSV, and a table of the HTML page."""

import csv
import io
from collections.abc import Sequence

from fer_lightning.reports.ensemble_text import verdict
from fer_lightning.reports.leaderboard_cells import NONE, bare, markdown_table, shortened, weights_text
from fer_lightning.reports.tables import text_table
from fer_lightning.runs.ensemble_board import (
    ENSEMBLE_FIGURES,
    ComparedEnsemble,
    ComparedTeacher,
    EnsembleBoard,
    EnsembleTable,
    Figures,
)

ENSEMBLE_LABELS = dict(
    zip(
        ENSEMBLE_FIGURES,
        ("macro-F1", "minority-F1", "accuracy", "ECE", "ECE scaled", "NLL", "NLL scaled", "Brier"),
        strict=True,
    )
)
_ON_CONSOLE = {
    "macro_f1": "macro-F1",
    "minority_f1": "minority",
    "accuracy": "accuracy",
    "ece": "ECE",
    "ece_scaled": "scaled",
    "nll_scaled": "NLL scaled",
}
_ON_TEST = {
    "macro_f1": "| test macro-F1",
    "minority_f1": "minority",
    "accuracy": "accuracy",
    "ece_scaled": "ECE scaled",
}
_WIDEST = 44
_MOST_ON_CONSOLE = 20


def heading_of_ensembles(table: EnsembleTable) -> str:
    """Return what stands above a table."""
    number = len(table.ensembles)
    view = "" if table.view == "single" else f", {table.view} view"
    rows = f"{table.split} rows {table.row_set_fingerprint[:8]} (n={table.n}{view})"
    return f"{number} ensemble{'s' * (number != 1)}, ranked on {rows}"


def notes_of_ensembles(table: EnsembleTable) -> list[str]:
    """Return what has to be known to read a table, and whether ensembles beat their best single teachers."""
    notes = ["ranked by the rows that calibration, and weights where they were searched, were chosen on"]
    if table.test_fingerprint is not None:
        notes.append(f"test rows {table.test_fingerprint[:8]} (n={table.test_rows})")
    for place, ensemble in enumerate(table.ensembles, start=1):
        if ensemble.temperature_at_bound:
            notes.append(f"#{place}: a temperature is AT A BOUND of its search: not an optimum")
        notes += [
            f"#{place}: {verdict(comparison)}"
            for comparison in ensemble.against_best_teacher
            if comparison.split == "test"
        ]
    return notes


def shown_name(ensemble: ComparedEnsemble) -> str:
    """Return weights, space and what else tells an ensemble from others, e.g. `0.7 RN18 + 0.3 B3, logit`."""
    used = {name: weight for name, weight in ensemble.weights.items() if weight}
    scaled = ", scaled" if ensemble.teachers_scaled else ""
    how = "" if ensemble.weights_how in {"given", "equal"} else f", {ensemble.weights_how.partition(' ')[0]}"
    calibrated = "" if ensemble.calibration == "temperature" else f", {ensemble.calibration or 'uncalibrated'}"
    return f"{weights_text(used)}, {ensemble.space}{scaled}{how}{calibrated}"


def cell_of(figures: Figures | None, name: str) -> str:
    """Return a figure; `-` where there is none."""
    value = None if figures is None else figures[name]
    return NONE if value is None else bare(value)


def _line(name: str, row: ComparedEnsemble | ComparedTeacher, *, with_test: bool) -> list[str]:
    on_test = [cell_of(row.test, figure) for figure in _ON_TEST] if with_test else []
    return [name, *(cell_of(row.val, figure) for figure in _ON_CONSOLE), *on_test]


def console_ensembles(table: EnsembleTable) -> str:
    """Return the best ensembles and every single teacher, best first."""
    with_test = table.test_fingerprint is not None
    header = ["on val", *_ON_CONSOLE.values(), *(_ON_TEST.values() if with_test else [])]
    rows = [
        _line(f"{place} {shortened(shown_name(ensemble), _WIDEST)}", ensemble, with_test=with_test)
        for place, ensemble in enumerate(table.ensembles[:_MOST_ON_CONSOLE], start=1)
    ]
    rows += [_line(f"  {teacher.name} alone", teacher, with_test=with_test) for teacher in table.teachers]
    more = len(table.ensembles) - _MOST_ON_CONSOLE
    notes = [f"and {more} more"] * (more > 0) + ([] if table.label is None else [table.label])
    return "\n".join([heading_of_ensembles(table), text_table(header, rows), *notes, *notes_of_ensembles(table)])


def _markdown_figures(table: EnsembleTable) -> str:
    header = ["#", "weights", *ENSEMBLE_LABELS.values()]
    header += [f"test {label}" for label in ENSEMBLE_LABELS.values()] if table.test_fingerprint is not None else []

    def row(place: str, name: str, of: ComparedEnsemble | ComparedTeacher) -> list[str]:
        test = [cell_of(of.test, figure) for figure in ENSEMBLE_FIGURES]
        cells = [place, name, *(cell_of(of.val, figure) for figure in ENSEMBLE_FIGURES)]
        return cells + (test if table.test_fingerprint is not None else [])

    rows = [row(str(place), shown_name(one), one) for place, one in enumerate(table.ensembles, start=1)]
    rows += [row("", f"{teacher.name} alone ({teacher.checkpoint_sha256[:8]})", teacher) for teacher in table.teachers]
    return markdown_table(header, rows)


def markdown_ensembles(board: EnsembleBoard) -> str:
    """Return the whole leaderboard as Markdown: every figure, and the folder behind each row."""
    parts = ["# Leaderboard of ensembles"]
    parts.append(
        f"Best first on val by: {'; then '.join(board.order)}. Scaled figures are calibrated. {NONE} is not known."
    )
    for table in board.tables:
        notes = [*([] if table.label is None else [f"**{table.label}**"]), *notes_of_ensembles(table)]
        folders = "\n".join(f"{place}. `{one.path}`" for place, one in enumerate(table.ensembles, start=1))
        listed = "\n".join(f"- {note}" for note in notes)
        parts += [f"## {heading_of_ensembles(table)}", listed, _markdown_figures(table), folders]
    if board.left_out:
        parts.append(f"## Left out: {len(board.left_out)}")
        parts.append("\n".join(f"- {item.run}: {item.reason}" for item in board.left_out))
    return "\n\n".join(parts) + "\n"


def _teachers_of(board: EnsembleBoard) -> list[str]:
    ensembles = [ensemble for table in board.tables for ensemble in table.ensembles]
    return list(dict.fromkeys(name for ensemble in ensembles for name in ensemble.weights))


def _csv_cells(ensemble: ComparedEnsemble, names: Sequence[str]) -> list[object]:
    figures: list[object] = []
    for of_split in (ensemble.val, ensemble.test):
        figures += [None if of_split is None else of_split[name] for name in ENSEMBLE_FIGURES]
    weights = [ensemble.weights.get(name) for name in names]
    how = [ensemble.weights_how, ensemble.teachers_scaled, ensemble.calibration, ensemble.calibration_temperature]
    return [ensemble.space, *weights, *how, *figures, ensemble.best_teacher, ensemble.path]


def csv_ensembles(board: EnsembleBoard) -> str:
    """Return one line per ensemble; empty where something is not known."""
    names = _teachers_of(board)
    header = ["view", "row_set_fingerprint", "n", "test_fingerprint", "test_rows", "label", "place", "space"]
    header += [f"weight_{name}" for name in names]
    header += ["weights_how", "teachers_scaled", "calibration", "calibration_temperature"]
    header += [f"{split}_{name}" for split in ("val", "test") for name in ENSEMBLE_FIGURES]
    header += ["best_teacher", "ensemble"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    for table in board.tables:
        of_table = [
            table.view,
            table.row_set_fingerprint,
            table.n,
            table.test_fingerprint,
            table.test_rows,
            table.label,
        ]
        for place, ensemble in enumerate(table.ensembles, start=1):
            writer.writerow([*of_table, place, *_csv_cells(ensemble, names)])
    return file.getvalue()
