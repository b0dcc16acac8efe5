"""What Hydra hands a composed config to: one run, or one job of a sweep; workers of a launcher import it by this name."""

import importlib
import logging
import sys
import time

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from fer_lightning.config import to_run
from fer_lightning.errors import FerError
from fer_lightning.launch.sweep_job import run_job
from fer_lightning.runs.ranks import end_with_parent, leads, rank

log = logging.getLogger(__name__)

INTERRUPTED = 130
_LEAD_SECONDS = 3.0


class Started:
    """What happened so far in this process."""

    alone = False
    """A single run was composed and handed to its verb: what is raised from here on is no fault of the command line."""


def _speak_only_of_trouble() -> None:
    """Let a process of a run other than the first tell errors only, under its number: the first one tells the rest."""
    end_with_parent()
    logging.getLogger().setLevel(logging.ERROR)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(logging.Formatter(f"process {rank()}: %(message)s"))


def _run_alone(config: DictConfig) -> None:
    """Run one verb; a refusal ends the process."""
    Started.alone = True
    if not leads():
        _speak_only_of_trouble()
    try:
        run = to_run(config)
        verb = importlib.import_module(f"fer_lightning.pipeline.{run.task}")
        getattr(verb, run.task)(run)
    except FerError as error:
        if not leads():
            time.sleep(_LEAD_SECONDS)  # what stops every process of a run is said once: the first one ends the others
        log.error("%s", error)  # noqa: TRY400  the message is for people, without a traceback
        sys.exit(error.exit_code)


def start(config: DictConfig) -> float | None:
    """Run a verb, alone or as a job of a sweep.

    Args:
        config: composed by Hydra.

    Returns:
        Of a sweep's job, what a search maximises (see `pipeline.sweeps.objective`); None for a refused job, for verbs without
        such a figure, and for a single run.
    """
    try:
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            return run_job(config)
        _run_alone(config)
    except KeyboardInterrupt:
        log.warning("interrupted; what was finished is on disk")
        sys.exit(INTERRUPTED)
    return None
