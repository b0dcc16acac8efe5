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
from fer_lightning.runs.phases import Phase, extra_phase, finished_epochs, first_phase, read_phases
from fer_lightning.runs.ranks import leads, requeued

log = logging.getLogger(__name__)

# Options that a resumed run may change: they name places and machines, not the recipe. Rows are compared by digest, and
# the machine of each part is in its environment.json and run.log.
PLACE_OPTIONS = (
    "run.root",
    "run.on_existing",
    "run.unlock_stale",
    "data.manifest",
    "data.root",
    "data.num_workers",
    "data.cache",
    "data.cache_dir",
    "data.cache_verify_rows",
)
"""Options that name places and machines, in any run."""
_FREE_OPTIONS = (
    *PLACE_OPTIONS,
    "trainer.accelerator",
    "trainer.checkpoint_every_minutes",
    "trainer.onnx",
    "distillation.softlabels",  # compared by digest, see `runs.distillation`
    "distillation.ensemble",
    "distillation.verify_rows",
)
_CONTENT_OPTIONS = {
    "data.manifest": "on another manifest",
    "distillation.softlabels": "from another teacher",
    "distillation.ensemble": "from another teacher",
}
"""Places whose content a run depends on, and what it means that another one is named; a resumed run compares digests."""
_PHASE_OPTIONS = {"stage.epochs", "stage.polish_lr_ratio"}
"""What a finished run takes anew for its extra epochs."""


@dataclass(frozen=True)
class RunDirectory:
    """Paths of a run's files; exists only while its lock is held, by this process or by the first one of its run."""

    path: Path
    lock: RunLock | None
    """None in a process that only computes: the first one of the run writes."""
    resuming: bool
    """An earlier run of the same configuration is being continued from its `checkpoint_last.pt`."""
    phases: list[Phase]
    """Of the run, those it will be given by this command included; none for a run without `stage.epochs`."""

    @property
    def writes(self) -> bool:
        """Whether this process writes the run's files; of several one does."""
        return self.lock is not None

    def check_held(self) -> None:
        """Make sure that the lock is still held; the first process of a run does so for all of them.

        Raises:
            TrainingError: the lock file was removed or taken over.
        """
        if self.lock is not None:
            self.lock.check_held()

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

    Of the processes of a run the first one does this; the others look at the record alone, and write nothing.

    Args:
        path: the directory; made when absent.
        run: the typed run; its resolved values are recorded in `config.yaml`.
        on_existing: what to do when it holds an earlier run.
        unlock_stale: see `RunLock`.

    Raises:
        RunLockedError: another process holds it.
        FerError: it holds an earlier run and `on_existing` is `fail`; it holds a run with another configuration, or one
            that is to get extra epochs and is not finished; it holds files that are no run.
    """
    if not leads():
        phases = _check_existing(path, plain_values(run), on_existing)
        yield RunDirectory(path, None, (path / "checkpoint_last.pt").exists(), phases)
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FerError(f"cannot make the run directory {path}: {error.strerror}") from error
    with RunLock(path, unlock_stale=unlock_stale) as lock:
        values = plain_values(run)
        phases = _check_existing(path, values, on_existing)
        resuming = (path / "checkpoint_last.pt").exists()
        if not resuming:  # the record of a run that has trained is never rewritten
            write_text_atomically(path / "config.yaml", yaml.safe_dump(values, sort_keys=False))
        handler = logging.FileHandler(path / "run.log", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.getLogger().addHandler(handler)
        try:
            yield RunDirectory(path, lock, resuming, phases)
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


def check_existing_run(path: Path, run: object, *, on_existing: OnExisting) -> None:
    """Refuse what `open_run_directory` would refuse, lock aside; nothing is made or written.

    Args:
        path: the directory; it may be absent.
        run: the typed run.
        on_existing: what to do when it holds an earlier run.

    Raises:
        FerError: see `open_run_directory`.
    """
    _check_existing(path, plain_values(run), on_existing)


def _check_existing(path: Path, values: dict[str, Any], on_existing: OnExisting) -> list[Phase]:
    """Refuse a directory that this run may not use; return the phases that it may train."""
    given = _flat(values)
    on_existing = OnExisting.resume if requeued() else on_existing
    if not (path / "config.yaml").exists():
        items = path.iterdir() if path.is_dir() else []
        others = sorted(item.name for item in items if not _is_lock_or_leftover(item.name))
        if others:
            raise FerError(
                f"{path} holds files but no run ({', '.join(others[:5])}); choose another run.tag or run.root"
            )
        return _first_phases(given)
    if not (path / "checkpoint_last.pt").exists():
        return _first_phases(given)  # it ended before its first checkpoint: nothing to continue, nothing to lose
    recorded = _flat(read_config(path))
    phases = read_phases(path) or _first_phases(recorded)
    recorded |= _in_effect(phases)
    differing = _differences(recorded, given)
    extra = {key for key, _, _ in differing} <= _PHASE_OPTIONS and _epochs(given) > _epochs(recorded) > 0
    if extra and on_existing is OnExisting.resume:
        return [*phases, _extra_phase(path, phases[-1], given)]
    if differing:
        shown = "\n  ".join(f"{key}: recorded {old!r}, now {new!r}" for key, old, new in differing)
        hint = " Extra epochs for a finished run: run.on_existing=resume." if extra else ""
        raise FerError(
            f"{path} holds a run with another configuration:\n  {shown}\n"
            f"Keep both with run.tag=<name>, or ask for the recorded values to continue it.{hint}"
        )
    if on_existing is OnExisting.fail:
        for option, where in _CONTENT_OPTIONS.items():
            old, new = recorded.get(option), given.get(option)
            if old != new:
                raise FerError(
                    f"{path} holds a run of these options {where}: recorded {option}={old}, now {new}. "
                    "Keep both with run.tag=<name>."
                )
        raise FerError(
            f"{path} already holds a run of this configuration. Continue it with run.on_existing=resume, "
            "or start another beside it with run.tag=<name>."
        )
    return phases


def _epochs(flat: dict[str, Any]) -> int:
    """Return `stage.epochs`, 0 for a run that has none."""
    epochs = flat.get("stage.epochs")
    return epochs if isinstance(epochs, int) else 0


def _first_phases(flat: dict[str, Any]) -> list[Phase]:
    return [first_phase(_epochs(flat))] if _epochs(flat) else []


def _in_effect(phases: list[Phase]) -> dict[str, Any]:
    """Return the options that extra epochs have changed since the run's configuration was recorded."""
    if len(phases) < 2:
        return {}
    return {"stage.epochs": phases[-1].end_epoch, "stage.polish_lr_ratio": phases[-1].lr_ratio}


