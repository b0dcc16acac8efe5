"""The run lock: living, dead, silent, raced for."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock

from fer_lightning.errors import FerError, RunLockedError, TrainingError
from fer_lightning.runs import lock as lock_module
from fer_lightning.runs.artifacts import read_artifact, write_artifact
from fer_lightning.runs.lock import LOCK_NAME, LockHolder, RunLock

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from fer_lightning.runs.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def holder_process(directory: Path, command: str = "a-recognisable-option=1") -> Iterator[subprocess.Popen[str]]:
    """Hold the lock in another process until its input closes."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory), command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def holder(**values: object) -> LockHolder:
    """Return the content of a lock file: of this very process unless said otherwise."""
    own: dict[str, object] = {
        "pid": os.getpid(),
        "process_start": psutil.Process().create_time(),
        "host": socket.gethostname(),
        "command": "task=train_teacher",
        "heartbeat": time.time(),
    }
    return LockHolder(**own | values)  # type: ignore[arg-type]


def locked(directory: Path, **values: object) -> Path:
    """Leave a lock file behind and return its path."""
    write_artifact(directory / LOCK_NAME, holder(**values))
    return directory / LOCK_NAME


def take(directory: Path, *, unlock_stale: bool = False) -> LockHolder:
    """Take the lock, and return what the file says meanwhile."""
    with RunLock(directory, unlock_stale=unlock_stale) as lock:
        lock.check_held()
        return read_artifact(directory / LOCK_NAME, LockHolder)


def test_lock_names_its_holder_and_goes_away(tmp_path: Path) -> None:
    held = take(tmp_path)
    assert (held.pid, held.host) == (os.getpid(), socket.gethostname())
    assert abs(held.process_start - psutil.Process().create_time()) < 1e-6
    assert abs(held.heartbeat - time.time()) < 5
    assert not (tmp_path / LOCK_NAME).exists()
    assert take(tmp_path).pid == os.getpid()


def test_lock_is_released_when_the_body_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), RunLock(tmp_path):
        _ = 1 / 0
    assert not (tmp_path / LOCK_NAME).exists()


def test_a_second_holder_is_refused_and_the_first_named(tmp_path: Path) -> None:
    with holder_process(tmp_path) as process:
        before = (tmp_path / LOCK_NAME).read_bytes()
        started = time.monotonic()
        with pytest.raises(
            RunLockedError, match=rf"is in use by pid {process.pid} on .*a-recognisable-option=1"
        ) as caught:
            take(tmp_path)
        assert time.monotonic() - started < 2
        with pytest.raises(RunLockedError):
            take(tmp_path, unlock_stale=True)  # a living holder is no stale one
        assert (tmp_path / LOCK_NAME).read_bytes() == before
    assert str(tmp_path) in str(caught.value)
    assert caught.value.exit_code == 4


