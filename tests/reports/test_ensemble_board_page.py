"""Leaderboards of ensembles as text and HTML: labelled, escaped, with the verdict and what is alarming."""

import csv
import io
from pathlib import Path

from fer_lightning.reports.ensemble_board_html import ensembles_html
from fer_lightning.reports.ensemble_board_page import console_ensembles, csv_ensembles, markdown_ensembles
from fer_lightning.runs.ensemble_board import ENSEMBLE_FIGURES, EnsembleBoard
from fer_lightning.runs.ensemble_comparison import compare_ensembles
from fer_lightning.runs.leaderboard import LeftOut
from tests.runs.compared_ensembles import comparison, finished

FIRST = finished("first", (0.7, 0.3), macro_f1=0.71, against=[comparison(0.01, 0.03)])
SECOND = finished("second", (0.5, 0.0, 0.5), macro_f1=0.6, temperature=1.5, at_bound=True)


def board(*, left_out: tuple[LeftOut, ...] = ()) -> EnsembleBoard:
    return compare_ensembles([SECOND, FIRST], Path("sweep"), left_out=left_out)


def test_the_console_ranks_on_val_and_labels_test() -> None:
    text = console_ensembles(board().tables[0])
    lines = text.splitlines()
    assert lines[0] == "2 ensembles, ranked on val rows fafafafa (n=51)"
    assert lines[3].startswith("1 0.7 RN18 + 0.3 B3, logit ")
    assert lines[4].startswith("2 0.5 RN18 + 0.5 CNXT, logit, scaled ")
    assert [line.split()[0] for line in lines[5:8]] == ["CNXT", "B3", "RN18"]
    assert "test: not used for the choice" in lines
    assert "#2: a temperature is AT A BOUND of its search: not an optimum" in lines
    assert any(line.startswith("#1: the ensemble beats its best single teacher RN18 on test: ") for line in lines)
    assert max(map(len, lines[:8])) < 160


def test_many_ensembles_are_cut_on_the_console_only() -> None:
    many = [finished(f"e{number:02d}", macro_f1=number / 100) for number in range(25)]
    (table,) = compare_ensembles(many, Path("sweep")).tables
    text = console_ensembles(table)
    assert "and 5 more" in text
    assert "\n21 " not in text


def test_without_test_there_is_no_column_for_it() -> None:
    (table,) = compare_ensembles([finished("a", test_rows=None)], Path("sweep")).tables
    assert "test" not in console_ensembles(table)


def test_markdown_has_every_figure_and_folder() -> None:
    text = markdown_ensembles(board(left_out=(LeftOut(run="job 3", reason="refused"),)))
    header = next(line for line in text.splitlines() if line.startswith("| # |"))
    assert header.count("|") == 2 + 1 + 2 * len(ENSEMBLE_FIGURES)
    assert "1. `ensembles/first`\n2. `ensembles/second`" in text
    assert "- **test: not used for the choice**" in text
    assert "- job 3: refused" in text


def test_csv_has_a_column_for_each_teacher() -> None:
    first, second = csv.DictReader(io.StringIO(csv_ensembles(board())))
    assert [first[f"weight_{name}"] for name in ("RN18", "B3", "CNXT")] == ["0.7", "0.3", ""]
    assert [second[f"weight_{name}"] for name in ("RN18", "B3", "CNXT")] == ["0.5", "0.0", "0.5"]
    assert (first["place"], first["val_macro_f1"], first["test_accuracy"]) == ("1", "0.71", "0.11")
    assert first["label"] == "test: not used for the choice"


def test_html_is_escaped_and_marks_what_is_best_and_alarming() -> None:
    evil = finished("<b>evil", macro_f1=0.1)
    page = ensembles_html(compare_ensembles([FIRST, SECOND, evil], Path("sweep")))
    assert "<b>evil" not in page
    assert "&lt;b&gt;evil" in page
    assert '<td class="best" data-key="0.71">.7100</td>' in page
    assert '<td class="words alarming">temperature 2.500</td>' in page
    assert '<p class="label">test: not used for the choice</p>' in page
