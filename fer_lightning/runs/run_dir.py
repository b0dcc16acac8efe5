"""A run directory: opened under its lock, bound to one recorded configuration."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from fer_lightning.errors import FerError
from fer_lightning.files import write_text_atomically
from fer_lightning.runs.config import OnExisting
from fer_lightning.runs.lock import RunLock

log = logging.getLogger(__name__)

# Options that a resumed run may change: they name places and machines, not the recipe. Rows are compared by digest, and
# the machine of each part is in its environment.json and run.log.
_FREE_OPTIONS = (
    "run.root",
    "run.on_existing",
    "run.unlock_stale",
    "data.manifest",
    "data.root",
    "data.num_workers",
    "data.cache",
    "data.cache_dir",
    "data.cache_verify_rows",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.checkpoint_every_minutes",
    "trainer.onnx",
)


@dataclass(frozen=True)
class RunDirectory:
    """Paths of a run's files; exists only while its lock is held."""

    path: Path
    lock: RunLock
    resuming: bool
    """An earlier, unfinished run of the same configuration is being continued from its `checkpoint_last.pt`."""

    @property
    def best(self) -> Path:
        """Checkpoint of the best epoch: weights only."""
        return self.path / "best.pt"

    @property
    def last(self) -> Path:
        """Checkpoint of the last epoch: everything needed to go on."""
        return self.path / "checkpoint_last.pt"

    @property
    def alignment_report(self) -> Path:
        """Rows, pictures and labels the run used."""
        return self.path / "alignmentreport.json"


@contextmanager
def open_run_directory(
    path: Path, run: object, *, on_existing: OnExisting, unlock_stale: bool
) -> Iterator[RunDirectory]:
    """Lock a run directory, check its record, and keep a log file in it.

    Args:
        path: the directory; made when absent.
        run: the typed run; its resolved values are recorded in `config.yaml`.
        on_existing: what to do when it holds an earlier run.
        unlock_stale: see `RunLock`.

    Raises:
        RunLockedError: another process holds it.
        FerError: it holds an earlier run and `on_existing` is `fail`; it holds a run with another configuration;
            it holds files that are no run.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FerError(f"cannot make the run directory {path}: {error.strerror}") from error
    with RunLock(path, unlock_stale=unlock_stale) as lock:
        values = plain_values(run)
        _check_existing(path, values, on_existing)
        resuming = (path / "checkpoint_last.pt").exists()
        if not resuming:  # the record of a run that has trained is never rewritten
            write_text_atomically(path / "config.yaml", yaml.safe_dump(values, sort_keys=False))
        handler = logging.FileHandler(path / "run.log", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger().addHandler(handler)
        try:
            yield RunDirectory(path, lock, resuming)
        finally:
            logging.getLogger().removeHandler(handler)
            handler.close()


def plain_values(value: object) -> Any:
    """Return dataclasses, enums and paths as plain YAML values."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain_values(asdict(value))
    if isinstance(value, dict):
        return {key: plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    return value.value if isinstance(value, Enum) else value


def read_config(path: Path) -> dict[str, Any]:
    """Return the configuration recorded in a run directory.

    Raises:
        FerError: there is none, or it is damaged.
    """
    file = path / "config.yaml"
    if not file.is_file():
        raise FerError(f"{path} is not a run directory: it has no config.yaml")
    try:
        values = yaml.safe_load(file.read_bytes())
    except yaml.YAMLError as error:
        raise FerError(f"{file} is damaged: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict):
        raise FerError(f"{file} is damaged: it holds no options")
    return values


def _check_existing(path: Path, values: dict[str, Any], on_existing: OnExisting) -> None:
    if not (path / "config.yaml").exists():
        others = sorted(item.name for item in path.iterdir() if not _is_lock_or_leftover(item.name))
        if others:
            raise FerError(
                f"{path} holds files but no run ({', '.join(others[:5])}); choose another run.tag or run.root"
            )
        return
    if not (path / "checkpoint_last.pt").exists():
        return  # it ended before its first checkpoint: nothing to continue, nothing to lose
    recorded, given = _flat(read_config(path)), _flat(values)
    differing = _differences(recorded, given)
    if differing:
        shown = "\n  ".join(f"{key}: recorded {old!r}, now {new!r}" for key, old, new in differing)
        raise FerError(
            f"{path} holds a run with another configuration:\n  {shown}\n"
            "Keep both with run.tag=<name>, or ask for the recorded values to continue it."
        )
    if on_existing is OnExisting.fail:
        old, new = recorded.get("data.manifest"), given.get("data.manifest")
        if old != new:
            raise FerError(
                f"{path} holds a run of these options on another manifest: recorded data.manifest={old}, now {new}. "
                "Keep both with run.tag=<name>."
            )
        raise FerError(
            f"{path} already holds a run of this configuration. Continue it with run.on_existing=resume, "
            "or start another beside it with run.tag=<name>."
        )


def _is_lock_or_leftover(name: str) -> bool:
    """Whether a file is the lock's, or the temporary one of a process that was killed while it wrote."""
    return name.startswith(".run.lock") or (name.startswith(".") and name.endswith(".tmp"))


def flat_values(run: object) -> dict[str, Any]:
    """Return a run's resolved values under dotted keys, e.g. `stage.epochs`."""
    return _flat(plain_values(run))


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    keys = [key for key in sorted({*old, *new}) if key not in _FREE_OPTIONS]
    return [(key, old.get(key, "(absent)"), new.get(key, "(absent)")) for key in keys if old.get(key) != new.get(key)]
