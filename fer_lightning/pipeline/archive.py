"""Moves runs to `<run.root>/_archive`, with a log; what must stay is refused, and the others are moved all the same."""

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.files import explained_write_errors
from fer_lightning.pipeline.housekeeping.archive_moves import (
    Outcome,
    Subject,
    continue_begun,
    free_target,
    give_up,
    move_locked,
)
from fer_lightning.pipeline.housekeeping.config import ArchiveRun
from fer_lightning.runs.archive_log import archived_already, log_path, read_entries, unfinished_moves
from fer_lightning.runs.archive_rules import judge_all, run_to_archive, why_not
from fer_lightning.runs.lock import RunLock, described_holder
from fer_lightning.runs.references import references
from fer_lightning.runs.run_folders import ARCHIVE_FOLDER, other_roots

log = logging.getLogger(__name__)


def _list_file(given: str, root: Path) -> Path:
    """Return the list: as named from here, or within `run.root`."""
    for file in (Path(given), root / given):
        if file.is_file():
            return file
    raise FerError(f"archive.list: no file {given}, here or in {root}; task=triage writes one")


def _named(run: ArchiveRun, root: Path) -> list[tuple[str, Path]]:
    """Return everything that is to be moved, each once: as named, and its path."""
    named = [(given, Path(given)) for given in run.archive.runs]
    if run.archive.list is not None:
        file = _list_file(run.archive.list, root)
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise FerError(f"archive.list: cannot read {file}: {error}") from error
        named += [(line.strip(), file.parent / line.strip()) for line in lines if line.strip()]
    return list({path: (given, path) for given, path in reversed(named)}.values())[::-1]


def _subjects(named: Sequence[tuple[str, Path]], root: Path, outcome: Outcome) -> list[Subject]:
    """Return the runs that are named; what an earlier command has archived is neither moved nor refused."""
    subjects, moved = [], archived_already(root)
    for given, path in named:
        target = moved.get(os.path.realpath(path))
        if target is not None and not path.exists():
            log.info("%s is archived already: %s", given, root / target)
            continue
        try:
            subjects.append(Subject(given, run_to_archive(path, root)))
        except FerError as error:
            outcome.refused.append((given, str(error)))
    return subjects


def _archive_all(run: ArchiveRun, subjects: Sequence[Subject], root: Path, outcome: Outcome) -> None:
    """Move what may be moved, those first that nothing else needs; a run is looked at again when another has gone."""
    refs = references(root, also=other_roots(root))
    real_root = os.path.realpath(root)
    judged = judge_all([found for found in refs.found.runs if Path(found.real).is_relative_to(real_root)])
    folder = f"{ARCHIVE_FOLDER}/{run.run.tag or 'archive'}_{time.strftime('%Y-%m-%d_%H-%M-%S')}"
    waiting = list({subject.run.real: subject for subject in reversed(subjects)}.values())[::-1]
    gone: set[str] = set()
    while waiting:
        still: list[tuple[Subject, str]] = []
        for subject in waiting:
            reason = why_not(subject.run, refs, judged, gone=gone)
            if reason is not None:
                still.append((subject, reason))
                continue
            try:
                _archive_one(run, subject, subject.target or free_target(subject.run, folder, root), root)
            except FerError as error:
                outcome.refused.append((subject.given, str(error)))
                continue
            gone.add(subject.run.real)
            outcome.moved.append(subject.run)
        if len(still) == len(waiting):
            _refuse(still, root, outcome, dry_run=run.archive.dry_run)
            return
        waiting = [subject for subject, _ in still]


def _archive_one(run: ArchiveRun, subject: Subject, target: str, root: Path) -> None:
    """Move one run, or say that it would be.

    Raises:
        FerError: locked, or it cannot be moved.
    """
    holder = described_holder(subject.run.path)
    if holder is not None and not run.run.unlock_stale:
        raise FerError(f"locked by {holder}")
    if not run.archive.dry_run:
        move_locked(subject, target, root, unlock_stale=run.run.unlock_stale)
    log.info("%s %s -> %s", "would move" if run.archive.dry_run else "moved", subject.given, root / target)


def _refuse(still: Sequence[tuple[Subject, str]], root: Path, outcome: Outcome, *, dry_run: bool) -> None:
    for subject, reason in still:
        outcome.refused.append((subject.given, reason))
        if not dry_run:
            give_up(subject, root, reason)


def _report(outcome: Outcome, *, dry_run: bool) -> None:
    """Say what was moved.

    Raises:
        FerError: something was refused.
    """
    done = "would be archived" if dry_run else "archived"
    log.info("%d runs %s, %d refused", len(outcome.moved), done, len(outcome.refused))
    if outcome.refused:
        listed = "\n  ".join(f"{given}: {reason}" for given, reason in outcome.refused)
        raise FerError(f"{len(outcome.refused)} runs are not archived:\n  {listed}")


def archive(run: ArchiveRun) -> None:
    """Move runs out of the way; first those that an interrupted command has left half-way.

    Never the best of its kind on its rows, one that another run needs, one in use, or what is no run of `run.root`: these are
    refused one by one, and listed at the end. Everything is judged by what the folders hold now.

    Raises:
        FerError: nothing is named, or something was refused; all else has been moved.
        RunLockedError: another process is archiving.
    """
    root = Path(run.run.root)
    if not root.is_dir():
        raise FerError(f"run.root: no folder {root}")
    named, begun = _named(run, root), unfinished_moves(read_entries(root))
    if not named and not begun:
        if run.archive.list is None:
            raise FerError("nothing to archive: name runs with archive.runs=[...], or a file of them with archive.list")
        log.info("nothing to archive: %s is empty", run.archive.list)
        return
    outcome = Outcome()
    if run.archive.dry_run:
        for entry in begun:
            log.info("an interrupted move would be finished: %s -> %s", root / entry.run, root / entry.target)
        _archive_all(run, _subjects(named, root, outcome), root, outcome)
        _report(outcome, dry_run=True)
        return
    with explained_write_errors(log_path(root).parent, option="run.root"):
        log_path(root).parent.mkdir(exist_ok=True)
        with RunLock(log_path(root).parent, unlock_stale=run.run.unlock_stale):
            subjects = continue_begun(root, outcome, unlock_stale=run.run.unlock_stale)
            _archive_all(run, [*subjects, *_subjects(named, root, outcome)], root, outcome)
    _report(outcome, dry_run=False)
