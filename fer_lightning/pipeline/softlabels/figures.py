"""Figures of exported logits against their labels, beside those of each teacher alone: `ensemble_metrics.json`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fer_lightning.pipeline.softlabels.source import FusedSplit
from fer_lightning.runs.artifacts import CalibrationRecord, EvaluatedCheckpoint
from fer_lightning.runs.document_order import place_of
from fer_lightning.runs.ensemble import Ensemble, EnsembleMetrics
from fer_lightning.runs.ensemble_teachers import with_a_share
from fer_lightning.runs.softlabels import SoftLabels
from fer_lightning.runs.stored_logits import StoredLogits
from fer_lightning.training.calibration import row_set_of
from fer_lightning.training.config import CalibrationConfig, CalibrationMethod
from fer_lightning.training.fusion import fuse_stored, fusion_of
from fer_lightning.training.reliability import CheckpointIdentity, evaluate_scores
from fer_lightning.training.scoring import ScoredRows


def _judge(
    stored: StoredLogits, calibration: CalibrationRecord | None, config: CalibrationConfig
) -> EvaluatedCheckpoint:
    """Judge logits by the calibration that was fitted on val, as `task=evaluate` does; none is fitted here."""
    record = stored.record
    method = CalibrationMethod.none if calibration is None else CalibrationMethod(calibration.method)
    is_val = record.split == "val"
    return evaluate_scores(
        ScoredRows(stored.logits, stored.labels, torch.arange(len(stored.labels))),
        CheckpointIdentity(
            name=record.checkpoint, sha256=record.checkpoint_sha256, epoch=record.epoch, weights=record.weights
        ),
        row_set_of(record),
        replace(config, method=method),
        folds=stored.folds(config.num_folds) if is_val else torch.zeros(len(stored.labels), dtype=torch.int64),
        calibration=calibration,
    )


def _exported(part: FusedSplit, logits: Tensor, ensemble: Ensemble, *, folder: Path, sha256: str) -> StoredLogits:
    """Return what was exported of a split as stored logits."""
    shares = with_a_share(ensemble.teachers)
    fused = fuse_stored(
        part.stored,
        fusion_of(shares, ensemble.space),
        names=[teacher.name for teacher in shares],
        folder=folder,
        sha256=sha256,
        calibration=ensemble.calibration,
    )
    return replace(fused, logits=logits)


def softlabel_metrics(
    softlabels: SoftLabels,
    parts: Sequence[FusedSplit],
    ensemble: Ensemble,
    config: CalibrationConfig,
    *,
    folder: Path,
) -> EnsembleMetrics:
    """Judge what was exported, as it was rounded, split by split; every teacher alone beside it.

    Train rows have been seen by the teachers: their figures tell that the export is in order, and nothing else.

    Args:
        softlabels: as they were read back.
        parts: of each split, in the order of the file.
        ensemble: what was exported.
        config: folds and bins.
        folder: of the soft labels.
    """
    counts = [len(part.stored[0].labels) for part in parts]
    kept = torch.split(softlabels.logits.float(), counts)
    sha256 = softlabels.record.ensemble_sha256
    judged = [
        _judge(_exported(part, logits, ensemble, folder=folder, sha256=sha256), ensemble.calibration, config)
        for part, logits in zip(parts, kept, strict=True)
    ]
    names = [teacher.name for teacher in with_a_share(ensemble.teachers)]
    teachers = {
        name: [_judge(part.stored[number], part.stored[number].record.calibration, config) for part in parts]
        for number, name in enumerate(names)
    }
    return EnsembleMetrics.of(
        name=folder.name,
        weights={teacher.name: teacher.weight for teacher in ensemble.teachers},
        space=ensemble.space,
        evaluated=judged,
        teachers=teachers,
        best_teacher=min(names, key=lambda name: place_of(teachers[name][0])),
        against_best_teacher=[],
    )
