"""The entry point: composes a run with Hydra and hands it to its verb."""

import importlib
import logging
import os
import sys
import time
from pathlib import Path
from typing import ClassVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fer_lightning.allocator import keep_freed_memory
from fer_lightning.config import Run, composition_message, conf_dir, help_text, register_schemas, to_run
from fer_lightning.errors import FerError, FinishedRunError
from fer_lightning.pipeline.config import TrainingRun
from fer_lightning.pipeline.ensembles.config import FuseEnsembleRun
from fer_lightning.pipeline.sweeps.sweep_end import compare_jobs, compared_kinds, directories_of
from fer_lightning.runs.ranks import end_with_parent, leads, rank

log = logging.getLogger(__name__)

_INTERRUPTED = 130
_SIGNALLED = 128
_REFUSED = 2
_LEAD_SECONDS = 3.0
_SWEEP_RECORD = "multirun.yaml"
_SWEEP_FLAGS = {"-m", "--multirun"}


class _Progress:
    """What happened so far in this process."""

    composed = False
    """Hydra got as far as handing over a composed config."""
    sweep_exit_code = 0
    """Exit code of the last refused job of a sweep."""
    sweep_dir: Path | None = None
    """Folder of the sweep; None for a single run."""
    refused_jobs: ClassVar[list[tuple[str, str, list[Path]]]] = []
    """Refused jobs of a sweep: which, why, and their run directories."""
    ensembles: ClassVar[dict[Path, FuseEnsembleRun]] = {}
    """Ensembles of a sweep, by their folders."""


def _swept_options() -> set[str] | None:
    """Return the options that vary in this sweep, as Hydra recorded it; None where another sweeper left no such record."""
    record = Path(HydraConfig.get().sweep.dir) / _SWEEP_RECORD
    if not record.is_file():
        return None
    sweep = OmegaConf.load(record).hydra
    given = [*(f"{option}={values}" for option, values in (sweep.sweeper.get("params") or {}).items())]
    parsed = OverridesParser.create().parse_overrides([*given, *sweep.overrides.task])
    last_given = {override.get_key_element(): override for override in parsed}
    return {option for option, override in last_given.items() if override.is_sweep_override()}


def _place_in_sweep(run: Run) -> None:
    """Put a job's run below its sweep's folder; where more than the seed varies, its name gets the number of the job."""
    run.run.root = str(_Progress.sweep_dir)
    swept = _swept_options()
    if swept is None or swept - {"run.seed"}:
        run.run.tag = "_".join(filter(None, [run.run.tag, f"job{HydraConfig.get().job.num}"]))


def _job_name() -> str:
    """Return what tells a sweep's job from the others."""
    swept, job = _swept_options() or set(), HydraConfig.get()
    values = [override for override in job.overrides.task if override.partition("=")[0] in swept]
    return f"job {job.job.num} ({' '.join(values)})" if values else f"job {job.job.num}"


def _remove_empty_sweep(sweep_dir: Path) -> None:
    """Remove the folder of a sweep that holds no more than Hydra's record."""
    if [item.name for item in sweep_dir.iterdir()] == [_SWEEP_RECORD]:
        (sweep_dir / _SWEEP_RECORD).unlink()
        sweep_dir.rmdir()


def _refuse_several_devices(run: Run) -> None:
    """End a sweep over several devices: their processes would each start a sweep of their own."""
    if not isinstance(run, TrainingRun):
        return
    several = run.trainer.devices * run.trainer.num_nodes > 1
    if several or run.trainer.strategy != "auto":
        log.error(
            "--multirun does not work with several devices (trainer.devices=%d trainer.num_nodes=%d trainer.strategy=%s): "
            "train one configuration per command, or sweep with trainer.devices=1 trainer.strategy=auto",
            run.trainer.devices,
            run.trainer.num_nodes,
            run.trainer.strategy,
        )
        _remove_empty_sweep(Path(HydraConfig.get().sweep.dir))
        sys.exit(_REFUSED)


def _speak_only_of_trouble() -> None:
    """Let a process of a run other than the first tell errors only, under its number: the first one tells the rest."""
    end_with_parent()
    logging.getLogger().setLevel(logging.ERROR)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(logging.Formatter(f"process {rank()}: %(message)s"))


