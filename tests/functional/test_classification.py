"""Losses and class weights against loops from their formulas."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fer_lightning.functional.classification import (
    balanced_softmax_loss,
    center_loss,
    effective_number_weights,
    focal_loss,
    inverse_frequency_weights,
    ldam_loss,
    logit_adjusted_loss,
)

COUNTS = [4953, 547, 5121, 8989, 6077, 4002, 6198]
LOSSES = ["focal", "balanced", "adjusted", "ldam"]


def _scores(num_rows: int = 32, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(num_rows, 7, dtype=torch.float64, generator=generator) * 3
    return scores.to(dtype), torch.randint(0, 7, (num_rows,), generator=generator)


def _loss(name: str, scores: Tensor, labels: Tensor) -> Tensor:
    counts = torch.tensor(COUNTS)
    if name == "focal":
        return focal_loss(scores, labels, gamma=2.0)
    if name == "balanced":
        return balanced_softmax_loss(scores, labels, class_counts=counts)
    if name == "adjusted":
        return logit_adjusted_loss(scores, labels, class_counts=counts, tau=1.5)
    return ldam_loss(scores, labels, class_counts=counts, max_margin=0.5, scale=30.0)


def _row_loss(name: str, row: list[float], label: int) -> float:
    """One row from the paper's formula, in plain Python."""
    if name == "balanced":
        masses = [n * math.exp(z) for n, z in zip(COUNTS, row, strict=True)]
        return -math.log(masses[label] / sum(masses))
    if name == "adjusted":
        masses = [(n / sum(COUNTS)) ** 1.5 * math.exp(z) for n, z in zip(COUNTS, row, strict=True)]
        return -math.log(masses[label] / sum(masses))
    if name == "ldam":
        margin = 0.5 * math.pow(min(COUNTS) / COUNTS[label], 0.25)
        exponents: list[float] = [30.0 * (c - margin * (j == label)) for j, c in enumerate(row)]
        return float(np.logaddexp.reduce(exponents)) - exponents[label]
    masses = [math.exp(z) for z in row]
    share = masses[label] / sum(masses)
    return -math.pow(1 - share, 2) * math.log(share)


@pytest.mark.parametrize("name", LOSSES)
def test_equals_the_formula_in_a_loop(name: str) -> None:
    scores, labels = _scores()
    expected = np.mean([_row_loss(name, row, int(y)) for row, y in zip(scores.tolist(), labels, strict=True)])
    loss = _loss(name, scores, labels)
    assert loss.shape == ()
    assert loss.dtype == torch.float64
    assert float(loss) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient(name: str) -> None:
    scores, labels = _scores(4)
    assert torch.autograd.gradcheck(lambda z: _loss(name, z, labels), (scores.requires_grad_(),))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_input_gives_float32(name: str, dtype: torch.dtype) -> None:
    scores, labels = _scores(dtype=dtype)
    loss = _loss(name, scores, labels)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(_loss(name, scores.double(), labels)), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("label", [0, 1])
