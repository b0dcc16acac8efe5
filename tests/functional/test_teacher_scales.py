"""Temperatures of teachers: against scipy, fold by fold, and which rows each of them has seen."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from torch import Tensor

from fer_lightning.functional.teacher_scales import cross_fitted_temperatures, scaled_outside
from tests.functional.teacher_rows import teacher_rows


def scipy_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature of the smallest NLL."""

    def nll(log_inverse: float) -> float:
        log_probs = log_softmax(logits.numpy() * math.exp(log_inverse), axis=1)
        return float(-log_probs[np.arange(len(labels)), labels.numpy()].mean())

    return math.exp(-minimize_scalar(nll, bounds=(-6, 6), method="bounded", options={"xatol": 1e-10}).x)


def test_each_row_has_the_temperature_of_the_other_folds() -> None:
    logits, labels, folds = teacher_rows(2, 200)
    numbers = folds * 3 - 4  # any integers
    temperatures = cross_fitted_temperatures(logits, labels, numbers)
    assert temperatures.shape == (2, 200)
    for teacher in range(2):
        for fold in range(5):
            inside = folds == fold
            expected = scipy_temperature(logits[teacher, ~inside], labels[~inside])
            assert temperatures[teacher, inside].tolist() == pytest.approx([expected] * 40, rel=1e-5)


def test_without_folds_all_rows_have_the_temperature_of_all() -> None:
    logits, labels, folds = teacher_rows(2, 200)
    for none in (None, torch.full_like(folds, 7)):
        temperatures = cross_fitted_temperatures(logits, labels, none)
        for teacher in range(2):
            expected = scipy_temperature(logits[teacher], labels)
            assert temperatures[teacher].tolist() == pytest.approx([expected] * 200, rel=1e-5)


@pytest.mark.parametrize("num_folds", [5, 2])
def test_rows_scaled_outside_a_fold_have_not_seen_its_labels(num_folds: int) -> None:
    logits, labels, folds = teacher_rows(3, 200)
    folds = folds % num_folds
    inside = folds == 1
    scaled = scaled_outside(logits, labels, folds, 1)
    assert torch.equal(scaled, scaled_outside(logits, torch.where(inside, 6 - labels, labels), folds, 1))
    for teacher in range(3):
        outside = scipy_temperature(logits[teacher, ~inside], labels[~inside])
        torch.testing.assert_close(scaled[teacher, inside], logits[teacher, inside] / outside, rtol=1e-5, atol=1e-9)
        fold = folds == 0
        rest = ~inside & ~fold if num_folds > 2 else ~inside
        of_fold = scipy_temperature(logits[teacher, rest], labels[rest])
        torch.testing.assert_close(scaled[teacher, fold], logits[teacher, fold] / of_fold, rtol=1e-5, atol=1e-9)
