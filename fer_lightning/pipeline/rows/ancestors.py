"""The runs that a run came from: whose weights it started from, and who taught it. What they were trained on, it has seen too."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.pipeline.config import TrainingRun
from fer_lightning.pipeline.rows.run_record import RunRecord, read_run_record
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.distillation import DISTILLATION_FILE, DistillationRecord
from fer_lightning.runs.ensemble import EnsembleTeacher
from fer_lightning.runs.ensemble_file import ENSEMBLE_ONNX_FILE, is_ensemble, read_ensemble
from fer_lightning.runs.ensemble_teachers import teacher_file, with_a_share

log = logging.getLogger(__name__)

_FROM_A_FILE = ("init_from", "file")
_UNKNOWN = "not known what %s was trained on: %s"


def _read(weights: Path) -> RunRecord | None:
    try:
        record = read_run_record(weights.parent)
    except FerError as error:
        log.warning(_UNKNOWN, weights, str(error).splitlines()[0])
        return None
    if record is None:
        log.info(_UNKNOWN, weights, "it lies in no run directory, seen from this folder")
    return record


def _files_of(teachers: Sequence[EnsembleTeacher], where: str) -> Iterator[Path]:
    """Yield where the teachers that have a share lie; one that cannot be found is logged."""
    for teacher in with_a_share(teachers):
        if teacher.kind == "foreign":
            log.warning(_UNKNOWN, f"teacher {teacher.name} of {where}", "its logits are of another program")
            continue
        try:
            yield teacher_file(teacher, where=where)
        except FerError as error:
            log.warning(_UNKNOWN, "a teacher", str(error).splitlines()[0])


def _taught_by(run_dir: Path) -> Iterator[Path]:
    """Yield the weights of a student's teachers."""
    file = run_dir / DISTILLATION_FILE
    if not file.is_file():
        return
    try:
        teachers = read_artifact(file, DistillationRecord).teachers
    except FerError as error:
        log.warning(_UNKNOWN, f"any teacher of {run_dir}", str(error).splitlines()[0])
        return
    yield from _files_of(teachers, str(file))


def _came_from(record: RunRecord) -> Iterator[Path]:
    """Yield the weights that a run started from, and those of its teachers."""
    start = record.alignment.starting_weights
    if start.kind in _FROM_A_FILE:
        yield Path(start.source.removeprefix("file:"))
    yield from _taught_by(record.run_dir)


def _models_in(weights: Path) -> Iterator[Path]:
    """Yield a weights file, or, of the ONNX file of an ensemble, those of its teachers."""
    folder = weights.parent
    if weights.name != ENSEMBLE_ONNX_FILE or not is_ensemble(str(folder)):
        yield weights
        return
    try:
        teachers = read_ensemble(folder, option=str(weights)).teachers
    except FerError as error:
        log.warning(_UNKNOWN, weights, str(error).splitlines()[0])
        return
    yield from _files_of(teachers, str(folder))


def _followed(start: Iterable[Path], seen: set[Path]) -> Iterator[RunRecord]:
    """Yield the records of the runs that some weights lie in, then of those that they came from, each once, nearest first."""
    waiting = deque(start)
    while waiting:
        for model in _models_in(waiting.popleft()):
            if model.parent.resolve() in seen:
                continue
            seen.add(model.parent.resolve())
            record = _read(model)
            if record is not None:
                yield record
                waiting.extend(_came_from(record))


def records_from(weights: Path) -> Iterator[RunRecord]:
    """Yield the record of the run that a weights file lies in, then those of the runs that it came from, nearest first.

    A run came from those whose weights it started from, and from its teachers. One that is not there any more ends its line,
    which is logged.

    Args:
        weights: best.pt of a run, or any other file.
    """
    yield from _followed([weights], set())


def records_at_the_start(run: TrainingRun) -> Iterator[RunRecord]:
    """Yield the records of the run whose weights a training starts from, then of those that it came from, nearest first.

    Args:
        run: of the training; one from other weights has none.
    """
    start = run.stage.init_from or run.backbone.checkpoint
    if start is not None:
        yield from records_from(Path(start) / "best.pt" if Path(start).is_dir() else Path(start))


def records_of_teachers(teachers: Sequence[EnsembleTeacher], *, where: str) -> Iterator[RunRecord]:
    """Yield the records of the runs of teachers that have a share, then those of the runs that these came from.

    Args:
        teachers: of an ensemble, soft labels or a student.
        where: whose, for messages.
    """
    yield from _followed(_files_of(teachers, where), set())


def ancestors(record: RunRecord) -> Iterator[RunRecord]:
    """Yield the records of the runs that a run came from, nearest first."""
    yield from _followed(_came_from(record), {record.run_dir.resolve()})
