"""Weighted fusion of teachers, on raw logits or on probabilities."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fer_lightning.functional._checks import at_least_float32

_SUM_TOLERANCE = 1e-6


def _checked_inputs(teacher_logits: Tensor, weights: Tensor | Sequence[float]) -> tuple[Tensor, Tensor]:
    """Logits in at least float32 and the weights as (M,) of the same type, both without teachers of weight 0."""
    if teacher_logits.ndim != 3 or teacher_logits.numel() == 0:
        raise ValueError(f"teacher_logits must have shape (M, N, C), none 0, got {tuple(teacher_logits.shape)}")
    teacher_logits = at_least_float32(teacher_logits, name="teacher_logits")
    given = weights if isinstance(weights, Tensor) else torch.tensor(weights, dtype=torch.float64)
    checked = given.detach().to("cpu", torch.float64)
    if checked.shape != (teacher_logits.shape[0],):
        raise ValueError(f"weights must have shape ({teacher_logits.shape[0]},), got {tuple(checked.shape)}")
    if not bool((torch.isfinite(checked) & (checked >= 0.0)).all()):
        raise ValueError(f"weights must be finite and non-negative, got {checked.tolist()}")
    if abs(float(checked.sum()) - 1.0) > _SUM_TOLERANCE:
        raise ValueError(f"weights must sum to 1 within {_SUM_TOLERANCE}, got {checked.tolist()}: {checked.sum():.9g}")
    used = checked > 0.0
    if not bool(used.all()):
        teacher_logits = teacher_logits[used.to(teacher_logits.device)]
    normalised = checked[used] / checked.sum()
    return teacher_logits, normalised.to(teacher_logits)


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
    logits, weights = _checked_inputs(teacher_logits, weights)
    return (weights.view(-1, 1, 1) * logits).sum(dim=0)


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
    logits, weights = _checked_inputs(teacher_logits, weights)
    return (weights.log().view(-1, 1, 1) + logits.log_softmax(dim=2)).logsumexp(dim=0)
