"""Trains students that differ in what they are taught alone, and judges all of them on the same val and test rows."""

import gc
import logging
import time
from typing import TYPE_CHECKING

from fer_lightning.files import explained_write_errors, write_text_atomically
from fer_lightning.pipeline.distill_student import distill_student
from fer_lightning.pipeline.students.arms import ComparisonPlan, has_begun, plan_comparison
from fer_lightning.pipeline.students.comparison_config import CompareStudentsRun
from fer_lightning.runs.lock import RunLock
from fer_lightning.runs.student_comparison import STUDENT_COMPARISON_FILE
from fer_lightning.training.sanity.verdicts import duration

if TYPE_CHECKING:
    from fer_lightning.pipeline.students.comparison import ScoredEnsemble
    from fer_lightning.runs.student_comparison import StudentComparison

log = logging.getLogger(__name__)


def _train(plan: ComparisonPlan) -> None:
    """Train every student that is not finished, and say how long the rest will take."""
    total = len(plan.students)
    seconds: list[float] = []
    left = [(number, student) for number, student in enumerate(plan.students, start=1) if not student.finished]
    log.info("%d students, %d of them finished", total, total - len(left))
    for place, (number, student) in enumerate(left):
        about = f", about {duration(sum(seconds) / len(seconds) * (len(left) - place))} left" if seconds else ""
        log.info("student %d of %d: %s%s", number, total, student.title, about)
        whole, start = not has_begun(student), time.perf_counter()
        try:
            distill_student(student.run)
        finally:
            gc.collect()  # its network hangs in reference cycles, and its device memory with it
        if whole:
            seconds.append(time.perf_counter() - start)


def _judge(run: CompareStudentsRun, plan: ComparisonPlan, ensemble: "ScoredEnsemble | None") -> "StudentComparison":
    from fer_lightning.pipeline.students.comparison import student_scores
    from fer_lightning.pipeline.students.comparison_record import student_comparison
    from fer_lightning.training.student_comparison import judge_arms

    arms = {arm: plan.of_arm(arm) for arm in run.arms_in_order()}
    judged = []
    for split, rows in plan.rows.items():
        scores = iter(student_scores(run, [student for own in arms.values() for student in own], split, rows))
        judged.append(
            judge_arms(
                {arm: [next(scores) for _ in own] for arm, own in arms.items()},
                None if ensemble is None else ensemble.scores.get(split),
                baseline=run.comparison.baseline,
                num_bins=run.calibration.num_bins,
                num_resamples=run.comparison.num_resamples,
                confidence=run.comparison.confidence,
            )
        )
    return student_comparison(run, plan, ensemble, judged)


def _write(run: CompareStudentsRun, comparison: "StudentComparison") -> None:
    """Write every file; `student_comparison.json` last, so that it stands for the others."""
    from fer_lightning.reports.student_comparison_csv import csv_text
    from fer_lightning.reports.student_comparison_figure import write_student_comparison_figure
    from fer_lightning.reports.student_comparison_page import markdown_page
    from fer_lightning.runs.artifacts import write_artifact

    file = run.directory / STUDENT_COMPARISON_FILE
    file.unlink(missing_ok=True)
    write_text_atomically(file.with_suffix(".md"), markdown_page(comparison))
    write_text_atomically(file.with_suffix(".csv"), csv_text(comparison))
    write_student_comparison_figure(run.directory, comparison)
    write_artifact(file, comparison)


def compare_students(run: CompareStudentsRun) -> None:
    """Train every arm with every seed, judge them on the same rows, and write one table and one figure.

    Each student leaves the run directory that `task=distill_student` would leave. With `run.on_existing=resume` finished
    ones are used as they are and an unfinished one goes on; the comparison is written in any case.

    Raises:
        FerError: see `distill_student`; what can be known about any student is refused before the first one is trained.
        RunLockedError: another process writes the same comparison.
    """
    plan = plan_comparison(run)
    from fer_lightning.pipeline.students.comparison import scored_ensemble

    ensemble = scored_ensemble(run, plan)
    _train(plan)
    with explained_write_errors(run.directory, option="run.root"):
        run.directory.mkdir(parents=True, exist_ok=True)
    with (
        RunLock(run.directory, unlock_stale=run.run.unlock_stale),
        explained_write_errors(run.directory, option="run.root"),
    ):
        comparison = _judge(run, plan, ensemble)
        _write(run, comparison)
    from fer_lightning.reports.student_comparison_page import console_text

    log.info("%s", console_text(comparison))
    log.info("wrote %s, .md, .csv and .png", run.directory / STUDENT_COMPARISON_FILE)
