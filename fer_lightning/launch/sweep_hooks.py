"""What is done around the jobs of a sweep: checked and recorded before the first one, bugs recorded after each."""

import logging
import sys
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from fer_lightning.errors import FerError
from fer_lightning.launch.optuna_study import is_search, prepare_search
from fer_lightning.runs.ranks import check_processes, leads
from fer_lightning.runs.sweep_jobs import begin_sweep, record_bug

log = logging.getLogger(__name__)


def refuse_several_devices(config: DictConfig) -> None:
    """Refuse a sweep over several devices: their processes would each start a sweep of their own.

    Raises:
        FerError: several devices or nodes, a strategy for them, or several processes started from outside.
    """
    trainer = OmegaConf.select(config, "trainer")
    if trainer is None:
        return
    if trainer.devices * trainer.num_nodes > 1 or trainer.strategy != "auto":
        raise FerError(
            f"--multirun does not work with several devices (trainer.devices={trainer.devices} "
            f"trainer.num_nodes={trainer.num_nodes} trainer.strategy={trainer.strategy}): "
            "train one configuration per command, or sweep with trainer.devices=1 trainer.strategy=auto"
        )
    check_processes(devices=1, num_nodes=1)


def _fixed_options(config: DictConfig) -> list[str]:
    """Return the options that are given with one value, by the sweeper's parameters or the command line."""
    parameters = OmegaConf.select(config, "hydra.sweeper.params") or {}
    given = [*(f"{option}={values}" for option, values in parameters.items()), *config.hydra.overrides.task]
    last_given = {item.key_or_group: item for item in OverridesParser.create().parse_overrides(given)}
    return sorted(option for option, override in last_given.items() if not override.is_sweep_override())


class SweepHooks(Callback):
    """Hydra's hooks around a sweep; named in `conf/config.yaml`."""

    sweep_dir: ClassVar[Path | None] = None
    """Folder of the sweep, in the process that started it; None in workers and for single runs."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Refuse what no job could do, and record that a sweep begins; in the process that starts the sweep.

        Hydra turns exceptions of hooks into warnings, so that a refusal ends the process here.
        """
        sweep_dir = Path(config.hydra.sweep.dir)
        try:
            refuse_several_devices(config)
            if is_search(config):
                prepare_search(config, sweep_dir)
            begin_sweep(sweep_dir, _fixed_options(config))
        except FerError as error:
            if leads():
                sys.stderr.write(f"{error}\n")
            sys.exit(error.exit_code)
        SweepHooks.sweep_dir = sweep_dir

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Tell and record a bug, in the process that ran the job; the other jobs still run.

        Not raised again: some errors cannot be sent from a worker to the process that waits for it.
        """
        if config.hydra.mode is not RunMode.MULTIRUN or job_return.status is not JobStatus.FAILED:
            return
        error = job_return._return_value
        if isinstance(error, FerError):  # the record itself cannot be written: the sweep ends
            return
        name = record_bug(Path(config.hydra.sweep.dir), [*map(str, config.hydra.overrides.task)], error)
        log.error("%s failed", name, exc_info=error)
        job_return.status, job_return.return_value = JobStatus.COMPLETED, None
