"""Worker processes end with the first one, leave Ctrl-C to it, and run nothing of the user's script."""

import operator
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from fer_lightning.data.pictures.worker_pool import worker_pool
from fer_lightning.errors import FerError

SCRIPT = """
import operator, sys
from fer_lightning.data.pictures.worker_pool import worker_pool
print("script", flush=True)
with worker_pool(2, task="adds", advice="or not") as pool:
    print(pool.submit(operator.add, 1, 2).result(), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A script of the user's, without a guard around what it does."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def test_tasks_run_in_other_processes_that_leave_ctrl_c_to_the_first() -> None:
    script = sys.modules["__main__"]
    with worker_pool(2, task="adds", advice="or not") as pool:
        assert pool.submit(operator.add, 1, 2).result() == 3
        assert pool.submit(os.getpid).result() != os.getpid()
        assert pool.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN
    assert sys.modules["__main__"] is script


def test_a_killed_process_is_one_clear_error() -> None:
    expected = r"a process that adds was killed, perhaps .*: try again, with fewer"
    with pytest.raises(FerError, match=expected), worker_pool(1, task="adds", advice="with fewer") as pool:
        pool.submit(os._exit, 9).result()


def test_leaving_by_an_exception_ends_the_processes() -> None:
    pools: list[ProcessPoolExecutor] = []

    def interrupt() -> None:
        with worker_pool(1, task="adds", advice="or not") as pool:
            pools.append(pool)
            assert pool.submit(operator.add, 1, 2).result() == 3
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pools[0].submit(operator.add, 1, 2)


def test_a_script_without_a_guard_runs_once(script: Path) -> None:
    done = subprocess.run([sys.executable, script], input="", capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("script\n3\n", "")


def test_processes_end_when_the_first_is_killed(script: Path) -> None:
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as first:
        assert first.stdout is not None
        assert [first.stdout.readline() for _ in range(2)] == ["script\n", "3\n"]
        first.kill()
        rest, _ = first.communicate(timeout=60)  # the pipe is at its end when every process that could write is gone
    assert rest == ""
