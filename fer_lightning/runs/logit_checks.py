"""Tells logits from tables that are none: values that are not finite or beyond their type, and probabilities."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import FerError

LARGEST_HALF = 65504.0
"""The largest number that float16 holds."""

_SUM_TOLERANCE = 1e-3  # of probabilities kept in half precision
_SHOWN = 3


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
        return (
            "probabilities: no entry is negative, and every row sums to 1; a softmax of them would be a second one: "
            "remove the model's own"
        )
    return None


def check_logits(logits: NDArray[np.floating], image_paths: Sequence[str], dtype: str, *, where: str) -> None:
    """Refuse what cannot be logits, and logits that a type cannot hold.

    Args:
        logits: (N, C) float.
        image_paths: of the rows.
        dtype: `float32` or `float16`.
        where: for the message.

    Raises:
        FerError: not finite, probabilities, or float16 would make them infinite; names rows, and the way out.
    """
    reason = no_logits(logits)
    if reason is not None:
        raise FerError(f"{where}: logits are {reason}")
    beyond = (
        np.flatnonzero((np.abs(logits) > LARGEST_HALF).any(axis=1)) if dtype == "float16" else np.empty(0, np.int64)
    )
    if len(beyond):
        shown = ", ".join(f"{image_paths[row]} ({np.abs(logits[row]).max():.6g})" for row in beyond[:_SHOWN].tolist())
        more = f" and {len(beyond) - _SHOWN} more" if len(beyond) > _SHOWN else ""
        raise FerError(
            f"{where}: float16 holds numbers up to {LARGEST_HALF:.0f}, and logits are beyond it in {len(beyond)} of "
            f"{len(logits)} rows: {shown}{more}. Keep them as float32 (dtype=float32)"
        )
