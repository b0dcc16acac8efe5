"""The students of a comparison: their runs, their rows, and what is refused before any of them is trained."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fer_lightning.data.selection import Selection
from fer_lightning.errors import FerError
from fer_lightning.files import sha256_of
from fer_lightning.pipeline.learning.preparation import prepare_training
from fer_lightning.pipeline.rows.ancestors import records_of_teachers
from fer_lightning.pipeline.rows.seen_in_training import refuse_seen_by
from fer_lightning.pipeline.students.comparison_config import CompareStudentsRun
from fer_lightning.pipeline.students.config import DistillStudentRun
from fer_lightning.pipeline.students.judged_rows import JudgedRows, judged_rows
from fer_lightning.pipeline.students.teacher_files import check_teacher_files
from fer_lightning.runs.artifacts import AlignmentReport, read_artifact
from fer_lightning.runs.config import OnExisting
from fer_lightning.runs.distillation import DISTILLATION_FILE, DistillationRecord, changes_of_lesson
from fer_lightning.runs.finished import final_files_match
from fer_lightning.runs.phases import finished_epochs, read_phases
from fer_lightning.runs.run_dir import check_existing_run
from fer_lightning.runs.student_comparison import STUDENT_COMPARISON_FILE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Student:
    """One student of a comparison."""

    arm: str
    seed: int
    run: DistillStudentRun
    finished: bool
    """It has trained all the epochs asked for, and has been judged."""

    @property
    def title(self) -> str:
        """A name for people."""
        return f"arm {self.arm}, seed {self.seed}"

    @property
    def path(self) -> Path:
        """Its run directory."""
        return self.run.directory


@dataclass(frozen=True)
class ComparisonPlan:
    """What is trained, and on which rows it is judged."""

    students: tuple[Student, ...]
    """Seed by seed; an arm that starts from another one comes after it."""
    rows: dict[str, JudgedRows]
    """By split."""
    lessons: dict[str, DistillationRecord]
    """What each arm is taught."""

    def of_arm(self, arm: str) -> list[Student]:
        """Return the students of an arm, in the order of the seeds."""
        return [student for student in self.students if student.arm == arm]


def _is_finished(run: DistillStudentRun) -> bool:
    phases = read_phases(run.directory)
    return (
        bool(phases)
        and phases[-1].end_epoch == run.stage.epochs
        and finished_epochs(run.directory, phases[-1]) is not None
        and (not run.trainer.onnx or final_files_match(run.directory, onnx=True))
    )


def has_begun(student: Student) -> bool:
    """Tell whether there is something to go on with."""
    return (student.path / "checkpoint_last.pt").exists()


def _runs(run: CompareStudentsRun) -> dict[tuple[str, int], DistillStudentRun]:
    in_turn = sorted(run.arms, key=lambda arm: len(run.starts_of(arm)))
    return {(arm, seed): run.student(arm, seed) for seed in run.comparison.seeds for arm in in_turn}


def _students(run: CompareStudentsRun) -> tuple[Student, ...]:
    """Return the students in their turn, once their directories are known to be theirs.

    Raises:
        FerError: a directory holds another run, or one that `run.on_existing` does not allow.
    """
    if (run.directory / STUDENT_COMPARISON_FILE).exists() and run.run.on_existing is OnExisting.fail:
        raise FerError(
            f"{run.directory} already holds a comparison. Judge it again, with other arms or seeds too, with "
            "run.on_existing=resume, or make another one with comparison.name=<name>"
        )
    students = []
    for (arm, seed), own in _runs(run).items():
        try:
            check_existing_run(own.directory, own, on_existing=own.run.on_existing)
        except FerError as error:
            raise FerError(f"arm {arm}, seed {seed}: {error}") from error
        students.append(Student(arm, seed, own, _is_finished(own)))
    return tuple(students)


def _check_starts(run: CompareStudentsRun, students: Sequence[Student]) -> None:
    """A student that has begun is not started again; it must have been started from the other one as it is now."""
    by_key = {(student.arm, student.seed): student for student in students}
    for student in filter(has_begun, students):
        arm = run.comparison.starts.get(student.arm)
        if arm is None:
            continue
        before, way_out = by_key[arm, student.seed], "Make another comparison with comparison.name=<name>"
        if not before.finished:
            raise FerError(
                f"{student.title} has begun in {student.path}, and {before.title}, from which it starts, is not finished with "
                f"stage.epochs={before.run.stage.epochs}: what that would still learn could not reach it. {way_out}"
            )
        start = read_artifact(student.path / "alignmentreport.json", AlignmentReport).starting_weights
        if start.source_sha256 != sha256_of(before.path / "best.pt"):
            raise FerError(f"{student.title} was started from {start.source}, which has changed since. {way_out}")


def _check_record(student: Student, lesson: DistillationRecord, trained: Selection) -> None:
    """A student that has begun must be of the rows and the teachers that the others are of.

    Raises:
        FerError: it is of others.
    """
    file = student.path / DISTILLATION_FILE
    if not has_begun(student) or not file.is_file():
        return
    recorded = read_artifact(student.path / "alignmentreport.json", AlignmentReport).row_set_fingerprints
    others = [split for split in ("train", "val") if recorded[split] != trained.fingerprint(split)]
    if others:
        raise FerError(
            f"{student.title} in {student.path} was trained on other rows: {' and '.join(others)} rows of {trained.manifest.path} "
            "have changed since. Make another comparison with comparison.name=<name>"
        )
    changes = changes_of_lesson(read_artifact(file, DistillationRecord), lesson)
    if changes:
        raise FerError(
            f"{student.title} in {student.path} was taught by something else: {'; '.join(changes)}. Bring that back, or make another "
            "comparison with comparison.name=<name>"
        )


def _lessons(
    run: CompareStudentsRun, students: Sequence[Student], trained: Selection, rows: Mapping[str, JudgedRows]
) -> dict[str, DistillationRecord]:
    """Open the teachers of each arm as its training will, and return what is recorded of them."""
    from fer_lightning.pipeline.students.signal import open_signal  # torch

    lessons: dict[str, DistillationRecord] = {}
    for arm in run.arms:
        own = [student for student in students if student.arm == arm]
        first = own[0].run
        if all(student.finished for student in own):  # what they were taught is not inferred again, but looked at
            first = replace(first, distillation=replace(first.distillation, verify_rows=0))
        try:
            record = open_signal(first, trained).record
            if "test" in rows:
                teachers = records_of_teachers(record.teachers, where=f"arm {arm}")
                test, allowed = rows["test"].selection, {*run.data.allow_leaks}
                refuse_seen_by(teachers, test, "test", run.data, allowed=allowed)
        except FerError as error:
            raise FerError(f"arm {arm}: {error}") from error
        for student in own:
            _check_record(student, record, trained)
        lessons[arm] = record
    return lessons


def plan_comparison(run: CompareStudentsRun) -> ComparisonPlan:
    """Return what is to be trained and judged; what can be known is refused before any training.

    Raises:
        FerError: anything wrong with rows, teachers, starting weights or directories of any student.
    """
    for arm in run.arms:
        try:
            check_teacher_files(run.student(arm, run.comparison.seeds[0]).distillation)
        except FerError as error:
            raise FerError(f"arm {arm}: {error}") from error
    students = _students(run)
    _check_starts(run, students)
    trained = prepare_training(students[0].run)
    rows = judged_rows(run, trained)
    return ComparisonPlan(students, rows, _lessons(run, students, trained, rows))
