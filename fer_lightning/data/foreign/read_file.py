"""Reads foreign scores from a file of any kind that is known."""

from collections.abc import Sequence
from pathlib import Path

from fer_lightning.data.foreign.csv_file import read_csv
from fer_lightning.data.foreign.numpy_file import read_numpy
from fer_lightning.data.foreign.table import ForeignTable
from fer_lightning.errors import FerError


def read_foreign_scores(path: Path, *, values: str, join: str, class_order: Sequence[str]) -> ForeignTable:
    """Read the scores of another program; nothing is guessed from values, order or case beyond that of class names.

    Args:
        path: .csv, .npy or .npz.
        values: `logits`, `log_probs` or `probs`.
        join: what names the rows: `row_id`, `image_path`, or `position`.
        class_order: names of the columns of a NumPy file; empty where it holds them.

    Raises:
        FerError: no such file, another kind, or not what it should be; names what and where.
    """
    if not path.is_file():
        raise FerError(f"foreign.file: no file {path}")
    if path.suffix in {".npy", ".npz"}:
        return read_numpy(path, values=values, join=join, class_order=class_order)
    if path.suffix != ".csv":
        raise FerError(f"foreign.file: {path} must be a .csv, .npy or .npz file")
    if class_order:
        raise FerError(f"foreign.class_order has no effect: the header of {path} names the columns")
    return read_csv(path, values=values, join=join)
