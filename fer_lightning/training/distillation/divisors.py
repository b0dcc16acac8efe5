"""By which calibration temperatures teacher logits are divided, before and after they are averaged."""

from collections.abc import Sequence

from fer_lightning.errors import FerError
from fer_lightning.runs.ensemble import EnsembleTeacher
from fer_lightning.runs.ensemble_teachers import with_a_share
from fer_lightning.training.distillation.config import TeacherCalibration


def divisor_of_ensemble(
    fitted: float | None, calibration: TeacherCalibration, *, ensemble: str, option: str, way_out: str
) -> float:
    """Return what divides the fused logits: 1 unless the ensemble's calibration is asked for.

    Args:
        fitted: temperature of the fused logits; None where there is none.
        calibration: as asked for.
        ensemble: its name.
        option: the option that named the teacher.
        way_out: how such a temperature comes about.

    Raises:
        FerError: `temperature`, and there is none.
    """
    if calibration is not TeacherCalibration.temperature:
        return 1.0
    if fitted is None:
        raise FerError(
            f"{option}: distillation.teacher_calibration=temperature divides by the temperature that was fitted on val for {ensemble}, "
            "which has none: it was calibrated in another way or not at all, or no temperature within bounds was good enough. "
            f"{way_out}, or choose another teacher_calibration"
        )
    return fitted


def divisors_of_teachers(
    teachers: Sequence[EnsembleTeacher],
    fitted: Sequence[float | None],
    calibration: TeacherCalibration,
    *,
    option: str,
    way_out: str,
) -> tuple[float, ...]:
    """Return what divides the raw logits of each teacher that has a share: what the ensemble does, usually 1, or its own.

    Args:
        teachers: of the ensemble.
        fitted: temperature of each one's raw logits; None where it is not known.
        calibration: as asked for.
        option: the option that named them.
        way_out: how such temperatures come about.

    Raises:
        FerError: `per_teacher`, and one that has a share has none.
    """
    shares = with_a_share(teachers)
    if calibration is not TeacherCalibration.per_teacher:
        return tuple(teacher.calibration_temperature for teacher in shares)
    by_name = dict(zip((teacher.name for teacher in teachers), fitted, strict=True))
    known = {teacher.name: value for teacher in shares if (value := by_name[teacher.name]) is not None}
    unknown = [teacher.name for teacher in shares if teacher.name not in known]
    if unknown:
        raise FerError(
            f"{option}: distillation.teacher_calibration=per_teacher divides each teacher's logits by a temperature of its own that was "
            f"fitted on val, which is not known of {', '.join(unknown)}. {way_out}, or choose another teacher_calibration"
        )
    return tuple(known.values())