def test_logits_200_apart(name: str, label: int) -> None:
    scores = torch.tensor([[200.0, 0.0, 0.0, 0.0, 0.0, 0.0, -200.0]], requires_grad=True)
    loss = _loss(name, scores, torch.tensor([label]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert bool(torch.isfinite(loss))
    assert scores.grad is not None
    assert bool(torch.isfinite(scores.grad).all())


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_gradient_is_finite_when_the_target_rounds_to_one(gamma: float) -> None:
    logits = torch.tensor([[90.0, 0.0, 0.0]], requires_grad=True)
    focal_loss(logits, torch.tensor([0]), gamma=gamma).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())


def test_relations_to_cross_entropy() -> None:
    logits, labels = _scores()
    plain = torch.nn.functional.cross_entropy(logits, labels)
    equal = torch.full((7,), 100)
    torch.testing.assert_close(focal_loss(logits, labels, gamma=0.0), plain)
    torch.testing.assert_close(balanced_softmax_loss(logits, labels, class_counts=equal), plain)
    torch.testing.assert_close(logit_adjusted_loss(logits, labels, class_counts=COUNTS, tau=0.0), plain)
    torch.testing.assert_close(
        logit_adjusted_loss(logits, labels, class_counts=COUNTS, tau=1.0),
        balanced_softmax_loss(logits, labels, class_counts=COUNTS),
    )
    torch.testing.assert_close(
        ldam_loss(logits, labels, class_counts=COUNTS, max_margin=0.0, scale=2.0),
        torch.nn.functional.cross_entropy(2 * logits, labels),
    )


def test_center_loss_hand_worked() -> None:
    features = torch.tensor([[1.0, 2.0], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    centers = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    loss = center_loss(features, torch.tensor([0, 1]), centers)
    assert float(loss.detach()) == pytest.approx((0.5 * 5 + 0.5 * 25) / 2)
    feature_gradient, center_gradient = torch.autograd.grad(loss, (features, centers))
    assert feature_gradient.tolist() == [[0.5, 1.0], [-1.5, -2.0]]
    assert center_gradient.tolist() == [[-0.5, -1.0], [1.5, 2.0]]


def test_effective_number_weights() -> None:
    beta = 0.9999
    raw = np.array([(1 - beta) / (1 - beta**n) for n in COUNTS])
    weights = effective_number_weights(COUNTS, beta=beta)
    assert weights.dtype == torch.float64
    np.testing.assert_allclose(weights.numpy(), raw / raw.mean(), rtol=1e-9)
    assert effective_number_weights(COUNTS, beta=0.0).tolist() == pytest.approx([1.0] * 7)
    near_one = effective_number_weights(COUNTS, beta=1 - 1e-12)
    torch.testing.assert_close(near_one, inverse_frequency_weights(COUNTS, power=1.0), rtol=1e-6, atol=0.0)


def test_inverse_frequency_weights() -> None:
    assert inverse_frequency_weights([1, 4], power=0.5).tolist() == pytest.approx([4 / 3, 2 / 3])
    assert inverse_frequency_weights([1, 3], power=1.0).tolist() == pytest.approx([1.5, 0.5])
    assert inverse_frequency_weights(COUNTS, power=0.0).tolist() == pytest.approx([1.0] * 7)
    weights = inverse_frequency_weights(torch.tensor(COUNTS, dtype=torch.float32), power=1.0)
    assert weights.dtype == torch.float32
    assert float(weights.mean()) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("counts", [[10, 0, 3], [10, -1, 3], [10, math.nan, 3], []])
def test_unusable_counts_are_refused(counts: list[float]) -> None:
    logits, labels = torch.zeros(2, 3), torch.tensor([0, 2])
    with pytest.raises(ValueError, match="class_counts"):
        effective_number_weights(counts, beta=0.99)
    with pytest.raises(ValueError, match="class_counts"):
        inverse_frequency_weights(counts, power=1.0)
    with pytest.raises(ValueError, match="class_counts"):
        balanced_softmax_loss(logits, labels, class_counts=counts)
    with pytest.raises(ValueError, match="class_counts"):
        logit_adjusted_loss(logits, labels, class_counts=counts, tau=1.0)
    with pytest.raises(ValueError, match="class_counts"):
        ldam_loss(logits, labels, class_counts=counts, max_margin=0.5, scale=30.0)


def test_wrong_arguments_are_refused() -> None:
    logits, labels = torch.zeros(2, 7), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="gamma"):
        focal_loss(logits, labels, gamma=-1.0)
    with pytest.raises(ValueError, match="beta"):
        effective_number_weights(COUNTS, beta=1.0)
    with pytest.raises(ValueError, match="power"):
        inverse_frequency_weights(COUNTS, power=-1.0)
    with pytest.raises(ValueError, match="max_margin"):
        ldam_loss(logits, labels, class_counts=COUNTS, max_margin=-0.1, scale=30.0)
    with pytest.raises(ValueError, match="centers"):
        center_loss(torch.zeros(2, 4), labels, torch.zeros(7, 5))
    with pytest.raises(ValueError, match="shape"):
        focal_loss(torch.zeros(0, 7), labels[:0], gamma=2.0)
    with pytest.raises(ValueError, match="floating"):
        focal_loss(torch.zeros(2, 7, dtype=torch.int64), labels, gamma=2.0)
