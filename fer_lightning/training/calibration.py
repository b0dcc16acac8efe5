"""Fits calibrators on val, and calibrates scores so that no row is judged by what has seen it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fer_lightning.errors import FerError
from fer_lightning.functional.calibration import CalibrationFit, cross_fitted_log_probs
from fer_lightning.functional.calibrators import calibrator_of, fit_calibrator, parameters_of, sole_temperature
from fer_lightning.functional.conformal import ConformalFit, fit_conformal
from fer_lightning.runs.artifacts import CalibrationRecord
from fer_lightning.runs.stored_logits import StoredLogits
from fer_lightning.runs.stored_logits_record import StoredLogitsRecord
from fer_lightning.training.config import CalibrationConfig, CalibrationMethod
from fer_lightning.training.scoring import ScoredRows


@dataclass(frozen=True, kw_only=True)
class RowSetIdentity:
    """Which rows a figure speaks of, and where they came from."""

    manifest_sha256: str
    split: str
    fingerprint: str
    canonical_digest: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ConformalSets:
    """Sets of classes, made without sight of the labels they are judged by."""

    sets: Tensor
    """(N, 7) bool."""
    alpha: float
    """Promised: the true class is missed in at most this share of rows."""
    how: str
    """Where threshold and log-probabilities come from."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibratedScores:
    """What calibration makes of logits, without sight of the labels they are judged by."""

    record: CalibrationRecord | None
    """The calibrator to deploy."""
    log_probs: Tensor | None
    """(N, 7) float64; None where there is no calibration for these rows."""
    how: str
    """How they were obtained, or why there are none."""
    conformal: ConformalSets | None
    """None where no threshold can be had that has not seen these rows."""


def row_set_of(record: StoredLogitsRecord) -> RowSetIdentity:
    """Return which rows stored logits are of."""
    return RowSetIdentity(
        manifest_sha256=record.manifest_sha256,
        split=record.split,
        fingerprint=record.row_set_fingerprint,
        canonical_digest=record.canonical_digest,
    )


def fitting(method: CalibrationMethod) -> Callable[[Tensor, Tensor], CalibrationFit]:
    """Return the `fit` of a calibration method."""
    return lambda logits, labels: fit_calibrator(method.value, logits, labels)


def num_folds(folds: Tensor) -> int:
    """Return how many folds there are."""
    return len(set(folds.tolist()))


def _threshold(
    logits: Tensor, labels: Tensor, folds: Tensor, method: CalibrationMethod, alpha: float
) -> ConformalFit | None:
    """Return the threshold of cross-fitted rows; None where there is one fold only.

    A flexible calibrator flatters the rows it has seen, and sets with a threshold from them would cover too little.
    """
    if num_folds(folds) < 2:
        return None
    return fit_conformal(cross_fitted_log_probs(logits, labels, folds, fit=fitting(method)), labels, alpha=alpha)


def fit_record(
    logits: Tensor,
    labels: Tensor,
    rows: RowSetIdentity,
    config: CalibrationConfig,
    *,
    folds: Tensor,
    cross_fitted: Tensor | None = None,
) -> CalibrationRecord:
    """Fit the calibrator to deploy, on all rows of a val split, and the threshold of conformal sets behind it.

    Args:
        logits: (N, 7) float.
        labels: (N,) int64.
        rows: which rows.
        config: calibration method and conformal sets.
        folds: (N,) cross-fit folds.
        cross_fitted: (N, 7) log-probabilities that `cross_fitted_log_probs` has made of these, where there are some already.

    Raises:
        ValueError: the rows are no val rows. Nothing is ever fitted on test.
    """
    if rows.split != "val":
        raise ValueError(f"a calibration is fitted on val only, not on {rows.split}")
    logits = logits.double()
    fit = fit_calibrator(config.method.value, logits, labels)
    if cross_fitted is None:
        conformal = _threshold(logits, labels, folds, config.method, config.conformal_alpha)
    else:
        conformal = fit_conformal(cross_fitted, labels, alpha=config.conformal_alpha)
    return CalibrationRecord(
        method=config.method.value,
        parameters=parameters_of(fit),
        calibration_temperature=sole_temperature(fit),
        at_bound=fit.at_bound,
        fitted_on_split=rows.split,
        fitted_on_rows=len(labels),
        fitted_on_fingerprint=rows.fingerprint,
        conformal_alpha=config.conformal_alpha,
        conformal_threshold=None if conformal is None else conformal.threshold,
    )


def calibrate(logits: Tensor, record: CalibrationRecord) -> Tensor:
    """Return the (N, 7) float64 log-probabilities that a recorded calibrator makes of logits.

    Raises:
        ValueError: the record's parameters are damaged.
    """
    return calibrator_of(record.method, record.parameters).apply(logits.double())


