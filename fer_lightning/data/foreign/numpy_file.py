"""Reads foreign scores from a NumPy file; nothing in it is unpickled."""

import hashlib
import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.foreign.table import ForeignTable, class_index
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS, NUM_CLASSES

_DAMAGE = (zipfile.BadZipFile, ValueError, EOFError, OSError, NotImplementedError, zlib.error)  # of a broken archive
_VALUES = ("logits", "log_probs", "probs")
_ARRAY_OF = {"row_id": "row_ids", "image_path": "image_paths"}
_PICKLED = "it holds Python objects, which are not unpickled: save texts as np.array(names, dtype=str)"


def _arrays(data: bytes, *, where: str) -> dict[str, NDArray[Any]]:
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except _DAMAGE as error:
        said = str(error).splitlines()[0]
        raise FerError(f"{where} cannot be read: {_PICKLED if 'allow_pickle' in said else said}") from error


def _texts(array: NDArray[Any], *, where: str) -> tuple[str, ...]:
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise FerError(f"{where} must be one text per row, but is {array.dtype} of shape {array.shape}")
    if array.dtype.kind == "U":
        return tuple(array.tolist())
    try:
        return tuple(text.decode() for text in array.tolist())
    except UnicodeDecodeError as error:
        raise FerError(f"{where} is not UTF-8: {error}") from error


def _permutation(names: Sequence[str], *, where: str) -> list[int]:
    """Return the column of each emotion."""
    indices = [class_index(name) for name in names]
    strangers = [name for name, index in zip(names, indices, strict=True) if index is None]
    if strangers:
        raise FerError(
            f"{where} names {', '.join(strangers)}; expected {', '.join(EMOTIONS)}, in the order of the columns"
        )
    if sorted(index for index in indices if index is not None) != list(range(NUM_CLASSES)):
        raise FerError(f"{where} is {', '.join(names)}; expected each of {', '.join(EMOTIONS)} once")
    return [indices.index(index) for index in range(NUM_CLASSES)]


def _class_order(inside: NDArray[Any] | None, given: Sequence[str], *, where: str) -> list[int]:
    options = _permutation(given, where="foreign.class_order") if given else None
    if inside is None:
        if options is None:
            raise FerError(
                f"{where} does not say the order of its columns, which is never guessed: foreign.class_order=[{','.join(EMOTIONS)}], "
                "in the order of the file"
            )
        return options
    stated = _permutation(_texts(inside, where=f"{where}: class_order"), where=f"{where}: class_order")
    if options not in (None, stated):
        raise FerError(
            f"foreign.class_order={list(given)} contradicts class_order in {where}, which is {inside.tolist()}"
        )
    return stated


def _scores(arrays: dict[str, NDArray[Any]], values: str, *, where: str) -> NDArray[np.float64]:
    name = "" if "" in arrays else values
    if name not in arrays:
        there = [name for name in _VALUES if name in arrays]
        advice = f"; set foreign.values={there[0]}" if there else ""
        raise FerError(f"{where} has no array {values}; it has {', '.join(arrays) or 'none'}{advice}")
    scores = arrays[name]
    if scores.ndim != 2 or scores.shape[1] != NUM_CLASSES or not len(scores) or scores.dtype.kind not in "fiu":
        raise FerError(
            f"{where}: {name or 'the array'} must be numbers of shape (N, {NUM_CLASSES}), one column for each of {', '.join(EMOTIONS)}, "
            f"but is {scores.dtype} of shape {scores.shape}"
        )
    return scores.astype(np.float64)


def _keys(arrays: dict[str, NDArray[Any]], join: str, num_rows: int, *, where: str) -> tuple[str, ...]:
    there = [key for key, name in _ARRAY_OF.items() if name in arrays]
    if join == "position":
        if there:
            raise FerError(f"{where} names its rows, so they need no trust in their order: foreign.join={there[0]}")
        return ()
    if join not in there:
        other = (
            f"it has {_ARRAY_OF[there[0]]}: foreign.join={there[0]}"
            if there
            else (
                f"an .npz file with {_ARRAY_OF[join]} proves which rows it holds; foreign.join=position trusts in their order"
            )
        )
        raise FerError(f"{where} has no array {_ARRAY_OF[join]}; {other}")
    keys = _texts(arrays[_ARRAY_OF[join]], where=f"{where}: {_ARRAY_OF[join]}")
    if len(keys) != num_rows:
        raise FerError(f"{where}: {_ARRAY_OF[join]} names {len(keys)} rows, and there are scores of {num_rows}")
    return keys


def read_numpy(path: Path, *, values: str, join: str, class_order: Sequence[str]) -> ForeignTable:
    """Read an .npy file (N x 7), or an .npz file with `logits`, `log_probs` or `probs` and `row_ids` or `image_paths`.

    Args:
        path: the file.
        values: the array that is read from an .npz file.
        join: what names the rows, or `position`.
        class_order: names of the columns, where the file does not hold them as `class_order`.

    Raises:
        FerError: damaged, pickled, another shape or type, no class order or two, or rows that are not named.
    """
    where, data = f"foreign.file: {path}", path.read_bytes()
    arrays = _arrays(data, where=where)
    scores = _scores(arrays, values, where=where)
    order = _class_order(arrays.get("class_order"), class_order, where=where)
    return ForeignTable(
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        scores=scores[:, order],
        join=join,
        keys=_keys(arrays, join, len(scores), where=where),
        bboxes=None,
        places=np.arange(len(scores)),
        unit="row",
        ignored=tuple(name for name in arrays if name not in {"", values, "class_order", _ARRAY_OF.get(join)}),
    )
