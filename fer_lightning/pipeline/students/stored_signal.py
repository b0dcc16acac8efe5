"""Stored soft labels as a student's teacher: verified, joined by row id, calibrated as asked."""

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fer_lightning.data.batches.row_logits import RowLogits
from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.data.selection import Selection
from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.functional.distillation import standardize_logits
from fer_lightning.functional.sharpness import Sharpness, kd_temperature_for_entropy, sharpness
from fer_lightning.pipeline.softlabels.reinference import Verification, deviation_text, drawn_rows, verify_rows
from fer_lightning.pipeline.students.config import DistillStudentRun
from fer_lightning.pipeline.students.known_teachers import parameters_of, refuse_taught_val_rows
from fer_lightning.runs.distillation import DistillationRecord, TargetSharpness
from fer_lightning.runs.ensemble import ENSEMBLE_FILE
from fer_lightning.runs.ensemble_file import read_ensemble
from fer_lightning.runs.softlabel_join import JoinedSoftLabels, join_softlabels
from fer_lightning.runs.softlabel_teachers import check_teachers
from fer_lightning.runs.softlabels import HASH_FILE, SoftLabels
from fer_lightning.runs.softlabels_file import read_softlabels
from fer_lightning.training.distillation.config import TemperatureRule
from fer_lightning.training.distillation.signal import TeacherSignal
from fer_lightning.training.distillation.stored_teachers import TaughtLogits, taught_logits
from fer_lightning.training.distillation.term import DistillationTerm
from fer_lightning.training.recipe.student_recipe import TeacherFusion

log = logging.getLogger(__name__)

OPTION = "distillation.softlabels"


def _verified(run: DistillStudentRun, softlabels: SoftLabels, selection: Selection) -> Verification | None:
    """Infer random rows again.

    Raises:
        FerError: they are not what the soft labels hold.
    """
    if not run.distillation.verify_rows:
        return None
    present = {*selection.manifest.row_ids}
    at = np.array([place for place, row_id in enumerate(softlabels.row_ids) if row_id in present])
    places = at[drawn_rows(len(at), run.distillation.verify_rows, seed=run.run.seed)]
    found = verify_rows(softlabels, selection.manifest, places, accelerator=run.trainer.accelerator, option=OPTION)
    if found.deviating:
        raise FerError(
            f"{OPTION}: {len(found.deviating)} of {found.num_rows} rows that were inferred again are not those in the soft labels: "
            f"{deviation_text(found)}. Pictures or teachers have changed since: export soft labels again"
        )
    log.info("%s: %s, no logit is further off than %.3g", OPTION, found.what, found.max_abs_difference)
    return found


def _kd_temperature(run: DistillStudentRun, targets: Tensor) -> float:
    """Return the KD temperature in effect.

    Raises:
        FerError: no temperature gives the entropy that is asked for.
    """
    lesson = run.distillation
    if lesson.temperature_rule is not TemperatureRule.entropy:
        return lesson.kd_temperature
    found = kd_temperature_for_entropy(targets, target_entropy=lesson.target_entropy)
    if not found.reached:
        raise FerError(
            f"distillation.target_entropy={lesson.target_entropy:g}: no KD temperature gives it to these targets; at "
            f"{found.kd_temperature:g} their mean entropy is {found.entropy_share:.4f} of the largest"
        )
    return found.kd_temperature


def _fused(run: DistillStudentRun, logits: Tensor, labels: Tensor, fusion: TeacherFusion) -> Tensor:
    """Return (n, 7) logits to follow, of (n, M, 7) of M teachers."""
    term = DistillationTerm(run.distillation, fusion, kd_temperature=run.distillation.kd_temperature, partial=False)
    with torch.no_grad():
        return term.fused(logits, labels)


def _joined(
    run: DistillStudentRun, selection: Selection, canonical: CanonicalSpec, softlabels: SoftLabels
) -> JoinedSoftLabels:
    """Join soft labels with the train rows, once teachers and rows are those that they were."""
    joined = join_softlabels(
        softlabels,
        selection.manifest,
        selection.rows["train"],
        manifest_sha256=selection.manifest.sha256,
        canonical=canonical,
        option=OPTION,
        allow_missing=run.distillation.allow_missing,
    )
    if not (joined.positions >= 0).any():
        raise FerError(f"{OPTION}: none of the {len(joined.positions)} train rows has soft labels")
    absent = check_teachers(softlabels, option=OPTION)
    if absent:
        log.warning("%s: nothing is left of %s to compare with what taught", OPTION, ", ".join(absent))
    refuse_taught_val_rows(softlabels.record.teachers, selection, run.data)
    return joined