def test_a_second_holder_in_the_same_process_is_refused(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        with pytest.raises(RunLockedError, match=f"pid {os.getpid()}"):
            take(tmp_path)
        lock.check_held()


def test_a_killed_holder_is_taken_over_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with holder_process(tmp_path) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert (tmp_path / LOCK_NAME).exists()
        assert take(tmp_path).pid == os.getpid()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"pid {process.pid}" in record.message
    assert not (tmp_path / LOCK_NAME).exists()


def test_a_killed_holder_that_nobody_waited_for_is_gone_too(tmp_path: Path) -> None:
    with holder_process(tmp_path) as process:
        os.kill(process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.01)
        assert take(tmp_path).pid == os.getpid()


def test_a_reused_pid_is_another_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    locked(tmp_path, process_start=psutil.Process().create_time() - 100, heartbeat=time.time() - 100)
    assert take(tmp_path).pid == os.getpid()
    assert "stale lock" in caplog.text


def test_a_fresh_heartbeat_outlives_a_stepped_clock(tmp_path: Path) -> None:
    locked(tmp_path, process_start=psutil.Process().create_time() - 100)
    with pytest.raises(RunLockedError):
        take(tmp_path)


def test_a_small_difference_of_start_times_is_the_clock(tmp_path: Path) -> None:
    locked(tmp_path, process_start=psutil.Process().create_time() + 0.5)
    with pytest.raises(RunLockedError):
        take(tmp_path)


@pytest.mark.parametrize("unlock_stale", [False, True])
def test_a_fresh_holder_on_another_host_is_refused(tmp_path: Path, unlock_stale: bool) -> None:
    path = locked(tmp_path, host="elsewhere", pid=1)
    with pytest.raises(RunLockedError, match="pid 1 on elsewhere") as caught:
        take(tmp_path, unlock_stale=unlock_stale)
    assert "unlock_stale" not in str(caught.value)
    assert path.exists()


def test_a_silent_holder_on_another_host_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = locked(tmp_path, host="elsewhere", heartbeat=time.time() - 301)
    with pytest.raises(RunLockedError, match=r"last heartbeat 30\d s ago .* looks dead: .*run.unlock_stale=true"):
        take(tmp_path)
    assert path.exists()


def test_a_silent_holder_on_another_host_is_taken_over_when_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    locked(tmp_path, host="elsewhere", heartbeat=time.time() - 301)
    assert take(tmp_path, unlock_stale=True).host == socket.gethostname()
    assert "elsewhere" in caplog.text


def test_a_removed_lock_is_noticed_and_another_holders_kept(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        (tmp_path / LOCK_NAME).unlink()
        with pytest.raises(TrainingError, match=r"lost the lock .*\.run\.lock") as caught:
            lock.check_held()
        other = locked(tmp_path, pid=1, host="elsewhere")
        with pytest.raises(TrainingError, match="lost the lock"):
            lock.check_held()
    assert read_artifact(other, LockHolder).host == "elsewhere"
    assert caught.value.exit_code == 5


def test_a_deleted_run_directory_is_noticed(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    with RunLock(directory) as lock:
        shutil.rmtree(directory)
        with pytest.raises(TrainingError, match="lost the lock"):
            lock.check_held()


@pytest.mark.parametrize("text", ["", "{", "null", "not json", "\x00\x00", '{"schema_version": 1, "pid": 3}'])
def test_a_damaged_lock_is_one_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / LOCK_NAME
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FerError, match=r"\.run\.lock is no.* LockHolder.*; if no run uses .*, remove this file"):
        take(tmp_path, unlock_stale=True)
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    "change", [('"pid": ', '"pid": -'), ('"process_start": ', '"process_start": 1e300, "_": '), ('"host"', '"hots"')]
)
def test_impossible_values_in_a_lock_are_one_clear_error(tmp_path: Path, change: tuple[str, str]) -> None:
    path = locked(tmp_path, host="elsewhere")
    path.write_text(path.read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    with pytest.raises(FerError, match=r"\.run\.lock is not a valid LockHolder: .*remove this file"):
        take(tmp_path)


def test_a_lock_damaged_under_its_holder_is_a_lost_lock(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        (tmp_path / LOCK_NAME).write_text("")
        with pytest.raises(TrainingError, match="lost the lock"):
            lock.check_held()
    assert (tmp_path / LOCK_NAME).exists()  # left to be judged by a person


def test_a_lock_that_is_a_directory_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).mkdir()
    with pytest.raises(FerError, match="cannot read"):
        take(tmp_path)


def test_a_place_that_takes_no_lock_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FerError, match=f"cannot lock {tmp_path / 'file'}"):
        take(tmp_path / "file")


def test_a_guard_that_never_frees_is_a_locked_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "_GUARD_TIMEOUT_SECONDS", 0.1)
    held, done = threading.Event(), threading.Event()

    def suspended() -> None:
        with FileLock(tmp_path / ".run.lock.guard"):
            held.set()
            done.wait(10)

    thread = threading.Thread(target=suspended)
    thread.start()
    held.wait(10)
    try:
        with pytest.raises(RunLockedError, match="is it suspended"):
            take(tmp_path)
    finally:
        done.set()
        thread.join()


def test_the_heart_beats_and_survives_a_failed_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lock_module, "_HEARTBEAT_SECONDS", 0.02)
    write, failures = write_artifact, iter([False, True, True])

    def sometimes(path: Path, content: object) -> None:
        if next(failures, False):
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(lock_module, "write_artifact", sometimes)
    with RunLock(tmp_path) as lock:
        first = read_artifact(tmp_path / LOCK_NAME, LockHolder).heartbeat
        deadline = time.monotonic() + 10
        while read_artifact(tmp_path / LOCK_NAME, LockHolder).heartbeat == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert read_artifact(tmp_path / LOCK_NAME, LockHolder).heartbeat > first
        lock.check_held()
    assert caplog.text.count("no heartbeat") == 2


def test_the_heart_does_not_revive_a_removed_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "_HEARTBEAT_SECONDS", 0.01)
    with RunLock(tmp_path):
        (tmp_path / LOCK_NAME).unlink()
        time.sleep(0.1)
        assert not (tmp_path / LOCK_NAME).exists()


def _race(directory: Path, ready: Any, all_tried: Any, outcomes: Any) -> None:
    ready.wait(60)
    outcome = "failed"  # told to the parent in any case; why, the traceback of this process says
    try:
        with RunLock(directory) as lock:
            outcome = "won"
            outcomes.put(outcome)
            all_tried.wait(60)
            lock.check_held()
    except RunLockedError:
        outcome = "refused"
    finally:
        if outcome != "won":
            outcomes.put(outcome)


@pytest.mark.parametrize("stale", [False, True], ids=["free", "stale"])
def test_of_eight_racing_processes_one_wins(tmp_path: Path, stale: bool) -> None:
    if stale:
        locked(tmp_path, process_start=1.0, heartbeat=1.0)
    context = multiprocessing.get_context("spawn")
    ready, all_tried, outcomes = context.Barrier(8), context.Event(), context.Queue()
    processes = [context.Process(target=_race, args=(tmp_path, ready, all_tried, outcomes)) for _ in range(8)]
    for process in processes:
        process.start()
    got = sorted(outcomes.get(timeout=60) for _ in processes)
    all_tried.set()
    for process in processes:
        process.join()
    assert got == ["refused"] * 7 + ["won"]
    assert outcomes.empty()
    assert not (tmp_path / LOCK_NAME).exists()
