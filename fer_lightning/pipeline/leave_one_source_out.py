"""Trains a teacher on all sources and one without each of them, and judges all of them on every source's val rows."""

import gc
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.errors import FinishedRunError, TrainingError
from fer_lightning.files import explained_write_errors, write_text_atomically
from fer_lightning.pipeline.evaluation.config import EvaluateRun, EvaluationTarget
from fer_lightning.pipeline.logits.model_files import find_model
from fer_lightning.pipeline.logits.scores import scores_of
from fer_lightning.pipeline.rows.evaluation_rows import EvaluationRows
from fer_lightning.pipeline.teachers.leave_one_out_config import LeaveOneSourceOutRun
from fer_lightning.pipeline.teachers.left_out_teachers import Teacher, plan_teachers
from fer_lightning.pipeline.train_teacher import train_teacher
from fer_lightning.runs.artifacts import AlignmentReport, read_artifact, write_artifact
from fer_lightning.runs.lock import RunLock
from fer_lightning.runs.ranks import leads

if TYPE_CHECKING:
    from fer_lightning.runs.source_matrix import MatrixRow, SourceCell, SourceMatrix
    from fer_lightning.runs.stored_logits import StoredLogits

log = logging.getLogger(__name__)

_CONFIDENCE = 0.95


def _train(teacher: Teacher) -> bool:
    """Train a teacher, or go on with it; return whether anything was left to do."""
    log.info("%s: %s", teacher.title, teacher.path)
    try:
        train_teacher(teacher.run)
    except FinishedRunError:
        log.info("%s is finished and used as it is", teacher.title)
        return False
    finally:
        gc.collect()  # its network hangs in reference cycles, and its device memory with it
    return True


def _check_rows_trained_on(teacher: Teacher, stored: "StoredLogits") -> None:
    """Make sure that the run on disk chose its best.pt and fitted its calibrator without the source left out.

    Raises:
        TrainingError: its record says otherwise.
    """
    report = read_artifact(teacher.path / "alignmentreport.json", AlignmentReport)
    fingerprint = teacher.selection.fingerprint("val")
    calibration = stored.record.calibration
    fitted_on = fingerprint if calibration is None else calibration.fitted_on_fingerprint
    if {report.row_set_fingerprints["val"], fitted_on} != {fingerprint} or (
        teacher.left_out in report.source_counts_after_filter
    ):
        raise TrainingError(
            f"{teacher.path} was trained, chosen or calibrated on other rows than those of {teacher.title}; "
            "train anew with run.tag=<name>"
        )


def _scores(run: LeaveOneSourceOutRun, teacher: Teacher, judged: Teacher) -> "StoredLogits":
    """Return a teacher's logits on all val rows of the reference."""
    target = EvaluationTarget(
        checkpoint=str(teacher.path / "best.pt"),
        batch_size=max(run.stage.batch_size, EvaluationTarget.batch_size),
        accelerator=run.trainer.accelerator,
    )
    rows = EvaluationRows(
        selection=judged.selection,
        split="val",
        manifest=str(run.data.manifest),
        calibration=run.calibration,
        rows_seen_in_training=len(teacher.seen),
        rows_left_out=judged.selection.left_out_of("val"),
    )
    evaluation = EvaluateRun(run=run.run, evaluate=target, data=run.data)
    model = find_model(target.checkpoint, option=teacher.title)
    stored = scores_of(model, rows, evaluation, option=teacher.title)
    _check_rows_trained_on(teacher, stored)
    return stored


