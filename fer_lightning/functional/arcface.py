"""ArcFace: additive angular margin on the target cosine, and the epoch schedule of the margin."""

import math

import torch
from torch import Tensor

from fer_lightning.functional._checks import check_labels, check_matrix

_COSINE_CLAMP = 1e-7  # before the square root only: keeps its gradient finite at cos = +-1


def margin_at_epoch(epoch: float, *, ramp_start: float, ramp_end: float, margin_rad: float) -> float:
    """Angular margin of an epoch: 0, then a linear ramp, then constant.

        margin(e) = 0                                        e <= ramp_start
                    margin_rad (e - ramp_start) / (ramp_end - ramp_start)
                    margin_rad                               e >= ramp_end

    `ramp_start == ramp_end` is a step: 0 up to and including that epoch, `margin_rad` after it. A margin that is
    whole from epoch 0 on is therefore `ramp_start = ramp_end = -1`.

    Args:
        epoch: 0-based index; a fraction is allowed.
        ramp_start: last epoch without margin.
        ramp_end: first epoch with the whole margin, >= ramp_start.
        margin_rad: final margin in radians, 0..pi/2.

    Returns:
        Margin in radians.

    Raises:
        ValueError: the ramp ends before it starts, or the margin is out of range.
    """
    if not ramp_start <= ramp_end:
        raise ValueError(f"ramp_start {ramp_start} must not exceed ramp_end {ramp_end}")
    _check_margin(margin_rad)
    if epoch <= ramp_start:
        return 0.0
    if epoch >= ramp_end:
        return float(margin_rad)
    return margin_rad * (epoch - ramp_start) / (ramp_end - ramp_start)


def _check_margin(margin_rad: float) -> None:
    """Refuse margins for which the fallback past pi - m would no longer be monotone."""
    if not 0.0 <= margin_rad <= math.pi / 2:
        raise ValueError(f"margin_rad must lie in 0..pi/2, got {margin_rad}")


def _add_margin(target_cosines: Tensor, margin_rad: float) -> Tensor:
    """cos(theta + m) while theta + m <= pi, cos(theta) - m sin(m) past it."""
    limit = 1.0 - _COSINE_CLAMP
    sines = (1.0 - target_cosines.clamp(-limit, limit).square()).sqrt()
    shifted = target_cosines * math.cos(margin_rad) - sines * math.sin(margin_rad)
    fallback = target_cosines - margin_rad * math.sin(margin_rad)
    return torch.where(target_cosines < math.cos(math.pi - margin_rad), fallback, shifted)


def arcface_logits(cosines: Tensor, labels: Tensor, *, scale: float, margin_rad: float) -> Tensor:
    """Scaled cosines with an additive angular margin on the target class.

    With c = cos(theta_y), m = `margin_rad` and s = sqrt(1 - clamp(c, -1 + 1e-7, 1 - 1e-7)^2):

        logits_y = scale (c cos m - s sin m)      theta_y + m <= pi     [= scale cos(theta_y + m)]
        logits_y = scale (c - m sin m)            theta_y + m >  pi, that is c < cos(pi - m)
        logits_j = scale cosines_j                j != y

    Only the square root sees the clamped cosine, so margin 0 gives exactly `scale * cosines`, and the gradient is
    finite at c = +-1. Half and bfloat16 cosines are promoted to float32, float64 stays float64; autocast is off
    inside.

    Reference: Deng et al., ArcFace, https://arxiv.org/abs/1801.07698, eq. 3; the fallback past pi - m is the one of
    the authors' code.

    Args:
        cosines: (N, C) float, cosines of features and class weights.
        labels: (N,) int64 in 0..C-1.
        scale: feature scale, > 0.
        margin_rad: additive margin in radians, 0..pi/2.

    Returns:
        (N, C) logits, float32 or float64.

    Raises:
        ValueError: wrong shape or type, label out of range (checked on the CPU), scale or margin out of range.
    """
    if not scale > 0.0:
        raise ValueError(f"scale must be positive, got {scale}")
    _check_margin(margin_rad)
    with torch.autocast(device_type=cosines.device.type, enabled=False):
        cosines = check_matrix(cosines, name="cosines")
        columns = check_labels(labels, num_rows=cosines.shape[0], num_classes=cosines.shape[1]).unsqueeze(1)
        targets = _add_margin(cosines.gather(1, columns), margin_rad)
        return cosines.scatter(1, columns, targets) * scale
