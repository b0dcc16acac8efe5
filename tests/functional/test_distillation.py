"""Distillation losses by value, gradient and identity, finite 200 logits apart."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from scipy.stats import zscore
from torch import Tensor

from fer_lightning.functional.distillation import dist_loss, dkd_loss, kd_loss, nkd_loss, standardize_logits

LOSSES = ["kd", "dkd", "nkd", "dist"]
TEMPERATURE = 4.0


def _batch(num_rows: int = 16, num_classes: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    student, teacher = torch.randn(2, num_rows, num_classes, dtype=torch.float64, generator=generator) * 4
    return student, teacher, torch.randint(0, num_classes, (num_rows,), generator=generator)


def _loss(name: str, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    if name == "kd":
        return kd_loss(student, teacher, kd_temperature=TEMPERATURE)
    if name == "dkd":
        return dkd_loss(student, teacher, labels, alpha=0.7, beta=4.0, kd_temperature=TEMPERATURE)
    if name == "nkd":
        return nkd_loss(student, teacher, labels, gamma=1.5, kd_temperature=TEMPERATURE)
    return dist_loss(student, teacher, beta=1.5, gamma=0.5, kd_temperature=TEMPERATURE)


def _row_loss(name: str, student: np.ndarray, teacher: np.ndarray, label: int) -> float:
    """One row with scipy, from the papers."""
    p, q = softmax(teacher / TEMPERATURE), softmax(student / TEMPERATURE)
    others = np.arange(len(student)) != label
    if name == "kd":
        return float(TEMPERATURE**2 * rel_entr(p, q).sum())
    p_hat, q_hat = softmax(teacher[others] / TEMPERATURE), softmax(student[others] / TEMPERATURE)
    if name == "dkd":
        binary = rel_entr([p[label], 1 - p[label]], [q[label], 1 - q[label]]).sum()
        return float(TEMPERATURE**2 * (0.7 * binary + 4.0 * rel_entr(p_hat, q_hat).sum()))
    target = -softmax(teacher)[label] * log_softmax(student)[label]
    return float(target - 1.5 * TEMPERATURE**2 * (p_hat * np.log(q_hat)).sum())


@pytest.mark.parametrize("name", ["kd", "dkd", "nkd"])
def test_equals_the_formula_with_scipy(name: str) -> None:
    student, teacher, labels = _batch()
    rows = [_row_loss(name, s, t, int(y)) for s, t, y in zip(student.numpy(), teacher.numpy(), labels, strict=True)]
    loss = _loss(name, student, teacher, labels)
    assert loss.shape == ()
    assert loss.dtype == torch.float64
    assert float(loss) == pytest.approx(np.mean(rows), rel=1e-10)


def test_dist_equals_numpy_correlations() -> None:
    student, teacher, labels = _batch()
    q, p = softmax(student.numpy() / TEMPERATURE, axis=1), softmax(teacher.numpy() / TEMPERATURE, axis=1)
    inter = 1 - np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(q, p, strict=True)])
    intra = 1 - np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(q.T, p.T, strict=True)])
    expected = TEMPERATURE**2 * (1.5 * inter + 0.5 * intra)
    assert float(_loss("dist", student, teacher, labels)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_reaches_the_student_only(name: str) -> None:
    student, teacher, labels = _batch(4, 5)
    assert torch.autograd.gradcheck(lambda z: _loss(name, z, teacher, labels), (student.requires_grad_(),))
    loss = _loss(name, student, teacher.requires_grad_(), labels)
    (teacher_gradient,) = torch.autograd.grad(loss, teacher, allow_unused=True)
    assert teacher_gradient is None


def test_kd_gradient_is_temperature_times_the_difference() -> None:
    student, teacher, _ = _batch()
    loss = kd_loss(student.requires_grad_(), teacher, kd_temperature=TEMPERATURE)
    (gradient,) = torch.autograd.grad(loss, student)
    difference = (student.detach() / TEMPERATURE).softmax(1) - (teacher / TEMPERATURE).softmax(1)
    torch.testing.assert_close(gradient, TEMPERATURE * difference / 16)


def test_descent_moves_the_student_towards_the_teacher() -> None:
    student, teacher, labels = _batch()
    for name in LOSSES:
        point = student.clone().requires_grad_()
        before = _loss(name, point, teacher, labels)
        (gradient,) = torch.autograd.grad(before, point)
        assert float(_loss(name, student - 0.01 * gradient, teacher, labels)) < float(before.detach())


@pytest.mark.parametrize("kd_temperature", [1.0, 4.0])
def test_dkd_with_alpha_one_and_beta_one_minus_target_is_kd(kd_temperature: float) -> None:
    student, teacher, labels = _batch()
    for i in range(len(labels)):
        rows = slice(i, i + 1)
        beta = 1 - float((teacher[i] / kd_temperature).softmax(0)[labels[i]])
        torch.testing.assert_close(
            dkd_loss(student[rows], teacher[rows], labels[rows], alpha=1.0, beta=beta, kd_temperature=kd_temperature),
            kd_loss(student[rows], teacher[rows], kd_temperature=kd_temperature),
            rtol=1e-12,
            atol=1e-14,
        )


def test_perfect_student() -> None:
    _, teacher, labels = _batch()
    for name in ("kd", "dkd", "dist"):
        assert float(_loss(name, teacher, teacher, labels)) == pytest.approx(0.0, abs=1e-12)
    shifted = teacher + 3.0
    assert float(_loss("kd", shifted, teacher, labels)) == pytest.approx(0.0, abs=1e-12)
    scaled = 0.5 * standardize_logits(teacher)
    assert float(kd_loss(standardize_logits(scaled), standardize_logits(teacher), kd_temperature=2.0)) < 1e-12


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("label", [0, 1, 2])
def test_logits_200_apart_at_temperature_one(name: str, dtype: torch.dtype, label: int) -> None:
    student = torch.tensor([[200.0, 0.0, -200.0], [-200.0, 200.0, 0.0]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[-200.0, 0.0, 200.0], [-200.0, 200.0, 0.0]], dtype=dtype)
    labels = torch.tensor([label, label])
    losses = {
        "kd": kd_loss(student, teacher, kd_temperature=1.0),
        "dkd": dkd_loss(student, teacher, labels, alpha=1.0, beta=8.0, kd_temperature=1.0),
        "nkd": nkd_loss(student, teacher, labels, gamma=1.5, kd_temperature=1.0),
        "dist": dist_loss(student, teacher, beta=1.0, gamma=1.0, kd_temperature=1.0),
    }
    (gradient,) = torch.autograd.grad(losses[name], student)
    assert math.isfinite(float(losses[name].detach()))
    assert bool(torch.isfinite(gradient).all())
    if name == "kd":  # rows cost 400 and 0
        assert float(losses[name].detach()) == pytest.approx(200.0)


def test_dkd_extreme_value_hand_worked() -> None:
    student, teacher = torch.tensor([[200.0, 0.0, -10.0]]), torch.tensor([[0.0, 200.0, 0.0]])
    loss = dkd_loss(student, teacher, torch.tensor([0]), alpha=1.0, beta=0.0, kd_temperature=1.0)
    assert float(loss) == pytest.approx(200.0, rel=1e-5)  # teacher all on the rest, the student's rest is e^-200


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_input_gives_float32(name: str, dtype: torch.dtype) -> None:
    student, teacher, labels = _batch()
    student, teacher = student.to(dtype), teacher.to(dtype)
    loss = _loss(name, student, teacher, labels)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(_loss(name, student.double(), teacher.double(), labels)), rel=1e-4)


def test_dist_of_one_row_has_no_intra_part() -> None:
    student, teacher, _ = _batch(1)
    loss = dist_loss(student.requires_grad_(), teacher, beta=0.0, gamma=1.0, kd_temperature=2.0)
    (gradient,) = torch.autograd.grad(loss, student)
    assert float(loss.detach()) == 4.0
    assert not bool(gradient.any())


def test_standardize_logits() -> None:
    logits, _, _ = _batch()
    expected = (logits.numpy() - logits.numpy().mean(1, keepdims=True)) / logits.numpy().std(1, keepdims=True, ddof=1)
    np.testing.assert_allclose(standardize_logits(logits).numpy(), expected, rtol=1e-12)
    torch.testing.assert_close(standardize_logits(5.0 * logits - 2.0), standardize_logits(logits))
    assert torch.equal(standardize_logits(logits).argmax(1), logits.argmax(1))
    assert torch.autograd.gradcheck(standardize_logits, (logits[:3].clone().requires_grad_(),))


def test_standardized_seven_classes_cap_the_target_probability() -> None:
    sharpest = torch.tensor([[500.0, 0, 0, 0, 0, 0, 0]], dtype=torch.float64)
    probs = (standardize_logits(sharpest) / 2.0).softmax(dim=1)
    assert float(probs.max()) == pytest.approx(0.385, abs=5e-4)


def test_standardize_needs_two_classes() -> None:
    with pytest.raises(ValueError, match="at least two classes"):
        standardize_logits(torch.zeros(3, 1))


def test_standardize_constant_row() -> None:
    logits = torch.full((1, 7), 3.0, requires_grad=True)
    out = standardize_logits(logits)
    (gradient,) = torch.autograd.grad(out[0, 0], logits)
    assert out.tolist() == [[0.0] * 7]
    assert not bool(gradient.any())


def test_standardize_equals_scipy_and_its_hand_worked_gradient() -> None:
    logits, upstream, _ = _batch(5)
    scores = standardize_logits(logits.requires_grad_())
    (gradient,) = torch.autograd.grad(scores, logits, upstream)
    z = zscore(logits.detach().numpy(), axis=1, ddof=1)
    stds = logits.detach().numpy().std(axis=1, ddof=1)
    np.testing.assert_allclose(scores.detach().numpy(), z, rtol=1e-12)
    for i in range(5):  # dz_a / dx_b = ((a = b) - 1 / C - z_a z_b / (C - 1)) / std
        jacobian = (np.eye(7) - 1 / 7 - np.outer(z[i], z[i]) / 6) / stds[i]
        np.testing.assert_allclose(gradient[i].numpy(), upstream[i].numpy() @ jacobian, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("num_classes", [2, 3, 7, 10])
@pytest.mark.parametrize("kd_temperature", [1.0, 2.0, 4.0])
def test_standardized_probabilities_have_a_cap(num_classes: int, kd_temperature: float) -> None:
    cap = 1 / (1 + (num_classes - 1) * math.exp(-math.sqrt(num_classes) / kd_temperature))
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(5000, num_classes, dtype=torch.float64, generator=generator).exp() ** 3
    rows = torch.cat([rows, 90 * torch.eye(num_classes, dtype=torch.float64)])
    highest = (standardize_logits(rows) / kd_temperature).softmax(dim=1).amax(dim=1)
    assert float(highest.max()) <= cap + 1e-12
    torch.testing.assert_close(highest[-num_classes:], torch.full((num_classes,), cap, dtype=torch.float64))


@pytest.mark.parametrize("kd_temperature", [0.0, -1.0, math.inf, math.nan])
def test_wrong_temperatures_are_refused(kd_temperature: float) -> None:
    student, teacher, labels = _batch()
    with pytest.raises(ValueError, match="kd_temperature"):
        kd_loss(student, teacher, kd_temperature=kd_temperature)
    with pytest.raises(ValueError, match="kd_temperature"):
        dkd_loss(student, teacher, labels, alpha=1.0, beta=1.0, kd_temperature=kd_temperature)


def test_wrong_shapes_are_refused() -> None:
    student, teacher, labels = _batch()
    with pytest.raises(ValueError, match="same shape"):
        kd_loss(student, teacher[:1], kd_temperature=1.0)
    with pytest.raises(ValueError, match="C >= 2"):
        dkd_loss(student[:, :1], teacher[:, :1], labels, alpha=1.0, beta=1.0, kd_temperature=1.0)
    with pytest.raises(ValueError, match=r"0\.\.6"):
        nkd_loss(student, teacher, labels + 7, gamma=1.0, kd_temperature=1.0)
    with pytest.raises(ValueError, match="labels"):
        nkd_loss(student, teacher, labels[:3], gamma=1.0, kd_temperature=1.0)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("logits_type", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("temperature_type", [torch.float32, torch.float64])
def test_a_tensor_as_temperature(name: str, logits_type: torch.dtype, temperature_type: torch.dtype) -> None:
    student, teacher, labels = _batch()
    student, teacher = student.to(logits_type).requires_grad_(), teacher.to(logits_type)
    at = torch.tensor(4.0, dtype=temperature_type, requires_grad=True)
    losses = {
        "kd": lambda: kd_loss(student, teacher, kd_temperature=at),
        "dkd": lambda: dkd_loss(student, teacher, labels, alpha=0.7, beta=4.0, kd_temperature=at),
        "nkd": lambda: nkd_loss(student, teacher, labels, gamma=1.5, kd_temperature=at),
        "dist": lambda: dist_loss(student, teacher, beta=1.5, gamma=0.5, kd_temperature=at),
    }
    loss, expected = losses[name](), _loss(name, student, teacher, labels)
    assert loss.dtype == expected.dtype
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(loss, (student, at))
    torch.testing.assert_close(gradients[0], torch.autograd.grad(expected, student)[0])
    assert gradients[1].dtype == temperature_type
    assert float(gradients[1])


@pytest.mark.parametrize(
    "kd_temperature",
    [
        torch.tensor(0.0),
        torch.tensor(-1.0, requires_grad=True),
        torch.tensor(math.nan),
        torch.tensor([2.0]),
        torch.tensor(2),
    ],
)
def test_wrong_tensors_as_temperature_are_refused(kd_temperature: Tensor) -> None:
    student, teacher, _ = _batch()
    with pytest.raises(ValueError, match="kd_temperature must be"):
        kd_loss(student, teacher, kd_temperature=kd_temperature)


def test_the_range_of_a_temperature_elsewhere_is_not_read() -> None:
    student, teacher, _ = _batch()
    at = torch.tensor(2.0, device="meta")
    assert kd_loss(student.to("meta"), teacher.to("meta"), kd_temperature=at).shape == ()
