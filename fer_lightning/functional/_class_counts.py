"""Class counts as a checked float vector, for the losses and weights that depend on class frequencies."""

from collections.abc import Sequence

import torch
from torch import Tensor


def class_counts_vector(class_counts: Tensor | Sequence[float], *, num_classes: int | None = None) -> Tensor:
    """Return the counts as a (C,) float vector; float32 stays float32, all else becomes float64.

    The values are read only on the CPU and outside compiled graphs, so a buffer on an accelerator costs no wait.

    Args:
        class_counts: (C,) number of training rows per class, each > 0.
        num_classes: expected C, if known.

    Raises:
        ValueError: wrong shape, or a class that is empty, negative or not finite.
    """
    given = class_counts if isinstance(class_counts, Tensor) else torch.tensor(class_counts, dtype=torch.float64)
    counts = given if given.dtype == torch.float32 else given.double()
    if counts.ndim != 1 or counts.numel() == 0 or (num_classes is not None and counts.numel() != num_classes):
        expected = "(C,)" if num_classes is None else f"({num_classes},)"
        raise ValueError(f"class_counts must have shape {expected}, got {tuple(counts.shape)}")
    if counts.device.type == "cpu" and not torch.compiler.is_compiling():
        usable = torch.isfinite(counts) & (counts > 0)
        if not bool(usable.all()):
            raise ValueError(f"class_counts must be positive for every class, got {counts.tolist()}")
    return counts
