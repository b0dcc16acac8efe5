"""An ensemble as something to judge: its logits, fused from those of its teachers, or the rows of its ONNX file."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.pipeline.ensembles.recorded_teachers import check_recorded, open_recorded
from fer_lightning.pipeline.evaluation.config import EvaluateRun
from fer_lightning.pipeline.logits.model_files import ModelFile
from fer_lightning.pipeline.logits.teacher_scores import teacher_scores
from fer_lightning.pipeline.rows.evaluation_rows import EvaluationRows, evaluation_rows
from fer_lightning.pipeline.rows.rows_of_models import rows_of_models
from fer_lightning.runs.artifacts import ONNX_RECORD_FILE, OnnxExport, read_artifact
from fer_lightning.runs.ensemble import ENSEMBLE_FILE, Ensemble
from fer_lightning.runs.ensemble_file import ENSEMBLE_ONNX_FILE, ensemble_file, is_ensemble, most_seen, read_ensemble
from fer_lightning.runs.ensemble_teachers import teacher_file, with_a_share
from fer_lightning.training.config import CalibrationConfig

if TYPE_CHECKING:
    from fer_lightning.runs.stored_logits import StoredLogits

log = logging.getLogger(__name__)


def _fitted_on(ensemble: Ensemble, split: str, fingerprint: str) -> bool:
    """Tell whether temperatures of an ensemble's teachers were fitted on these rows."""
    fitted = any(teacher.calibration_temperature != 1 for teacher in with_a_share(ensemble.teachers))
    return fitted and split == "val" and fingerprint == ensemble.val_fingerprint


def ensemble_calibration(run: EvaluateRun, ensemble: Ensemble) -> CalibrationConfig:
    """Return how the logits of an ensemble are calibrated: as it was, unless asked otherwise."""
    return run.calibration.settled(None if ensemble.calibration is None else ensemble.calibration.method)


def ensemble_scores(run: EvaluateRun, given: str, *, option: str) -> "tuple[StoredLogits, CalibrationConfig]":
    """Return the logits of an ensemble on the rows asked for, fused from those of its teachers.

    On the val rows that its teachers' temperatures were fitted on, each row is divided by temperatures that were fitted on the
    other folds; elsewhere by those of `ensemble.json`.

    Args:
        run: rows, view, loader and device.
        given: folder of the ensemble, or its `ensemble.json`.
        option: the option that named it, for messages.

    Returns:
        The logits, and how they are calibrated.

    Raises:
        FerError: the ensemble is damaged, a teacher is gone or was replaced, or another view is asked for.
    """
    file = ensemble_file(Path(given))
    ensemble, sha256 = read_ensemble(file, option=option), sha256_of(file)
    if run.evaluate.view.value != ensemble.view:
        raise FerError(
            f"evaluate.view={run.evaluate.view.value}: {file} holds weights and a calibration for view {ensemble.view}; take "
            f"evaluate.view={ensemble.view}, or fuse its teachers again through this one"
        )
    split = run.evaluate.split or "val"
    where = f"{option}: {file}"
    scores = teacher_scores(run, open_recorded(ensemble, where=where, option=option), split, option=option).single
    check_recorded(ensemble, scores, where=where)
    from fer_lightning.training.fusion import fuse_stored, fusion_of, scaled_teachers  # torch

    teachers, calibration, scaled = with_a_share(ensemble.teachers), ensemble_calibration(run, ensemble), None
    if _fitted_on(ensemble, split, scores[0].record.row_set_fingerprint):
        log.info(
            "the teachers' temperatures were fitted on these val rows: each row is scaled by temperatures of the other folds"
        )
        scaled = scaled_teachers(scores, scale=True, num_folds=calibration.num_folds).logits
    fused = fuse_stored(
        scores,
        fusion_of(teachers, ensemble.space),
        names=[one.name for one in teachers],
        folder=file.parent,
        sha256=sha256,
        calibration=ensemble.calibration,
        teacher_logits=scaled,
    )
    return fused, calibration


def _check_export(model: ModelFile, folder: Path, *, option: str) -> None:
    exports = read_artifact(folder / ONNX_RECORD_FILE, OnnxExport).files
    sources = {one.checkpoint_sha256 for one in exports if (one.file, one.sha256) == (model.path.name, model.sha256)}
    if sources != {sha256_of(folder / ENSEMBLE_FILE)}:
        raise FerError(
            f"{option}: {model.path} was not exported from the {ENSEMBLE_FILE} beside it, going by {ONNX_RECORD_FILE}; "
            f"run task=export_onnx export.run_dir={folder}"
        )


def model_rows(run: EvaluateRun, model: ModelFile, *, option: str) -> EvaluationRows:
    """Select the rows on which a model file is judged; those of an ensemble's ONNX file are as for each of its teachers.

    Where a teacher is gone, they are as for a file that lies in no run directory.

    Args:
        run: the typed run.
        model: checkpoint or ONNX file.
        option: the option that named it, for messages.

    Raises:
        FerError: an `ensemble.onnx` that is not of the `ensemble.json` beside it, or what `evaluation_rows` refuses.
    """
    folder = model.path.parent
    if model.path.name != ENSEMBLE_ONNX_FILE or not is_ensemble(str(folder)):
        return evaluation_rows(run, folder)
    ensemble = read_ensemble(folder, option=option)
    _check_export(model, folder, option=option)
    try:
        files = [teacher_file(teacher, where=f"{option}: {folder}") for teacher in with_a_share(ensemble.teachers)]
    except FerError as error:
        log.warning("%s", error)
        return evaluation_rows(run, folder)
    of_all = rows_of_models(run, files, run.evaluate.split or "val", option=option)
    if _fitted_on(ensemble, of_all[0].split, of_all[0].selection.fingerprint(of_all[0].split)):
        log.warning(
            "the teachers' temperatures inside %s were fitted on these val rows, which flatters its figures; evaluate %s to have "
            "them cross-fitted",
            model.path,
            folder,
        )
    return replace(
        of_all[0],
        calibration=ensemble_calibration(run, ensemble),
        rows_seen_in_training=most_seen([rows.rows_seen_in_training for rows in of_all]),
    )
