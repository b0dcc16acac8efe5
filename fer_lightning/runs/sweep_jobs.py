"""The record of a sweep: what does not vary in it, and how each job ended, written by whatever process ran the job."""

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from filelock import FileLock
from pydantic import ConfigDict

from fer_lightning.errors import FerError
from fer_lightning.runs.artifacts import STRICT, read_artifact, write_artifact

SWEEP_FILE = "sweep.json"
JOBS_FOLDER = "jobs"
FINISHED, REFUSED, FAILED = "finished", "refused", "failed"
NOT_ENDED = "it did not get to its end: interrupted, or its process was killed"
"""What a record says until its job has ended."""
_BUG = 1
_LOCK_NAME = ".jobs.lock"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """`sweep.json`: the command that started a sweep, or went on with it last."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 1
    call: str
    """Tells this command from earlier ones on the same folder."""
    fixed_options: list[str]
    """Given with one value, the same in all jobs."""


@dataclass(frozen=True, kw_only=True)
class SweepJob:
    """`jobs/job<N>.json`: one point of a sweep."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 1
    call: str
    """The command that ran it last."""
    number: int
    """Its own in the folder, whichever command runs it again."""
    overrides: list[str]
    """All options it was given."""
    values: list[str]
    """Those of them that vary in the sweep."""
    outcome: str
    """`finished`, `refused`, or `failed`: a bug, or a process that was killed."""
    message: str
    """Why it was refused or failed; empty where it finished."""
    exit_code: int
    """What the command alone would have ended with."""
    directories: list[str]
    """Of its runs or its ensemble, the last stage last, relative to the folder of the sweep."""
    objective: float | None
    """What a search maximises: see `pipeline.sweeps.objective`; None for verbs without one."""

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"job {self.number} ({' '.join(self.values)})" if self.values else f"job {self.number}"


def option_of(override: str) -> str:
    """Return the option, or the group, that an override sets."""
    return override.partition("=")[0].partition("@")[0].lstrip("+~")


def _job_file(sweep_dir: Path, number: int) -> Path:
    return sweep_dir / JOBS_FOLDER / f"job{number}.json"


@contextlib.contextmanager
def _alone(sweep_dir: Path) -> Iterator[None]:
    """Keep the other jobs of a sweep from taking numbers; the kernel lets go of the lock when a process dies."""
    folder = sweep_dir / JOBS_FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / _LOCK_NAME):
            yield
    except OSError as error:
        raise FerError(
            f"cannot write to {folder}: {error.strerror or error}; choose another hydra.sweep.dir"
        ) from error


def begin_sweep(sweep_dir: Path, fixed_options: Sequence[str]) -> None:
    """Record that a command starts a sweep, or goes on with it.

    Args:
        sweep_dir: its folder; made when absent.
        fixed_options: those given with one value.

    Raises:
        FerError: the folder cannot be written.
    """
    with _alone(sweep_dir):
        write_artifact(sweep_dir / SWEEP_FILE, Sweep(call=uuid.uuid4().hex, fixed_options=[*fixed_options]))


def read_jobs(sweep_dir: Path) -> list[SweepJob]:
    """Return the jobs of a sweep by number, those of earlier commands too; none where nothing was recorded.

    Raises:
        FerError: a damaged record, or one of another version.
    """
    files = (sweep_dir / JOBS_FOLDER).glob("job*.json")
    return sorted((read_artifact(file, SweepJob) for file in files), key=lambda job: job.number)


def jobs_of_last_call(sweep_dir: Path) -> list[SweepJob]:
    """Return the jobs that the last command has run."""
    if not (sweep_dir / SWEEP_FILE).is_file():
        return []
    call = read_artifact(sweep_dir / SWEEP_FILE, Sweep).call
    return [job for job in read_jobs(sweep_dir) if job.call == call]


def begin_job(sweep_dir: Path, number: int, overrides: Sequence[str]) -> SweepJob:
    """Record that a job starts: until it ends, as one that did not get there.

    A job whose varying options have been run in this folder before keeps its number, and with it the name of its run;
    another one takes `number`, or the next free one. A search counts its jobs from 0 in every command.

    Args:
        sweep_dir: folder of the sweep.
        number: of the job in this command.
        overrides: all options it was given.

    Raises:
        FerError: the folder cannot be written, or holds no sweep.
    """
    sweep = read_artifact(sweep_dir / SWEEP_FILE, Sweep)
    values = [override for override in overrides if option_of(override) not in sweep.fixed_options]
    with _alone(sweep_dir):
        known = {tuple(sorted(job.values)): job.number for job in read_jobs(sweep_dir)}
        free = number if number not in known.values() else max(known.values()) + 1
        job = SweepJob(
            call=sweep.call,
            number=known.get(tuple(sorted(values)), free),
            overrides=[*overrides],
            values=values,
            outcome=FAILED,
            message=NOT_ENDED,
            exit_code=_BUG,
            directories=[],
            objective=None,
        )
        write_artifact(_job_file(sweep_dir, job.number), job)
    return job


def end_job(
    sweep_dir: Path,
    job: SweepJob,
    *,
    refused: FerError | None = None,
    directories: Sequence[Path] = (),
    objective: float | None = None,
) -> None:
    """Record how a job ended.

    Args:
        sweep_dir: folder of the sweep.
        job: as begun.
        refused: what stopped it; None where it finished.
        directories: of its runs or its ensemble, the last stage last.
        objective: what a search maximises.
    """
    ended = replace(
        job,
        outcome=FINISHED if refused is None else REFUSED,
        message="" if refused is None else str(refused),
        exit_code=0 if refused is None else refused.exit_code,
        directories=[directory.relative_to(sweep_dir).as_posix() for directory in directories],
        objective=objective,
    )
    write_artifact(_job_file(sweep_dir, job.number), ended)


def record_bug(sweep_dir: Path, overrides: Sequence[str], error: BaseException) -> str:
    """Record that a job ended in an error that is nobody's refusal, and return the name of the job.

    Args:
        sweep_dir: folder of the sweep.
        overrides: all options the job was given.
        error: what ended it.
    """
    (job,) = (job for job in jobs_of_last_call(sweep_dir) if job.overrides == [*overrides])
    message = f"a bug: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    write_artifact(_job_file(sweep_dir, job.number), replace(job, message=message))
    return job.name
