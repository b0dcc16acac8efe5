"""Shape, dtype and range checks shared by the losses; cheap enough for every training step."""

import torch
from torch import Tensor


def at_least_float32(values: Tensor, *, name: str) -> Tensor:
    """Promote half and bfloat16 to float32; leave float32 and float64 as they are.

    Args:
        values: any shape, floating point.
        name: what the tensor is, for the message.

    Raises:
        ValueError: not a floating-point tensor.
    """
    if not values.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {values.dtype}")
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def check_matrix(scores: Tensor, *, name: str, min_classes: int = 1) -> Tensor:
    """Return (N, C) scores in at least float32.

    Args:
        scores: (N, C) float, N >= 1.
        name: what the tensor is, for the message.
        min_classes: smallest C that makes sense.

    Raises:
        ValueError: another rank, no rows, too few columns, or not floating point.
    """
    if scores.ndim != 2 or scores.shape[0] == 0 or scores.shape[1] < min_classes:
        raise ValueError(f"{name} must have shape (N, C) with N >= 1 and C >= {min_classes}, got {tuple(scores.shape)}")
    return at_least_float32(scores, name=name)


def check_labels(labels: Tensor, *, num_rows: int, num_classes: int, name: str = "labels") -> Tensor:
    """Return class indices as int64.

    The range is read only on the CPU and outside compiled graphs: on an accelerator it would wait for the device
    at every step, and the indexing kernels assert it there anyway.

    Args:
        labels: (N,) of any integer type, in 0..C-1.
        num_rows: expected N.
        num_classes: C.
        name: what the tensor is, for the message.

    Raises:
        ValueError: shape, type or range differs.
    """
    if labels.shape != (num_rows,):
        raise ValueError(f"{name} must have shape ({num_rows},), got {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"{name} must be integer class indices (int64), got {labels.dtype}")
    if labels.device.type == "cpu" and num_rows and not torch.compiler.is_compiling():
        low, high = (int(bound) for bound in labels.aminmax())
        if low < 0 or high >= num_classes:
            raise ValueError(f"{name} must lie in 0..{num_classes - 1}, got values in {low}..{high}")
    return labels.long()
