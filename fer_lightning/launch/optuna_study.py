"""Searches by Optuna: checked before the first job, and gone on with where a killed command has left their study."""

import logging
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf, read_write

from fer_lightning.errors import FerError
from fer_lightning.pipeline.sweeps.objective import VERBS_WITH_OBJECTIVE
from fer_lightning.runs.sweep_jobs import FAILED, read_jobs

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

log = logging.getLogger(__name__)

_SWEEPER = "hydra_optuna_sweeper"
_OLDEST_UNFIT = 2
"""Major version of SQLAlchemy from which on Optuna 2.10 fails as it opens a database."""


def is_search(config: DictConfig) -> bool:
    """Return whether Optuna chooses the jobs of a sweep."""
    return _SWEEPER in str(config.hydra.sweeper._target_)


def prepare_search(config: DictConfig, sweep_dir: Path) -> None:
    """Refuse a search that could not work; let one with a storage go on where an earlier command has left it.

    `hydra.sweeper.n_trials` then counts the trials of the study in all. Trials whose jobs were interrupted come first, with
    their own values. A seed of the sampler is shifted by the trials there are: the same seed would ask for the first ones
    again. Without a storage the same seed asks for the same trials, and those that are finished answer at once.

    Args:
        config: composed by Hydra; its sweeper is changed.
        sweep_dir: folder of the sweep.

    Raises:
        FerError: a verb without an objective, another direction than its own, or a database that Optuna cannot open.
    """
    sweeper = config.hydra.sweeper
    if config.task not in VERBS_WITH_OBJECTIVE:
        raise FerError(f"task={config.task} has no figure to search by; these have: {', '.join(VERBS_WITH_OBJECTIVE)}")
    if str(getattr(sweeper.direction, "name", sweeper.direction)) != "maximize":
        raise FerError("a search is for the highest val macro-F1: set hydra.sweeper.direction=maximize")
    if not isinstance(sweeper.storage, str):
        return
    _check_database(sweeper.storage)
    sweep_dir.mkdir(parents=True, exist_ok=True)
    with read_write(config.hydra):
        sweeper.study_name = sweeper.study_name or sweep_dir.resolve().name
        _go_on(sweeper, sweep_dir)


def _check_database(storage: str) -> None:
    installed = version("sqlalchemy")
    if "://" in storage and int(installed.partition(".")[0]) >= _OLDEST_UNFIT and not storage.startswith("redis"):
        raise FerError(
            f"hydra.sweeper.storage={storage} needs SQLAlchemy below {_OLDEST_UNFIT}, and {installed} is installed: "
            "pip install 'fer_lightning[sweep]'"
        )


def _go_on(sweeper: DictConfig, sweep_dir: Path) -> None:
    """Take what an earlier command has tried from the number of trials, and let its interrupted trials be asked again."""
    import optuna

    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of every plugin
    storage = optuna.storages.get_storage(sweeper.storage)
    try:
        study_id = storage.get_study_id_from_name(sweeper.study_name)
    except KeyError:
        return
    trials = storage.get_all_trials(study_id)
    again = _ask_again(storage, study_id, sweep_dir)
    ended = sum(trial.state.is_finished() for trial in trials)
    log.info(
        "study %s in %s: %d of %d trials have ended, %d interrupted ones go on",
        sweeper.study_name,
        sweeper.storage,
        ended,
        sweeper.n_trials,
        again,
    )
    sweeper.n_trials = max(0, sweeper.n_trials - ended)
    if OmegaConf.select(sweeper, "sampler.seed") is not None:
        sweeper.sampler.seed += len(trials)


def _ask_again(storage: "BaseStorage", study_id: int, sweep_dir: Path) -> int:
    """Let trials wait again whose jobs in this folder did not get to their end, and return their number."""
    from optuna.trial import TrialState

    interrupted = [{*job.values} for job in read_jobs(sweep_dir) if job.outcome == FAILED]
    running = storage.get_all_trials(study_id, states=(TrialState.RUNNING,))
    found = [
        trial
        for trial in running
        if any({f"{name}={value}" for name, value in trial.params.items()} == values for values in interrupted)
    ]
    for trial in found:
        storage.set_trial_state(trial._trial_id, TrialState.WAITING)
    return len(found)
