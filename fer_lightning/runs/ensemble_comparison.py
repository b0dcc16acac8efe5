"""Ranks ensembles by their figures on val; those of different rows or views never meet in one table."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.runs.artifacts import EvaluatedCheckpoint
from fer_lightning.runs.document_order import DOCUMENT_ORDER, place_of
from fer_lightning.runs.ensemble_board import (
    NOT_CHOSEN_BY,
    ComparedEnsemble,
    ComparedTeacher,
    EnsembleBoard,
    EnsembleTable,
    Figures,
)
from fer_lightning.runs.finished_ensemble import FinishedEnsemble
from fer_lightning.runs.headline import headline_figures
from fer_lightning.runs.leaderboard import LeftOut

ENSEMBLE_ORDER = (
    *DOCUMENT_ORDER,
    "teachers with a share, fewer",
)
"""What decides a place, the first one first; all on val."""
_Rows = tuple[str, str, int, int]
"""View, fingerprint, rows and ECE bins: what figures must share to be compared."""


def _judged_on(ensemble: FinishedEnsemble) -> _Rows:
    val = ensemble.val
    return ensemble.record.view, val.row_set_fingerprint, val.n, val.num_bins


def _refuse_several_row_sets(tables: Mapping[_Rows, Sequence[FinishedEnsemble]]) -> None:
    lines = []
    for (view, fingerprint, n, bins), ensembles in tables.items():
        paths = ", ".join(str(ensemble.path) for ensemble in ensembles)
        rows = f"val rows {fingerprint[:8]} (n={n}, {view} view, ECE of {bins} bins)"
        lines.append(f"{rows}: {len(ensembles)} of the ensembles: {paths}")
    listed = "\n  ".join(lines)
    raise FerError(
        f"ensembles of different rows or views cannot be compared:\n  {listed}\n"
        "Name ensembles of one set in compare.runs, or ask for a table of each with compare.split_by_rows=true."
    )


def headline(result: EvaluatedCheckpoint) -> Figures:
    """Return the figures of a table, by name."""
    return headline_figures(result.raw, result.scaled) | {"brier": result.raw.brier}


def _place(ensemble: FinishedEnsemble) -> tuple[float | str, ...]:
    shares = sum(weight > 0 for weight in ensemble.metrics.weights.values())
    return *place_of(ensemble.val), shares, ensemble.path.name


def _on_test(result: EvaluatedCheckpoint | None, fingerprint: str | None) -> Figures | None:
    return headline(result) if result is not None and result.row_set_fingerprint == fingerprint else None


def _compared(ensemble: FinishedEnsemble, folder: Path, test_fingerprint: str | None) -> ComparedEnsemble:
    record, metrics = ensemble.record, ensemble.metrics
    calibration = record.calibration
    at_bound = any(teacher.temperature_at_bound for teacher in record.teachers)
    return ComparedEnsemble(
        name=ensemble.path.name,
        path=Path(os.path.relpath(ensemble.path, folder)).as_posix(),
        space=record.space,
        weights=metrics.weights,
        weights_how=record.weights_how,
        teachers_scaled=any(teacher.calibration_temperature != 1 for teacher in record.teachers),
        calibration=None if calibration is None else calibration.method,
        calibration_temperature=None if calibration is None else calibration.calibration_temperature,
        temperature_at_bound=at_bound or (calibration is not None and calibration.at_bound),
        val=headline(ensemble.val),
        test=_on_test(ensemble.test, test_fingerprint),
        best_teacher=metrics.best_teacher,
        against_best_teacher=metrics.against_best_teacher,
    )


def _teachers(ensembles: Sequence[FinishedEnsemble], test_fingerprint: str | None) -> list[ComparedTeacher]:
    """Return every teacher once, best first."""
    found: dict[tuple[str, str], tuple[tuple[float, ...], ComparedTeacher]] = {}
    for ensemble in ensembles:
        for name, judged in ensemble.metrics.teachers.items():
            val = judged[0]
            test = judged[1] if len(judged) > 1 else None
            teacher = ComparedTeacher(
                name=name,
                checkpoint_sha256=val.checkpoint_sha256,
                val=headline(val),
                test=_on_test(test, test_fingerprint),
            )
            found.setdefault((name, val.checkpoint_sha256), (place_of(val), teacher))
    return [teacher for _, teacher in sorted(found.values(), key=lambda item: (item[0], item[1].name))]


def _table(rows: _Rows, judged: Sequence[FinishedEnsemble], folder: Path) -> EnsembleTable:
    ranked = sorted(judged, key=_place)
    test = next((ensemble.test for ensemble in ranked if ensemble.test is not None), None)
    test_fingerprint = None if test is None else test.row_set_fingerprint
    view, fingerprint, n, bins = rows
    return EnsembleTable(
        split="val",
        view=view,
        n=n,
        row_set_fingerprint=fingerprint,
        num_bins=bins,
        test_rows=0 if test is None else test.n,
        test_fingerprint=test_fingerprint,
        label=None if test is None else NOT_CHOSEN_BY,
        ensembles=[_compared(ensemble, folder, test_fingerprint) for ensemble in ranked],
        teachers=_teachers(ranked, test_fingerprint),
    )


def compare_ensembles(
    ensembles: Sequence[FinishedEnsemble],
    folder: Path,
    *,
    split_by_rows: bool = False,
    left_out: Sequence[LeftOut] = (),
) -> EnsembleBoard:
    """Rank ensembles by their figures on val; those on test stand beside them.

    Args:
        ensembles: at least one.
        folder: where the leaderboard will lie; its paths are relative to it.
        split_by_rows: one table for each set of val rows and view, instead of an error.
        left_out: what could not be read, for the record.

    Raises:
        FerError: ensembles of different val rows, views or ECE bins.
    """
    by_rows: dict[_Rows, list[FinishedEnsemble]] = {}
    for ensemble in ensembles:
        by_rows.setdefault(_judged_on(ensemble), []).append(ensemble)
    if len(by_rows) > 1 and not split_by_rows:
        _refuse_several_row_sets(by_rows)
    tables = [_table(rows, judged, folder) for rows, judged in by_rows.items()]
    return EnsembleBoard(order=[*ENSEMBLE_ORDER], tables=tables, left_out=[*left_out])
