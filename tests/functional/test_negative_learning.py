"""Negative learning by value, sign and size of its gradient."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  the name torch's own documentation uses
from scipy.special import softmax

from fer_lightning.functional.negative_learning import negative_learning_loss
from tests.functional.distillation_cases import rows_of


def test_equals_binary_cross_entropy_towards_zero() -> None:
    logits, other, _ = rows_of(12, 7)
    negatives = other > 2
    per_class = F.binary_cross_entropy(logits.softmax(1), torch.zeros_like(logits), reduction="none")
    loss = negative_learning_loss(logits, negatives)
    assert loss.shape == ()
    torch.testing.assert_close(loss, (per_class * negatives).sum() / 12, rtol=1e-10, atol=0.0)
    torch.testing.assert_close(
        loss, torch.tensor(-np.where(negatives, np.log1p(-softmax(logits.numpy(), axis=1)), 0).sum(axis=1).mean())
    )


def test_gradient_hand_worked() -> None:
    logits, _, _ = rows_of(1, 7)
    negatives = torch.zeros(1, 7, dtype=torch.bool)
    negatives[0, 3] = True
    (gradient,) = torch.autograd.grad(negative_learning_loss(logits.requires_grad_(), negatives), logits)
    p = softmax(logits.detach().numpy()[0])
    expected = p - p / (1 - p[3])
    expected[3] = p[3]
    np.testing.assert_allclose(gradient[0].numpy(), expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("lead", [-20.0, 0.0, 5.0, 30.0])
def test_descent_lowers_the_negative_and_raises_the_others(lead: float) -> None:
    logits, _, _ = rows_of(8, 7)
    logits[:, 3] = logits[:, [0, 1, 2, 4, 5, 6]].amax(dim=1) + lead
    negatives = torch.zeros(8, 7, dtype=torch.bool)
    negatives[:, 3] = True
    point = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(negative_learning_loss(point, negatives), point)
    assert bool((gradient[:, 3] > 0).all())
    assert bool((gradient[:, [0, 1, 2, 4, 5, 6]] <= 0).all())
    torch.testing.assert_close(gradient.sum(1), torch.zeros(8, dtype=torch.float64), rtol=0.0, atol=1e-12)
    assert bool(((logits - gradient).softmax(1)[:, 3] < logits.softmax(1)[:, 3]).all())


def test_a_sure_mistake_costs_its_lead_and_keeps_a_gradient_of_one() -> None:
    for dtype in (torch.float32, torch.float64):
        logits = torch.tensor([[200.0, 0.0, -200.0]], dtype=dtype, requires_grad=True)
        loss = negative_learning_loss(logits, torch.tensor([[True, False, False]]))
        (gradient,) = torch.autograd.grad(loss, logits)
        assert float(loss.detach()) == pytest.approx(200.0, rel=1e-6)
        torch.testing.assert_close(gradient, torch.tensor([[1.0, -1.0, 0.0]], dtype=dtype))


def test_rows_without_negatives_count() -> None:
    logits, _, _ = rows_of(4, 7)
    negatives = torch.zeros(4, 7, dtype=torch.bool)
    assert float(negative_learning_loss(logits, negatives)) == 0.0
    negatives[1, 2] = True
    p = float(logits[1].softmax(0)[2])
    assert float(negative_learning_loss(logits, negatives)) == pytest.approx(-math.log(1 - p) / 4)


def test_all_classes_may_be_negative() -> None:
    uniform = torch.zeros(2, 7, dtype=torch.float64)
    loss = negative_learning_loss(uniform, torch.ones(2, 7, dtype=torch.bool))
    assert float(loss) == pytest.approx(-7 * math.log(6 / 7))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_logits_give_float32(dtype: torch.dtype) -> None:
    logits, _, labels = rows_of(4, 7)
    negatives = F.one_hot(labels, 7).bool()
    loss = negative_learning_loss(logits.to(dtype), negatives)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(negative_learning_loss(logits.to(dtype).double(), negatives)), rel=1e-4)


def test_wrong_negatives_are_refused() -> None:
    logits, _, labels = rows_of(4, 7)
    for negatives in (torch.zeros(4, 6, dtype=torch.bool), F.one_hot(labels, 7), labels):
        with pytest.raises(ValueError, match="negatives must be bool"):
            negative_learning_loss(logits, negatives)
    with pytest.raises(ValueError, match="C >= 2"):
        negative_learning_loss(logits[:, :1], torch.zeros(4, 1, dtype=torch.bool))
