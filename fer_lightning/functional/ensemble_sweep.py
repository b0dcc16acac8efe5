"""Figures of an ensemble at many weights in one pass over stored logits, each with its own temperature."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.functional._bins import check_num_bins
from fer_lightning.functional._row_totals import per_class_f1
from fer_lightning.functional._sweep_figures import LARGEST_CORRECTION, PointFigures, point_figures
from fer_lightning.functional._sweep_kernels import WorkArrays, confusion_of, predictions_of_point
from fer_lightning.functional._sweep_rows import Block, Floats, Ints, SweepRows, checked_weights, sweep_rows
from fer_lightning.functional._sweep_temperature import estimate, fold_temperatures, trusted
from fer_lightning.functional.calibration import cross_fitted_log_probs, fit_temperature
from fer_lightning.functional.reliability import reliability_report
from fer_lightning.labels import MINORITY_INDICES, NUM_CLASSES

_POINTS_AT_ONCE = 512  # bounds the memory
_MAX_PASSES = 4


@dataclass(frozen=True, eq=False)
class FusionSweep:
    """Figures of P points; every tensor has P entries and float64 values.

    Attributes:
        weights: (P, M).
        confusion: (P, 7, 7) int64, rows the true class, columns the prediction.
        accuracy: (P,).
        macro_f1: (P,) over all 7 classes, zero where nothing was predicted or present.
        minority_f1: (P,) mean of Disgust, Fear, Sad.
        per_class_f1: (P, 7).
        nll: (P,) uncalibrated, in nats.
        ece: (P,) uncalibrated, top label, equal-width bins.
        brier: (P,) uncalibrated.
        temperatures: (P,) fitted on all rows.
        at_bound: (P,) bool.
        nll_scaled: (P,) cross-fitted where folds are given, else at the temperature that was fitted on the same rows.
        ece_scaled: (P,) in the same way.
        brier_scaled: (P,) in the same way.
    """

    weights: Tensor
    confusion: Tensor
    accuracy: Tensor
    macro_f1: Tensor
    minority_f1: Tensor
    per_class_f1: Tensor
    nll: Tensor
    ece: Tensor
    brier: Tensor
    temperatures: Tensor
    at_bound: Tensor
    nll_scaled: Tensor
    ece_scaled: Tensor
    brier_scaled: Tensor


@dataclass(frozen=True, eq=False)
class _Columns:
    """Figures of P points that a confusion does not give, (P,) each."""

    nll: Floats
    ece: Floats
    brier: Floats
    temperatures: Floats
    at_bound: NDArray[np.bool_]
    nll_scaled: Floats
    ece_scaled: Floats
    brier_scaled: Floats
    confusion: Ints

    @classmethod
    def empty(cls, num_points: int) -> "_Columns":
        """Nothing known yet."""
        nll, ece, brier, temperatures, nll_scaled, ece_scaled, brier_scaled = np.full((7, num_points), np.nan)
        confusion = np.zeros((num_points, NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
        at_bound = np.zeros(num_points, dtype=np.bool_)
        return cls(nll, ece, brier, temperatures, at_bound, nll_scaled, ece_scaled, brier_scaled, confusion)

    def take(self, points: Ints, figures: PointFigures, of: Ints, inverse: Floats) -> None:
        """Write the figures at positions `of` to those points."""
        for name in ("confusion", "nll", "ece", "brier", "nll_scaled", "ece_scaled", "brier_scaled"):
            getattr(self, name)[points] = getattr(figures, name)[of]
        self.temperatures[points] = 1.0 / inverse

    def take_exact(self, point: int, rows: SweepRows, weights: Floats, num_bins: int) -> None:
        """Write the figures of one point as the reference functions compute them."""
        fused = rows.fused(weights)
        fit = fit_temperature(fused, rows.labels)
        folds = rows.folds
        scaled = fit.apply(fused) if folds is None else cross_fitted_log_probs(fused, rows.labels, folds)
        raw = reliability_report(fused.log_softmax(dim=1), rows.labels, num_bins=num_bins)
        report = reliability_report(scaled, rows.labels, num_bins=num_bins)
        self.confusion[point] = raw.scores.confusion.numpy()
        self.nll[point], self.ece[point], self.brier[point] = raw.nll, raw.ece, raw.brier
        self.temperatures[point], self.at_bound[point] = fit.temperature, fit.at_bound
        self.nll_scaled[point], self.ece_scaled[point] = report.nll, report.ece
        self.brier_scaled[point] = report.brier


def _fill(columns: _Columns, rows: SweepRows, weights: Floats, points: Ints, num_bins: int) -> Ints:
    """Write the figures of those points whose temperature is certain; return the other points."""
    estimates = estimate(rows, weights[points])
    inverse, curvature = estimates.inverse, estimates.curvature
    if rows.folds is not None:
        fitted = fold_temperatures(rows, weights[points], inverse)
        of = np.flatnonzero(fitted.certain)
        if len(of):
            figures = point_figures(rows, weights[points[of]], fitted.of_folds[of], None, num_bins=num_bins)
            columns.take(points[of], figures, np.arange(len(of)), fitted.overall[of])
        return points[~fitted.certain]
    left = np.flatnonzero(trusted(rows, inverse, curvature))
    doubtful = np.setdiff1d(np.arange(len(points)), left)
    for _ in range(_MAX_PASSES):
        if not len(left):
            break
        figures = point_figures(rows, weights[points[left]], inverse[left], curvature[left], num_bins=num_bins)
        sure = (figures.correction <= LARGEST_CORRECTION) & trusted(rows, figures.inverse, curvature[left])
        of = np.flatnonzero(sure)
        columns.take(points[left[of]], figures, of, figures.inverse[of])
        inverse[left] = figures.inverse
        left = left[~sure]
    return points[np.union1d(left, doubtful)]


def _as_sweep(weights: Floats, columns: _Columns) -> FusionSweep:
    """The result, with the scores of the confusions."""
    counts = columns.confusion.astype(np.float64)
    f1 = torch.from_numpy(per_class_f1(counts))
    correct = np.diagonal(counts, axis1=1, axis2=2).sum(axis=1)
    return FusionSweep(
        weights=torch.from_numpy(weights),
        confusion=torch.from_numpy(columns.confusion),
        accuracy=torch.from_numpy(correct / counts.sum(axis=(1, 2))),
        macro_f1=f1.mean(dim=1),
        minority_f1=f1[:, list(MINORITY_INDICES)].mean(dim=1),
        per_class_f1=f1,
        nll=torch.from_numpy(columns.nll),
        ece=torch.from_numpy(columns.ece),
        brier=torch.from_numpy(columns.brier),
        temperatures=torch.from_numpy(columns.temperatures),
        at_bound=torch.from_numpy(columns.at_bound),
        nll_scaled=torch.from_numpy(columns.nll_scaled),
        ece_scaled=torch.from_numpy(columns.ece_scaled),
        brier_scaled=torch.from_numpy(columns.brier_scaled),
    )


def fold_confusions(rows: SweepRows, weights: Floats) -> Ints:
    """(F, P, 7, 7) counts, of rows that are laid out once for many calls and weights that have been checked."""

    def of_block(block: Block) -> Ints:
        work = WorkArrays(len(block.rows), np.float64)
        return np.stack([confusion_of(block, predictions_of_point(rows, block, point, work)) for point in weights])

    counts = np.zeros((rows.num_folds, len(weights), NUM_CLASSES**2), dtype=np.int64)
    for block, of_points in zip(rows.blocks, rows.per_block(of_block), strict=True):
        counts[block.fold] += of_points
    return counts.reshape(rows.num_folds, len(weights), NUM_CLASSES, NUM_CLASSES)


def confusions(
    teacher_logits: Tensor,
    labels: Tensor,
    weights: Tensor | Sequence[Sequence[float]],
    *,
    space: str,
    folds: Tensor | None = None,
) -> Tensor:
    """Confusion counts of an ensemble at every given point of the simplex.

    Args:
        teacher_logits: (M, N, 7) float.
        labels: (N,) int64.
        weights: (P, M) finite, >= 0, each row summing to 1 within 1e-6.
        space: `logit` or `prob`, see `fusion`.
        folds: (N,) int64; given, the rows of each fold are counted by themselves.

    Returns:
        (P, 7, 7) int64, rows the true class, columns the prediction; with folds (F, P, 7, 7), folds in ascending order.

    Raises:
        ValueError: shapes, types or ranges; weights that do not sum to 1; logits that are not finite.
    """
    rows = sweep_rows(teacher_logits, labels, space=space, folds=folds)
    by_fold = fold_confusions(rows, checked_weights(weights, len(teacher_logits)))
    return torch.from_numpy(by_fold[0] if folds is None else by_fold)


def sweep_weights(
    teacher_logits: Tensor,
    labels: Tensor,
    weights: Tensor | Sequence[Sequence[float]],
    *,
    space: str,
    folds: Tensor | None = None,
    num_bins: int = 15,
) -> FusionSweep:
    """Evaluate an ensemble at every given point of the simplex.

    The figures are those of `fusion`, `reliability`, `fit_temperature` and `cross_fitted_log_probs`, point by point, to
    about 1e-9, in a small share of their time: the rows go through in blocks that fit the cache, and one Newton serves
    all points, from samples of the rows in float32 to all rows in float64. A point whose temperature is not certain
    that way (at a bound, or on rows that hardly depend on it) is left to those functions. The prediction of a row is
    that of its fused scores at every temperature, the first of equal ones.

    Args:
        teacher_logits: (M, N, 7) float.
        labels: (N,) int64.
        weights: (P, M) finite, >= 0, each row summing to 1 within 1e-6.
        space: `logit` or `prob`, see `fusion`.
        folds: (N,) int64 cross-fit folds, at least two; None: scaled figures are of the rows the temperature was
            fitted on.
        num_bins: of the ECE.

    Raises:
        ValueError: shapes, types or ranges; weights that do not sum to 1; logits that are not finite.
    """
    check_num_bins(num_bins)
    rows = sweep_rows(teacher_logits, labels, space=space, folds=folds)
    if folds is not None and rows.num_folds < 2:
        raise ValueError("cross-fitting needs at least two folds, got one: no other rows to fit on")
    points = checked_weights(weights, len(teacher_logits))
    columns = _Columns.empty(len(points))
    for part in np.split(np.arange(len(points)), range(_POINTS_AT_ONCE, len(points), _POINTS_AT_ONCE)):
        uncertain = _fill(columns, rows, points, part, num_bins) if rows.safe else part
        for point in uncertain:
            columns.take_exact(int(point), rows, points[point], num_bins)
    return _as_sweep(points, columns)
