"""Fusion against loops; weights that are no shares are refused."""

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import Tensor

from fer_lightning.functional.fusion import fuse_log_probs, fuse_logits

WEIGHTS = [0.4, 0.4, 0.2]


def _teachers(num_teachers: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(num_teachers, 10, 7, dtype=torch.float64, generator=generator) * 5


def test_equals_numpy() -> None:
    teachers = _teachers()
    logits, log_probs = fuse_logits(teachers, WEIGHTS), fuse_log_probs(teachers, torch.tensor(WEIGHTS))
    assert logits.dtype == log_probs.dtype == torch.float64
    np.testing.assert_allclose(logits.numpy(), np.average(teachers.numpy(), axis=0, weights=WEIGHTS), rtol=1e-12)
    mean = np.average(softmax(teachers.numpy(), axis=2), axis=0, weights=WEIGHTS)
    np.testing.assert_allclose(log_probs.numpy(), np.log(mean), rtol=1e-7)  # the weights were float32


def test_one_teacher_is_returned() -> None:
    teachers = _teachers(1)
    assert torch.equal(fuse_logits(teachers, [1.0]), teachers[0])
    torch.testing.assert_close(fuse_log_probs(teachers, [1.0]), teachers[0].log_softmax(1), rtol=1e-15, atol=0.0)


def test_teacher_of_weight_zero_is_left_out() -> None:
    teachers = _teachers(2)
    teachers[1] = math.nan
    assert torch.equal(fuse_logits(teachers, [1.0, 0.0]), teachers[0])
    torch.testing.assert_close(fuse_log_probs(teachers, [1.0, 0.0]), teachers[0].log_softmax(1))


def test_order_of_teachers_does_not_matter() -> None:
    teachers = _teachers()
    flipped = fuse_log_probs(teachers.flip(0), WEIGHTS[::-1])
    torch.testing.assert_close(flipped, fuse_log_probs(teachers, WEIGHTS))


def test_log_probs_are_normalised_and_finite_200_apart() -> None:
    teachers = torch.tensor([[[200.0, 0.0, -200.0]], [[200.0, -200.0, 0.0]]])
    log_probs = fuse_log_probs(teachers, [0.5, 0.5])
    assert log_probs.dtype == torch.float32
    assert log_probs[0].tolist() == pytest.approx([0.0, -200.0 - math.log(2), -200.0 - math.log(2)])
    torch.testing.assert_close(fuse_log_probs(_teachers(), WEIGHTS).logsumexp(1), torch.zeros(10).double())


def test_half_input_is_promoted() -> None:
    teachers = _teachers().half()
    for fuse in (fuse_logits, fuse_log_probs):
        fused = fuse(teachers, WEIGHTS)
        assert fused.dtype == torch.float32
        torch.testing.assert_close(fused, fuse(teachers.double(), WEIGHTS).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.5, 0.4, 0.2], "sum to 1"),
        ([0.4, 0.4, 0.2 + 3e-6], "sum to 1"),
        ([1.2, -0.2, 0.0], "non-negative"),
        ([math.nan, 0.5, 0.5], "finite"),
        ([math.inf, 0.0, 0.0], "finite"),
        ([0.0, 0.0, 0.0], "sum to 1"),
        ([0.5, 0.5], "shape"),
    ],
)
def test_wrong_weights_are_refused(weights: list[float], message: str) -> None:
    for fuse in (fuse_logits, fuse_log_probs):
        with pytest.raises(ValueError, match=message):
            fuse(_teachers(), weights)


def test_wrong_shapes_are_refused() -> None:
    for teachers in (torch.zeros(10, 7), torch.zeros(1, 0, 7)):
        with pytest.raises(ValueError, match=r"\(M, N, C\)"):
            fuse_logits(teachers, [1.0])
    with pytest.raises(ValueError, match="floating"):
        fuse_logits(torch.zeros(1, 2, 7, dtype=torch.int64), [1.0])