def _extra_phase(path: Path, last: Phase, given: dict[str, Any]) -> Phase:
    trained = finished_epochs(path, last)
    if trained is None:
        raise FerError(
            f"{path} is not finished, so that it cannot be given extra epochs (stage.epochs={_epochs(given)}): continue it "
            f"with stage.epochs={last.end_epoch} first, or train another with run.tag=<name>."
        )
    return extra_phase(last, trained=trained, epochs=_epochs(given), lr_ratio=given["stage.polish_lr_ratio"])


def _is_lock_or_leftover(name: str) -> bool:
    """Whether a file is the lock's, or the temporary one of a process that was killed while it wrote."""
    return name.startswith(".run.lock") or (name.startswith(".") and name.endswith(".tmp"))


def flat_values(run: object) -> dict[str, Any]:
    """Return a run's resolved values under dotted keys, e.g. `stage.epochs`."""
    return _flat(plain_values(run))


def result_options(path: Path) -> dict[str, Any]:
    """Return a run's options that can change results, under dotted keys, as they are in effect after its last phase.

    Args:
        path: the run directory.

    Raises:
        FerError: no run, or a damaged record.
    """
    phases = read_phases(path)
    options = {key: value for key, value in _flat(read_config(path)).items() if key not in _FREE_OPTIONS}
    ends = {"phases": "+".join(str(phase.end_epoch) for phase in phases)} if len(phases) > 1 else {}
    return options | _in_effect(phases) | ends


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    old, new = _strategy_named(old), _strategy_named(new)
    keys = [key for key in sorted({*old, *new}) if key not in _FREE_OPTIONS]
    return [(key, old.get(key, "(absent)"), new.get(key, "(absent)")) for key in keys if old.get(key) != new.get(key)]


def _strategy_named(flat: dict[str, Any]) -> dict[str, Any]:
    """Return the options with what `trainer.strategy=auto` stands for, and with `auto` for any one device by itself."""
    several = flat.get("trainer.devices", 1) * flat.get("trainer.num_nodes", 1) > 1
    strategy = flat.get("trainer.strategy", "auto")
    named = ("ddp" if strategy == "auto" else strategy) if several else "auto"
    return {**flat, "trainer.strategy": named}
