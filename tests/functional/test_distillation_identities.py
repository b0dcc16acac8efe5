"""Distillation losses against each other, libraries and hand-worked gradients; T^2; two classes in seven."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  the name torch's own documentation uses
from scipy.special import rel_entr, softmax
from torch.distributions import Categorical, kl_divergence

from fer_lightning.functional.distillation import dist_loss, dkd_loss, kd_loss, nkd_loss
from tests.functional.distillation_cases import loss_and_gradient, rows_of


@pytest.mark.parametrize("kd_temperature", [1.0, 4.0])
def test_equals_library_divergences(kd_temperature: float) -> None:
    student, teacher, labels = rows_of(16, 7)
    s, t = student / kd_temperature, teacher / kd_temperature
    divergence = F.kl_div(s.log_softmax(1), t.log_softmax(1), log_target=True, reduction="batchmean")
    kd = kd_loss(student, teacher, kd_temperature=kd_temperature)
    torch.testing.assert_close(kd, kd_temperature**2 * divergence, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(
        kd, kd_temperature**2 * kl_divergence(Categorical(logits=t), Categorical(logits=s)).mean()
    )

    p, q = t.softmax(1)[torch.arange(16), labels], s.softmax(1)[torch.arange(16), labels]
    tckd = F.binary_cross_entropy(q, p) - F.binary_cross_entropy(p, p)
    dkd = dkd_loss(student, teacher, labels, alpha=1.0, beta=0.0, kd_temperature=kd_temperature)
    torch.testing.assert_close(dkd, kd_temperature**2 * tckd, rtol=1e-9, atol=1e-12)

    others = torch.ones(16, 7, dtype=torch.bool).scatter(1, labels.unsqueeze(1), False)
    s_others, t_others = s[others].view(16, 6), t[others].view(16, 6)
    nckd = kl_divergence(Categorical(logits=t_others), Categorical(logits=s_others)).mean()
    dkd = dkd_loss(student, teacher, labels, alpha=0.0, beta=1.0, kd_temperature=kd_temperature)
    torch.testing.assert_close(dkd, kd_temperature**2 * nckd, rtol=1e-10, atol=0.0)

    target = (teacher.softmax(1)[torch.arange(16), labels] * F.cross_entropy(student, labels, reduction="none")).mean()
    rest = F.cross_entropy(s_others, t_others.softmax(1))
    nkd = nkd_loss(student, teacher, labels, gamma=1.5, kd_temperature=kd_temperature)
    torch.testing.assert_close(nkd, target + 1.5 * kd_temperature**2 * rest, rtol=1e-12, atol=0.0)

    correlations = F.cosine_similarity(s.softmax(1) - 1 / 7, t.softmax(1) - 1 / 7)
    inter = dist_loss(student, teacher, beta=1.0, gamma=0.0, kd_temperature=kd_temperature)
    torch.testing.assert_close(inter, kd_temperature**2 * (1 - correlations.mean()), rtol=1e-10, atol=0.0)


def test_decoupled_gradients_hand_worked() -> None:
    student, teacher, labels = rows_of(16, 7)
    t = 4.0
    onehot = F.one_hot(labels, 7).double()
    p, q = (teacher / t).softmax(1), (student / t).softmax(1)
    p_y, q_y = (p * onehot).sum(1, keepdim=True), (q * onehot).sum(1, keepdim=True)
    p_hat, q_hat = (1 - onehot) * p / (1 - p_y), (1 - onehot) * q / (1 - q_y)
    binary = (q_y - p_y) * (onehot - q_hat)
    expected = t * (0.75 * binary + 4.0 * (q_hat - p_hat)) / 16
    torch.testing.assert_close(
        loss_and_gradient("dkd", student, teacher, labels, t)[1], expected, rtol=1e-10, atol=1e-13
    )

    sure = (teacher.softmax(1) * onehot).sum(1, keepdim=True)
    expected = (sure * (student.softmax(1) - onehot) + 1.5 * t * (q_hat - p_hat)) / 16
    torch.testing.assert_close(
        loss_and_gradient("nkd", student, teacher, labels, t)[1], expected, rtol=1e-10, atol=1e-13
    )


@pytest.mark.parametrize("kd_temperature", [0.5, 2.0, 6.0])
def test_the_factor_is_the_square_of_the_temperature(kd_temperature: float) -> None:
    student, teacher, labels = rows_of(16, 7)
    at, one = {"kd_temperature": kd_temperature}, {"kd_temperature": 1.0}
    s, t, square = student / kd_temperature, teacher / kd_temperature, kd_temperature**2
    for loss, expected in (
        (kd_loss(student, teacher, **at), square * kd_loss(s, t, **one)),
        (
            dkd_loss(student, teacher, labels, alpha=0.7, beta=4.0, **at),
            square * dkd_loss(s, t, labels, alpha=0.7, beta=4.0, **one),
        ),
        (
            dist_loss(student, teacher, beta=1.5, gamma=0.5, **at),
            square * dist_loss(s, t, beta=1.5, gamma=0.5, **one),
        ),
        (  # of NKD the non-target part only
            nkd_loss(student, teacher, labels, gamma=1.5, **at) - nkd_loss(student, teacher, labels, gamma=0.0, **at),
            square * (nkd_loss(s, t, labels, gamma=1.5, **one) - nkd_loss(s, t, labels, gamma=0.0, **one)),
        ),
    ):
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(
        nkd_loss(student, teacher, labels, gamma=0.0, **at), nkd_loss(student, teacher, labels, gamma=0.0, **one)
    )


def test_gradients_settle_at_high_temperatures() -> None:
    student, teacher, labels = rows_of(16, 7)
    high = 1e4
    gaps = student - teacher
    gaps = gaps - gaps.mean(1, keepdim=True)
    torch.testing.assert_close(
        loss_and_gradient("kd", student, teacher, labels, high)[1], gaps / (7 * 16), rtol=1e-2, atol=1e-5
    )  # logits are matched, whatever T
    onehot = F.one_hot(labels, 7).double()
    target = (gaps * onehot).sum(1, keepdim=True) / 7 * (onehot - (1 - onehot) / 6)
    rest = (1 - onehot) * (gaps - (gaps * (1 - onehot)).sum(1, keepdim=True) / 6) / 6
    torch.testing.assert_close(
        loss_and_gradient("dkd", student, teacher, labels, high)[1],
        (0.75 * target + 4.0 * rest) / 16,
        rtol=1e-2,
        atol=1e-4,
    )
    for name in ("kd", "dkd", "nkd"):
        norms = [float(loss_and_gradient(name, student, teacher, labels, at)[1].norm()) for at in (20.0, 40.0, 80.0)]
        assert max(norms) / min(norms) < 1.25


def test_dist_gradient_grows_as_the_square_of_high_temperatures() -> None:
    student, teacher, _ = rows_of(16, 7)
    norms = []
    for kd_temperature in (1e3, 2e3):
        point = student.clone().requires_grad_()
        loss = dist_loss(point, teacher, beta=1.5, gamma=0.5, kd_temperature=kd_temperature)
        norms.append(float(torch.autograd.grad(loss, point)[0].norm()))
    assert norms[1] / norms[0] == pytest.approx(4.0, rel=1e-2)  # a correlation does not see the scale


@pytest.mark.parametrize("kd_temperature", [1.0, 2.0, 6.0])
def test_dkd_has_the_gradient_of_kd_row_by_row(kd_temperature: float) -> None:
    student, teacher, labels = rows_of(16, 7)
    for i in range(len(labels)):
        row, known = student[i : i + 1].clone().requires_grad_(), teacher[i : i + 1]
        beta = 1 - float((known / kd_temperature).softmax(1)[0, labels[i]])
        dkd = dkd_loss(row, known, labels[i : i + 1], alpha=1.0, beta=beta, kd_temperature=kd_temperature)
        kd = kd_loss(row, known, kd_temperature=kd_temperature)
        (left,), (right,) = torch.autograd.grad(dkd, row), torch.autograd.grad(kd, row)
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("kd_temperature", [1.0, 4.0])
def test_two_classes(kd_temperature: float) -> None:
    student, teacher, labels = rows_of(16, 2)
    kd = kd_loss(student, teacher, kd_temperature=kd_temperature)
    for beta in (0.0, 8.0):  # one other class: nothing to compare among the others
        dkd = dkd_loss(student, teacher, labels, alpha=0.7, beta=beta, kd_temperature=kd_temperature)
        torch.testing.assert_close(dkd, 0.7 * kd, rtol=1e-10, atol=1e-14)
    p, q = ((z[:, 1] - z[:, 0]) / kd_temperature for z in (teacher, student))
    binary = F.binary_cross_entropy_with_logits(q, p.sigmoid()) - F.binary_cross_entropy_with_logits(p, p.sigmoid())
    torch.testing.assert_close(kd, kd_temperature**2 * binary, rtol=1e-9, atol=1e-12)
    weights = teacher.softmax(1)[torch.arange(16), labels]
    nkd = nkd_loss(student, teacher, labels, gamma=1.5, kd_temperature=kd_temperature)
    torch.testing.assert_close(nkd, (weights * F.cross_entropy(student, labels, reduction="none")).mean())


@pytest.mark.parametrize("kd_temperature", [1.0, 4.0])
def test_seven_classes_of_which_six_are_equal_are_two(kd_temperature: float) -> None:
    scores, known, labels = rows_of(16, 2)
    labels = labels * 3 + 1
    student = scores[:, :1].expand(16, 7).scatter(1, labels.unsqueeze(1), scores[:, 1:])
    teacher = known[:, :1].expand(16, 7).scatter(1, labels.unsqueeze(1), known[:, 1:])
    kd = kd_loss(student, teacher, kd_temperature=kd_temperature)
    p, q = ((z[:, 1] - z[:, 0]) / kd_temperature - math.log(6) for z in (known, scores))  # six share the other side
    binary = F.binary_cross_entropy_with_logits(q, p.sigmoid()) - F.binary_cross_entropy_with_logits(p, p.sigmoid())
    torch.testing.assert_close(kd, kd_temperature**2 * binary, rtol=1e-9, atol=1e-12)
    for beta in (0.0, 8.0):
        dkd = dkd_loss(student, teacher, labels, alpha=0.7, beta=beta, kd_temperature=kd_temperature)
        torch.testing.assert_close(dkd, 0.7 * kd, rtol=1e-9, atol=1e-12)


def test_kd_gradient_in_the_temperature_hand_worked() -> None:
    student, teacher, _ = rows_of(16, 7)
    at = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(kd_loss(student, teacher, kd_temperature=at), at)
    s, t = student.numpy(), teacher.numpy()
    p, q = softmax(t / 3, axis=1), softmax(s / 3, axis=1)
    divergence = rel_entr(p, q).sum(1)
    covariance = (p * t * (t - s)).sum(1) - (p * t).sum(1) * (p * (t - s)).sum(1)
    slope = covariance / 3 + (q * s).sum(1) - (p * s).sum(1)  # of the divergence in 1 / T
    assert float(gradient) == pytest.approx(np.mean(2 * 3 * divergence - slope), rel=1e-10)
