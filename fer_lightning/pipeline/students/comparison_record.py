"""`student_comparison.json` from what finished students have left in their run directories, and how they were judged."""

import os
from collections.abc import Sequence
from pathlib import Path

from fer_lightning.files import sha256_of
from fer_lightning.pipeline.students.arms import ComparisonPlan, Student
from fer_lightning.pipeline.students.comparison import ScoredEnsemble
from fer_lightning.pipeline.students.comparison_config import CompareStudentsRun
from fer_lightning.runs.artifacts import AlignmentReport, ReliabilityMetrics, read_artifact
from fer_lightning.runs.ensemble import ENSEMBLE_FILE
from fer_lightning.runs.history import History
from fer_lightning.runs.run_dir import flat_values
from fer_lightning.runs.student_comparison import (
    ComparedEnsemble,
    ComparedStudent,
    JudgedSplit,
    StartedFrom,
    StudentArm,
    StudentComparison,
    TrainingBudget,
)
from fer_lightning.runs.student_verdict import verdict_of


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _alignment(student: Student) -> AlignmentReport:
    return read_artifact(student.path / "alignmentreport.json", AlignmentReport)


def _started_from(student: Student) -> StartedFrom:
    start = _alignment(student).starting_weights
    return StartedFrom(kind=start.kind, source=start.source, sha256=start.source_sha256)


def _budget(
    run: CompareStudentsRun, arm: str, students: Sequence[Student], histories: Sequence[History]
) -> TrainingBudget:
    """Return what an arm was given, with that of the arms it starts from."""
    epochs = run.epochs_of(arm)
    return TrainingBudget(
        epochs=epochs,
        optimizer_steps=epochs * histories[0].epochs[0].optimizer_steps,
        train_rows=_alignment(students[0]).train_rows,
        image_size=run.stage.image_size,
        batch_size=run.stage.batch_size,
        augmentation=run.augmentation.kind.value,
        init=[_started_from(student) for student in students],
    )


def _options(run: CompareStudentsRun, student: Student) -> dict[str, str]:
    """Return in what an arm's lesson differs from the baseline's."""
    own = flat_values(student.run.distillation)
    baseline = flat_values(run.student(run.comparison.baseline, student.seed).distillation)
    return {name: str(value) for name, value in own.items() if value != baseline[name] and name != "name"}


def _arm(run: CompareStudentsRun, arm: str, students: Sequence[Student]) -> StudentArm:
    histories = [read_artifact(student.path / "history.json", History) for student in students]
    best = [read_artifact(student.path / "reliabilitymetrics.json", ReliabilityMetrics).best for student in students]
    lessons = [history.epochs[-1].lesson for history in histories]
    return StudentArm(
        name=arm,
        distils=students[0].run.distillation.distils,
        options=_options(run, students[0]),
        runs=[_relative(student.path, run.directory) for student in students],
        checkpoint_sha256s=[judged.checkpoint_sha256 for judged in best],
        best_epochs=[judged.epoch for judged in best],
        kd_temperatures=[None if lesson is None else lesson.kd_temperature for lesson in lessons],
        budget=_budget(run, arm, students, histories),
    )


def _ensemble(ensemble: ScoredEnsemble, folder: Path) -> ComparedEnsemble:
    return ComparedEnsemble(
        name=ensemble.name,
        path=_relative(ensemble.folder, folder),
        sha256=sha256_of(ensemble.folder / ENSEMBLE_FILE),
        num_parameters=ensemble.num_parameters,
    )


def student_comparison(
    run: CompareStudentsRun,
    plan: ComparisonPlan,
    ensemble: ScoredEnsemble | None,
    splits: Sequence[JudgedSplit],
) -> StudentComparison:
    """Return what is written of a comparison.

    Args:
        run: the typed run.
        plan: its students, all of them finished.
        ensemble: beside which they are judged.
        splits: as judged.

    Raises:
        FerError: files of a run directory are missing or damaged.
    """
    first, baseline = plan.students[0], run.comparison.baseline
    alignment = _alignment(first)
    arms = [_arm(run, arm, plan.of_arm(arm)) for arm in run.arms_in_order()]
    student = ComparedStudent(backbone=run.backbone.name, num_parameters=alignment.num_parameters)
    compared = None if ensemble is None else _ensemble(ensemble, run.directory)
    return StudentComparison(
        name=run.name,
        manifest=str(run.data.manifest),
        manifest_sha256=alignment.manifest_sha256,
        seeds=[*run.comparison.seeds],
        baseline=baseline,
        student=student,
        arms=arms,
        ensemble=compared,
        splits=[*splits],
        verdict=verdict_of(arms, splits, baseline=baseline, student=student, ensemble=compared),
    )
