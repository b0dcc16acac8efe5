"""Which of a run's processes this one is, as whoever started it says in the environment."""

import os
import signal
import threading
import time
from enum import Enum

from fer_lightning.errors import FerError

_WATCH_SECONDS = 2.0
_WATCH_NAME = "parent-watch"


class Launcher(Enum):
    """Who starts the processes of a run."""

    torchrun = "torchrun"
    slurm = "slurm"
    own = "own"
    """The first process starts the others."""


def launcher() -> Launcher:
    """Return who started this process.

    SLURM sets its variables in an interactive shell and beside torchrun too; both start processes of their own there.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return Launcher.torchrun
    interactive = os.environ.get("SLURM_JOB_NAME") in {"bash", "interactive"}
    return Launcher.slurm if "SLURM_NTASKS" in os.environ and not interactive else Launcher.own


def rank() -> str:
    """Return this process's place in its run, for messages; `0` for the process that writes."""
    match launcher():
        case Launcher.torchrun:
            return os.environ["RANK"]
        case Launcher.slurm:
            return os.environ["SLURM_PROCID"]
        case Launcher.own:
            node, local = _node_rank(), os.environ.get("LOCAL_RANK", "0")
            return local if node == "0" else f"{node}.{local}"


def leads() -> bool:
    """Return whether this process writes the run's files; the others only compute."""
    return rank() == "0"


def check_processes(*, devices: int, num_nodes: int) -> None:
    """Make sure that as many processes were started from outside as the run has devices.

    Raises:
        FerError: there are more or fewer; each would train on its own, or wait for the others for ever.
    """
    variable = {Launcher.torchrun: "WORLD_SIZE", Launcher.slurm: "SLURM_NTASKS"}.get(launcher())
    if variable is None:
        return
    started, wanted = int(os.environ[variable]), devices * num_nodes
    if started != wanted:
        starter, option = (
            ("torchrun", "--nproc-per-node") if variable == "WORLD_SIZE" else ("srun", "--ntasks-per-node")
        )
        raise FerError(
            f"{starter} started {started} processes, but trainer.devices={devices} and trainer.num_nodes={num_nodes} make "
            f"{wanted}: one process is needed for each device ({starter} {option}=<trainer.devices>)"
        )


def requeued() -> bool:
    """Return whether SLURM has started this job again: it goes on with what it did before."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def slurm_job() -> str | None:
    """Return the number of the SLURM job that this process is the work of."""
    return os.environ.get("SLURM_JOB_ID") if launcher() is Launcher.slurm else None


def end_with_parent() -> None:
    """Let a process that the first one started end with it, even where that one is killed: nobody else would end it."""
    if launcher() is Launcher.own and os.environ.get("LOCAL_RANK", "0") != "0":
        watch_parent()


def watch_parent() -> None:
    """End this process with the one that started it, even where that one is killed."""
    if all(thread.name != _WATCH_NAME for thread in threading.enumerate()):
        threading.Thread(target=_watch, args=(os.getppid(),), name=_WATCH_NAME, daemon=True).start()


def _node_rank() -> str:
    return os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
