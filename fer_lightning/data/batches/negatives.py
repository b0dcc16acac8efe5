"""The manifest's `neg_label` column: emotions that a row certainly does not show."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS, NUM_CLASSES

COLUMN = "neg_label"
_SHOWN = 5


def _flags(texts: Sequence[str]) -> NDArray[np.bool_]:
    """Return (n, 7) which emotions each text names."""
    kinds = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    table = np.zeros((len(kinds), NUM_CLASSES), dtype=np.bool_)
    for text, number in kinds.items():
        for name in filter(None, text.split("|")):
            table[number, EMOTIONS.index(name)] = True
    return table[[kinds[text] for text in texts]]


def _refuse_own_labels(manifest: Manifest, rows: NDArray[np.int64], negatives: NDArray[np.bool_]) -> None:
    labels = manifest.labels[rows]
    wrong = np.flatnonzero(negatives[np.arange(len(rows)), labels])
    if not len(wrong):
        return
    column = manifest.extras[COLUMN]
    shown = "\n  ".join(
        f"line {manifest.lines[row]}: label {EMOTIONS[manifest.labels[row]]}, {COLUMN}={column[row]!r}"
        for row in rows[wrong[:_SHOWN]].tolist()
    )
    more = f"\n  ... and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    raise FerError(
        f"{manifest.path}: {COLUMN} names the row's own label in {len(wrong)} of {len(rows)} train rows:\n  {shown}{more}\n"
        "Mend the column, or set distillation.negative_weight=0."
    )


def read_negatives(manifest: Manifest, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the emotions that each of some rows is said not to show.

    Args:
        manifest: a manifest with a column `neg_label`: names separated by |, empty where nothing is known.
        rows: row numbers of the train split.

    Returns:
        (len(rows), 7) bool.

    Raises:
        FerError: there is no such column, it is empty in all the rows, or names a row's own label.
    """
    needs = (
        f"distillation.negative_weight needs a column {COLUMN} of emotions that a row does not show (Sad, or Sad|Fear)"
    )
    without = "set distillation.negative_weight=0 to go without"
    if COLUMN not in manifest.extras:
        raise FerError(f"{needs}, and {manifest.path} has none; {without}")
    column = manifest.extras[COLUMN]
    negatives = _flags([column[row] for row in rows.tolist()])
    if not negatives.any():
        raise FerError(f"{needs}, and it is empty in all {len(rows)} train rows of {manifest.path}; {without}")
    _refuse_own_labels(manifest, rows, negatives)
    return negatives
