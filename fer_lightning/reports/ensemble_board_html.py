"""A leaderboard of ensembles as one self-contained HTML page."""

import math
from collections.abc import Sequence

from fer_lightning.reports.ensemble_board_page import (
    ENSEMBLE_LABELS,
    cell_of,
    heading_of_ensembles,
    notes_of_ensembles,
    shown_name,
)
from fer_lightning.reports.leaderboard_html import Cell, Column, Shown, page_html
from fer_lightning.runs.ensemble_board import ENSEMBLE_FIGURES, ComparedEnsemble, EnsembleBoard, EnsembleTable, Figures

_LOWER_IS_BETTER = {"ece", "ece_scaled", "nll", "nll_scaled", "brier"}


def _bests(rows: Sequence[Figures]) -> dict[str, float]:
    bests = {}
    for name in ENSEMBLE_FIGURES:
        values = [value for figures in rows if (value := figures[name]) is not None]
        if len(values) > 1:
            bests[name] = min(values) if name in _LOWER_IS_BETTER else max(values)
    return bests


def _figures(figures: Figures | None, bests: dict[str, float]) -> list[Cell]:
    cells = []
    for name in ENSEMBLE_FIGURES:
        value = None if figures is None else figures[name]
        best = value is not None and value == bests.get(name)
        cells.append(Cell(shown=cell_of(figures, name), key=math.nan if value is None else value, best=best))
    return cells


def _calibration(ensemble: ComparedEnsemble) -> Cell:
    temperature = ensemble.calibration_temperature
    shown = ensemble.calibration or "none"
    return Cell(
        shown=shown if temperature is None else f"{shown} {temperature:.3f}", alarming=ensemble.temperature_at_bound
    )


def _shown(table: EnsembleTable) -> Shown:
    bests = _bests([ensemble.val for ensemble in table.ensembles])
    tested = table.test_fingerprint is not None
    columns = [Column(title="#"), Column(title="weights", words=True)]
    columns += [Column(title=title) for title in ENSEMBLE_LABELS.values()]
    columns += [Column(title=f"test {title}") for title in ENSEMBLE_LABELS.values()] if tested else []
    columns.append(Column(title="calibrated by", words=True))
    rows = [
        [
            Cell(shown=str(place), key=place),
            Cell(shown=shown_name(ensemble), small=ensemble.name),
            *_figures(ensemble.val, bests),
            *(_figures(ensemble.test, {}) if tested else []),
            _calibration(ensemble),
        ]
        for place, ensemble in enumerate(table.ensembles, start=1)
    ]
    alone = [
        [
            Cell(shown="", key=math.nan),
            Cell(shown=f"{teacher.name} alone", small=teacher.checkpoint_sha256[:8]),
            *_figures(teacher.val, {}),
            *(_figures(teacher.test, {}) if tested else []),
            Cell(shown=""),
        ]
        for teacher in table.teachers
    ]
    return Shown(
        heading=heading_of_ensembles(table),
        label=table.label,
        notes=notes_of_ensembles(table),
        columns=columns,
        rows=rows + alone,
        files=[[ensemble.path] for ensemble in table.ensembles],
    )


def ensembles_html(board: EnsembleBoard) -> str:
    """Return the page; every name that comes from outside is escaped."""
    return page_html("Leaderboard of ensembles", board.order, [_shown(table) for table in board.tables], board.left_out)
