"""A live ensemble as a student's teacher: it sees every batch as the student does."""

from pathlib import Path

from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.data.selection import Selection
from fer_lightning.errors import FerError
from fer_lightning.pipeline.config import DistillStudentRun
from fer_lightning.pipeline.students.known_teachers import parameters_of, refuse_taught_val_rows
from fer_lightning.runs.distillation import DistillationRecord
from fer_lightning.runs.ensemble import Ensemble
from fer_lightning.runs.ensemble_network import EnsembleNetwork, read_ensemble_network
from fer_lightning.runs.ensemble_teachers import with_a_share
from fer_lightning.runs.fitted_temperatures import fitted_temperature, teacher_temperatures
from fer_lightning.training.distillation.config import TeacherCalibration
from fer_lightning.training.distillation.live_teachers import OPTION
from fer_lightning.training.distillation.signal import TeacherSignal
from fer_lightning.training.recipe.student_recipe import TeacherFusion


def _check_pictures(network: EnsembleNetwork, canonical: CanonicalSpec) -> None:
    """Refuse teachers that expect other pictures than the student's.

    Raises:
        FerError: another size, or other CLAHE options.
    """
    theirs, own = network.canonical, canonical
    if theirs.digest() == own.digest():
        return
    if theirs.size != own.size:
        raise FerError(
            f"{OPTION}: the teachers of {network.path} expect pictures of {theirs.size} px, and stage.image_size={own.size}: live "
            f"teachers see the student's own pictures. Train at stage.image_size={theirs.size}, or use stored soft labels "
            "(distillation.softlabels=<folder>), whose teachers see pictures of their own size"
        )
    differing = ", ".join(
        f"data.{name}={getattr(theirs, name)} (here {getattr(own, name)})"
        for name in vars(own)
        if getattr(theirs, name) != getattr(own, name)
    )
    raise FerError(
        f"{OPTION}: the teachers of {network.path} expect pictures made with {differing}: live teachers see the student's own "
        "pictures. Give the student the options of its teachers"
    )


def _own_temperatures(ensemble: Ensemble, folder: Path, calibration: TeacherCalibration) -> list[float]:
    """Return what divides the logits of each teacher that has a share.

    Raises:
        FerError: `per_teacher`, and a teacher has no temperature of its own.
    """
    shares = with_a_share(ensemble.teachers)
    if calibration is not TeacherCalibration.per_teacher:
        return [teacher.calibration_temperature for teacher in shares]
    names = [teacher.name for teacher in ensemble.teachers]
    fitted = dict(zip(names, teacher_temperatures(ensemble, folder), strict=True))
    known = {teacher.name: value for teacher in shares if (value := fitted[teacher.name]) is not None}
    unknown = [teacher.name for teacher in shares if teacher.name not in known]
    if unknown:
        raise FerError(
            f"distillation.teacher_calibration=per_teacher divides each teacher's logits by a temperature of its own that was fitted "
            f"on val, which {folder} does not hold of {', '.join(unknown)}. Fuse the teachers with calibration=temperature, or choose "
            "another teacher_calibration"
        )
    return list(known.values())


def _ensemble_temperature(ensemble: Ensemble, calibration: TeacherCalibration) -> float:
    """Return what divides the fused logits.

    Raises:
        FerError: `temperature`, and the ensemble has none.
    """
    if calibration is not TeacherCalibration.temperature:
        return 1.0
    temperature = fitted_temperature(ensemble.calibration, ensemble.val_fingerprint)
    if temperature is None:
        raise FerError(
            f"distillation.teacher_calibration=temperature divides by the temperature that was fitted on val for {ensemble.name}, "
            "which has none: it was calibrated in another way or not at all, or no temperature within bounds was good enough. Fuse "
            "the teachers with calibration=temperature, or choose another teacher_calibration"
        )
    return temperature


def open_live(run: DistillStudentRun, selection: Selection, canonical: CanonicalSpec, path: Path) -> TeacherSignal:
    """Return a live ensemble as the signal of a student.

    Args:
        run: the typed run.
        selection: its rows.
        canonical: its picture.
        path: folder of the ensemble, or its `ensemble.json`.

    Raises:
        FerError: see `open_signal`.
    """
    lesson = run.distillation
    network = read_ensemble_network(path, option=OPTION)
    ensemble, folder = network.ensemble, network.path.parent
    _check_pictures(network, canonical)
    refuse_taught_val_rows(ensemble.teachers, selection, run.data)
    fusion = TeacherFusion(
        space=ensemble.space,
        weights=[teacher.weight for teacher in with_a_share(ensemble.teachers)],
        temperatures=_own_temperatures(ensemble, folder, lesson.teacher_calibration),
        ensemble_temperature=_ensemble_temperature(ensemble, lesson.teacher_calibration),
    )
    return TeacherSignal(
        config=lesson,
        row_logits=None,
        negatives=None,
        fusion=fusion,
        kd_temperature=lesson.kd_temperature,
        ensemble_sha256=network.sha256,
        record=DistillationRecord(
            teacher="live ensemble",
            source=folder.as_posix(),
            source_sha256=network.sha256,
            ensemble=ensemble.name,
            ensemble_sha256=network.sha256,
            space=ensemble.space,
            teachers=ensemble.teachers,
            teacher_parameters=parameters_of(ensemble.teachers),
            teacher_calibration=lesson.teacher_calibration.value,
            teacher_temperatures=fusion.temperatures,
            ensemble_temperature=fusion.ensemble_temperature,
            kd_temperature=lesson.kd_temperature,
            views=[],
            rows_taught=len(selection.rows["train"]),
            rows_without=0,
            verified_rows=0,
            max_abs_difference=0.0,
            targets=None,
        ),
    )
