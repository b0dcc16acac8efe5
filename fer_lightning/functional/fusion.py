"""Weighted fusion of teachers, on raw logits or on probabilities."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fer_lightning.functional._checks import at_least_float32

_SUM_TOLERANCE = 1e-6


def checked_weights(weights: Tensor | Sequence[float], *, num_teachers: int) -> Tensor:
    """Return weights as they are used: (M,) float64 on the CPU, summing to 1 to the last digit.

    Args:
        weights: (M,) finite, >= 0, sum 1 within 1e-6 (the remainder is divided out).
        num_teachers: M.

    Raises:
        ValueError: another number of them, or weights that are negative, not finite, or do not sum to 1.
    """
    given = weights if isinstance(weights, Tensor) else torch.tensor(weights, dtype=torch.float64)
    checked = given.detach().to("cpu", torch.float64)
    if checked.shape != (num_teachers,):
        raise ValueError(f"weights must have shape ({num_teachers},), got {tuple(checked.shape)}")
    if not bool((torch.isfinite(checked) & (checked >= 0.0)).all()):
        raise ValueError(f"weights must be finite and non-negative, got {checked.tolist()}")
    if abs(float(checked.sum()) - 1.0) > _SUM_TOLERANCE:
        raise ValueError(f"weights must sum to 1 within {_SUM_TOLERANCE}, got {checked.tolist()}: {checked.sum():.9g}")
    return checked / checked.sum()


def mean_logits(teacher_logits: Tensor, weights: Tensor) -> Tensor:
    """`fuse_logits` without its checks, for a traced graph: (M, N, C) and (M,) > 0 of one type to (N, C)."""
    return (weights.view(-1, 1, 1) * teacher_logits).sum(dim=0)


def mean_log_probs(teacher_logits: Tensor, weights: Tensor) -> Tensor:
    """`fuse_log_probs` without its checks, for a traced graph: (M, N, C) and (M,) > 0 of one type to (N, C)."""
    return (weights.log().view(-1, 1, 1) + teacher_logits.log_softmax(dim=2)).logsumexp(dim=0)


def _checked_inputs(teacher_logits: Tensor, weights: Tensor | Sequence[float]) -> tuple[Tensor, Tensor]:
    """Logits in at least float32 and the weights as (M,) of the same type, both without teachers of weight 0."""
    if teacher_logits.ndim != 3 or teacher_logits.numel() == 0:
        raise ValueError(f"teacher_logits must have shape (M, N, C), none 0, got {tuple(teacher_logits.shape)}")
    teacher_logits = at_least_float32(teacher_logits, name="teacher_logits")
    checked = checked_weights(weights, num_teachers=teacher_logits.shape[0])
    used = checked > 0.0
    if not bool(used.all()):
        teacher_logits = teacher_logits[used.to(teacher_logits.device)]
    return teacher_logits, checked[used].to(teacher_logits)


def fuse_logits(teacher_logits: Tensor, weights: Tensor | Sequence[float]) -> Tensor:
    """Weighted mean of raw logits, sum_m w_m z_m.

    A teacher with larger logits weighs more than its w_m says; `fuse_log_probs` does not have that.

    Args:
        teacher_logits: (M, N, C) float, uncalibrated or calibrated; half and bfloat16 become float32.
        weights: (M,) finite, >= 0, sum 1 within 1e-6 (the remainder is divided out). A teacher of weight 0 is left
            out altogether.

    Returns:
        (N, C) logits, float32 or float64.

    Raises:
        ValueError: wrong shape or type, weights that are negative, not finite, or do not sum to 1.
    """
    return mean_logits(*_checked_inputs(teacher_logits, weights))


def fuse_log_probs(teacher_logits: Tensor, weights: Tensor | Sequence[float]) -> Tensor:
    """Logarithm of the weighted mean of the teachers' softmaxes, by logsumexp.

        log sum_m w_m softmax(z_m) = logsumexp_m (log w_m + log_softmax(z_m))

    Args:
        teacher_logits: (M, N, C) float; half and bfloat16 become float32.
        weights: (M,) finite, >= 0, sum 1 within 1e-6 (the remainder is divided out). A teacher of weight 0 is left
            out altogether.

    Returns:
        (N, C) log_probs, float32 or float64, finite for finite logits.

    Raises:
        ValueError: wrong shape or type, weights that are negative, not finite, or do not sum to 1.
    """
    return mean_log_probs(*_checked_inputs(teacher_logits, weights))
