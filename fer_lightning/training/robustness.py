"""Figures under corruptions against clean pictures of the same rows, no row scaled by a fit that has seen it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from statistics import fmean

import torch
from torch import Tensor

from fer_lightning.functional.paired import paired_comparison
from fer_lightning.functional.reliability import reliability_report
from fer_lightning.runs.artifacts import CalibrationRecord
from fer_lightning.runs.evaluation import Range
from fer_lightning.runs.robustness_report import CLEAN, Change, ConditionReport, MeanReport, RobustnessFigures
from fer_lightning.runs.stored_logits import StoredLogits
from fer_lightning.training.calibration import calibrate, calibrated_stored, fitting
from fer_lightning.training.config import CalibrationConfig, CalibrationMethod
from fer_lightning.training.slices import all_linked

COMPARED = ("accuracy", "macro_f1", "minority_f1", "ece")
"""Figures whose changes are told."""


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """What scales every condition alike."""

    apply: Callable[[Tensor], Tensor] | None
    """(N, 7) logits of the rows, in their order -> (N, 7) float64 log-probabilities; None: raw figures alone."""
    how: str
    """Where it was fitted, or why there is none."""


@dataclass(frozen=True, kw_only=True)
class Comparing:
    """How conditions are judged and compared."""

    scaling: Scaling
    num_bins: int
    num_resamples: int
    """0: no ranges."""
    confidence: float


def _by_other_folds(clean: StoredLogits, folds: Tensor, method: CalibrationMethod) -> Callable[[Tensor], Tensor]:
    """Fit a calibrator for each fold, on the clean rows of the others; return what applies each to the rows of its fold."""
    logits, labels, fit = clean.logits.double(), clean.labels, fitting(method)
    members = [folds == number for number in sorted(set(folds.tolist()))]
    fits = [fit(logits[~inside], labels[~inside]) for inside in members]

    def apply(logits: Tensor) -> Tensor:
        logits = logits.double()
        log_probs = torch.empty_like(logits)
        for inside, fitted in zip(members, fits, strict=True):
            log_probs[inside] = fitted.apply(logits[inside])
        return log_probs

    return apply


def scaling_of(clean: StoredLogits, config: CalibrationConfig, fitted: CalibrationRecord | None) -> Scaling:
    """Return what scales clean and corrupted pictures of these rows: on clean ones, as `judge_scores` scales them.

    Val rows are those that a kept calibrator was fitted on, so that its method is cross-fitted on their clean pictures. On other
    rows the kept calibrator is applied as it is. Nothing is ever fitted on corrupted pictures.

    Args:
        clean: logits of the clean pictures.
        config: method, folds.
        fitted: the calibrator kept with the model, or None.

    Raises:
        FerError: its parameters are damaged.
    """
    record, folds = clean.record, clean.folds(config.num_folds)
    of_clean = calibrated_stored(clean, config, fitted)
    if of_clean.log_probs is None:
        return Scaling(apply=None, how=of_clean.how)
    if record.split == "val":
        how = f"{of_clean.how} ({config.method.value}, fitted on clean pictures alone)"
        return Scaling(apply=_by_other_folds(clean, folds, config.method), how=how)
    if fitted is None:
        raise RuntimeError(f"{record.split} rows were calibrated without a calibrator")
    return Scaling(apply=lambda logits: calibrate(logits, fitted), how=of_clean.how)


def _figures(log_probs: Tensor, labels: Tensor, num_bins: int) -> RobustnessFigures:
    report = reliability_report(log_probs, labels, num_bins=num_bins)
    scores = report.scores
    return RobustnessFigures(
        accuracy=scores.accuracy,
        macro_f1=scores.macro_f1,
        minority_f1=scores.minority_f1,
        ece=report.ece,
        mean_confidence=report.mean_confidence,
    )


def _raw_log_probs(stored: StoredLogits) -> Tensor:
    return stored.logits.double().log_softmax(1)


def _best_log_probs(stored: StoredLogits, scaling: Scaling) -> Tensor:
    return _raw_log_probs(stored) if scaling.apply is None else scaling.apply(stored.logits)


def _report(stored: StoredLogits, corruption: str, severity: int, how: Comparing) -> ConditionReport:
    """Return figures without changes."""
    apply = how.scaling.apply
    return ConditionReport(
        corruption=corruption,
        severity=severity,
        canonical_digest=stored.record.canonical_digest,
        logits_sha256=stored.record.logits_sha256,
        raw=_figures(_raw_log_probs(stored), stored.labels, how.num_bins),
        scaled=None if apply is None else _figures(apply(stored.logits), stored.labels, how.num_bins),
        changes={},
    )


def _changes(
    clean: StoredLogits, corrupted: StoredLogits, before: ConditionReport, after: ConditionReport, how: Comparing
) -> dict[str, Change]:
    figures_before, figures_after = before.scaled or before.raw, after.scaled or after.raw
    changes = {name: getattr(figures_after, name) - getattr(figures_before, name) for name in COMPARED}
    if not how.num_resamples or all_linked(clean.groups):
        return {name: Change(change=change, range=None, p_value=None) for name, change in changes.items()}
    compared = paired_comparison(
        _best_log_probs(clean, how.scaling),
        _best_log_probs(corrupted, how.scaling),
        clean.labels,
        groups=clean.groups,
        num_resamples=how.num_resamples,
        confidence=how.confidence,
        num_bins=how.num_bins,
    ).differences
    return {
        name: Change(
            change=change,
            range=Range(low=compared[name].low, high=compared[name].high),
            p_value=compared[name].p_value,
        )
        for name, change in changes.items()
    }


def judge_clean(stored: StoredLogits, how: Comparing) -> ConditionReport:
    """Judge the clean pictures."""
    return _report(stored, CLEAN, 0, how)


def judge_corrupted(
    stored: StoredLogits,
    clean: StoredLogits,
    clean_report: ConditionReport,
    *,
    corruption: str,
    severity: int,
    how: Comparing,
) -> ConditionReport:
    """Judge one rendition of the rows, and compare it with the clean one.

    Args:
        stored: its logits.
        clean: those of the clean pictures of the same rows in the same order.
        clean_report: their figures.
        corruption: its name.
        severity: 0 where it has none.
        how: see `Comparing`.

    Raises:
        ValueError: other rows.
    """
    if stored.row_ids != clean.row_ids:
        raise ValueError(f"{corruption} at severity {severity} is of other rows than the clean pictures")
    report = _report(stored, corruption, severity, how)
    return replace(report, changes=_changes(clean, stored, clean_report, report, how))


def _mean_figures(figures: Sequence[RobustnessFigures]) -> RobustnessFigures:
    names = [field.name for field in fields(RobustnessFigures)]
    return RobustnessFigures(**{name: fmean(getattr(item, name) for item in figures) for name in names})


def _mean(corruption: str, conditions: Sequence[ConditionReport]) -> MeanReport:
    scaled = [condition.scaled for condition in conditions if condition.scaled is not None]
    return MeanReport(
        corruption=corruption,
        raw=_mean_figures([condition.raw for condition in conditions]),
        scaled=_mean_figures(scaled) if scaled else None,
        changes={name: fmean(condition.changes[name].change for condition in conditions) for name in COMPARED},
    )


def mean_reports(conditions: Sequence[ConditionReport]) -> list[MeanReport]:
    """Return the means of each corruption over its severities, and of all conditions as `all`; none of none."""
    if not conditions:
        return []
    names = list(dict.fromkeys(condition.corruption for condition in conditions))
    by_name = [_mean(name, [item for item in conditions if item.corruption == name]) for name in names]
    return [*by_name, _mean("all", conditions)]
