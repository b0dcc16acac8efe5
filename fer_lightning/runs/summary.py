"""`summary.json`: every run below a folder, what it reached on which rows, its state, its size, and what refers to it."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict

from fer_lightning.runs.artifacts import STRICT
from fer_lightning.runs.leaderboard import LeftOut

SUMMARY_FILES = ("summary.md", "summary.csv", "summary.json")
_LOCK_PREFIX = ".run.lock"


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One run."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    run: str
    """Its folder, relative to that of this file."""
    kind: str
    """One of `run_folders.KINDS`."""
    state: str
    """`finished`, `unfinished`, `unreadable`, `locked` or `archived`."""
    reason: str | None
    """Why it is unreadable."""
    locked_by: str | None
    split: str | None
    """Of its rows; None where it says none."""
    n: int | None
    row_set_fingerprint: str | None
    figures: dict[str, float | None]
    """Empty for runs that have none."""
    best: bool
    """Nothing of its table is better."""
    seeds: list[int]
    """Of a trained run, or of the teachers of an ensemble."""
    size_bytes: int
    """Of its files."""
    changed: str
    """Local time of the last change of a file."""
    needed_by: list[str]
    """Runs that need it where it is, relative to the folder of this file."""
    named_by: list[str]
    """Runs that were made from it and say something of it."""


@dataclass(frozen=True, kw_only=True)
class SummaryTable:
    """Runs of one kind that were judged on the same rows, best first."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: str
    """Soft labels stand among `ensembles`."""
    split: str
    n: int
    row_set_fingerprint: str
    num_bins: int
    """Of ECE."""
    view: str
    ece: str
    """Which ECE decides: `ece_scaled` (calibrated) where every run has it, else `ece`."""
    runs: list[RunSummary]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """`summary.json`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 1
    tables: list[SummaryTable]
    without_figures: list[RunSummary]
    """Unfinished, unreadable, or of a kind that has none."""
    archived: list[RunSummary]
    searched_as_text: list[LeftOut]
    """Files that cannot be parsed: they count as referring to everything they name."""
    not_searched: list[LeftOut]
    """Files and folders that cannot be read: nobody knows what they refer to."""

    @property
    def runs(self) -> list[RunSummary]:
        """All of them, in the order of the tables."""
        return [*(run for table in self.tables for run in table.runs), *self.without_figures, *self.archived]


def size_and_change(path: Path) -> tuple[int, float]:
    """Return the bytes of all files of a folder and the Unix time of the last change, locks and what cannot be read aside."""
    size, changed = 0, 0.0
    for folder, _, names in os.walk(path):
        for name in names:
            if name.startswith(_LOCK_PREFIX):
                continue
            try:
                status = os.stat(os.path.join(folder, name), follow_symlinks=False)  # noqa: PTH116, PTH118  many files
            except OSError:
                continue
            size, changed = size + status.st_size, max(changed, status.st_mtime)
    return size, changed


def local_time(seconds: float) -> str:
    """Return a Unix time for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
