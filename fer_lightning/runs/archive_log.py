"""`_archive/archive_log.jsonl`: what was moved where, written before and after each move and never rewritten."""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter

from fer_lightning.errors import FerError
from fer_lightning.runs.artifacts import STRICT, from_json
from fer_lightning.runs.run_folders import ARCHIVE_FOLDER

log = logging.getLogger(__name__)

LOG_FILE = "archive_log.jsonl"
STARTED, COPIED, DONE, GIVEN_UP = "started", "copied", "done", "given_up"
"""Events: about to be moved; copied to another disk and compared, about to be deleted here; moved; left where it is."""


@dataclass(frozen=True, kw_only=True)
class ArchiveEntry:
    """One line of the log."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 1
    time: str
    """Local time with its offset."""
    event: str
    run: str
    """Its folder before the move, relative to `run.root`."""
    kind: str
    """One of `run_folders.KINDS`."""
    target: str
    """Its folder after the move, relative to `run.root`."""
    reason: str | None
    """Of a move that was given up."""


_ADAPTER = TypeAdapter(ArchiveEntry)


def log_path(root: Path) -> Path:
    """Return the log of a folder of runs."""
    return root / ARCHIVE_FOLDER / LOG_FILE


def append_entry(root: Path, event: str, *, run: str, kind: str, target: str, reason: str | None = None) -> None:
    """Append one line, which is on disk when this returns.

    Raises:
        OSError: it cannot be written.
    """
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    entry = ArchiveEntry(time=now, event=event, run=run, kind=kind, target=target, reason=reason)
    line = _ADAPTER.dump_json(entry) + b"\n"
    with log_path(root).open("ab+") as file:
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # the end of a line that a killed process left
                line = b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read_entries(root: Path) -> list[ArchiveEntry]:
    """Return all lines of the log, none where there is no log; lines that a killed process left incomplete are passed over.

    Raises:
        FerError: the log cannot be read.
    """
    file = log_path(root)
    try:
        lines = file.read_bytes().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise FerError(f"cannot read {file}: {error.strerror}") from error
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entries += [from_json(line, ArchiveEntry, where=f"{file}: line {number}")] if line else []
        except FerError as error:
            log.warning("passed over: %s", error)
    return entries


def unfinished_moves(entries: Sequence[ArchiveEntry]) -> list[ArchiveEntry]:
    """Return the last line of every move that has neither been done nor given up."""
    last = {entry.target: entry for entry in entries}
    return [entry for entry in last.values() if entry.event not in {DONE, GIVEN_UP}]


def archived_already(root: Path) -> dict[str, str]:
    """Return what has been moved: real path before the move -> folder after it, relative to `run.root`."""
    real_root = os.path.realpath(root)
    done = [entry for entry in read_entries(root) if entry.event == DONE]
    return {str(Path(real_root) / entry.run): entry.target for entry in done}
