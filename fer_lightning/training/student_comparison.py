"""Judges students of several arms and seeds from stored logits: figures, intervals, and differences to a baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from fer_lightning.errors import FerError
from fer_lightning.functional.calibration import cross_fitted_log_probs
from fer_lightning.functional.reliability import ReliabilityReport, reliability_report
from fer_lightning.functional.seed_comparison import SeedComparison, compare_arms_over_seeds
from fer_lightning.labels import EMOTIONS
from fer_lightning.runs.stored_logits import StoredLogits
from fer_lightning.runs.student_comparison import (
    ArmFigures,
    JudgedArm,
    JudgedEnsemble,
    JudgedSplit,
)
from fer_lightning.training.arm_figures import arm_figures
from fer_lightning.training.calibration import calibrated_stored, fitting, num_folds
from fer_lightning.training.config import CalibrationConfig, CalibrationMethod
from fer_lightning.training.slices import all_linked

_SAME = ("split", "row_set_fingerprint", "view", "corruption")
_OF_SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "macro_f1_present", "minority_f1")


@dataclass(frozen=True, eq=False)
class _Scored:
    """Log-probabilities of one model."""

    raw: Tensor
    scaled: Tensor | None
    how: str


@dataclass(frozen=True, kw_only=True)
class _Intervals:
    """How intervals are taken."""

    num_bins: int
    num_resamples: int
    confidence: float


def _check_arms(arms: Mapping[str, Sequence[StoredLogits]], baseline: str) -> StoredLogits:
    """Return the first model of the baseline, whose order of rows counts."""
    if baseline not in arms or len(arms) < 2:
        raise FerError(
            f"a comparison needs a baseline and another arm; the baseline is {baseline}, the arms are {', '.join(arms)}"
        )
    numbers = {name: len(seeds) for name, seeds in arms.items()}
    if min(numbers.values()) < 1 or len(set(numbers.values())) > 1:
        listed = ", ".join(f"{name} {number}" for name, number in numbers.items())
        raise FerError(f"arms are compared seed by seed, and each needs as many as the others; they have: {listed}")
    return arms[baseline][0]


def _on_rows_of(first: StoredLogits, stored: StoredLogits, name: str) -> StoredLogits:
    """Return a model's logits in the order of the first; refuse other rows."""
    for field in _SAME:
        expected, found = getattr(first.record, field), getattr(stored.record, field)
        if found != expected:
            raise FerError(
                f"{name}: the logits of {stored.record.run_dir}/{stored.record.checkpoint} have {field} {found}, those of "
                f"{first.record.run_dir}/{first.record.checkpoint} {expected}; compare models on the same rows and pictures"
            )
    return stored if stored.row_ids == first.row_ids else stored.in_order_of(first.row_ids)


def _scored(stored: StoredLogits, num_bins: int) -> _Scored:
    """Calibrate by the record's own calibrator: as it is, or cross-fitted on val, whose rows it has seen."""
    raw, record = stored.logits.double().log_softmax(dim=1), stored.record
    if record.calibration is None or record.calibration.method == "none":
        return _Scored(raw, None, "no calibration recorded" if record.calibration is None else "calibration=none")
    config = CalibrationConfig(method=CalibrationMethod(record.calibration.method), num_bins=num_bins)
    if record.split != "val":
        calibrated = calibrated_stored(stored, config, record.calibration)
        return _Scored(raw, calibrated.log_probs, calibrated.how)
    folds = stored.folds(config.num_folds)
    if num_folds(folds) < 2:
        return _Scored(raw, None, "all rows are linked: no fold can be judged by a fit that did not see it")
    log_probs = cross_fitted_log_probs(stored.logits.double(), stored.labels, folds, fit=fitting(config.method))
    return _Scored(raw, log_probs, f"{config.method.value} cross-fitted on val in {num_folds(folds)} folds")


def _judged(
    of_arms: Mapping[str, Sequence[Tensor]], baseline: str, rows: StoredLogits, intervals: _Intervals
) -> dict[str, ArmFigures]:
    """Compare arms with the baseline."""
    others = [name for name in of_arms if name != baseline]
    found: list[SeedComparison] = compare_arms_over_seeds(
        of_arms[baseline],
        [of_arms[name] for name in others],
        rows.labels,
        groups=rows.groups,
        num_resamples=intervals.num_resamples,
        confidence=intervals.confidence,
        num_bins=intervals.num_bins,
    )
    num_present = len(set(rows.labels.tolist()))
    judged = {baseline: arm_figures(found[0].of_a, None, num_present=num_present)}
    for name, comparison in zip(others, found, strict=True):
        judged[name] = arm_figures(comparison.of_b, comparison.differences, num_present=num_present)
    return judged


