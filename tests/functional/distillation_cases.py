"""Every loss a student can be taught by: the package's with autograd, and the same in decimal arithmetic."""

from decimal import Decimal

import torch
from torch import Tensor

from fer_lightning.functional.distillation import dist_loss, dkd_loss, kd_loss, nkd_loss, standardize_logits
from fer_lightning.functional.multi_level import multi_level_loss
from fer_lightning.functional.negative_learning import negative_learning_loss
from tests.functional import exact_distillation as exact

NAMES = ("kd", "dkd", "nkd", "dist", "standardized", "multi_level", "negative")


def rows_of(num_rows: int, num_classes: int, *, seed: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Student and teacher logits (N, C) float64, and labels."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, num_rows, num_classes, dtype=torch.float64, generator=generator) * 3
    return student, teacher, torch.randint(0, num_classes, (num_rows,), generator=generator)


def _negatives_of(labels: Tensor, num_classes: int) -> Tensor:
    """(N, C) bool: every second class of a row, none of them its label; of rows of class 2 none."""
    away = torch.arange(num_classes) - labels.unsqueeze(1)
    return (away % 2 == 1) & (labels.unsqueeze(1) != 2)


def loss_of(name: str, student: Tensor, teacher: Tensor, labels: Tensor, at: float | Tensor) -> Tensor:
    """The package's loss at a temperature; `multi_level` takes numbers only, `negative` none."""
    return {
        "kd": lambda: kd_loss(student, teacher, kd_temperature=at),
        "dkd": lambda: dkd_loss(student, teacher, labels, alpha=0.75, beta=4.0, kd_temperature=at),
        "nkd": lambda: nkd_loss(student, teacher, labels, gamma=1.5, kd_temperature=at),
        "dist": lambda: dist_loss(student, teacher, beta=1.5, gamma=0.5, kd_temperature=at),
        "standardized": lambda: kd_loss(standardize_logits(student), standardize_logits(teacher), kd_temperature=at),
        "multi_level": lambda: multi_level_loss(student, teacher, kd_temperatures=(float(at), 3.0)),
        "negative": lambda: negative_learning_loss(student, _negatives_of(labels, student.shape[1])),
    }[name]()


def exact_loss(name: str, student: exact.Rows, teacher: exact.Rows, labels: Tensor, at: Decimal) -> Decimal:
    """The same from the formula."""
    classes = labels.tolist()
    return {
        "kd": lambda: exact.kd(student, teacher, at),
        "dkd": lambda: exact.dkd(student, teacher, classes, Decimal("0.75"), Decimal(4), at),
        "nkd": lambda: exact.nkd(student, teacher, classes, Decimal("1.5"), at),
        "dist": lambda: exact.dist(student, teacher, Decimal("1.5"), Decimal("0.5"), at),
        "standardized": lambda: exact.kd(exact.standardize(student), exact.standardize(teacher), at),
        "multi_level": lambda: exact.multi_level(student, teacher, (at, Decimal(3))),
        "negative": lambda: exact.negative(student, _negatives_of(labels, len(student[0])).tolist()),
    }[name]()


def exact_rows(logits: Tensor) -> exact.Rows:
    return [[Decimal(value) for value in row] for row in logits.tolist()]


def exact_of(name: str, student: Tensor, teacher: Tensor, labels: Tensor, at: float) -> tuple[float, Tensor]:
    """Exact loss and its gradient in the student's logits, float64."""
    fixed = exact_rows(teacher)
    value, gradient = exact.value_and_gradient(
        lambda rows: exact_loss(name, rows, fixed, labels, Decimal(at)), student.tolist()
    )
    return value, torch.tensor([[float(entry) for entry in row] for row in gradient], dtype=torch.float64)


def loss_and_gradient(
    name: str, student: Tensor, teacher: Tensor, labels: Tensor, at: float | Tensor
) -> tuple[Tensor, Tensor]:
    """The package's loss and its gradient in the student's logits."""
    point = student.clone().requires_grad_()
    loss = loss_of(name, point, teacher, labels, at)
    (gradient,) = torch.autograd.grad(loss, point)
    return loss.detach(), gradient
