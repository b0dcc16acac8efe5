"""What every leaderboard has in common: reads what can be compared, writes leaderboard.md, .csv, .html and .json, shows it."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from fer_lightning.errors import FerError
from fer_lightning.files import write_text_atomically
from fer_lightning.reports.ensemble_board_html import ensembles_html
from fer_lightning.reports.ensemble_board_page import console_ensembles, csv_ensembles, markdown_ensembles
from fer_lightning.reports.evaluation_board_page import console_evaluations, csv_evaluations, markdown_evaluations
from fer_lightning.reports.leaderboard_html import leaderboard_html
from fer_lightning.reports.leaderboard_page import console_text, csv_text, markdown_page
from fer_lightning.runs.artifacts import write_artifact
from fer_lightning.runs.ensemble_board import EnsembleBoard
from fer_lightning.runs.evaluation_board import EvaluationBoard
from fer_lightning.runs.leaderboard import Leaderboard, LeftOut

Read = TypeVar("Read")
Board = Leaderboard | EvaluationBoard | EnsembleBoard
log = logging.getLogger(__name__)


def attempt(paths: Sequence[Path], read: Callable[[Path], Read]) -> tuple[list[Read], list[LeftOut]]:
    """Read what can be compared, and say of the rest why it cannot."""

    def one(path: Path) -> Read | LeftOut:
        try:
            return read(path)
        except FerError as error:
            reason = str(error).replace(f"{path}/", "").removeprefix(str(path)).lstrip(": ")
            return LeftOut(run=str(path), reason=reason)

    with ThreadPoolExecutor() as threads:  # digests of checkpoints
        found = list(threads.map(one, paths))
    done = [item for item in found if not isinstance(item, LeftOut)]
    return done, [item for item in found if isinstance(item, LeftOut)]


def listed(left_out: Sequence[LeftOut]) -> str:
    """Return what is not compared, line by line."""
    return "\n  ".join(f"{item.run}: {item.reason}" for item in left_out)


def with_refused(left_out: Sequence[LeftOut], refused: Sequence[tuple[str, str, Sequence[Path]]]) -> list[LeftOut]:
    """Return what a sweep leaves out: a refused job once, by its own reason.

    Args:
        left_out: folders that cannot be read.
        refused: job, reason and folders, of jobs that did not get to their end.
    """
    named = {str(directory.resolve()) for _, _, directories in refused for directory in directories}
    others = [item for item in left_out if str(Path(item.run).resolve()) not in named]
    return others + [LeftOut(run=job, reason=reason) for job, reason, _ in refused]


def _texts(board: Board) -> tuple[list[str], str, str, str]:
    """Return a leaderboard as tables for the console, Markdown, CSV and HTML."""
    if isinstance(board, Leaderboard):
        consoles = [console_text(table) for table in board.tables]
        return consoles, markdown_page(board), csv_text(board), leaderboard_html(board)
    if isinstance(board, EvaluationBoard):
        consoles = [console_evaluations(table) for table in board.tables]
        return consoles, markdown_evaluations(board), csv_evaluations(board), leaderboard_html(board)
    consoles = [console_ensembles(table) for table in board.tables]
    return consoles, markdown_ensembles(board), csv_ensembles(board), ensembles_html(board)


def publish(board: Board, folder: Path, *, figures: Sequence[str] = ()) -> None:
    """Write the files and show the tables.

    Args:
        board: what was compared.
        folder: where the files go.
        figures: names of figures that lie there already, to be told with the files.

    Raises:
        FerError: the folder cannot be written.
    """
    consoles, markdown, csv, html = _texts(board)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_artifact(folder / "leaderboard.json", board)
        write_text_atomically(folder / "leaderboard.md", markdown)
        write_text_atomically(folder / "leaderboard.csv", csv)
        write_text_atomically(folder / "leaderboard.html", html)
    except OSError as error:
        raise FerError(f"cannot write to {folder}: {error.strerror}; choose another compare.output_dir") from error
    for text in consoles:
        log.info("%s", text)
    if board.left_out:
        log.warning("left out %d:\n  %s", len(board.left_out), listed(board.left_out))
    drawn = "".join(f"; {folder / name}" for name in figures)
    log.info("wrote %s, .csv, .html and .json%s", folder / "leaderboard.md", drawn)
