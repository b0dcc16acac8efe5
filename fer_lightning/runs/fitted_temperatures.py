"""Calibration temperatures that were fitted on the val rows of an ensemble: of its fused logits, and of each teacher's raw ones."""

from pathlib import Path

from fer_lightning.runs.artifacts import CalibrationRecord, EvaluatedCheckpoint, read_artifact
from fer_lightning.runs.ensemble import ENSEMBLE_METRICS_FILE, Ensemble, EnsembleMetrics, EnsembleTeacher


def fitted_temperature(calibration: CalibrationRecord | None, val_fingerprint: str) -> float | None:
    """Return the temperature of a calibration, or None where there is none to divide logits by.

    None without a calibration, for one that is more than a temperature, for one of other rows, and for one that ran into
    its bound, which would make targets one-hot or uniform.

    Args:
        calibration: as recorded.
        val_fingerprint: row-set fingerprint of the rows that it has to be fitted on.
    """
    if calibration is None or calibration.method == "none" or calibration.at_bound:
        return None
    of_val = (calibration.fitted_on_split, calibration.fitted_on_fingerprint) == ("val", val_fingerprint)
    return calibration.calibration_temperature if of_val else None


def _of_teacher(teacher: EnsembleTeacher, judged: list[EvaluatedCheckpoint], val_fingerprint: str) -> float | None:
    if teacher.calibration_temperature != 1:  # of ensemble.teacher_scaling: fitted on raw logits of the same rows
        return None if teacher.temperature_at_bound else teacher.calibration_temperature
    own = (one for one in judged if one.checkpoint_sha256 == teacher.checkpoint_sha256)
    found = (fitted_temperature(one.calibration, val_fingerprint) for one in own)
    return next((temperature for temperature in found if temperature is not None), None)


def teacher_temperatures(ensemble: Ensemble, folder: Path) -> list[float | None]:
    """Return the temperature of each teacher's raw logits, fitted on the ensemble's val rows, or None where none is known.

    Each teacher is judged alone beside its ensemble, calibrated on logits that were not divided by anything before.

    Args:
        ensemble: as read.
        folder: of its `ensemble.json`, beside which `ensemble_metrics.json` may lie.

    Raises:
        FerError: `ensemble_metrics.json` is damaged.
    """
    file = folder / ENSEMBLE_METRICS_FILE
    judged = read_artifact(file, EnsembleMetrics).teachers if file.is_file() else {}
    return [
        _of_teacher(teacher, judged.get(teacher.name, []), ensemble.val_fingerprint) for teacher in ensemble.teachers
    ]
