"""A live ensemble as a student's teacher: it sees every batch as the student does."""

from pathlib import Path

from fer_lightning.data.pictures.canonical import CanonicalSpec
from fer_lightning.data.selection import Selection
from fer_lightning.errors import FerError
from fer_lightning.pipeline.students.config import DistillStudentRun
from fer_lightning.pipeline.students.known_teachers import parameters_of, refuse_taught_val_rows
from fer_lightning.runs.distillation import DistillationRecord
from fer_lightning.runs.ensemble import Ensemble
from fer_lightning.runs.ensemble_network import EnsembleNetwork, read_ensemble_network
from fer_lightning.runs.ensemble_teachers import with_a_share
from fer_lightning.runs.fitted_temperatures import fitted_temperature, teacher_temperatures
from fer_lightning.training.distillation.config import DistillationConfig
from fer_lightning.training.distillation.divisors import divisor_of_ensemble, divisors_of_teachers
from fer_lightning.training.distillation.live_teachers import OPTION
from fer_lightning.training.distillation.signal import TeacherSignal
from fer_lightning.training.recipe.student_recipe import TeacherFusion

_WAY_OUT = "Fuse the teachers with calibration=temperature"


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


def _fusion(lesson: DistillationConfig, ensemble: Ensemble, folder: Path) -> TeacherFusion:
    """Return how the teachers become one.

    Raises:
        FerError: the ensemble has no such temperature, or one teacher only to be weighed against others.
    """
    shares = with_a_share(ensemble.teachers)
    if lesson.each_teacher and len(shares) == 1:
        raise FerError(
            f"{OPTION}: distillation.teacher_weighting weighs several teachers row by row, and {folder} has one with a share: "
            f"{shares[0].name}. Name another ensemble, or use teacher_weighting=ensemble"
        )
    fitted = teacher_temperatures(ensemble, folder)
    own = divisors_of_teachers(ensemble.teachers, fitted, lesson.teacher_calibration, option=OPTION, way_out=_WAY_OUT)
    ensemble_temperature = divisor_of_ensemble(
        fitted_temperature(ensemble.calibration, ensemble.val_fingerprint),
        lesson.teacher_calibration,
        ensemble=ensemble.name,
        option=OPTION,
        way_out=_WAY_OUT,
    )
    return TeacherFusion(
        space=ensemble.space,
        weights=[teacher.weight for teacher in shares],
        temperatures=list(own),
        ensemble_temperature=ensemble_temperature,
    )


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
    fusion = _fusion(lesson, ensemble, folder)
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
