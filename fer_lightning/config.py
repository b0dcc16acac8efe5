"""From Hydra to typed runs: registers the schemas, turns a composed config into its dataclass."""

import math
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import fer_lightning
from fer_lightning.errors import FerError
from fer_lightning.pipeline.config import (
    AuditManifestRun,
    BuildManifestRun,
    EvaluateRun,
    ExportOnnxRun,
    TrainTeacherRun,
)

Run = TrainTeacherRun | EvaluateRun | ExportOnnxRun | BuildManifestRun | AuditManifestRun

RUN_TYPES: dict[str, type[Run]] = {
    "train_teacher": TrainTeacherRun,
    "evaluate": EvaluateRun,
    "export_onnx": ExportOnnxRun,
    "build_manifest": BuildManifestRun,
    "audit_manifest": AuditManifestRun,
}


def conf_dir() -> Path:
    """Return the folder of YAML files: `conf/` inside an installed wheel, or beside the package in a checkout."""
    package = Path(fer_lightning.__file__).parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def register_schemas() -> None:
    """Register every verb's run dataclass as `schema/<verb>`, so that YAML and overrides are checked against it."""
    store = ConfigStore.instance()
    for verb, run_type in RUN_TYPES.items():
        store.store(group="schema", name=verb, node=run_type, package="_global_")


def to_run(config: DictConfig) -> Run:
    """Turn a composed config into its typed run.

    Args:
        config: composed by Hydra from `conf/`.

    Returns:
        The run dataclass of `config.task`; every `__post_init__` check has passed.

    Raises:
        FerError: a value is missing or refused.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise FerError(f"required and not set: {', '.join(f'{key}=<value>' for key in missing)}")
    try:
        run = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise FerError(str(error).splitlines()[0]) from error
    except ValueError as error:
        raise FerError(str(error)) from error
    if not isinstance(run, Run):
        raise FerError(f"task must be one of {', '.join(RUN_TYPES)}")
    _refuse_non_finite(config)
    return run


def _refuse_non_finite(config: DictConfig, prefix: str = "") -> None:
    """Refuse nan and inf anywhere: a comparison with nan passes no range check and fails none."""
    for key, value in config.items():
        if isinstance(value, DictConfig):
            _refuse_non_finite(value, f"{prefix}{key!s}.")
        elif isinstance(value, float) and not math.isfinite(value):
            raise FerError(f"{prefix}{key!s} must be a finite number, got {value}")
