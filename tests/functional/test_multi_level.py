"""Multi-level distillation: matrices by another route, gradients by hand, temperatures."""

import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from fer_lightning.functional.distillation import kd_loss
from fer_lightning.functional.multi_level import multi_level_loss
from tests.functional.distillation_cases import rows_of

TEMPERATURES = (2.0, 3.0, 4.0, 5.0, 6.0)


def test_value_and_gradient_with_numpy() -> None:
    student, teacher, _ = rows_of(12, 7)
    value, gradient = 0.0, np.zeros((12, 7))
    for at in TEMPERATURES:
        q, p = softmax(student.numpy() / at, axis=1), softmax(teacher.numpy() / at, axis=1)
        rows, classes = q @ q.T - p @ p.T, q.T @ q - p.T @ p
        value += at**2 * rel_entr(p, q).sum(axis=1).mean()
        value += np.linalg.norm(rows, "fro") ** 2 / 12 + np.linalg.norm(classes, "fro") ** 2 / 7
        upstream = 4 * rows @ q / 12 + 4 * q @ classes / 7
        gradient += at * (q - p) / 12 + q * (upstream - (q * upstream).sum(axis=1, keepdims=True)) / at
    loss = multi_level_loss(student.requires_grad_(), teacher, kd_temperatures=TEMPERATURES)
    (found,) = torch.autograd.grad(loss, student)
    assert loss.shape == ()
    assert float(loss.detach()) == pytest.approx(value / 5, rel=1e-12)
    np.testing.assert_allclose(found.numpy(), gradient / 5, rtol=1e-10, atol=1e-13)


def test_the_mean_of_single_temperatures() -> None:
    student, teacher, _ = rows_of(12, 7)
    singles = [multi_level_loss(student, teacher, kd_temperatures=[at]) for at in TEMPERATURES]
    together = multi_level_loss(student, teacher, kd_temperatures=TEMPERATURES)
    torch.testing.assert_close(together, torch.stack(singles).mean())
    torch.testing.assert_close(multi_level_loss(student, teacher, kd_temperatures=(2.0, 2.0)), singles[0])


def test_the_square_of_the_temperature_is_a_factor_of_the_instance_level_only() -> None:
    student, teacher, _ = rows_of(12, 7)
    s, t = student / 3, teacher / 3
    matrices = multi_level_loss(student, teacher, kd_temperatures=[3.0]) - kd_loss(student, teacher, kd_temperature=3.0)
    expected = multi_level_loss(s, t, kd_temperatures=[1.0]) - kd_loss(s, t, kd_temperature=1.0)
    torch.testing.assert_close(matrices, expected)
    assert float(matrices) > 0.01


def test_how_the_matrix_levels_grow_with_the_batch() -> None:
    student, teacher, _ = rows_of(12, 7)

    def levels(copies: int) -> float:
        s, t = student.repeat(copies, 1), teacher.repeat(copies, 1)
        return float(multi_level_loss(s, t, kd_temperatures=[1.0]) - kd_loss(s, t, kd_temperature=1.0))

    q, p = student.softmax(1), teacher.softmax(1)
    rows = float((q @ q.T - p @ p.T).square().sum() / 12)
    classes = float((q.T @ q - p.T @ p).square().sum() / 7)
    assert levels(3) == pytest.approx(3 * rows + 9 * classes, rel=1e-10)


def test_perfect_student_has_no_loss_and_no_gradient() -> None:
    _, teacher, _ = rows_of(12, 7)
    student = (teacher + 3.0).requires_grad_()
    loss = multi_level_loss(student, teacher, kd_temperatures=TEMPERATURES)
    (gradient,) = torch.autograd.grad(loss, student)
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-12)
    assert float(gradient.abs().max()) < 1e-12


def test_one_row() -> None:
    student, teacher, _ = rows_of(1, 7)
    q, p = student.softmax(1)[0], teacher.softmax(1)[0]
    matrices = float((q @ q - p @ p) ** 2 + (torch.outer(q, q) - torch.outer(p, p)).square().sum() / 7)
    kd = float(kd_loss(student, teacher, kd_temperature=1.0))
    assert float(multi_level_loss(student, teacher, kd_temperatures=[1.0])) == pytest.approx(kd + matrices, rel=1e-12)


def test_autocast_does_not_round_the_matrices() -> None:
    student, teacher, _ = rows_of(12, 7)
    student, teacher = student.float(), teacher.float()
    plain = multi_level_loss(student, teacher, kd_temperatures=TEMPERATURES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(multi_level_loss(student, teacher, kd_temperatures=TEMPERATURES), plain)


@pytest.mark.parametrize("kd_temperatures", [[], [2.0, 0.0], [math.inf]])
def test_wrong_temperatures_are_refused(kd_temperatures: list[float]) -> None:
    student, teacher, _ = rows_of(4, 7)
    with pytest.raises(ValueError, match="kd_temperature"):
        multi_level_loss(student, teacher, kd_temperatures=kd_temperatures)


def test_wrong_shapes_are_refused() -> None:
    student, teacher, _ = rows_of(4, 7)
    with pytest.raises(ValueError, match="same shape"):
        multi_level_loss(student, teacher[:3], kd_temperatures=[1.0])
