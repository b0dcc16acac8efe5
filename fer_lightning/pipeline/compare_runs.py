"""Compares finished runs over their seeds, ensembles, or evaluations: leaderboard.md, .csv, .html and .json."""

import glob
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.pipeline.config import CompareRunsRun, Comparison
from fer_lightning.pipeline.sweeps.leaderboard_files import attempt, listed, publish
from fer_lightning.runs.comparison import compare
from fer_lightning.runs.ensemble_comparison import compare_ensembles
from fer_lightning.runs.ensemble_file import is_ensemble
from fer_lightning.runs.evaluation_comparison import compare_evaluations
from fer_lightning.runs.finished_ensemble import read_finished_ensemble
from fer_lightning.runs.finished_evaluation import EVALUATION_FILE, read_finished_evaluation
from fer_lightning.runs.finished_run import read_finished_run
from fer_lightning.runs.run_dir import read_config

log = logging.getLogger(__name__)


def compare_runs(run: CompareRunsRun) -> None:
    """Read finished runs, ensembles or evaluations, as they are named, compare them, and write the leaderboard.

    Teachers and students stand in one table where they were judged on the same rows; `task` then tells them apart.

    Raises:
        FerError: no runs, none of them finished, runs judged on different rows, or a baseline that is none of them;
            ensembles and trained runs together.
    """
    if run.compare.evaluations:
        _compare_evaluations(run.compare)
        return
    directories = _directories(run.compare.runs or [f"{run.run.root}/teachers"])
    ensembles = [directory for directory in directories if is_ensemble(str(directory))]
    if ensembles:
        _compare_ensembles(run.compare, directories, ensembles)
        return
    runs, left_out = attempt(directories, read_finished_run)
    if not runs:
        raise FerError(f"none of the {len(left_out)} runs can be compared:\n  {listed(left_out)}")
    folder = _folder(run.compare, [run.path for run in runs])
    board = compare(
        runs, folder, split_by_rows=run.compare.split_by_rows, baseline=run.compare.baseline, left_out=left_out
    )
    publish(board, folder)


def _compare_ensembles(given: Comparison, directories: Sequence[Path], ensembles: Sequence[Path]) -> None:
    """Read ensembles, rank them on val, and write their leaderboard."""
    others = [directory for directory in directories if directory not in ensembles and not _is_unfinished(directory)]
    if others:
        raise FerError(
            f"compare.runs names ensembles ({ensembles[0]}) and what is none ({others[0]}): their figures are chosen in different "
            "ways; compare one kind at a time"
        )
    if given.baseline is not None:
        raise FerError(
            "compare.baseline takes differences of trained runs over seeds; an ensemble is compared with its best single teacher, "
            "row by row, in its ensemble_metrics.json"
        )
    finished, left_out = attempt(directories, read_finished_ensemble)
    if not finished:
        raise FerError(f"none of the {len(left_out)} ensembles can be compared:\n  {listed(left_out)}")
    folder = _folder(given, [ensemble.path for ensemble in finished])
    publish(compare_ensembles(finished, folder, split_by_rows=given.split_by_rows, left_out=left_out), folder)


def _is_unfinished(directory: Path) -> bool:
    """Whether it is the folder of an ensemble that was interrupted."""
    return _is_run(directory) and read_config(directory).get("task") == "fuse_ensemble"


def _compare_evaluations(given: Comparison) -> None:
    """Read evaluations, compare them, and write their leaderboard."""
    evaluations, left_out = attempt(_evaluation_files(given.evaluations), read_finished_evaluation)
    if not evaluations:
        raise FerError(f"none of the {len(left_out)} evaluations can be compared:\n  {listed(left_out)}")
    folder = _folder(given, [evaluation.path.parent for evaluation in evaluations])
    board = compare_evaluations(evaluations, folder, split_by_rows=given.split_by_rows, left_out=left_out)
    publish(board, folder)


def _evaluation_files(patterns: Sequence[str]) -> list[Path]:
    """Return the evaluations that are named, each once: files, their folders, or folders of these."""
    found: list[Path] = []
    for pattern in patterns:
        named = [Path(pattern)] if Path(pattern).exists() else [Path(match) for match in sorted(glob.glob(pattern))]  # noqa: PTH207
        own = [path / EVALUATION_FILE for path in named if (path / EVALUATION_FILE).is_file()]
        below = [file for path in named if path.is_dir() for file in sorted(path.glob(f"*/{EVALUATION_FILE}"))]
        files = [path for path in named if path.is_file()]
        if not own + below + files:
            raise FerError(
                f"compare.evaluations: {pattern} names no evaluation; they are below experiments/evaluations"
            )
        found += own + below + files
    return list({path.resolve(): path for path in reversed(found)}.values())[::-1]


def _is_run(directory: Path) -> bool:
    return (directory / "config.yaml").is_file()


def _inside(folder: Path) -> list[Path]:
    """Return the run directories of a folder: its own, those of its `teachers/` and `students/`, or else of its `ensembles/`."""
    children = sorted([*folder.glob("*/"), *folder.glob("teachers/*/"), *folder.glob("students/*/")])
    found = [child for child in children if _is_run(child)]
    return found or [child for child in sorted(folder.glob("ensembles/*/")) if _is_run(child)]


def _directories(patterns: Sequence[str]) -> list[Path]:
    """Return the directories that are named, each once; those named one by one need not be runs."""
    found: list[Path] = []
    for pattern in patterns:
        named = [Path(pattern)] if Path(pattern).is_dir() else [Path(match) for match in sorted(glob.glob(pattern))]  # noqa: PTH207
        folders = [path for path in named if path.is_dir()]
        below = [run for folder in folders for run in ([folder] if _is_run(folder) else _inside(folder) or [folder])]
        if not below:
            raise FerError(
                f"compare.runs: {pattern} names no directory; runs are below experiments/teachers, experiments/students and multirun"
            )
        found += below
    return list({path.resolve(): path for path in reversed(found)}.values())[::-1]


def _folder(given: Comparison, compared: Sequence[Path]) -> Path:
    """Return where the leaderboard goes: what is asked for, or the folder around all that is compared."""
    if given.output_dir is not None:
        folder = Path(given.output_dir)
    else:
        common = Path(os.path.commonpath([path.resolve().parent for path in compared]))
        folder = common.relative_to(Path.cwd()) if common.is_relative_to(Path.cwd()) else common
    _refuse_run_directory(folder)
    return folder


def _refuse_run_directory(folder: Path) -> None:
    inside = [
        path for path in (folder.resolve(), *folder.resolve().parents) if _is_run(path) and (path / "run.log").exists()
    ]
    if inside:
        raise FerError(f"compare.output_dir: {folder} is inside the run directory {inside[0]}; choose another")
