"""The entry point: composes a run with Hydra and hands it to its verb."""

import logging
import os
import re
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from fer_lightning.allocator import keep_freed_memory
from fer_lightning.config import composition_message, conf_dir, help_text, register_schemas
from fer_lightning.errors import FerError
from fer_lightning.launch.start import INTERRUPTED, Started, start
from fer_lightning.launch.sweep_hooks import SweepHooks
from fer_lightning.pipeline.sweeps.sweep_end import end_sweep, has_finished_job, resumable_kinds

log = logging.getLogger(__name__)

_SIGNALLED = 128
_REFUSED = 2
_BUG = 1
_SWEEP_FLAGS = {"-m", "--multirun"}
_KILLED = "a process of the sweep was killed: is there memory for so many jobs side by side (hydra.launcher.n_jobs)?"
_NO_TRIALS = "No trials are completed"
"""Optuna asks for the best trial also of a study in which every one was refused."""
_MISSING_PLUGIN = re.compile(r"Could not find '(hydra/launcher|hydra/sweeper)/(joblib|optuna)'")


def _speak_plainly() -> None:
    """Log messages alone: launchers leave handlers of their own, or none."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)


def _tell_how_to_go_on(sweep_dir: Path | None) -> None:
    """Tell how an interrupted sweep goes on: the same command by itself would start another one."""
    kinds = [] if sweep_dir is None else resumable_kinds(sweep_dir)
    if not kinds:
        return
    _speak_plainly()
    log.warning(
        "go on with the sweep: the same command with hydra.sweep.dir=%s%s; "
        "a table of what is finished: task=compare_runs 'compare.runs=[%s]'",
        sweep_dir,
        " run.on_existing=resume" if kinds != ["ensembles"] else "",
        sweep_dir,
    )


def _not_composed(error: HydraException | OmegaConfBaseException) -> str:
    """Return in one line what is wrong with a command line that does not compose."""
    message = composition_message(error)
    missing = _MISSING_PLUGIN.search(message)
    if missing:
        return "{}={} is not installed: pip install 'fer_lightning[sweep]'".format(*missing.groups())
    return message


def _show_help(overrides: list[str]) -> int:
    try:
        sys.stdout.write(help_text(overrides))
    except FerError as error:
        sys.stderr.write(f"{error}\n")
        return _REFUSED
    return 0


def _launch() -> None:
    """Let Hydra compose and run, and turn what stops it into a message and an exit code."""
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(start)()
    except (HydraException, OmegaConfBaseException) as error:
        if Started.alone:
            raise
        sys.stderr.write(f"{_not_composed(error)}\n")
        sys.exit(_REFUSED)
    except SystemExit as stop:
        if stop.code == 1 and not Started.alone and SweepHooks.sweep_dir is None:
            sys.exit(_REFUSED)  # Hydra's code for a config it could not compose
        if isinstance(stop.code, int) and stop.code > _SIGNALLED:
            _tell_how_to_go_on(SweepHooks.sweep_dir)
        raise
    except KeyboardInterrupt:  # before a run has begun, between two jobs, or while workers have them
        _tell_how_to_go_on(SweepHooks.sweep_dir)
        sys.exit(INTERRUPTED)


def _launch_sweep_or_run() -> None:
    """Launch, and turn what ends a sweep as a whole into a message and an exit code."""
    try:
        _launch()
    except FerError as error:  # the record of a sweep cannot be written
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    except BrokenProcessPool:
        _speak_plainly()
        log.error(_KILLED)  # noqa: TRY400  the message is for people, without a traceback
        _tell_how_to_go_on(SweepHooks.sweep_dir)
        sys.exit(_BUG)
    except ValueError as error:
        refused_all = SweepHooks.sweep_dir is not None and not has_finished_job(SweepHooks.sweep_dir)
        if not (refused_all and _NO_TRIALS in str(error)):
            raise


def main() -> None:
    """Run one command line.

    Exit codes: 0 done, 2 refused, 3 audit, check or gate failed, 4 locked, 5 training failed, 128 + n stopped by signal n (130: Ctrl-C),
    1 a bug. A sweep ends with that of its last refused job, or with 1 where a job failed by a bug.
    """
    # Waiting threads give up their processor instead of spinning: on a shared machine spinning costs 5 to 10 times.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    register_schemas()
    if {"--help", "-h"} & set(sys.argv[1:]):
        sys.exit(_show_help([argument for argument in sys.argv[1:] if argument not in {"--help", "-h"}]))
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in _SWEEP_FLAGS)  # argparse wants them first
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints what does not compose, in many lines
    _launch_sweep_or_run()
    if SweepHooks.sweep_dir is not None:
        _speak_plainly()
        sys.exit(end_sweep(SweepHooks.sweep_dir))


if __name__ == "__main__":
    main()
