"""The end of a sweep, whatever its jobs have made and whichever processes ran them: leaderboard, figure, exit code."""

import logging
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.runs.sweep_jobs import FAILED, FINISHED, SweepJob, jobs_of_last_call, read_jobs

log = logging.getLogger(__name__)

_KINDS = ("teachers", "students", "ensembles")
_BUG = 1


def resumable_kinds(sweep_dir: Path) -> list[str]:
    """Return the folders of a sweep for which there is a leaderboard."""
    return [kind for kind in _KINDS if (sweep_dir / kind).is_dir()]


def has_finished_job(sweep_dir: Path) -> bool:
    """Return whether any job of the last command has finished."""
    return any(job.outcome == FINISHED for job in jobs_of_last_call(sweep_dir))


def _exit_code(jobs: list[SweepJob]) -> int:
    """Return 1 where a job failed by a bug, otherwise the code of the last refused one, or 0."""
    if any(job.outcome == FAILED for job in jobs):
        return _BUG
    return next((job.exit_code for job in reversed(jobs) if job.outcome != FINISHED), 0)


def _compare(sweep_dir: Path, jobs: list[SweepJob]) -> None:
    """Compare the runs, or else the ensembles, of a sweep."""
    refused = [
        (job.name, job.message, [sweep_dir / directory for directory in job.directories])
        for job in jobs
        if job.outcome != FINISHED
    ]
    kinds = resumable_kinds(sweep_dir)
    if {"teachers", "students"} & {*kinds}:
        from fer_lightning.pipeline.sweeps.compare_sweep import compare_sweep  # scipy: half a second

        compare_sweep(sweep_dir, refused, read_jobs(sweep_dir))
    elif kinds:
        from fer_lightning.pipeline.sweeps.fuse_in_sweep import compare_ensemble_sweep

        compare_ensemble_sweep(sweep_dir, refused)


def end_sweep(sweep_dir: Path) -> int:
    """Compare what the jobs of a sweep have made, once they have ended, and return the sweep's exit code."""
    jobs = jobs_of_last_call(sweep_dir)
    try:
        _compare(sweep_dir, jobs)
    except FerError as error:
        log.error("%s", error)  # noqa: TRY400
        return _exit_code(jobs) or error.exit_code
    return _exit_code(jobs)
