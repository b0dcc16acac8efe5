"""Moves one run into the archive: a rename, or on another disk a copy that is compared before the original is deleted."""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.runs.lock import LOCK_NAME

_OF_THE_LOCK = (LOCK_NAME, f"{LOCK_NAME}.guard")


def _contents(folder: Path) -> dict[str, Path]:
    """Return everything in a folder but its lock: relative path -> path."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {name: path for name, path in found.items() if name not in _OF_THE_LOCK}


def _same(first: Path, second: Path) -> bool:
    if first.is_symlink() or second.is_symlink():
        return first.is_symlink() and second.is_symlink() and first.readlink() == second.readlink()
    if first.is_dir() or not first.is_file():
        return first.is_dir() and second.is_dir()
    return second.is_file() and first.stat().st_size == second.stat().st_size and sha256_of(first) == sha256_of(second)


def differing_files(source: Path, copy: Path) -> list[str]:
    """Return what a folder holds that its copy does not hold alike; the lock aside."""
    copied = _contents(copy)
    return sorted(
        name for name, path in _contents(source).items() if name not in copied or not _same(path, copied[name])
    )


def _flush(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_lock(folder: Path) -> None:
    for name in _OF_THE_LOCK:
        (folder / name).unlink(missing_ok=True)


def _check_whole(source: Path, copy: Path) -> None:
    differing = differing_files(source, copy) or differing_files(copy, source)
    if differing:
        raise FerError(f"{source} and its copy {copy} differ in {differing[0]}, so that neither is deleted")


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


def discard_copy(target: Path) -> None:
    """Remove a copy that was not finished."""
    shutil.rmtree(_partial(target), ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    """Copy a folder so that its final name appears when every file in it has been compared.

    Raises:
        FerError: it changed meanwhile.
        OSError: it cannot be copied.
    """
    partial = _partial(target)
    try:
        shutil.copytree(source, partial, symlinks=True)
        _remove_lock(partial)
        _check_whole(source, partial)
        for path in _contents(partial).values():
            if not path.is_symlink():
                _flush(path)
        partial.rename(target)
    except (OSError, FerError):
        discard_copy(target)
        raise
    _flush(target.parent)


def finish_move(source: Path, target: Path, *, deleting: bool) -> None:
    """Bring a move to its end of which the target is whole; the source is deleted if it is still there.

    Args:
        source: the run directory, whose lock the caller holds, with its heartbeat stopped; it may be gone.
        target: where it went.
        deleting: an earlier attempt may have deleted files of the source; else it must be like the target.

    Raises:
        FerError: the source holds what the target does not.
        OSError: the source cannot be deleted.
    """
    if source.exists():
        if not deleting:
            _check_whole(source, target)
        differing = differing_files(source, target)
        if differing:
            raise FerError(f"{source} holds {differing[0]}, which {target} does not hold alike: nothing is deleted")
        shutil.rmtree(source)
    _remove_lock(target)
    _flush(source.parent)


def move_run(source: Path, target: Path, *, copied: Callable[[], None]) -> None:
    """Move a run directory, whose lock the caller holds and whose heartbeat it has stopped.

    A process that is killed meanwhile leaves the source whole, or the target whole, or both.

    Args:
        source: the run directory.
        target: where it goes; must not exist.
        copied: called between copy and deletion when the target lies on another disk.

    Raises:
        FerError: files changed while they were copied.
        OSError: it cannot be moved; the source is whole then.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    discard_copy(target)
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target)
        copied()
    _flush(target.parent)
    finish_move(source, target, deleting=False)
