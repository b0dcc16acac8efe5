"""One job of a sweep: its run below the sweep's folder, its outcome on record, its objective handed to the sweeper."""

import importlib
import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from fer_lightning.allocator import keep_freed_memory
from fer_lightning.config import Run, to_run
from fer_lightning.errors import FerError, FinishedRunError
from fer_lightning.launch.sweep_hooks import SweepHooks, refuse_several_devices
from fer_lightning.pipeline.ensembles.config import FuseEnsembleRun
from fer_lightning.pipeline.sweeps.objective import directories_of, objective_of
from fer_lightning.runs.ranks import watch_parent
from fer_lightning.runs.sweep_jobs import SweepJob, begin_job, end_job, option_of

log = logging.getLogger(__name__)

_SEED = "run.seed"


def _settle_in_worker(job: SweepJob) -> None:
    """Make a launcher's worker process one of ours: it ends with the sweep, and says which job it speaks of."""
    if SweepHooks.sweep_dir is not None:
        return
    keep_freed_memory()
    watch_parent()
    for handler in logging.getLogger().handlers:
        handler.setFormatter(logging.Formatter(f"job {job.number}: %(message)s"))


def _place(run: Run, sweep_dir: Path, job: SweepJob) -> None:
    """Put a job's run below its sweep's folder; where more than the seed varies, its name gets the number of the job."""
    run.run.root = str(sweep_dir)
    if {option_of(value) for value in job.values} - {_SEED}:
        run.run.tag = "_".join(filter(None, [run.run.tag, f"job{job.number}"]))


def _run_verb(run: Run, sweep_dir: Path, job: SweepJob, directories: list[Path]) -> None:
    """Run a verb and tell where its results are; ensembles have names of their own, and share what jobs have in common."""
    if isinstance(run, FuseEnsembleRun):
        from fer_lightning.pipeline.sweeps.fuse_in_sweep import fuse_in_sweep

        fuse_in_sweep(run, sweep_dir, directories)
        return
    _place(run, sweep_dir, job)
    directories += directories_of(run)
    verb = importlib.import_module(f"fer_lightning.pipeline.{run.task}")
    getattr(verb, run.task)(run)


def run_job(config: DictConfig) -> float | None:
    """Run one job of a sweep; a refusal is recorded, and the other jobs still run.

    Args:
        config: composed by Hydra.

    Returns:
        The job's objective; None where it was refused or its verb has none.

    Raises:
        FerError: the record of the sweep cannot be written.
    """
    hydra_config = HydraConfig.get()
    sweep_dir = Path(hydra_config.sweep.dir)
    overrides = [str(override) for override in hydra_config.overrides.task]
    job = begin_job(sweep_dir, int(hydra_config.job.num), overrides)
    _settle_in_worker(job)
    directories: list[Path] = []
    try:
        refuse_several_devices(config)
        run = to_run(config)
        _run_verb(run, sweep_dir, job, directories)
    except FinishedRunError as error:  # the sweep was started again to do the rest
        log.info("%s: %s", job.name, error)
    except FerError as error:
        log.error("%s", error)  # noqa: TRY400  the message is for people, without a traceback
        end_job(sweep_dir, job, refused=error, directories=directories)
        return None
    objective = objective_of(str(OmegaConf.select(config, "task")), directories)
    end_job(sweep_dir, job, directories=directories, objective=objective)
    return objective