def _cross_fitted(
    scored: ScoredRows, folds: Tensor, method: CalibrationMethod, alpha: float
) -> tuple[Tensor, ConformalSets | None]:
    """Calibrate each row, and choose its set of classes, by a calibrator and a threshold fitted on the other folds."""
    logits, labels = scored.logits.double(), scored.labels
    log_probs = cross_fitted_log_probs(logits, labels, folds, fit=fitting(method))
    sets = torch.zeros_like(log_probs, dtype=torch.bool)
    for name in sorted(set(folds.tolist())):
        inside = folds == name
        threshold = _threshold(logits[~inside], labels[~inside], folds[~inside], method, alpha)
        if threshold is None:  # two folds: the other one leaves no row that its calibrator has not seen
            return log_probs, None
        sets[inside] = threshold.sets(log_probs[inside])
    how = f"{method.value} and threshold cross-fitted in {num_folds(folds)} folds"
    return log_probs, ConformalSets(sets=sets, alpha=alpha, how=how)


def _of_val(
    scored: ScoredRows, rows: RowSetIdentity, config: CalibrationConfig, folds: Tensor, record: CalibrationRecord
) -> CalibratedScores:
    """Cross-fit, because the recorded fit may have seen any of these rows."""
    method = CalibrationMethod.none if record.method == "none" else config.method
    if num_folds(folds) < 2:
        linked = "all rows are linked: no fold can be judged by a fit that did not see it"
        how = "calibration=none" if method is CalibrationMethod.none else linked
        return CalibratedScores(record=record, log_probs=None, how=how, conformal=None)
    log_probs, conformal = _cross_fitted(scored, folds, method, config.conformal_alpha)
    if method is CalibrationMethod.none:
        return CalibratedScores(record=record, log_probs=None, how="calibration=none", conformal=conformal)
    how = f"cross-fitted on {rows.split} in {num_folds(folds)} folds"
    if method.value != record.method:
        how += f" by {method.value}, while the recorded calibrator is {record.method}"
    return CalibratedScores(record=record, log_probs=log_probs, how=how, conformal=conformal)


def _of_other_rows(
    scored: ScoredRows, rows: RowSetIdentity, config: CalibrationConfig, record: CalibrationRecord
) -> CalibratedScores:
    """Apply what was fitted on val as it is."""
    if record.fitted_on_fingerprint == rows.fingerprint:
        how = f"the recorded calibration was fitted on these very rows, which are called {rows.split} here"
        return CalibratedScores(record=record, log_probs=None, how=how, conformal=None)
    log_probs = calibrate(scored.logits, record)
    fitted = f"fitted on {record.fitted_on_split} ({record.fitted_on_rows} rows) applied to {rows.split}"
    promised = f"{record.method} and threshold {fitted}"
    if record.conformal_alpha != config.conformal_alpha:
        promised += (
            f"; it was fitted for conformal_alpha={record.conformal_alpha:g}, which counts, "
            f"not for the {config.conformal_alpha:g} asked for"
        )
    conformal = None
    if record.conformal_threshold is not None:
        threshold = ConformalFit(
            alpha=record.conformal_alpha,
            score="lac",
            threshold=record.conformal_threshold,
            num_rows=record.fitted_on_rows,
        )
        conformal = ConformalSets(sets=threshold.sets(log_probs), alpha=record.conformal_alpha, how=promised)
    if "none" in {config.method.value, record.method}:
        return CalibratedScores(record=record, log_probs=None, how="calibration=none", conformal=conformal)
    return CalibratedScores(record=record, log_probs=log_probs, how=f"{record.method} {fitted}", conformal=conformal)


def calibrated_scores(
    scored: ScoredRows,
    rows: RowSetIdentity,
    config: CalibrationConfig,
    *,
    folds: Tensor,
    calibration: CalibrationRecord | None,
) -> CalibratedScores:
    """Calibrate scores so that nothing has been fitted on the rows it is applied to, and nothing on test.

    Args:
        scored: logits and labels.
        rows: which rows.
        config: calibration method, folds.
        folds: (N,) cross-fit folds of these rows.
        calibration: fitted earlier on val, or None. It is applied to train and test rows, unless it was fitted on the very
            same ones; val rows, which it may have seen, are cross-fitted whichever manifest they come from.
    """
    if rows.split == "val":
        record = calibration or fit_record(scored.logits, scored.labels, rows, config, folds=folds)
        return _of_val(scored, rows, config, folds, record)
    if calibration is None:
        how = f"no calibration recorded for this checkpoint, and none is fitted on {rows.split}"
        how = "calibration=none" if config.method is CalibrationMethod.none else how
        return CalibratedScores(record=None, log_probs=None, how=how, conformal=None)
    return _of_other_rows(scored, rows, config, calibration)


def calibrated_stored(
    stored: StoredLogits, config: CalibrationConfig, fitted: CalibrationRecord | None
) -> CalibratedScores:
    """Calibrate stored logits; see `calibrated_scores`.

    Raises:
        FerError: the recorded calibrator cannot be applied.
    """
    scored = ScoredRows(stored.logits, stored.labels, torch.arange(len(stored.labels)))
    rows, folds = row_set_of(stored.record), stored.folds(config.num_folds)
    try:
        return calibrated_scores(scored, rows, config, folds=folds, calibration=fitted)
    except ValueError as error:
        raise FerError(
            f"the calibration recorded for {stored.record.checkpoint} cannot be applied: {error}. Take the file its run wrote"
        ) from error