def _judged_scaled(
    scored: Mapping[str, Sequence[_Scored]], baseline: str, rows: StoredLogits, intervals: _Intervals
) -> dict[str, ArmFigures]:
    """Compare the arms all of whose seeds are calibrated; none without the baseline."""
    calibrated = {
        name: [model.scaled for model in models if model.scaled is not None]
        for name, models in scored.items()
        if all(model.scaled is not None for model in models)
    }
    return _judged(calibrated, baseline, rows, intervals) if baseline in calibrated and len(calibrated) > 1 else {}


def _plain_figures(log_probs: Tensor, labels: Tensor, num_bins: int) -> dict[str, float]:
    report: ReliabilityReport = reliability_report(log_probs, labels, num_bins=num_bins)
    of_scores = {name: float(getattr(report.scores, name)) for name in _OF_SCORES}
    return {**of_scores, "nll": report.nll, "brier": report.brier, "ece": report.ece}


def _judged_ensemble(stored: StoredLogits, num_bins: int) -> JudgedEnsemble:
    scored, labels = _scored(stored, num_bins), stored.labels
    scaled = None if scored.scaled is None else _plain_figures(scored.scaled, labels, num_bins)
    return JudgedEnsemble(raw=_plain_figures(scored.raw, labels, num_bins), scaled=scaled, scaled_how=scored.how)


def judge_arms(
    arms: Mapping[str, Sequence[StoredLogits]],
    ensemble: StoredLogits | None,
    *,
    baseline: str,
    num_bins: int = 15,
    num_resamples: int = 2000,
    confidence: float = 0.95,
) -> JudgedSplit:
    """Judge arms of several seeds, and the ensemble that taught them, on one split.

    Raw figures are of the softmax of the logits. Calibrated ones are of each model's own calibrator, the one its record
    carries: applied as it is, or on val rows cross-fitted by the same method, since it was fitted on them. Linked rows are
    drawn and swapped together.

    Args:
        arms: name -> one model for each seed, in the same order of seeds; the names in the order to be shown.
        ensemble: its logits on the same rows, or None.
        baseline: the arm that differences are taken to.
        num_bins: of the ECE.
        num_resamples: of the intervals, and as many swaps.
        confidence: of the intervals, in (0, 1).

    Raises:
        FerError: no baseline or no other arm, arms with different numbers of seeds, models judged on different rows or
            pictures, rows that are all linked, or a calibrator that cannot be applied.
    """
    first = _check_arms(arms, baseline)
    record, intervals = first.record, _Intervals(num_bins=num_bins, num_resamples=num_resamples, confidence=confidence)
    if all_linked(first.groups):
        raise FerError(
            f"all {record.n} rows of {record.split} are linked: there is nothing to draw, and no interval to give"
        )
    scored = {
        name: [_scored(_on_rows_of(first, stored, name), num_bins) for stored in models]
        for name, models in arms.items()
    }
    teacher = None if ensemble is None else _judged_ensemble(_on_rows_of(first, ensemble, "ensemble"), num_bins)
    raw = _judged(
        {name: [model.raw for model in models] for name, models in scored.items()}, baseline, first, intervals
    )
    scaled = _judged_scaled(scored, baseline, first, intervals)
    best_possible = 0.0 if teacher is None else teacher.raw["macro_f1"]
    judged = {
        name: JudgedArm(
            raw=raw[name],
            scaled=scaled.get(name),
            scaled_how=list(dict.fromkeys(model.how for model in scored[name])),
            retention=raw[name].figures["macro_f1"].mean / best_possible if best_possible else None,
        )
        for name in arms
    }
    present = set(first.labels.tolist())
    return JudgedSplit(
        split=record.split,
        n=record.n,
        num_groups=len(set(first.groups.tolist())),
        row_set_fingerprint=record.row_set_fingerprint,
        num_bins=num_bins,
        absent_classes=[name for index, name in enumerate(EMOTIONS) if index not in present],
        confidence=confidence,
        num_resamples=num_resamples,
        arms=judged,
        ensemble=teacher,
    )
