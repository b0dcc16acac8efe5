"""Tells logits from tables that are none: values that are not finite, and probabilities."""

import numpy as np
from numpy.typing import NDArray

_SUM_TOLERANCE = 1e-3  # of probabilities kept in half precision


def no_logits(values: NDArray[np.floating]) -> str | None:
    """Return why a table cannot be logits, or None.

    Args:
        values: (N, C) float.
    """
    infinite = int((~np.isfinite(values)).any(axis=1).sum())
    if infinite:
        return f"not finite in {infinite} of {len(values)} rows"
    sums = values.sum(axis=1, dtype=np.float64)
    on_simplex = values.min() >= 0 and bool((np.abs(sums - 1) <= _SUM_TOLERANCE).all())
    if on_simplex and bool((values < 1).all(axis=1).any()):  # whole rows of 0 and 1 can be logits
        return "probabilities: no entry is negative, and every row sums to 1; a softmax of them would be a second one"
    return None
