"""Compares the teachers and students of a sweep over their seeds, and draws how they respond to the swept options."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from fer_lightning.files import explained_write_errors
from fer_lightning.pipeline.sweeps.leaderboard_files import attempt, publish, with_refused
from fer_lightning.runs.comparison import compare
from fer_lightning.runs.finished_run import FinishedRun, read_finished_run
from fer_lightning.runs.sweep_jobs import SweepJob, option_of
from fer_lightning.runs.sweep_response import ResponsePoint, varied_options

log = logging.getLogger(__name__)

RESPONSE_FILE = "response.png"
_SEED = "run.seed"


def _run_directories(sweep_dir: Path) -> list[Path]:
    folders = [*sweep_dir.glob("teachers/*/"), *sweep_dir.glob("students/*/")]
    return sorted(folder for folder in folders if (folder / "config.yaml").is_file())


def _points(runs: Sequence[FinishedRun], sweep_dir: Path, jobs: Sequence[SweepJob]) -> list[ResponsePoint]:
    """Return the swept options and the figures of each job whose last stage has finished."""
    by_path: Mapping[Path, FinishedRun] = {run.path.resolve(): run for run in runs}
    options = dict.fromkeys(option_of(value) for job in jobs for value in job.values)
    points = []
    for job in jobs:
        run = by_path.get((sweep_dir / job.directories[-1]).resolve()) if job.directories else None
        if run is None:
            continue
        given = {option_of(override): override.partition("=")[2] for override in job.overrides}
        values = {key: given.get(key, str(run.options.get(key, ""))) for key in options if key != _SEED}
        points.append(ResponsePoint(options=values, row_set=run.best.row_set_fingerprint, raw=run.best.raw))
    return points


def _draw_response(points: Sequence[ResponsePoint], path: Path) -> bool:
    """Draw the figure where there is anything to draw; return whether it was."""
    if not varied_options(points):
        return False
    if len({point.row_set for point in points}) > 1:
        log.warning("no %s: its runs were judged on different val rows", path)
        return False
    from fer_lightning.reports.figures import save_figure  # torch and matplotlib: seconds
    from fer_lightning.reports.response_figure import response_figure

    with explained_write_errors(path.parent, option="hydra.sweep.dir"):
        save_figure(path, response_figure(points))
    return True


def compare_sweep(
    sweep_dir: Path, refused: Sequence[tuple[str, str, Sequence[Path]]], jobs: Sequence[SweepJob] = ()
) -> None:
    """Compare the runs of a sweep once its jobs have ended; without a finished one there is nothing to say.

    Args:
        sweep_dir: folder of the sweep.
        refused: job, reason and run directories, of jobs that did not get to their end.
        jobs: all jobs of the folder, whose options the figure is drawn against.

    Raises:
        FerError: the folder cannot be written.
    """
    runs, left_out = attempt(_run_directories(sweep_dir), read_finished_run)
    if not runs:
        log.warning("%s holds no finished run: nothing to compare", sweep_dir)
        return
    board = compare(runs, sweep_dir, split_by_rows=True, left_out=with_refused(left_out, refused))
    drawn = _draw_response(_points(runs, sweep_dir, jobs), sweep_dir / RESPONSE_FILE)
    publish(board, sweep_dir, figures=[RESPONSE_FILE] if drawn else [])
    log.info("side by side with their options: tensorboard --logdir %s, tab HPARAMS", sweep_dir)
