"""ArcFace against theta in double precision; margin 0, the fallback, gradients at the ends."""

import math

import pytest
import torch
from torch import Tensor

from fer_lightning.functional.arcface import arcface_logits, margin_at_epoch

MARGIN = 0.35


def _loop(cosines: Tensor, labels: Tensor, scale: float, margin_rad: float) -> Tensor:
    """The definition with angles, one entry at a time."""
    out = torch.empty_like(cosines, dtype=torch.float64)
    for i, row in enumerate(cosines.double().tolist()):
        for j, cosine in enumerate(row):
            value = cosine
            if j == int(labels[i]):
                theta = math.acos(cosine)
                past = theta + margin_rad > math.pi
                value = cosine - margin_rad * math.sin(margin_rad) if past else math.cos(theta + margin_rad)
            out[i, j] = scale * value
    return out


def _target(cosine: float, margin_rad: float, dtype: torch.dtype = torch.float64) -> tuple[float, float]:
    """Target logit and its gradient for one cosine."""
    cosines = torch.tensor([[cosine, 0.1]], dtype=dtype, requires_grad=True)
    logit = arcface_logits(cosines, torch.tensor([0]), scale=30.0, margin_rad=margin_rad)[0, 0]
    (gradient,) = torch.autograd.grad(logit, cosines)
    return float(logit.detach()), float(gradient[0, 0])


@pytest.mark.parametrize("margin_rad", [0.0, 0.1, MARGIN, 1.0, math.pi / 2])
def test_equals_the_definition_with_angles(margin_rad: float) -> None:
    cosines = torch.rand(200, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 1.99 - 0.995
    labels = torch.arange(200) % 7
    logits = arcface_logits(cosines, labels, scale=30.0, margin_rad=margin_rad)
    assert logits.dtype == torch.float64
    torch.testing.assert_close(logits, _loop(cosines, labels, 30.0, margin_rad), rtol=1e-12, atol=1e-12)


def test_fallback_hand_worked() -> None:
    logit, gradient = _target(-0.99, MARGIN)  # theta 3.0 + 0.35 > pi
    assert logit == pytest.approx(30.0 * (-0.99 - 0.35 * 0.3428978074554514), rel=1e-12)
    assert gradient == pytest.approx(30.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_margin_zero_is_exactly_the_plain_cosine(dtype: torch.dtype) -> None:
    cosines = torch.cat([torch.linspace(-1, 1, 2001, dtype=dtype), torch.tensor([1.0000001], dtype=dtype)])
    cosines = cosines.unsqueeze(1).expand(-1, 7)
    labels = torch.arange(len(cosines)) % 7
    logits = arcface_logits(cosines, labels, scale=30.0, margin_rad=0.0)
    assert torch.equal(logits, cosines * 30.0)


@pytest.mark.parametrize("margin_rad", [0.05, MARGIN, 0.5, 1.2, math.pi / 2])
def test_target_logit_falls_over_the_whole_range_of_theta(margin_rad: float) -> None:
    theta = torch.linspace(1e-3, math.pi - 1e-3, 100_001, dtype=torch.float64)
    cosines = theta.cos().unsqueeze(1)
    logits = arcface_logits(cosines, torch.zeros(len(theta), dtype=torch.int64), scale=1.0, margin_rad=margin_rad)
    assert bool((logits.squeeze(1).diff() < 0).all())


@pytest.mark.parametrize("margin_rad", [0.05, MARGIN])
def test_margin_never_helps_the_target(margin_rad: float) -> None:
    cosines = torch.linspace(-1, 1, 1001, dtype=torch.float64).unsqueeze(1)
    logits = arcface_logits(cosines, torch.zeros(1001, dtype=torch.int64), scale=1.0, margin_rad=margin_rad)
    assert bool((logits < cosines).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("cosine", [-1.0, 1.0])
@pytest.mark.parametrize("margin_rad", [0.0, MARGIN])
def test_value_and_gradient_are_finite_at_the_ends(dtype: torch.dtype, cosine: float, margin_rad: float) -> None:
    logit, gradient = _target(cosine, margin_rad, dtype)
    expected = math.cos(margin_rad) if cosine > 0 else -1.0 - margin_rad * math.sin(margin_rad)
    assert logit == pytest.approx(30.0 * expected, rel=2e-3)  # sqrt(2e-7) sin m of the clamp at cos = 1
    assert math.isfinite(gradient)
    assert gradient > 0.0


def test_gradcheck() -> None:
    cosines = torch.tensor([[0.3, -0.2, 0.9], [-0.99, 0.5, 0.0], [0.0, 0.99, -0.5]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1])
    assert torch.autograd.gradcheck(
        lambda c: arcface_logits(c, labels, scale=30.0, margin_rad=MARGIN), (cosines.requires_grad_(),)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_is_promoted_and_autocast_is_off_inside(dtype: torch.dtype) -> None:
    cosines = torch.tensor([[0.3, -0.2], [-0.995, 0.5]], dtype=dtype)
    labels = torch.tensor([1, 0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = arcface_logits(cosines, labels, scale=30.0, margin_rad=MARGIN)
    assert logits.dtype == torch.float32
    expected = _loop(cosines, labels, 30.0, MARGIN).float()
    torch.testing.assert_close(logits, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 7]), "0..6"),
        (torch.tensor([-1, 0]), "0..6"),
        (torch.tensor([0.0, 1.0]), "integer"),
        (torch.tensor([0]), "shape"),
        (torch.tensor([[0], [1]]), "shape"),
    ],
)
def test_wrong_labels_are_refused(labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arcface_logits(torch.zeros(2, 7), labels, scale=30.0, margin_rad=MARGIN)


def test_wrong_arguments_are_refused() -> None:
    labels = torch.tensor([0])
    with pytest.raises(ValueError, match="scale"):
        arcface_logits(torch.zeros(1, 7), labels, scale=0.0, margin_rad=MARGIN)
    for margin_rad in (-0.1, 1.6, math.nan):
        with pytest.raises(ValueError, match="margin_rad"):
            arcface_logits(torch.zeros(1, 7), labels, scale=30.0, margin_rad=margin_rad)
    with pytest.raises(ValueError, match=r"\(N, C\)"):
        arcface_logits(torch.zeros(7), labels, scale=30.0, margin_rad=MARGIN)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, 0.0), (4, 0.0), (5, 0.0), (6, 0.035), (10, 0.175), (15, 0.35), (59, 0.35), (7.5, 0.0875)],
)
def test_margin_ramp(epoch: float, expected: float) -> None:
    assert margin_at_epoch(epoch, ramp_start=5, ramp_end=15, margin_rad=0.35) == pytest.approx(expected, abs=1e-15)


def test_margin_step() -> None:
    margins = [margin_at_epoch(e, ramp_start=3, ramp_end=3, margin_rad=0.35) for e in range(6)]
    assert margins == [0.0, 0.0, 0.0, 0.0, 0.35, 0.35]
    assert margin_at_epoch(0, ramp_start=-1, ramp_end=-1, margin_rad=0.35) == 0.35


def test_wrong_ramps_are_refused() -> None:
    with pytest.raises(ValueError, match="ramp_start"):
        margin_at_epoch(0, ramp_start=5, ramp_end=4, margin_rad=0.35)
    with pytest.raises(ValueError, match="margin_rad"):
        margin_at_epoch(0, ramp_start=0, ramp_end=4, margin_rad=-0.35)
