"""Processes that work on pictures: started afresh, undisturbed by Ctrl-C, and gone when the first process is."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType

from fer_lightning.errors import FerError


@contextmanager
def worker_pool(num_processes: int, *, task: str, advice: str) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool; on leaving, also by an exception, tasks that have begun are finished and the others dropped.

    Args:
        num_processes: at least 1.
        task: what a process does, as in "a process that ... was killed".
        advice: how to go on where that happened.

    Raises:
        FerError: a process was killed from outside.
    """
    pool = ProcessPoolExecutor(
        num_processes, mp_context=_FreshContext(), initializer=_live_as_long_as_the_first_process
    )
    try:
        yield pool
    except BrokenProcessPool:
        raise FerError(
            f"a process that {task} was killed, perhaps for want of memory; what is done is kept: try again, {advice}"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _FreshProcess(SpawnProcess):
    """A spawned process that does not run the user's script again: it needs nothing of it."""

    def start(self) -> None:
        script = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            super().start()
        finally:
            sys.modules["__main__"] = script


class _FreshContext(SpawnContext):
    """Forking a process that already runs threads (OpenCV, torch) can hang, hence spawn."""

    Process = _FreshProcess


def _live_as_long_as_the_first_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first one ends the others
    threading.Thread(target=_end_with_the_first_process, daemon=True).start()


def _end_with_the_first_process() -> None:
    """Without this, a process whose parent was killed would wait for its next task for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
