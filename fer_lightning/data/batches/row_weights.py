"""The manifest's `weight` column as exact proportions."""

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.errors import FerError

_LARGEST_SUM = 2**44  # what exact quotas take


def _parsed(texts: Iterable[str]) -> dict[str, Decimal | None]:
    """Return the weight of each text, None where it is none."""
    values: dict[str, Decimal | None] = {}
    for text in set(texts):
        try:
            value = Decimal(text or "1")
        except InvalidOperation:
            value = Decimal("nan")
        values[text] = value if value.is_finite() and value >= 0 else None
    return values


def _scale(weights: Iterable[Decimal], total: Decimal, num_rows: int) -> Decimal:
    """Return what makes whole numbers of all weights, or as fine steps as fit."""
    scale = Decimal(1).scaleb(max(-int(weight.normalize().as_tuple().exponent) for weight in weights))
    return scale if total * scale <= _LARGEST_SUM else (_LARGEST_SUM - num_rows) / total


def row_weights(manifest: Manifest, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return whole numbers in the proportions of the rows' weights.

    Decimals are taken as written: 0.1 is a tenth. Only weights that need more digits than fit are rounded, to steps of
    their sum / 2**44; a weight above 0 stays above 0.

    Args:
        manifest: a manifest with a `weight` column; an empty field means 1.
        rows: row numbers.

    Returns:
        (len(rows),) int64 of at least 0, with a sum of at most 2**44.

    Raises:
        FerError: no such column, a weight that is negative or no number, or no weight above 0.
    """
    if "weight" not in manifest.extras:
        raise FerError(f"imbalance.row_weights needs a column named weight, and {manifest.path} has none")
    texts = [manifest.extras["weight"][row] for row in rows.tolist()]
    parsed = _parsed(texts)
    bad = [index for index, text in enumerate(texts) if parsed[text] is None]
    if bad:
        more = f", and {len(bad) - 1} more rows" if len(bad) > 1 else ""
        raise FerError(
            f"{manifest.path} line {manifest.lines[rows[bad[0]]]}: "
            f"weight {texts[bad[0]]!r} is not a finite number of at least 0{more}"
        )
    weights = {text: value for text, value in parsed.items() if value is not None}
    total = sum((weights[text] for text in texts), start=Decimal(0))
    if not total:
        raise FerError(f"{manifest.path}: the weights of all {len(rows)} train rows are 0, so none can be drawn")
    scale = _scale(weights.values(), total, len(rows))
    whole = {text: max(int(value * scale), 1) if value else 0 for text, value in weights.items()}
    return np.array([whole[text] for text in texts], dtype=np.int64)
