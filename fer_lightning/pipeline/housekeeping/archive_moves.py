"""Moves runs into the archive under their locks, with the log around each move, and finishes what was interrupted."""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.runs.archive import discard_copy, finish_move, move_run
from fer_lightning.runs.archive_log import (
    COPIED,
    DONE,
    GIVEN_UP,
    STARTED,
    ArchiveEntry,
    append_entry,
    read_entries,
    unfinished_moves,
)
from fer_lightning.runs.archive_rules import run_to_archive
from fer_lightning.runs.lock import RunLock
from fer_lightning.runs.run_folders import RunFolder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """A run that is to be moved."""

    given: str
    """As named."""
    run: RunFolder
    target: str | None = None
    """Relative to `run.root`; set for a move that an earlier command has begun."""


@dataclass
class Outcome:
    """What has become of every run."""

    moved: list[RunFolder] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    """As named, and why."""


def _complete_begun(entry: ArchiveEntry, root: Path, *, unlock_stale: bool) -> None:
    """Bring a move to its end whose target is whole.

    Raises:
        FerError: something else lies where the run was, or it is in use.
    """
    source, target = root / entry.run, root / entry.target
    try:
        if source.is_dir():
            with RunLock(source, unlock_stale=unlock_stale) as lock:
                lock.stop_heartbeat()
                finish_move(source, target, deleting=entry.event == COPIED)
        else:
            finish_move(source, target, deleting=False)
    except OSError as error:
        raise FerError(f"cannot delete {source}: {error.strerror or error}") from error
    append_entry(root, DONE, run=entry.run, kind=entry.kind, target=entry.target)
    log.info("finished an interrupted move: %s -> %s", source, target)


def continue_begun(root: Path, outcome: Outcome, *, unlock_stale: bool) -> list[Subject]:
    """Finish what an interrupted command has begun; return what it had not got to move yet."""
    subjects = []
    for entry in unfinished_moves(read_entries(root)):
        whole = (root / entry.target).is_dir()
        try:
            if whole:
                _complete_begun(entry, root, unlock_stale=unlock_stale)
            else:
                subjects.append(Subject(entry.run, run_to_archive(root / entry.run, root), entry.target))
                log.info("going on with an interrupted move: %s", root / entry.run)
        except FerError as error:
            outcome.refused.append((entry.run, f"its move was interrupted, and cannot be finished: {error}"))
            if not whole:
                discard_copy(root / entry.target)
                append_entry(root, GIVEN_UP, run=entry.run, kind=entry.kind, target=entry.target, reason=str(error))
    return subjects


def free_target(run: RunFolder, folder: str, root: Path) -> str:
    """Return where a run goes, relative to `run.root`; a second one of the same name gets a number."""
    name, number = run.path.name, 1
    while os.path.lexists(root / folder / run.kind / name):
        number += 1
        name = f"{run.path.name}-{number}"
    return f"{folder}/{run.kind}/{name}"


def move_locked(subject: Subject, target: str, root: Path, *, unlock_stale: bool) -> None:
    """Move one run under its lock, and write the log around it.

    Raises:
        FerError: locked, or it cannot be moved.
    """
    source = subject.run.path
    entry = {"run": os.path.relpath(source, os.path.realpath(root)), "kind": subject.run.kind, "target": target}
    with RunLock(source, unlock_stale=unlock_stale) as lock:
        append_entry(root, STARTED, **entry)
        lock.stop_heartbeat()
        try:
            move_run(source, root / target, copied=lambda: append_entry(root, COPIED, **entry))
        except (FerError, OSError) as error:
            reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            if not (root / target).exists():  # else the copy is whole, and the next command deletes the source
                append_entry(root, GIVEN_UP, **entry, reason=reason)
            raise FerError(f"cannot be moved: {reason}") from error
    append_entry(root, DONE, **entry)


def give_up(subject: Subject, root: Path, reason: str) -> None:
    """Write down that a move which an earlier command has begun will not be made."""
    if subject.target is None:
        return
    discard_copy(root / subject.target)
    own = os.path.relpath(subject.run.path, os.path.realpath(root))
    append_entry(root, GIVEN_UP, run=own, kind=subject.run.kind, target=subject.target, reason=reason)
