"""The runs whose weights a run started from: what they were trained on, it has seen too."""

import logging
from collections.abc import Iterator
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.pipeline.rows.run_record import RunRecord, read_run_record

log = logging.getLogger(__name__)

_FROM_A_FILE = ("init_from", "file")


def _read(weights: Path) -> RunRecord | None:
    try:
        record = read_run_record(weights.parent)
    except FerError as error:
        log.warning("not known what %s was trained on: %s", weights, str(error).splitlines()[0])
        return None
    if record is None:
        log.info("not known what %s was trained on: it lies in no run directory, seen from this folder", weights)
    return record


def records_from(weights: Path) -> Iterator[RunRecord]:
    """Yield the record of the run that a weights file lies in, then those of the runs it started from, nearest first.

    A run that is not there any more ends the line, which is logged.

    Args:
        weights: best.pt of a run, or any other file.
    """
    seen: set[Path] = set()
    record = _read(weights)
    while record is not None and record.run_dir.resolve() not in seen:
        seen.add(record.run_dir.resolve())
        yield record
        start = record.alignment.starting_weights
        record = _read(Path(start.source.removeprefix("file:"))) if start.kind in _FROM_A_FILE else None


def ancestors(record: RunRecord) -> Iterator[RunRecord]:
    """Yield the records of the runs that a run started from, nearest first."""
    start = record.alignment.starting_weights
    if start.kind in _FROM_A_FILE:
        yield from records_from(Path(start.source.removeprefix("file:")))
