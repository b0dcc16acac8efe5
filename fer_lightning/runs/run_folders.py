"""Finds every run below a folder and tells its kind by the files in it."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.runs.config import RunConfig
from fer_lightning.runs.ensemble import ENSEMBLE_FILE, ENSEMBLE_METRICS_FILE
from fer_lightning.runs.softlabels import HASH_FILE, INDEX_FILE, SOFTLABELS_FILE

ARCHIVE_FOLDER = "_archive"
KINDS = (
    "teachers",
    "students",
    "ensembles",
    "softlabels",
    "evaluations",
    "calibrations",
    "robustness",
    "source_matrix",
    "checks",
    "foreign",
    "logits",
)
"""Of runs: the names of the folders below `run.root` that they lie in."""
LEADERBOARD_FILE = "leaderboard.json"

_KIND_OF_FILE = (
    (HASH_FILE, "softlabels"),
    (SOFTLABELS_FILE, "softlabels"),
    (INDEX_FILE, "softlabels"),
    (ENSEMBLE_FILE, "ensembles"),
    ("evaluation.json", "evaluations"),
    ("calibrator.json", "calibrations"),
    ("robustness.json", "robustness"),
    ("source_matrix.json", "source_matrix"),
    ("check.json", "checks"),
    ("storedlogits.json", "logits"),
)
"""The first one that a folder holds tells its kind."""
_TRAINED = {"best.pt", "checkpoint_last.pt", "reliabilitymetrics.json"}
_CONFIG = "config.yaml"
"""Alone, the sign of a run that has just begun; other programs have files of this name too."""
_SWEEPS = "multirun"


@dataclass(frozen=True, order=True)
class RunFolder:
    """A folder that holds one run."""

    path: Path
    """As found below the folder that was searched."""
    kind: str
    """One of `KINDS`."""
    real: str
    """Without symlinks: what tells whether two paths are the same run."""


@dataclass(frozen=True)
class FoundRuns:
    """What lies below a folder."""

    runs: tuple[RunFolder, ...]
    """In the order of their paths."""
    leaderboards: tuple[Path, ...]
    """Those that lie in no run."""
    unreadable: tuple[tuple[Path, str], ...]
    """Folders that cannot be listed, and why."""

    @classmethod
    def joined(cls, parts: "Sequence[FoundRuns]") -> "FoundRuns":
        """Return what several folders hold, each run once, as the first of them names it."""
        runs = {run.real: run for part in reversed(parts) for run in part.runs}
        boards = {os.path.realpath(path): path for part in reversed(parts) for path in part.leaderboards}
        unreadable = {os.path.realpath(path): (path, why) for part in reversed(parts) for path, why in part.unreadable}
        return cls(tuple(sorted(runs.values())), tuple(sorted(boards.values())), tuple(sorted(unreadable.values())))


def kind_of(path: Path, names: Collection[str]) -> str | None:
    """Return the kind of run that a folder holds, None where it holds none.

    Args:
        path: the folder.
        names: of what lies in it.
    """
    for file, kind in _KIND_OF_FILE:
        if file in names:
            return kind
    parent = path.absolute().parent.name
    if parent in KINDS and {*_TRAINED, ENSEMBLE_METRICS_FILE, _CONFIG} & set(names):
        return parent
    if ENSEMBLE_METRICS_FILE in names:
        return "ensembles"
    return "teachers" if _TRAINED & set(names) else None


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()  # noqa: PTH112  False for a link in a loop


def run_at(path: Path) -> RunFolder | None:
    """Return the run that a folder holds itself, None where it holds none.

    Raises:
        OSError: the folder cannot be listed.
    """
    entries = list(os.scandir(path))
    kind = kind_of(path, {entry.name for entry in entries})
    if path.absolute().parent.name == "foreign" and kind in {None, "logits"}:
        children = [path, *(Path(entry.path) for entry in entries if _is_folder(entry))]
        kind = "foreign" if any((child / "storedlogits.json").is_file() for child in children) else None
    return None if kind is None else RunFolder(path, kind, os.path.realpath(path))


def find_runs(folder: Path, *, archived: bool = False) -> FoundRuns:
    """Find every run below a folder, or the folder's own; a run is not searched for others.

    Args:
        folder: what is searched; links to folders are followed.
        archived: search `_archive` folders too.
    """
    runs, boards, unreadable, seen = [], [], [], set()
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        real = os.path.realpath(place)
        if real in seen:
            continue
        seen.add(real)
        try:
            found = run_at(place)
            if found is not None:
                runs.append(found)
                continue
            with os.scandir(place) as entries:
                children = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            unreadable.append((place, error.strerror or str(error)))
            continue
        boards += [place / entry.name for entry in children if entry.name == LEADERBOARD_FILE]
        waiting += [
            place / entry.name
            for entry in children
            if _is_folder(entry) and not entry.name.startswith(".") and (archived or entry.name != ARCHIVE_FOLDER)
        ]
    return FoundRuns(tuple(sorted(runs)), tuple(sorted(boards)), tuple(sorted(unreadable)))


def other_roots(root: Path) -> list[Path]:
    """Return the other places where runs stand, here and beside the root: what lies there may refer to runs of the root."""
    here, beside = Path(), root.absolute().parent
    places = [place / name for place in (here, beside) for name in (RunConfig.root, _SWEEPS)]
    found = {os.path.realpath(place): place for place in reversed(places) if place.is_dir()}
    found.pop(os.path.realpath(root), None)
    return sorted(found.values())


def enclosing_run(folder: Path, root: Path) -> Path | None:
    """Return the run that a folder is, or lies in; None where it lies in none.

    Args:
        folder: need not exist.
        root: folder of runs; folders around it are not looked at.
    """
    real, real_root = folder.resolve(), root.resolve()
    places = [real, *(place for place in real.parents if place != real_root and place.is_relative_to(real_root))]
    return next((place for place in places if place.is_dir() and run_at(place) is not None), None)