def _run_verb(run: Run) -> None:
    """Run a verb; a sweep's ensembles have names of their own, and share what their jobs have in common."""
    if _Progress.sweep_dir is not None and isinstance(run, FuseEnsembleRun):
        from fer_lightning.pipeline.sweeps.fuse_in_sweep import fuse_in_sweep

        fuse_in_sweep(run, _Progress.sweep_dir, _Progress.ensembles)
        return
    if _Progress.sweep_dir is not None:
        _place_in_sweep(run)
    verb = importlib.import_module(f"fer_lightning.pipeline.{run.task}")
    getattr(verb, run.task)(run)


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def _compose(config: DictConfig) -> None:
    _Progress.composed = True
    sweeping = HydraConfig.get().mode is RunMode.MULTIRUN
    if not leads():
        _speak_only_of_trouble()
    _Progress.sweep_dir = Path(HydraConfig.get().sweep.dir) if sweeping else None
    run = None
    try:
        run = to_run(config)
        if sweeping:
            _refuse_several_devices(run)
        _run_verb(run)
    except FerError as error:
        if sweeping and isinstance(error, FinishedRunError):  # the sweep was started again to do the rest
            log.info("%s: %s", _job_name(), error)
            return
        if not leads():
            time.sleep(_LEAD_SECONDS)  # what stops every process of a run is said once: the first one ends the others
        log.error("%s", error)  # noqa: TRY400  the message is for people, without a traceback
        if not sweeping:
            sys.exit(error.exit_code)
        _Progress.sweep_exit_code = error.exit_code  # the other jobs still run
        _Progress.refused_jobs.append((_job_name(), str(error), directories_of(run, _Progress.ensembles)))
    except KeyboardInterrupt:
        log.warning("interrupted; what was finished is on disk")
        sys.exit(_INTERRUPTED)


def _tell_how_to_go_on() -> None:
    """Tell how an interrupted sweep goes on: the same command by itself would start another one."""
    sweep_dir = _Progress.sweep_dir
    kinds = [] if sweep_dir is None else compared_kinds(sweep_dir)
    if not kinds:
        return
    log.warning(
        "go on with the sweep: the same command with hydra.sweep.dir=%s%s; "
        "a table of what is finished: task=compare_runs 'compare.runs=[%s]'",
        sweep_dir,
        " run.on_existing=resume" if "teachers" in kinds else "",
        sweep_dir,
    )


def _compare_sweep(sweep_dir: Path) -> None:
    """Compare the teachers or ensembles of a sweep whose jobs have ended."""
    if not compared_kinds(sweep_dir):
        return
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)  # Hydra's launcher has left its own
    try:
        compare_jobs(sweep_dir, _Progress.ensembles, _Progress.refused_jobs)
    except FerError as error:
        log.error("%s", error)  # noqa: TRY400
        _Progress.sweep_exit_code = _Progress.sweep_exit_code or error.exit_code


def _show_help(overrides: list[str]) -> int:
    try:
        sys.stdout.write(help_text(overrides))
    except FerError as error:
        sys.stderr.write(f"{error}\n")
        return _REFUSED
    return 0


def main() -> None:
    """Run one command line.

    Exit codes: 0 done, 2 refused, 3 audit, check or gate failed, 4 locked, 5 training failed, 128 + n stopped by signal n (130: Ctrl-C),
    1 a bug.
    """
    # Waiting threads give up their processor instead of spinning: on a shared machine spinning costs 5 to 10 times.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    register_schemas()
    if {"--help", "-h"} & set(sys.argv[1:]):
        sys.exit(_show_help([argument for argument in sys.argv[1:] if argument not in {"--help", "-h"}]))
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in _SWEEP_FLAGS)  # argparse wants them first
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints what does not compose, in many lines
    try:
        _compose()
    except (HydraException, OmegaConfBaseException) as error:
        if _Progress.composed:
            raise
        sys.stderr.write(f"{composition_message(error)}\n")
        sys.exit(_REFUSED)
    except KeyboardInterrupt:  # before a run has begun, or between two jobs
        _tell_how_to_go_on()
        sys.exit(_INTERRUPTED)
    except SystemExit as stop:
        if stop.code == 1 and not _Progress.composed:  # Hydra's code for a config it could not compose
            sys.exit(_REFUSED)
        if isinstance(stop.code, int) and stop.code > _SIGNALLED:
            _tell_how_to_go_on()
        raise
    if _Progress.sweep_dir is not None:
        _compare_sweep(_Progress.sweep_dir)
    sys.exit(_Progress.sweep_exit_code)


if __name__ == "__main__":
    main()