def _row_logits(run: DistillStudentRun, softlabels: SoftLabels, table: Tensor, places: Tensor) -> RowLogits:
    """Return the table for the loader; with views also the draws by which the pictures are shown."""
    if not run.distillation.views or softlabels.view_draws is None:
        return RowLogits(table.numpy())
    plain = torch.zeros_like(softlabels.view_draws[:1])
    draws = torch.cat([plain, softlabels.view_draws])[:, places].numpy()
    return RowLogits(table.numpy(), views=softlabels.record.views, draws=draws)


def _record(
    run: DistillStudentRun,
    folder: Path,
    softlabels: SoftLabels,
    taught: TaughtLogits,
    kd_temperature: float,
    soft: Sharpness,
    *,
    selection: Selection,
    rows_without: int,
) -> DistillationRecord:
    """Return who teaches what; some rows are inferred again first, where that is asked for."""
    verification = _verified(run, softlabels, selection)
    record, lesson = softlabels.record, run.distillation
    return DistillationRecord(
        teacher="soft labels",
        source=folder.as_posix(),
        source_sha256=sha256_of(folder / HASH_FILE),
        ensemble=read_ensemble(folder / ENSEMBLE_FILE, option=OPTION).name,
        ensemble_sha256=record.ensemble_sha256,
        space=record.space,
        teachers=record.teachers,
        teacher_parameters=parameters_of(record.teachers),
        teacher_calibration=lesson.teacher_calibration.value,
        teacher_temperatures=list(taught.temperatures),
        ensemble_temperature=taught.ensemble_temperature,
        kd_temperature=kd_temperature,
        views=[view.name for view in record.views] if lesson.views else [],
        rows_taught=soft.n,
        rows_without=rows_without,
        verified_rows=0 if verification is None else verification.num_rows,
        max_abs_difference=0.0 if verification is None else verification.max_abs_difference,
        targets=TargetSharpness(
            mean_max_prob=soft.max_prob.mean,
            mean_true_prob=soft.mean_true_prob or 0.0,
            mean_entropy_share=soft.entropy_share.mean,
        ),
    )


def open_stored(run: DistillStudentRun, selection: Selection, canonical: CanonicalSpec, path: Path) -> TeacherSignal:
    """Return stored soft labels as the signal of a student.

    Args:
        run: the typed run.
        selection: its rows.
        canonical: its picture.
        path: folder of the soft labels, or a file of it.

    Raises:
        FerError: see `open_signal`.
    """
    lesson, folder = run.distillation, path.parent if path.is_file() else path
    softlabels = read_softlabels(folder, option=OPTION)
    joined = _joined(run, selection, canonical, softlabels)
    taught = taught_logits(
        softlabels,
        calibration=lesson.teacher_calibration,
        each_teacher=lesson.each_teacher,
        views=lesson.views,
        option=OPTION,
    )
    places = torch.from_numpy(joined.positions)
    known = places >= 0
    table = taught.logits[:, places]
    table[:, ~known] = torch.nan
    # Several teachers' logits are divided by their temperatures already.
    fusion = TeacherFusion(
        space=taught.space,
        weights=list(taught.weights),
        temperatures=[1.0] * table.shape[2],
        ensemble_temperature=taught.ensemble_temperature,
    )
    targets = _fused(run, table[0, known], joined.labels[known], fusion)
    kd_temperature = _kd_temperature(run, targets)
    followed = standardize_logits(targets) if lesson.standardize else targets
    soft = sharpness(followed, kd_temperature=kd_temperature, labels=joined.labels[known])
    record = _record(
        run, folder, softlabels, taught, kd_temperature, soft, selection=selection, rows_without=int((~known).sum())
    )
    return TeacherSignal(
        config=lesson,
        row_logits=_row_logits(run, softlabels, table, places),
        negatives=None,
        fusion=fusion,
        kd_temperature=kd_temperature,
        ensemble_sha256=None,
        record=record,
    )
