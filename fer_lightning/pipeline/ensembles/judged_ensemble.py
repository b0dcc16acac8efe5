"""An ensemble on the rows of its teachers: its figures, its record, and the paired comparison with its best teacher."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fer_lightning.labels import EMOTIONS
from fer_lightning.pipeline.ensembles.config import FuseEnsembleRun, WeightSearch
from fer_lightning.pipeline.ensembles.judged_teachers import JudgedTeachers
from fer_lightning.runs.artifacts import to_json
from fer_lightning.runs.ensemble import Ensemble, EnsembleMetrics, EnsembleTeacher, TeacherComparison
from fer_lightning.training.config import CalibrationConfig
from fer_lightning.training.ensemble_judging import JudgedModel, against_teacher, judge_on_splits
from fer_lightning.training.fusion import Fusion, fuse_stored

if TYPE_CHECKING:
    from fer_lightning.pipeline.logits.teacher_models import TeacherModel


def judge_ensemble(
    teachers: JudgedTeachers, fusion: Fusion, config: CalibrationConfig, folder: Path
) -> list[JudgedModel]:
    """Judge an ensemble split by split, val first, by a calibration of its own fused logits.

    Args:
        teachers: on the rows.
        fusion: how they are averaged. On val, cross-fitted temperatures of the teachers take the place of its own.
        config: calibration method, folds and bins.
        folder: of the ensemble.
    """
    fused = [
        fuse_stored(
            stored,
            fusion,
            names=teachers.names,
            folder=folder,
            sha256="",
            calibration=None,
            teacher_logits=teachers.scaled.logits if number == 0 else None,
        )
        for number, stored in enumerate(teachers.stored)
    ]
    return judge_on_splits(fused, config, folds=teachers.folds)


def _how(run: FuseEnsembleRun, n: int, fingerprint: str) -> str:
    asked = run.ensemble
    if asked.search is WeightSearch.none:
        return "given" if asked.weights else "equal"
    aimed = asked.search in {WeightSearch.optimise, WeightSearch.greedy}
    aim = f" towards {asked.aim.value}" if aimed else ""
    return f"{asked.search.value}{aim} on val rows {fingerprint[:8]} (n={n})"


def ensemble_record(
    run: FuseEnsembleRun,
    name: str,
    models: "Sequence[TeacherModel]",
    teachers: JudgedTeachers,
    fusion: Fusion,
    judged: JudgedModel,
) -> Ensemble:
    """Return everything that is needed to compute the ensemble's logits again.

    Args:
        run: the typed run.
        name: of the ensemble's folder.
        models: its teachers.
        teachers: on val.
        fusion: how they are averaged.
        judged: the ensemble on val.
    """
    val = teachers.stored[0]
    entries = [
        EnsembleTeacher(
            name=model.name,
            given=model.given,
            kind=model.kind,
            checkpoint=stored.record.checkpoint,
            checkpoint_sha256=stored.record.checkpoint_sha256,
            canonical_digest=stored.record.canonical_digest,
            weight=weight,
            calibration_temperature=temperature,
            temperature_at_bound=at_bound,
        )
        for model, stored, weight, temperature, at_bound in zip(
            models, val, fusion.weights, fusion.temperatures, teachers.scaled.at_bound, strict=True
        )
    ]
    record, calibration = val[0].record, judged.result.calibration
    return Ensemble(
        name=name,
        space=fusion.space,
        teachers=entries,
        class_order=list(EMOTIONS),
        view=record.view,
        weights_how=_how(run, record.n, record.row_set_fingerprint),
        manifest=record.manifest,
        manifest_sha256=record.manifest_sha256,
        val_fingerprint=record.row_set_fingerprint,
        val_rows=record.n,
        calibration=None if calibration is None or calibration.method == "none" else calibration,
    )


def comparisons(
    teachers: JudgedTeachers, judged: Sequence[JudgedModel], *, num_resamples: int, confidence: float
) -> list[TeacherComparison]:
    """Compare the ensemble with its best single teacher on each split; none without resamples.

    The teacher is chosen on val, where the difference is flattering for that reason alone.
    """
    if not num_resamples:
        return []
    best = teachers.best
    found = [
        against_teacher(
            teacher,
            ensemble,
            name=best,
            num_resamples=num_resamples,
            confidence=confidence,
            chosen_here=ensemble.result.split == "val",
        )
        for teacher, ensemble in zip(teachers.judged[best], judged, strict=True)
    ]
    return [comparison for comparison in found if comparison is not None]


def ensemble_metrics(
    record: Ensemble,
    teachers: JudgedTeachers,
    judged: Sequence[JudgedModel],
    against_best_teacher: Sequence[TeacherComparison],
) -> EnsembleMetrics:
    """Return the figures of an ensemble, bound to its `ensemble.json` by the digest of that file."""
    sha256 = hashlib.sha256(f"{to_json(record)}\n".encode()).hexdigest()
    evaluated = [replace(model.result, checkpoint_sha256=sha256) for model in judged]
    return EnsembleMetrics.of(
        name=record.name,
        weights={teacher.name: teacher.weight for teacher in record.teachers},
        space=record.space,
        evaluated=evaluated,
        teachers={name: [model.result for model in models] for name, models in teachers.judged.items()},
        best_teacher=teachers.best,
        against_best_teacher=list(against_best_teacher),
    )
