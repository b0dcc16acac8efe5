"""Weights of the lowest NLL: the conditions of optimality, and cases whose answer is known."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, nll_loss

from fer_lightning.functional._convex_weights import lowest_logit_nll, lowest_mixture_nll
from fer_lightning.functional.calibration import fit_temperature
from fer_lightning.functional.fusion import fuse_log_probs, fuse_logits
from tests.functional.teacher_rows import teacher_rows


def _with_noise(num_rows: int = 1000) -> tuple[Tensor, Tensor]:
    """Three teachers, and a fourth whose confident guesses are worth nothing."""
    logits, labels, _ = teacher_rows(3, num_rows)
    generator = torch.Generator().manual_seed(9)
    guesses = 5.0 * torch.randn(1, num_rows, 7, dtype=torch.float64, generator=generator)
    return torch.cat([logits, guesses]), labels


def _check_optimal(slope: Tensor, masses: Tensor, *, tolerance: float) -> None:
    """Karush-Kuhn-Tucker over masses >= 0: no slope where there is mass, none downwards where there is none."""
    assert bool((slope[masses > 0].abs() <= tolerance).all()), slope
    assert bool((slope[masses == 0] >= -tolerance).all()), slope


def test_logit_weights_are_optimal_together_with_their_temperature() -> None:
    logits, labels = _with_noise()
    weights = lowest_logit_nll(logits, labels)
    assert weights is not None
    fit = fit_temperature(fuse_logits(logits, weights), labels)
    masses = (weights / fit.temperature).requires_grad_()
    cross_entropy((masses.view(-1, 1, 1) * logits).sum(dim=0), labels).backward()  # type: ignore[no-untyped-call]
    assert masses.grad is not None
    _check_optimal(masses.grad, masses.detach(), tolerance=2e-6)


def test_mixture_weights_are_optimal_on_the_simplex() -> None:
    logits, labels = _with_noise()
    weights = lowest_mixture_nll(logits, labels)
    assert abs(float(weights.sum()) - 1.0) < 1e-12
    masses = weights.clone().requires_grad_()
    mixed = (masses.view(-1, 1, 1) * logits.softmax(dim=2)).sum(dim=0)
    (nll_loss(mixed.log(), labels) + masses.sum()).backward()  # type: ignore[no-untyped-call]
    assert masses.grad is not None
    _check_optimal(masses.grad, weights, tolerance=1e-7)


def test_no_point_of_a_fine_grid_is_better() -> None:
    logits, labels, _ = teacher_rows(2, 300)
    by_logit, by_mixture = lowest_logit_nll(logits, labels), lowest_mixture_nll(logits, labels)
    assert by_logit is not None
    best_logit = fit_temperature(fuse_logits(logits, by_logit), labels).nll
    best_mixture = float(nll_loss(fuse_log_probs(logits, by_mixture), labels))
    for k in range(101):
        weights = [k / 100, 1 - k / 100]
        assert best_logit <= fit_temperature(fuse_logits(logits, weights), labels).nll + 1e-12
        assert best_mixture <= float(nll_loss(fuse_log_probs(logits, weights), labels)) + 1e-12


def test_a_teacher_that_points_away_gets_nothing_in_either_space() -> None:
    logits, labels, _ = teacher_rows(2, 500)
    logits = torch.cat([logits, -3.0 * logits[:1]])
    by_logit = lowest_logit_nll(logits, labels)
    assert by_logit is not None
    assert float(by_logit[2]) == 0.0
    assert float(lowest_mixture_nll(logits, labels)[2]) < 0.01


def test_without_anything_to_learn_there_are_no_logit_weights() -> None:
    logits, labels, _ = teacher_rows(2, 200)
    assert lowest_logit_nll(-logits, labels) is None
    assert lowest_logit_nll(torch.zeros_like(logits), labels) is None
    kept = lowest_logit_nll(torch.cat([torch.full_like(logits[:1], 4.0), logits]), labels)
    assert kept is not None
    assert float(kept[0]) == 0.0


def test_separable_rows_and_logits_hundreds_apart_stay_finite() -> None:
    labels = torch.arange(70) % 7
    perfect = 400.0 * torch.nn.functional.one_hot(labels, 7).double()
    teachers = torch.stack([perfect, perfect.roll(1, dims=1)])
    for weights in (lowest_logit_nll(teachers, labels), lowest_mixture_nll(teachers, labels)):
        assert weights is not None
        assert bool(torch.isfinite(weights).all())
        assert float(weights[0]) > 0.99
