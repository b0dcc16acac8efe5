"""Every loss of distillation, value and gradient, against decimal arithmetic: ordinary logits and logits 200 apart."""

import pytest
import torch
from torch import Tensor

from tests.functional import exact_distillation as exact
from tests.functional.distillation_cases import (
    NAMES,
    exact_loss,
    exact_of,
    exact_rows,
    loss_and_gradient,
    loss_of,
    rows_of,
)

EXTREME = torch.tensor([[200.0, 0.0, -200.0], [-200.0, 200.0, 0.0], [0.0, 0.0, 200.0]], dtype=torch.float64)
OPPOSITE = torch.tensor([[-200.0, 0.0, 200.0], [-200.0, 200.0, 0.0], [200.0, 0.5, 0.0]], dtype=torch.float64)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kd_temperature", [1.0, 4.0])
@pytest.mark.parametrize("num_classes", [2, 7])
def test_value_and_gradient(name: str, kd_temperature: float, num_classes: int) -> None:
    student, teacher, labels = rows_of(4, num_classes)
    value, gradient = loss_and_gradient(name, student, teacher, labels, kd_temperature)
    expected, expected_gradient = exact_of(name, student, teacher, labels, kd_temperature)
    assert value.shape == ()
    assert float(value) == pytest.approx(expected, rel=1e-12, abs=1e-14)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kd_temperature", [1.0, 4.0])
@pytest.mark.parametrize("label", [0, 1, 2])
def test_logits_200_apart(name: str, dtype: torch.dtype, kd_temperature: float, label: int) -> None:
    labels = torch.full((3,), label)
    value, gradient = loss_and_gradient(name, EXTREME.to(dtype), OPPOSITE.to(dtype), labels, kd_temperature)
    expected, expected_gradient = exact_of(name, EXTREME, OPPOSITE, labels, kd_temperature)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert value.dtype == gradient.dtype == dtype
    assert float(value) == pytest.approx(expected, rel=tolerance, abs=tolerance)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["kd", "dkd", "nkd", "dist", "standardized"])
@pytest.mark.parametrize("kd_temperature", [0.5, 1.0, 2.0, 6.0])
def test_gradient_in_the_temperature(name: str, kd_temperature: float) -> None:
    student, teacher, labels = rows_of(4, 7)
    at = torch.tensor(kd_temperature, dtype=torch.float64, requires_grad=True)
    loss = loss_of(name, student, teacher, labels, at)
    (gradient,) = torch.autograd.grad(loss, at)
    rows, fixed = exact_rows(student), exact_rows(teacher)
    expected, ((expected_gradient,),) = exact.value_and_gradient(
        lambda point: exact_loss(name, rows, fixed, labels, point[0][0]), [[kd_temperature]]
    )
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-12)
    assert float(gradient) == pytest.approx(float(expected_gradient), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("name", ["kd", "dkd", "nkd", "dist", "standardized"])
def test_gradient_in_the_temperature_200_apart_is_finite(name: str) -> None:
    for dtype in (torch.float32, torch.float64):
        at = torch.tensor(1.0, dtype=dtype, requires_grad=True)
        loss = loss_of(name, EXTREME.to(dtype), OPPOSITE.to(dtype), torch.tensor([0, 1, 2]), at)
        assert bool(torch.isfinite(torch.autograd.grad(loss, at)[0]))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "negative"])
def test_no_gradient_reaches_the_teacher(name: str) -> None:
    student, teacher, labels = rows_of(4, 7)
    at = torch.tensor(4.0, dtype=torch.float64, requires_grad=name != "multi_level")
    loss = loss_of(name, student.requires_grad_(), teacher.requires_grad_(), labels, at)
    gradients: tuple[Tensor | None, ...] = torch.autograd.grad(loss, teacher, allow_unused=True)
    assert gradients == (None,)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_promoted(name: str, dtype: torch.dtype) -> None:
    student, teacher, labels = rows_of(4, 7)
    student, teacher = student.to(dtype), teacher.to(dtype)
    value, gradient = loss_and_gradient(name, student, teacher, labels, 4.0)
    expected, expected_gradient = loss_and_gradient(name, student.float(), teacher.float(), labels, 4.0)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    assert torch.equal(value, expected)
    assert torch.equal(gradient, expected_gradient.to(dtype))
