"""The entry point: composes a run with Hydra and hands it to its verb."""

import importlib
import logging
import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from fer_lightning.allocator import keep_freed_memory
from fer_lightning.config import composition_message, conf_dir, help_text, register_schemas, to_run
from fer_lightning.errors import FerError

log = logging.getLogger(__name__)

_INTERRUPTED = 130
_REFUSED = 2


class _Progress:
    """What happened so far in this process."""

    composed = False
    """Hydra got as far as handing over a composed config."""
    sweep_exit_code = 0
    """Exit code of the last refused job of a sweep."""


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def _compose(config: DictConfig) -> None:
    _Progress.composed = True
    sweeping = HydraConfig.get().mode is RunMode.MULTIRUN
    try:
        run = to_run(config)
        if sweeping:
            run.run.root = str(Path(HydraConfig.get().sweep.dir))
            run.run.tag = "_".join(filter(None, [run.run.tag, f"job{HydraConfig.get().job.num}"]))
        verb = importlib.import_module(f"fer_lightning.pipeline.{run.task}")
        getattr(verb, run.task)(run)
    except FerError as error:
        log.error("%s", error)  # noqa: TRY400  the message is for people, without a traceback
        if not sweeping:
            sys.exit(error.exit_code)
        _Progress.sweep_exit_code = error.exit_code  # the other jobs still run
    except KeyboardInterrupt:
        log.warning("interrupted; what was finished is on disk")
        sys.exit(_INTERRUPTED)


def _show_help(overrides: list[str]) -> int:
    try:
        sys.stdout.write(help_text(overrides))
    except FerError as error:
        sys.stderr.write(f"{error}\n")
        return _REFUSED
    return 0


def main() -> None:
    """Run one command line. Exit codes: 0 done, 2 refused, 3 audit failed, 4 locked, 5 training failed, 130 interrupted, 1 a bug."""
    # Waiting threads give up their processor instead of spinning: on a shared machine spinning costs 5 to 10 times.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    register_schemas()
    if {"--help", "-h"} & set(sys.argv[1:]):
        sys.exit(_show_help([argument for argument in sys.argv[1:] if argument not in {"--help", "-h"}]))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints what does not compose, in many lines
    try:
        _compose()
    except (HydraException, OmegaConfBaseException) as error:
        if _Progress.composed:
            raise
        sys.stderr.write(f"{composition_message(error)}\n")
        sys.exit(_REFUSED)
    except KeyboardInterrupt:  # before a run has begun
        sys.exit(_INTERRUPTED)
    except SystemExit as stop:
        if stop.code == 1 and not _Progress.composed:  # Hydra's code for a config it could not compose
            sys.exit(_REFUSED)
        raise
    sys.exit(_Progress.sweep_exit_code)


if __name__ == "__main__":
    main()
