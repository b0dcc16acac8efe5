"""Ensembles ranked on val: the documents' order, one table for one set of rows, test figures beside them only."""

from pathlib import Path

import pytest

from fer_lightning.errors import FerError
from fer_lightning.runs.artifacts import read_artifact, write_artifact
from fer_lightning.runs.ensemble_board import ENSEMBLE_FIGURES, NOT_CHOSEN_BY, EnsembleBoard
from fer_lightning.runs.ensemble_comparison import compare_ensembles
from fer_lightning.runs.finished_ensemble import FinishedEnsemble
from tests.runs.compared_ensembles import TEST_ROWS, VAL_ROWS, finished


def order(*ensembles: FinishedEnsemble) -> list[str]:
    (table,) = compare_ensembles(ensembles, Path("sweep")).tables
    return [ensemble.name for ensemble in table.ensembles]


def test_macro_f1_minority_f1_ece_and_accuracy_decide_in_this_order() -> None:
    best = finished("best", macro_f1=0.7)
    minority = finished("minority", macro_f1=0.6, minority_f1=0.6, ece_scaled=0.09)
    ece = finished("ece", macro_f1=0.6, ece_scaled=0.01)
    raw_ece = finished("raw-ece", macro_f1=0.6, ece=0.015, ece_scaled=None)
    accuracy = finished("accuracy", macro_f1=0.6, accuracy=0.6)
    worst = finished("worst", macro_f1=0.6)
    given = [worst, accuracy, raw_ece, ece, minority, best]
    assert order(*given) == ["best", "minority", "ece", "raw-ece", "accuracy", "worst"]


def test_fewer_teachers_then_names_settle_a_tie_and_rounding_settles_nothing() -> None:
    three = finished("a", (0.5, 0.3, 0.2), macro_f1=0.6)
    two = finished("c", (0.5, 0.5, 0.0), macro_f1=0.6 - 1e-13, ece_scaled=0.02 + 1e-13)
    also_two = finished("b", (0.5, 0.0, 0.5), macro_f1=0.6 + 1e-13)
    assert order(three, two, also_two) == ["b", "c", "a"]


def test_test_figures_rank_nothing_and_are_labelled() -> None:
    (table,) = compare_ensembles([finished("a"), finished("b", test_rows=None)], Path("sweep")).tables
    assert (table.label, table.test_fingerprint, table.test_rows) == (NOT_CHOSEN_BY, TEST_ROWS, 40)
    first, second = table.ensembles
    assert first.test is not None
    assert first.test["accuracy"] == 0.11
    assert second.test is None
    assert first.path == "ensembles/a"
    (table,) = compare_ensembles([finished("b", test_rows=None)], Path("sweep")).tables
    assert (table.label, table.test_fingerprint, table.test_rows) == (None, None, 0)


def test_figures_of_other_test_rows_are_not_shown_in_one_column() -> None:
    given = [finished("a", macro_f1=0.9), finished("b", test_rows="0c" * 32)]
    (table,) = compare_ensembles(given, Path("sweep")).tables
    assert [ensemble.test is None for ensemble in table.ensembles] == [False, True]


def test_single_teachers_are_named_once_best_first() -> None:
    given = [finished("a", (0.5, 0.5)), finished("b", (0.1, 0.4, 0.5))]
    (table,) = compare_ensembles(given, Path("sweep")).tables
    assert [teacher.name for teacher in table.teachers] == ["CNXT", "B3", "RN18"]
    assert [teacher.val["macro_f1"] for teacher in table.teachers] == pytest.approx([0.5, 0.4, 0.3])


def test_scaled_teachers_and_bounds_are_told() -> None:
    given = [finished("a", macro_f1=0.9), finished("b", temperature=1.7, at_bound=True)]
    (table,) = compare_ensembles(given, Path("sweep")).tables
    told = [(one.teachers_scaled, one.temperature_at_bound, one.calibration_temperature) for one in table.ensembles]
    assert told == [(False, False, 2.5), (True, True, 2.5)]


def test_other_val_rows_are_refused_or_get_a_table_of_their_own(tmp_path: Path) -> None:
    given = [finished("a"), finished("b", rows="0b" * 32)]
    with pytest.raises(FerError, match=r"different rows or views(.|\n)*val rows fafafafa .*: 1 of the ensembles"):
        compare_ensembles(given, Path("sweep"))
    board = compare_ensembles(given, Path("sweep"), split_by_rows=True)
    assert [table.row_set_fingerprint for table in board.tables] == [VAL_ROWS, "0b" * 32]
    write_artifact(tmp_path / "leaderboard.json", board)
    assert read_artifact(tmp_path / "leaderboard.json", EnsembleBoard) == board


def test_every_figure_is_there() -> None:
    (table,) = compare_ensembles([finished("a")], Path("sweep")).tables
    assert tuple(table.ensembles[0].val) == ENSEMBLE_FIGURES
