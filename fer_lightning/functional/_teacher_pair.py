"""What distillation losses share: checked logits of student and teacher, their temperature, their divergence."""

import torch
from torch import Tensor

from fer_lightning.functional._checks import check_matrix


def _checked_temperature(kd_temperature: float | Tensor, logits: Tensor) -> float | Tensor:
    """The temperature, a tensor in the type and on the device of the logits.

    The range of a tensor is read only on the CPU and outside compiled graphs, as that of labels is.
    """
    if not isinstance(kd_temperature, Tensor):
        _check_range(kd_temperature)
        return kd_temperature
    if kd_temperature.ndim or not kd_temperature.is_floating_point():
        raise ValueError(
            "kd_temperature must be a number or a 0-dim floating-point tensor, got a tensor of shape "
            f"{tuple(kd_temperature.shape)} and {kd_temperature.dtype}"
        )
    if kd_temperature.device.type == "cpu" and not torch.compiler.is_compiling():
        _check_range(kd_temperature.detach().item())
    return kd_temperature.to(logits)


def _check_range(kd_temperature: float) -> None:
    if not 0.0 < kd_temperature < float("inf"):
        raise ValueError(f"kd_temperature must be positive and finite, got {kd_temperature}")


def checked_pair(
    student_logits: Tensor, teacher_logits: Tensor, kd_temperature: float | Tensor, *, min_classes: int = 1
) -> tuple[Tensor, Tensor, float | Tensor]:
    """Return both logits in at least float32, the teacher's without gradient, and the temperature.

    Args:
        student_logits: (N, C) float.
        teacher_logits: (N, C) float.
        kd_temperature: T > 0, a number or a 0-dim tensor, whose gradient is kept.
        min_classes: smallest C that makes sense.

    Raises:
        ValueError: shapes differ or are not (N, C), not floating point, temperature out of range or no scalar.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student_logits {tuple(student_logits.shape)} and teacher_logits {tuple(teacher_logits.shape)} "
            "must have the same shape"
        )
    student_logits = check_matrix(student_logits, name="student_logits", min_classes=min_classes)
    teacher_logits = check_matrix(teacher_logits, name="teacher_logits", min_classes=min_classes)
    return student_logits, teacher_logits.detach(), _checked_temperature(kd_temperature, student_logits)


def kl_rows(teacher_log_probs: Tensor, student_log_probs: Tensor) -> Tensor:
    """Return KL(teacher || student) of each row, (N,)."""
    return (teacher_log_probs.exp() * (teacher_log_probs - student_log_probs)).sum(dim=1)
