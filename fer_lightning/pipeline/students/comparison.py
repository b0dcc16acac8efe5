"""The logits that a comparison judges: those of all students in one pass, and those of the ensemble that teaches them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.data.config import DataConfig
from fer_lightning.errors import FerError
from fer_lightning.pipeline.evaluation.config import EvaluateRun, EvaluationCalibration, EvaluationTarget, View
from fer_lightning.pipeline.logits.model_files import find_model
from fer_lightning.pipeline.logits.scores import all_scores, ask
from fer_lightning.pipeline.rows.evaluation_rows import EvaluationRows
from fer_lightning.pipeline.students.arms import ComparisonPlan, Student
from fer_lightning.pipeline.students.comparison_config import CompareStudentsRun
from fer_lightning.pipeline.students.judged_rows import JudgedRows
from fer_lightning.pipeline.students.known_teachers import parameters_of
from fer_lightning.runs.ensemble_file import ensemble_file, is_ensemble, read_ensemble

if TYPE_CHECKING:
    from fer_lightning.runs.stored_logits import StoredLogits

log = logging.getLogger(__name__)

_OPTION = "comparison.ensemble"
_PICTURE_OPTIONS = ("clahe", "clahe_clip_limit", "clahe_tiles")


@dataclass(frozen=True)
class ScoredEnsemble:
    """The ensemble beside which students are judged."""

    name: str
    folder: Path
    num_parameters: int | None
    """Of its teachers; None where one of them lies in no run directory."""
    scores: "dict[str, StoredLogits]"
    """By split; without those on whose rows it cannot be judged."""


def _target(run: CompareStudentsRun, split: str) -> EvaluationTarget:
    batch_size = max(run.stage.batch_size, EvaluationTarget.batch_size)
    return EvaluationTarget(split=split, batch_size=batch_size, accelerator=run.trainer.accelerator)


def student_scores(
    run: CompareStudentsRun, students: Sequence[Student], split: str, rows: JudgedRows
) -> "list[StoredLogits]":
    """Return the logits of finished students on rows of a split; those of an earlier call are taken.

    Args:
        run: the typed run.
        students: whose `best.pt` is scored.
        split: of the rows.
        rows: to score.

    Raises:
        FerError: a checkpoint or a picture cannot be read, or logits are not finite.
    """
    judged = EvaluationRows(
        selection=rows.selection,
        split=split,
        manifest=str(run.data.manifest),
        calibration=run.calibration,
        rows_seen_in_training=rows.seen,
        rows_left_out=rows.selection.left_out_of(split),
    )
    models = [find_model(str(student.path / "best.pt"), option=student.title) for student in students]
    first = ask(models[0], judged, View.single.value)
    evaluation = EvaluateRun(run=run.run, evaluate=_target(run, split), data=run.data)
    return all_scores([replace(first, model=model) for model in models], evaluation, option="comparison")


def _ensemble_folder(run: CompareStudentsRun, plan: ComparisonPlan) -> Path | None:
    """Return the ensemble that is named, or the one that all arms with an ensemble are taught by."""
    if run.comparison.ensemble is not None:
        return ensemble_file(Path(run.comparison.ensemble)).parent
    taught = {lesson.ensemble_sha256: lesson.source for lesson in plan.lessons.values() if lesson.source is not None}
    if len(taught) > 1:
        log.info(
            "arms are taught by %d ensembles; name the one to judge beside them: %s=<folder>", len(taught), _OPTION
        )
        return None
    sources = [source for source in taught.values() if source is not None and is_ensemble(source)]
    return ensemble_file(Path(sources[0])).parent if sources else None


def _scores(run: CompareStudentsRun, folder: Path, split: str, rows: JudgedRows) -> "StoredLogits":
    """Return an ensemble's logits on the rows that students are judged on.

    Raises:
        FerError: a teacher is gone or was trained on them, or they are others.
    """
    from fer_lightning.pipeline.evaluation.ensemble_subject import ensemble_scores

    plain = {name: getattr(DataConfig, name) for name in _PICTURE_OPTIONS}  # the teachers' checkpoints say so
    evaluation = EvaluateRun(
        run=run.run,
        evaluate=_target(run, split),
        data=replace(run.data, **plain),
        source_filter=run.source_filter,
        calibration=EvaluationCalibration(num_folds=run.calibration.num_folds, num_bins=run.calibration.num_bins),
    )
    stored, _ = ensemble_scores(evaluation, str(folder), option=_OPTION)
    if stored.record.row_set_fingerprint != rows.selection.fingerprint(split):
        raise FerError(f"{_OPTION}: {folder} has other {split} rows than the students")
    return stored


def scored_ensemble(run: CompareStudentsRun, plan: ComparisonPlan) -> ScoredEnsemble | None:
    """Return the ensemble that students are judged beside, scored on their rows.

    Where it is only known from soft labels and cannot be scored, it is left out, which is logged.

    Args:
        run: the typed run.
        plan: rows and teachers.

    Returns:
        None where there is none, or none that can be scored.

    Raises:
        FerError: one that was named cannot be scored.
    """
    folder = _ensemble_folder(run, plan)
    if folder is None:
        return None
    ensemble = read_ensemble(folder, option=_OPTION)
    if ensemble.view != View.single.value:
        log.warning("%s is not judged beside the students: it sees %s, they see single pictures", folder, ensemble.view)
        return None
    scores = {}
    for split, rows in plan.rows.items():
        try:
            scores[split] = _scores(run, folder, split, rows)
        except FerError as error:
            if run.comparison.ensemble is not None:
                raise
            log.warning("the ensemble %s is not judged on %s: %s", folder, split, error)
    return ScoredEnsemble(ensemble.name, folder, parameters_of(ensemble.teachers), scores) if scores else None