def _matrix(run: LeaveOneSourceOutRun, teachers: Sequence[Teacher], folder: Path) -> "SourceMatrix":
    import torch

    from fer_lightning.runs.source_matrix import SourceMatrix
    from fer_lightning.training.source_matrix import (
        MatrixOptions,
        honest_log_probs,
        judge_cells,
        source_cost,
        support_of,
    )

    reference = teachers[0]
    options = MatrixOptions(
        calibration=run.calibration,
        folds=torch.from_numpy(reference.selection.folds("val", run.calibration.num_folds)),
        num_resamples=run.leave_out.num_resamples,
        confidence=_CONFIDENCE,
    )
    all_scores = [_scores(run, teacher, reference) for teacher in teachers]
    support = support_of(all_scores[0])
    judged = []
    for teacher, stored in zip(teachers, all_scores, strict=True):
        log_probs = honest_log_probs(stored, teacher.left_out, options)
        cells = judge_cells(stored, log_probs, list(support), teacher.seen, options)
        judged.append((log_probs, {cell.source: cell for cell in cells}))
    costs = [
        source_cost(teacher.left_out, (all_scores[0], *judged[0]), without, options)
        for teacher, without in zip(teachers, judged, strict=True)
        if teacher.left_out is not None
    ]
    record = all_scores[0].record
    return SourceMatrix(
        name=reference.run.name,
        manifest=record.manifest,
        manifest_sha256=record.manifest_sha256,
        n=record.n,
        row_set_fingerprint=record.row_set_fingerprint,
        sources=list(support),
        support=support,
        num_bins=run.calibration.num_bins,
        confidence=_CONFIDENCE,
        num_resamples=run.leave_out.num_resamples,
        rows=[
            _row(teacher, stored, folder, list(cells.values()))
            for teacher, stored, (_, cells) in zip(teachers, all_scores, judged, strict=True)
        ],
        costs=costs,
    )


def _row(teacher: Teacher, stored: "StoredLogits", folder: Path, cells: "list[SourceCell]") -> "MatrixRow":
    from fer_lightning.runs.source_matrix import MatrixRow

    return MatrixRow(
        left_out=teacher.left_out,
        run=Path(os.path.relpath(teacher.path, folder)).as_posix(),
        checkpoint_sha256=stored.record.checkpoint_sha256,
        epoch=stored.record.epoch,
        train_rows=len(teacher.selection.rows["train"]),
        val_rows=len(teacher.selection.rows["val"]),
        val_fingerprint=teacher.selection.fingerprint("val"),
        logits_sha256=stored.record.logits_sha256,
        calibration=stored.record.calibration,
        cells=cells,
    )


def _write(run: LeaveOneSourceOutRun, teachers: Sequence[Teacher]) -> None:
    """Judge all teachers and write every file; `source_matrix.json` last, so that it stands for the others."""
    folder = Path(run.run.root) / "source_matrix" / teachers[0].run.name
    with explained_write_errors(folder, option="run.root"):
        folder.mkdir(parents=True, exist_ok=True)
    with RunLock(folder, unlock_stale=run.run.unlock_stale), explained_write_errors(folder, option="run.root"):
        matrix = _matrix(run, teachers, folder)
        from fer_lightning.reports.figures import save_figure
        from fer_lightning.reports.source_matrix_page import (
            console_text,
            csv_text,
            markdown_page,
            source_matrix_figure,
        )

        (folder / "source_matrix.json").unlink(missing_ok=True)
        write_text_atomically(folder / "source_matrix.md", markdown_page(matrix))
        write_text_atomically(folder / "source_matrix.csv", csv_text(matrix))
        save_figure(folder / "source_matrix.png", source_matrix_figure(matrix))
        write_artifact(folder / "source_matrix.json", matrix)
    log.info("%s", console_text(matrix))
    log.info("wrote %s, .md, .csv and .png", folder / "source_matrix.json")


def leave_one_source_out(run: LeaveOneSourceOutRun) -> None:
    """Train the reference and one teacher without each source; each leaves the run directory it would leave by itself.

    With `run.on_existing=resume` finished teachers are used as they are and an unfinished one goes on. The matrix is
    written in any case.

    Raises:
        FerError: see `train_teacher`; what can be known about any teacher is refused before the first one.
        FinishedRunError: all teachers were complete.
    """
    teachers = plan_teachers(run)
    log.info("%d teachers: %s", len(teachers), ", ".join(teacher.title for teacher in teachers))
    trained = [_train(teacher) for teacher in teachers]
    if not leads():
        return
    _write(run, teachers)
    if not any(trained):
        raise FinishedRunError(
            f"all {len(teachers)} teachers are complete: nothing to resume; the matrix of what they say is written anew. "
            "Train others with run.tag=<name>."
        )
