"""Judges an ensemble and its teachers on the same rows, calibrated in the same way, and compares them in pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fer_lightning.functional.calibration import cross_fitted_log_probs
from fer_lightning.functional.paired import paired_comparison
from fer_lightning.runs.artifacts import EvaluatedCheckpoint
from fer_lightning.runs.ensemble import PairedFigure, TeacherComparison
from fer_lightning.runs.stored_logits import StoredLogits
from fer_lightning.training.calibration import (
    CalibratedScores,
    calibrated_scores,
    fit_record,
    fitting,
    num_folds,
    row_set_of,
)
from fer_lightning.training.config import CalibrationConfig, CalibrationMethod
from fer_lightning.training.reliability import CheckpointIdentity, evaluated_checkpoint
from fer_lightning.training.scoring import ScoredRows
from fer_lightning.training.slices import all_linked


@dataclass(frozen=True, eq=False)
class JudgedModel:
    """A model on the rows of a split."""

    stored: StoredLogits
    result: EvaluatedCheckpoint
    log_probs: Tensor
    """(N, 7) float64: calibrated where there is a calibration for these rows."""


def _of_val(stored: StoredLogits, config: CalibrationConfig, folds: Tensor) -> CalibratedScores:
    """Cross-fit, and fit the calibrator to deploy: as `calibrated_scores`, less the conformal sets, which cost most of it."""
    logits, labels, rows = stored.logits.double(), stored.labels, row_set_of(stored.record)
    method, linked = config.method, num_folds(folds) < 2
    cross_fitted = None if linked else cross_fitted_log_probs(logits, labels, folds, fit=fitting(method))
    record = fit_record(logits, labels, rows, config, folds=folds, cross_fitted=cross_fitted)
    if method is CalibrationMethod.none:
        return CalibratedScores(record=record, log_probs=None, how="calibration=none", conformal=None)
    how = f"cross-fitted on {rows.split} in {num_folds(folds)} folds"
    how = "all rows are linked: no fold can be judged by a fit that did not see it" if linked else how
    return CalibratedScores(record=record, log_probs=cross_fitted, how=how, conformal=None)


def _scored(stored: StoredLogits) -> ScoredRows:
    return ScoredRows(stored.logits, stored.labels, torch.arange(len(stored.labels)))


def _judged(stored: StoredLogits, calibrated: CalibratedScores, num_bins: int) -> JudgedModel:
    scored, record = _scored(stored), stored.record
    checkpoint = CheckpointIdentity(
        name=record.checkpoint, sha256=record.checkpoint_sha256, epoch=record.epoch, weights=record.weights
    )
    result = evaluated_checkpoint(scored, checkpoint, row_set_of(record), calibrated, num_bins=num_bins)
    log_probs = stored.logits.double().log_softmax(dim=1) if calibrated.log_probs is None else calibrated.log_probs
    return JudgedModel(stored, result, log_probs)


def judge_on_splits(stored: Sequence[StoredLogits], config: CalibrationConfig, *, folds: Tensor) -> list[JudgedModel]:
    """Compute a model's figures, raw and calibrated.

    Args:
        stored: its logits on val, which are cross-fitted, then on other splits, which get the calibrator that is fitted on
            all val rows as it is.
        config: calibration method and bins.
        folds: (N,) cross-fit folds of the val rows.
    """
    val, *others = stored
    judged = [_judged(val, _of_val(val, config, folds), config.num_bins)]
    fitted = judged[0].result.calibration
    for other in others:
        none = torch.zeros_like(other.labels)  # nothing is fitted on these rows
        calibrated = calibrated_scores(_scored(other), row_set_of(other.record), config, folds=none, calibration=fitted)
        judged.append(_judged(other, calibrated, config.num_bins))
    return judged


def against_teacher(
    teacher: JudgedModel, ensemble: JudgedModel, *, name: str, num_resamples: int, confidence: float, chosen_here: bool
) -> TeacherComparison | None:
    """Compare an ensemble with one teacher on the same rows, linked ones drawn together.

    Args:
        teacher: on its own.
        ensemble: on the same rows in the same order.
        name: of the teacher.
        num_resamples: at least 100.
        confidence: of the intervals.
        chosen_here: whether weights or teacher were chosen by these rows.

    Returns:
        The comparison; None where all rows are linked, so that there is nothing to draw.
    """
    groups, labels, result = ensemble.stored.groups, ensemble.stored.labels, ensemble.result
    if all_linked(groups):
        return None
    found = paired_comparison(
        teacher.log_probs,
        ensemble.log_probs,
        labels,
        groups=groups,
        num_resamples=num_resamples,
        confidence=confidence,
        num_bins=result.num_bins,
    )
    figures = {
        figure: PairedFigure(
            teacher=difference.estimate_a,
            ensemble=difference.estimate_b,
            difference=difference.difference,
            low=difference.low,
            high=difference.high,
            p_value=difference.p_value,
        )
        for figure, difference in found.differences.items()
    }
    return TeacherComparison(
        teacher=name,
        split=result.split,
        n=result.n,
        row_set_fingerprint=result.row_set_fingerprint,
        confidence=confidence,
        num_resamples=num_resamples,
        figures=figures,
        mcnemar_p=found.mcnemar_p,
        discordant=list(found.discordant),
        chosen_here=chosen_here,
    )
