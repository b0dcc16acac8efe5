"""Opens a student's teachers: proofs checked, rows joined, temperatures settled; nothing is trained or written here."""

import logging
from dataclasses import replace
from pathlib import Path

from fer_lightning.data.batches.negatives import read_negatives
from fer_lightning.data.selection import Selection
from fer_lightning.pipeline.learning.parts import canonical_of
from fer_lightning.pipeline.students.config import DistillStudentRun
from fer_lightning.pipeline.students.live_signal import open_live
from fer_lightning.pipeline.students.stored_signal import open_stored
from fer_lightning.runs.distillation import DistillationRecord
from fer_lightning.training.distillation.signal import TeacherSignal
from fer_lightning.training.recipe.student_recipe import TeacherFusion

log = logging.getLogger(__name__)

_SUMMARY = "taught by %s: %d of %d train rows, kd_temperature %.4g"


def _without_files(run: DistillStudentRun, selection: Selection) -> TeacherSignal:
    """Return the signal of a student that learns from labels, or from itself."""
    lesson = run.distillation
    record = DistillationRecord(
        teacher="own former epoch" if lesson.self_teaching else "labels only",
        source=None,
        source_sha256=None,
        ensemble=None,
        ensemble_sha256=None,
        space=None,
        teachers=[],
        teacher_parameters=None,
        teacher_calibration=lesson.teacher_calibration.value,
        teacher_temperatures=[],
        ensemble_temperature=1.0,
        kd_temperature=lesson.kd_temperature if lesson.self_teaching else None,
        views=[],
        rows_taught=0,
        rows_without=len(selection.rows["train"]),
        verified_rows=0,
        max_abs_difference=0.0,
        targets=None,
    )
    return TeacherSignal(lesson, None, None, TeacherFusion(), lesson.kd_temperature, None, record)


def open_signal(run: DistillStudentRun, selection: Selection) -> TeacherSignal:
    """Return what a student is taught by.

    Args:
        run: the typed run.
        selection: its rows.

    Raises:
        FerError: soft labels of other rows, labels, classes, pictures or teachers than these; an ensemble that is none, or sees
            other pictures; teachers that were trained on the student's val rows; no negative labels where they are asked for.
    """
    lesson, canonical = run.distillation, canonical_of(run)
    if lesson.distils and lesson.softlabels is not None:
        signal = open_stored(run, selection, canonical, Path(lesson.softlabels))
    elif lesson.distils and lesson.ensemble is not None:
        signal = open_live(run, selection, canonical, Path(lesson.ensemble))
    else:
        signal = _without_files(run, selection)
    if lesson.negative_weight:
        signal = replace(signal, negatives=read_negatives(selection.manifest, selection.rows["train"]))
    record = signal.record
    if record.kd_temperature is not None:
        total = record.rows_taught + record.rows_without
        log.info(_SUMMARY, record.source or record.teacher, record.rows_taught, total, record.kd_temperature)
    return signal
