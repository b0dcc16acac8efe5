"""Weights of teachers row by row against the formulas in numpy, hand-worked cases, and fusion."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp, softmax
from scipy.stats import entropy
from torch import Tensor

from fer_lightning.functional.fusion import fuse_log_probs, fuse_logits
from fer_lightning.functional.teacher_weights import confidence_weights, fuse_rows, loss_weights
from tests.functional.teacher_rows import teacher_rows


def test_loss_weights_equal_the_formula() -> None:
    teachers, labels, _ = teacher_rows(4, 50)
    weights = loss_weights(teachers, labels)
    assert weights.shape == (4, 50)
    assert weights.dtype == torch.float64
    for i, label in enumerate(labels.tolist()):
        losses = np.array([-log_softmax(teacher[i].numpy())[label] for teacher in teachers])
        expected = (1 - np.exp(losses) / np.exp(losses).sum()) / 3
        np.testing.assert_allclose(weights[:, i].numpy(), expected, rtol=1e-10, atol=1e-14)


def test_loss_weights_of_two_teachers_are_their_shares_of_the_target() -> None:
    teachers, labels, _ = teacher_rows(2, 50)
    targets = softmax(teachers.numpy(), axis=2)[:, np.arange(50), labels.numpy()]
    np.testing.assert_allclose(loss_weights(teachers, labels).numpy(), targets / targets.sum(0), rtol=1e-8)


def test_loss_weights_prefer_the_teacher_who_is_right_up_to_a_limit() -> None:
    right, wrong = torch.tensor([[0.0, 50.0]]), torch.tensor([[50.0, 0.0]])
    weights = loss_weights(torch.stack([right, wrong, right]), torch.tensor([1]))
    torch.testing.assert_close(weights, torch.tensor([[0.5], [0.0], [0.5]]))
    weights = loss_weights(torch.stack([right, wrong, wrong]), torch.tensor([1]))
    torch.testing.assert_close(weights, torch.tensor([[0.5], [0.25], [0.25]]))


def test_confidence_weights_equal_the_formula() -> None:
    teachers, _, _ = teacher_rows(3, 50)
    weights = confidence_weights(teachers)
    sureness = math.log(7) - entropy(softmax(teachers.numpy(), axis=2), axis=2)
    np.testing.assert_allclose(weights.numpy(), sureness / sureness.sum(axis=0), rtol=1e-10)
    assert weights.dtype == torch.float64


def test_confidence_weights_hand_worked() -> None:
    sure, half, unsure = torch.tensor([500.0, 0, 0, 0]), torch.tensor([80.0, 80, 0, 0]), torch.zeros(4)
    weights = confidence_weights(torch.stack([sure, half, unsure]).unsqueeze(1))
    torch.testing.assert_close(weights, torch.tensor([[2 / 3], [1 / 3], [0.0]]))  # log 4, log 2 and 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", [0.0, 0.1, 33.3, -1000.1])
def test_uniform_teachers_have_equal_confidence(dtype: torch.dtype, level: float) -> None:
    teachers = torch.full((3, 2, 7), level, dtype=dtype)
    teachers[1, :] = 0.3
    teachers[:, 1, 0] += torch.tensor([0.0, 9.0, 0.0], dtype=dtype)
    weights = confidence_weights(teachers)
    assert torch.equal(weights[:, 0], torch.full((3,), 1 / 3, dtype=dtype))
    torch.testing.assert_close(weights[:, 1], torch.tensor([0.0, 1.0, 0.0], dtype=dtype), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_are_shares_for_any_logits(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(5, 300, 7, dtype=torch.float64, generator=generator)
    rows = rows * torch.logspace(-8, 2.3, 300, dtype=torch.float64).unsqueeze(1)  # from uniform to 200 apart
    labels = torch.randint(0, 7, (300,), generator=generator)
    for weights in (loss_weights(rows.to(dtype), labels), confidence_weights(rows.to(dtype))):
        assert weights.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert bool((weights >= 0).all())
        torch.testing.assert_close(weights.sum(0), torch.ones(300, dtype=weights.dtype), rtol=1e-5, atol=1e-5)


def test_one_teacher_has_weight_one() -> None:
    teachers, labels, _ = teacher_rows(1, 10)
    teachers[0, 0] = 0.0
    ones = torch.ones(1, 10, dtype=torch.float64)
    assert torch.equal(loss_weights(teachers, labels), ones)
    assert torch.equal(confidence_weights(teachers), ones)
    assert torch.equal(fuse_rows(teachers, ones, space="logit"), teachers[0])
    torch.testing.assert_close(fuse_rows(teachers, ones, space="prob"), teachers[0].log_softmax(1))


@pytest.mark.parametrize("shares", [[0.5, 0.3, 0.2], [0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
def test_weights_equal_in_all_rows_are_ordinary_fusion(shares: list[float]) -> None:
    teachers, _, _ = teacher_rows(3, 50)
    weights = torch.tensor(shares, dtype=torch.float64).unsqueeze(1).expand(3, 50)
    torch.testing.assert_close(fuse_rows(teachers, weights, space="logit"), fuse_logits(teachers, shares))
    torch.testing.assert_close(fuse_rows(teachers, weights, space="prob"), fuse_log_probs(teachers, shares))


def test_fuse_rows_equals_a_loop() -> None:
    teachers, labels, _ = teacher_rows(3, 20)
    weights = loss_weights(teachers, labels)
    logits, log_probs = (fuse_rows(teachers, weights, space=space) for space in ("logit", "prob"))
    for i in range(20):
        own = weights[:, i].numpy()
        np.testing.assert_allclose(logits[i].numpy(), own @ teachers[:, i].numpy(), rtol=1e-10)
        mixed = logsumexp(log_softmax(teachers[:, i].numpy(), axis=1), axis=0, b=own[:, None])
        np.testing.assert_allclose(log_probs[i].numpy(), mixed, rtol=1e-10)


def test_fusing_logits_200_apart_is_finite() -> None:
    teachers = torch.tensor([[[200.0, 0.0, -200.0]], [[-200.0, 200.0, 0.0]]])
    fused = fuse_rows(teachers, torch.tensor([[1.0], [0.0]]), space="prob")
    torch.testing.assert_close(fused, torch.tensor([[0.0, -200.0, -400.0]]))


def test_rows_without_logits_stay_without() -> None:
    teachers, labels, _ = teacher_rows(3, 4)
    teachers[:, 1] = math.nan
    for weights in (loss_weights(teachers, labels), confidence_weights(teachers)):
        fused = fuse_rows(teachers, weights, space="logit")
        assert torch.isnan(fused).all(dim=1).tolist() == [False, True, False, False]


def _refused(teachers: Tensor, match: str) -> None:
    labels = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match=match):
        loss_weights(teachers, labels)
    with pytest.raises(ValueError, match=match):
        confidence_weights(teachers)
    with pytest.raises(ValueError, match=match):
        fuse_rows(teachers, torch.ones(1, 4), space="logit")


def test_wrong_input_is_refused() -> None:
    _refused(torch.zeros(4, 7), match=r"shape \(M, N, C\)")
    _refused(torch.zeros(0, 4, 7), match="M >= 1")
    _refused(torch.zeros(1, 4, 1), match="C >= 2")
    _refused(torch.zeros(1, 4, 7, dtype=torch.int64), match="floating point")
    teachers = torch.zeros(2, 4, 7)
    with pytest.raises(ValueError, match=r"0\.\.6"):
        loss_weights(teachers, torch.full((4,), 7))
    with pytest.raises(ValueError, match=r"weights must have shape \(2, 4\)"):
        fuse_rows(teachers, torch.ones(2), space="logit")
    with pytest.raises(ValueError, match="space must be 'logit' or 'prob', got 'mean'"):
        fuse_rows(teachers, torch.full((2, 4), 0.5), space="mean")
