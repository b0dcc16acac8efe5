"""Fuses stored logits of teachers, with given weights or those a search on val finds, and judges the ensemble."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.files import explained_write_errors
from fer_lightning.pipeline.ensembles.config import FuseEnsembleRun, TeacherScaling, WeightSearch
from fer_lightning.pipeline.ensembles.fused_teachers import FusedTeachers, open_fused_teachers
from fer_lightning.runs.lock import RunLock

if TYPE_CHECKING:
    from fer_lightning.pipeline.ensembles.judged_teachers import JudgedTeachers
    from fer_lightning.pipeline.ensembles.weight_choice import Searched
    from fer_lightning.runs.ensemble import Ensemble, EnsembleMetrics
    from fer_lightning.runs.finished_ensemble import FinishedEnsemble
    from fer_lightning.training.fusion import Fusion

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Fused:
    """An ensemble, judged."""

    record: "Ensemble"
    metrics: "EnsembleMetrics"
    searched: "Searched | None"


def _judged_teachers(run: FuseEnsembleRun, opened: FusedTeachers) -> "JudgedTeachers":
    from fer_lightning.pipeline.ensembles.judged_teachers import judged_teachers

    config = run.calibration.settled(None)
    scale = run.ensemble.teacher_scaling is TeacherScaling.temperature
    return judged_teachers([model.name for model in opened.models], opened.splits, config, scale=scale)


def _fusion(run: FuseEnsembleRun, teachers: "JudgedTeachers") -> "tuple[Fusion, Searched | None]":
    """Return weights as given, equal, or found on val."""
    from fer_lightning.training.fusion import Fusion

    temperatures = teachers.scaled.temperatures
    if run.ensemble.search is WeightSearch.none:
        count = len(teachers.names)
        weights = tuple(run.ensemble.weights) or (1 / count,) * count
        return Fusion(run.ensemble.space.value, weights, temperatures), None
    from fer_lightning.pipeline.ensembles.weight_choice import search

    searched = search(run, teachers)
    chosen = searched.report.chosen
    return Fusion(chosen.space, tuple(chosen.weights), temperatures), searched


def _fuse(run: FuseEnsembleRun, opened: FusedTeachers, *, num_resamples: int) -> _Fused:
    from fer_lightning.pipeline.ensembles.judged_ensemble import (
        comparisons,
        ensemble_metrics,
        ensemble_record,
        judge_ensemble,
    )

    teachers = _judged_teachers(run, opened)
    fusion, searched = _fusion(run, teachers)
    judged = judge_ensemble(teachers, fusion, run.calibration.settled(None), opened.folder)
    record = ensemble_record(run, opened.folder.name, opened.models, teachers, fusion, judged[0])
    against = comparisons(teachers, judged, num_resamples=num_resamples, confidence=run.evaluate.confidence)
    return _Fused(record, ensemble_metrics(record, teachers, judged, against), searched)


def _write_config(run: FuseEnsembleRun, folder: Path) -> None:
    """Write the options: without the other files beside them, they mark an ensemble that is not finished."""
    import yaml

    from fer_lightning.files import write_text_atomically
    from fer_lightning.runs.run_dir import plain_values

    with explained_write_errors(folder, option="run.root"):
        write_text_atomically(folder / "config.yaml", yaml.safe_dump(plain_values(run), sort_keys=False))


def _write(folder: Path, done: _Fused) -> None:
    """Write every file; `ensemble.json` last, so that it stands for the others."""
    from fer_lightning.files import write_text_atomically
    from fer_lightning.runs.artifacts import write_artifact
    from fer_lightning.runs.ensemble import ENSEMBLE_FILE, ENSEMBLE_METRICS_FILE, SEARCH_FILE, SUMMARY_FILE

    with explained_write_errors(folder, option="run.root"):
        if done.searched is not None:
            from fer_lightning.reports.ensemble_figures import write_search_figures
            from fer_lightning.reports.weight_search_text import summary_csv

            points, report = done.searched.points, done.searched.report
            write_text_atomically(folder / SUMMARY_FILE, summary_csv(points, report.teachers))
            write_artifact(folder / SEARCH_FILE, report)
            write_search_figures(folder, points, report)
        write_artifact(folder / ENSEMBLE_METRICS_FILE, done.metrics)
        write_artifact(folder / ENSEMBLE_FILE, done.record)


def _warn(opened: FusedTeachers, record: "Ensemble") -> None:
    """Say loudly what makes figures doubtful."""
    from fer_lightning.reports.ensemble_text import alarms, seen_in_training, twins

    seen = [
        (model.name, stored.record.split, number)
        for split in opened.splits
        for model, stored in zip(opened.models, split, strict=True)
        if (number := stored.record.rows_seen_in_training)
    ]
    for warning in [*alarms(record), *twins(opened.same_logits()), *seen_in_training(seen)]:
        log.warning("%s", warning)


def _tell(done: _Fused, folder: Path) -> None:
    """Say what was found."""
    from fer_lightning.reports.ensemble_text import comparison_text, figures_text, teachers_text, verdict
    from fer_lightning.reports.leaderboard_cells import weights_text
    from fer_lightning.reports.weight_search_text import search_text

    record, metrics = done.record, done.metrics
    calibrated = record.calibration is not None
    how = f"{record.space} fusion of {weights_text(metrics.weights)} ({record.weights_how})"
    log.info("%s\n%s\n\n%s", how, teachers_text(record.teachers), figures_text(metrics))
    if done.searched is not None:
        log.info("%s", search_text(done.searched.report))
    for comparison in metrics.against_best_teacher:
        log.info("%s", comparison_text(comparison, calibrated=calibrated, searched=done.searched is not None))
    for comparison in metrics.against_best_teacher:
        if comparison.split == "test":
            log.info("%s", verdict(comparison))
    log.info("everything is in %s", folder)


def fuse(run: FuseEnsembleRun, opened: FusedTeachers, *, compared: bool) -> None:
    """Fuse and judge one ensemble.

    Args:
        run: the typed run.
        opened: its teachers.
        compared: hold it against its best single teacher, whose resamples take seconds, and tell everything; else one line.

    Raises:
        FinishedRunError: it is there already.
        FerError: the folder holds another ensemble, or cannot be written.
    """
    opened.check_free(run)
    with explained_write_errors(opened.folder, option="run.root"):
        opened.folder.mkdir(parents=True, exist_ok=True)
    with RunLock(opened.folder, unlock_stale=run.run.unlock_stale):
        opened.check_free(run)
        _write_config(run, opened.folder)
        done = _fuse(run, opened, num_resamples=run.evaluate.num_resamples if compared else 0)
        _write(opened.folder, done)
    if compared:
        _tell(done, opened.folder)
    else:
        from fer_lightning.reports.ensemble_text import line_of

        log.info("%s", line_of(opened.folder.name, done.metrics))
    _warn(opened, done.record)


def compare_finished(run: FuseEnsembleRun, finished: "FinishedEnsemble") -> None:
    """Hold a finished ensemble against its best single teacher, and add that to its figures.

    Args:
        run: the typed run that made it.
        finished: the ensemble, fused without a comparison.
    """
    from fer_lightning.pipeline.ensembles.judged_ensemble import comparisons, ensemble_metrics, judge_ensemble
    from fer_lightning.runs.artifacts import write_artifact
    from fer_lightning.runs.ensemble import ENSEMBLE_METRICS_FILE
    from fer_lightning.training.fusion import Fusion

    opened, record = open_fused_teachers(run), finished.record
    teachers = _judged_teachers(run, opened)
    weights, temperatures = zip(
        *((teacher.weight, teacher.calibration_temperature) for teacher in record.teachers), strict=True
    )
    with RunLock(finished.path, unlock_stale=run.run.unlock_stale):
        judged = judge_ensemble(
            teachers, Fusion(record.space, weights, temperatures), run.calibration.settled(None), finished.path
        )
        against = comparisons(
            teachers, judged, num_resamples=run.evaluate.num_resamples, confidence=run.evaluate.confidence
        )
        metrics = ensemble_metrics(record, teachers, judged, against)
        write_artifact(finished.path / ENSEMBLE_METRICS_FILE, metrics)


def fuse_ensemble(run: FuseEnsembleRun) -> None:
    """Fuse teachers into an ensemble, judge it beside them on val and test, and hold it against the best of them.

    Raises:
        FinishedRunError: this very ensemble is there already.
        FerError: no teachers, other rows than those of the first one, options without effect, or a folder that holds another
            ensemble.
        RunLockedError: another process writes to the same folder.
    """
    fuse(run, open_fused_teachers(run), compared=True)
