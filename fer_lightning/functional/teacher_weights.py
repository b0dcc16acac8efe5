"""Weights of several teachers row by row, and their fusion; a row whose logits are NaN stays NaN."""

import math

import torch
from torch import Tensor

from fer_lightning.functional._checks import at_least_float32, check_labels

_UNIFORM = (
    1e-6  # nats below the uniform distribution's entropy, mean of the teachers: rounding of float32 is that large
)


def _checked_teachers(teacher_logits: Tensor) -> Tensor:
    """(M, N, C) logits in at least float32."""
    if teacher_logits.ndim != 3 or not teacher_logits.shape[0] or teacher_logits.shape[2] < 2:
        raise ValueError(
            f"teacher_logits must have shape (M, N, C) with M >= 1 and C >= 2, got {tuple(teacher_logits.shape)}"
        )
    return at_least_float32(teacher_logits, name="teacher_logits")


def loss_weights(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """Weight of each teacher in each row by its cross-entropy with the row's label.

        w_m = (1 - softmax_m(CE_m)) / (M - 1),   CE_m = -log softmax(z_m)_y

    One teacher has weight 1, of two each has w_m = p_my / (p_1y + p_2y); of M >= 3 none has more than 1 / (M - 1),
    however wrong the others are.

    Reference: Zhang et al., Confidence-Aware Multi-Teacher Knowledge Distillation, https://arxiv.org/abs/2201.00007,
    the weights of the teachers' predictions. There they weigh divergences from single teachers, in `fuse_rows` scores.

    Args:
        teacher_logits: (M, N, C) float, at kd_temperature 1.
        labels: (N,) int64.

    Returns:
        (M, N) weights >= 0 that sum to 1 over the teachers, float32 or float64.

    Raises:
        ValueError: wrong shape or type, label out of range.
    """
    teacher_logits = _checked_teachers(teacher_logits)
    num_teachers, num_rows, num_classes = teacher_logits.shape
    labels = check_labels(labels, num_rows=num_rows, num_classes=num_classes)
    if num_teachers == 1:
        return torch.ones_like(teacher_logits[..., 0])
    targets = labels.view(1, -1, 1).expand(num_teachers, -1, 1)
    cross_entropies = -teacher_logits.log_softmax(dim=2).gather(2, targets).squeeze(2)
    return (1.0 - cross_entropies.softmax(dim=0)) / (num_teachers - 1)


def confidence_weights(teacher_logits: Tensor) -> Tensor:
    """Weight of each teacher in each row by how far its entropy lies below that of the uniform distribution.

        w_m = (log C - H_m) / sum_k (log C - H_k),   H_m = -sum_c p_mc log p_mc,   p_m = softmax(z_m)

    No label is asked for: a teacher who is surely wrong weighs as much as one who is surely right. Where all teachers
    are uniform, all have the same weight.

    Reference: Kwon et al., Adaptive Knowledge Distillation Based on Entropy,
    https://doi.org/10.1109/ICASSP40776.2020.9054698, for the idea of weighing by low entropy.

    Args:
        teacher_logits: (M, N, C) float, at kd_temperature 1.

    Returns:
        (M, N) weights >= 0 that sum to 1 over the teachers, float32 or float64.

    Raises:
        ValueError: wrong shape or type.
    """
    teacher_logits = _checked_teachers(teacher_logits)
    num_teachers, _, num_classes = teacher_logits.shape
    log_probs = teacher_logits.log_softmax(dim=2)
    entropies = -(log_probs.exp() * log_probs).sum(dim=2)
    confidences = (math.log(num_classes) - entropies).clamp(min=0.0)
    totals = confidences.sum(dim=0)
    return torch.where(totals < num_teachers * _UNIFORM, 1.0 / num_teachers, confidences / totals)


def fuse_rows(teacher_logits: Tensor, weights: Tensor, *, space: str) -> Tensor:
    """Fuse teachers with weights of each row's own.

        "logit": sum_m w_m z_m                     "prob": log sum_m w_m softmax(z_m)

    Weights that are the same in all rows give `fuse_logits` and `fuse_log_probs`.

    Args:
        teacher_logits: (M, N, C) float; half and bfloat16 become float32.
        weights: (M, N) float, >= 0, sum 1 over the teachers; not checked.
        space: "logit" or "prob".

    Returns:
        (N, C) logits or log_probs, float32 or float64.

    Raises:
        ValueError: wrong shape or type, another space.
    """
    teacher_logits = _checked_teachers(teacher_logits)
    if weights.shape != teacher_logits.shape[:2]:
        raise ValueError(f"weights must have shape {tuple(teacher_logits.shape[:2])}, got {tuple(weights.shape)}")
    shares = weights.to(teacher_logits).unsqueeze(2)
    if space == "logit":
        return (shares * teacher_logits).sum(dim=0)
    if space == "prob":
        return (shares.log() + teacher_logits.log_softmax(dim=2)).logsumexp(dim=0)
    raise ValueError(f"space must be 'logit' or 'prob', got {space!r}")
