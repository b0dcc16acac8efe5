"""Temperatures that bring the logits of several teachers to one scale, each row by those that have not seen it."""

import torch
from torch import Tensor

from fer_lightning.functional.calibration import fit_temperature


def cross_fitted_temperatures(teacher_logits: Tensor, labels: Tensor, folds: Tensor | None) -> Tensor:
    """Fit a temperature of each teacher for the rows of each fold, on the rows of the other folds.

    Args:
        teacher_logits: (M, N, C) float64, finite.
        labels: (N,) int64.
        folds: (N,) integers; None, or a single fold: one temperature of each teacher, fitted on all rows.

    Returns:
        (M, N) float64, by which the logits of teacher m and row n are divided.

    Raises:
        ValueError: as `fit_temperature`.
    """
    num_teachers, num_rows, _ = teacher_logits.shape
    temperatures = torch.empty(num_teachers, num_rows, dtype=torch.float64)
    of_row = torch.zeros(num_rows, dtype=torch.int64) if folds is None else folds
    names = sorted(set(of_row.tolist()))
    for inside in (of_row == name for name in names):
        fitted_on = ~inside if len(names) > 1 else inside
        for teacher, logits in enumerate(teacher_logits):
            temperatures[teacher, inside] = fit_temperature(logits[fitted_on], labels[fitted_on]).temperature
    return temperatures


def scaled_outside(teacher_logits: Tensor, labels: Tensor, folds: Tensor, fold: int) -> Tensor:
    """Divide logits by temperatures that know nothing of one fold: neither those of its rows nor those of the others.

    The other rows are cross-fitted among themselves, as `cross_fitted_temperatures` does; the rows of the fold get the
    temperatures of all others.

    Args:
        teacher_logits: (M, N, C) float64, finite.
        labels: (N,) int64.
        folds: (N,) integers, at least two.
        fold: which one.

    Returns:
        (M, N, C) float64.

    Raises:
        ValueError: as `fit_temperature`.
    """
    inside = folds == fold
    rest, rest_labels = teacher_logits[:, ~inside], labels[~inside]
    scaled = torch.empty_like(teacher_logits)
    scaled[:, ~inside] = rest / cross_fitted_temperatures(rest, rest_labels, folds[~inside]).unsqueeze(2)
    of_rest = cross_fitted_temperatures(rest, rest_labels, None)[:, :1]
    scaled[:, inside] = teacher_logits[:, inside] / of_rest.unsqueeze(2)
    return scaled
