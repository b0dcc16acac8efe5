"""The exclusive lock of a run directory: who holds it, since when, and whether the holder still lives."""

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from fer_lightning.errors import FerError, RunLockedError, TrainingError
from fer_lightning.runs.artifacts import read_artifact, write_artifact

log = logging.getLogger(__name__)

LOCK_NAME = ".run.lock"
_GUARD_NAME = ".run.lock.guard"
_GUARD_TIMEOUT_SECONDS = 10
_HEARTBEAT_SECONDS = 15.0
_FRESH_SECONDS = 60.0
_SILENT_AFTER_SECONDS = 300.0
_SAME_START_SECONDS = 1.0
_LATEST_START = 4e9  # the year 2096: past it a lock file is damaged


@dataclass(frozen=True, kw_only=True)
class LockHolder:
    """Content of the lock file."""

    schema_version: int = 1
    pid: int
    process_start: float
    """Unix time at which the holding process started: a pid alone may be reused."""
    host: str
    command: str
    heartbeat: float
    """Unix time of the last sign of life."""

    def __post_init__(self) -> None:
        """Refuse what no process can have: the file is damaged."""
        if self.pid < 1 or not 0 <= self.process_start < _LATEST_START:
            raise ValueError(f"no process has pid {self.pid} and start time {self.process_start:g}")

    def describe(self) -> str:
        """Return one line for people."""
        age = max(0.0, time.time() - self.heartbeat)
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.process_start))
        return f"pid {self.pid} on {self.host}, started {started}, last heartbeat {age:.0f} s ago ({self.command})"


class RunLock:
    """Exclusive hold on a directory; a context manager.

    The lock file tells people and other hosts who holds the directory. Taking and releasing it happens inside a guard
    that the kernel holds for this process, so two takers cannot both win, and a killed one leaves no guard behind.
    A holder on this host whose process is gone is provably dead: its lock is taken over. A silent holder on another
    host may only be cut off from the disk: its lock is taken over only when asked for.
    """

    def __init__(self, directory: Path, *, unlock_stale: bool = False) -> None:
        self._path = directory / LOCK_NAME
        self._guard = FileLock(directory / _GUARD_NAME, timeout=_GUARD_TIMEOUT_SECONDS)
        self._unlock_stale = unlock_stale
        self._holder = _this_process()
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="run-lock-heartbeat", daemon=True)

    def __enter__(self) -> "RunLock":
        """Take the lock.

        Raises:
            RunLockedError: somebody else holds it.
            FerError: its lock file is damaged, or none can be made.
        """
        with self._guarded():
            if self._path.exists():
                self._refuse_living(self._read_holder())
            write_artifact(self._path, self._holder)
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lock, unless it was lost, or its directory is gone: taking the guard would make that again."""
        self.stop_heartbeat()
        if not self._path.parent.is_dir():
            return
        with self._guarded():
            if self._is_ours():
                self._path.unlink()

    def check_held(self) -> None:
        """Make sure that the lock is still this process's.

        Raises:
            TrainingError: the lock file was removed or taken over.
        """
        if not self._is_ours():
            raise TrainingError(f"lost the lock {self._path}: it was removed or taken over; stopping before files mix")

    def stop_heartbeat(self) -> None:
        """Write no more signs of life: the directory is about to be moved or removed, its lock file with it."""
        self._released.set()
        self._heart.join()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            self._guard.acquire()
        except Timeout as error:
            raise RunLockedError(
                f"{self._path.parent}: another process has been taking or releasing its lock for "
                f"{_GUARD_TIMEOUT_SECONDS} s; is it suspended?"
            ) from error
        except OSError as error:
            raise FerError(f"cannot lock {self._path.parent}: {error.strerror}") from error
        try:
            yield
        finally:
            self._guard.release()

    def _read_holder(self) -> LockHolder:
        try:
            return read_artifact(self._path, LockHolder)
        except FerError as error:
            raise FerError(f"{error}; if no run uses {self._path.parent}, remove this file") from error

    def _is_ours(self) -> bool:
        try:
            holder = read_artifact(self._path, LockHolder)
        except FerError:  # removed or damaged: no longer what this process wrote
            return False
        return replace(holder, heartbeat=0.0) == replace(self._holder, heartbeat=0.0)

    def _refuse_living(self, holder: LockHolder) -> None:
        if holder.host == socket.gethostname():
            if _is_running(holder):
                raise RunLockedError(f"{self._path.parent} is in use by {holder.describe()}")
            log.warning("stale lock: %s is gone; taking over %s", holder.describe(), self._path)
            return
        silent = time.time() - holder.heartbeat > _SILENT_AFTER_SECONDS
        if silent and self._unlock_stale:
            log.warning("stale lock: taking over from %s (run.unlock_stale=true)", holder.describe())
            return
        hint = "; it looks dead: if you know that it is, add run.unlock_stale=true" if silent else ""
        raise RunLockedError(f"{self._path.parent} is in use by {holder.describe()}{hint}")

    def _beat(self) -> None:
        while not self._released.wait(_HEARTBEAT_SECONDS):
            try:
                with self._guarded():
                    if not self._is_ours():
                        return
                    write_artifact(self._path, replace(self._holder, heartbeat=time.time()))
            except (FerError, OSError) as error:  # a full disk, a slow share: the next beat may succeed
                log.warning("no heartbeat in %s: %s", self._path, error)


def _this_process() -> LockHolder:
    process = psutil.Process()
    return LockHolder(
        pid=os.getpid(),
        process_start=process.create_time(),
        host=socket.gethostname(),
        command=" ".join(sys.argv[1:])[:200],
        heartbeat=time.time(),
    )


def _is_running(holder: LockHolder) -> bool:
    try:
        process = psutil.Process(holder.pid)
        same = abs(process.create_time() - holder.process_start) < _SAME_START_SECONDS
        fresh = abs(time.time() - holder.heartbeat) < _FRESH_SECONDS  # start times move when the system clock is set
        return (same or fresh) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _living_holder(file: Path) -> LockHolder | None:
    try:
        holder = read_artifact(file, LockHolder)
    except FerError:
        if not file.exists():  # released in between
            return None
        raise
    return holder if holder.host != socket.gethostname() or _is_running(holder) else None


def described_holder(directory: Path) -> str | None:
    """Return who holds a directory, or a folder in it, in words that stay the same while it is held; nothing is written.

    None where nobody does, or a process of this host that is gone.
    """
    for file in sorted(directory.rglob(LOCK_NAME)):
        try:
            holder = _living_holder(file)
        except FerError as error:
            return f"nobody knows whom: {error}"
        if holder is not None:
            return f"pid {holder.pid} on {holder.host}"
    return None
