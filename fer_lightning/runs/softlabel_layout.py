"""How soft labels lie on disk: their arrays, the lines of their index, and the digests of their rows."""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.rows.row_id import row_set_fingerprint
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS, NUM_CLASSES
from fer_lightning.runs.ensemble_teachers import with_a_share
from fer_lightning.runs.softlabels import HashManifest

INDEX_COLUMNS: dict[str, type] = {"i": int, "image_path": str, "source": str, "y": int, "row_id": str, "split": str}

_DAMAGE = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, NotImplementedError, KeyError)


def array_names(record: HashManifest) -> list[str]:
    """Return the arrays of `softlabels.npz`, in its order.

    Args:
        record: of which views and teachers count.
    """
    views = ["view_logits", "view_draws"] if len(record.views) > 1 else []
    teachers = ["teacher_logits"] if len(with_a_share(record.teachers)) > 1 else []
    return ["logits", "y", "row_ids", *views, *teachers]


def row_digest(row_ids: Sequence[str]) -> str:
    """Return the SHA-256 of row ids in their order, one in a line."""
    return hashlib.sha256("".join(f"{row_id}\n" for row_id in row_ids).encode()).hexdigest()


def fingerprints(row_ids: Sequence[str], labels: Sequence[int], splits: Sequence[str]) -> dict[str, str]:
    """Return the row-set fingerprint of each split, in the order in which they come."""
    rows_of: dict[str, list[int]] = {}
    for row, split in enumerate(splits):
        rows_of.setdefault(split, []).append(row)
    return {
        split: row_set_fingerprint((row_ids[row] for row in rows), (EMOTIONS[labels[row]] for row in rows))
        for split, rows in rows_of.items()
    }


def array_kinds(record: HashManifest) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type and shape of each array."""
    from fer_lightning.data.batches.crop_views import NUM_DRAWS  # torch

    n, others, teachers = record.n, len(record.views) - 1, len(with_a_share(record.teachers))
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {
        "logits": (record.dtype, (n, NUM_CLASSES)),
        "y": ("uint8", (n,)),
        "row_ids": ("|S64", (n,)),
        "view_logits": (record.dtype, (others, n, NUM_CLASSES)),
        "view_draws": ("float64", (others, n, NUM_DRAWS)),
        "teacher_logits": (record.dtype, (1 + others, teachers, n, NUM_CLASSES)),
    }
    return {name: kinds[name] for name in array_names(record)}


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file; FerError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FerError(f"cannot read {path}: {error.strerror}") from error


def unpacked_arrays(path: Path, content: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of `softlabels.npz` by name; FerError where its bytes are damaged."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise FerError(f"{path} is damaged or cut short: its {len(content)} bytes are no archive of arrays")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except _DAMAGE as error:
        raise FerError(f"{path} is damaged or cut short: {str(error).splitlines()[0]}") from error


def index_columns(path: Path, content: bytes) -> dict[str, list[Any]]:
    """Return the lines of `index.jsonl` column by column; FerError where one is not as it was written."""
    columns: dict[str, list[Any]] = {name: [] for name in INDEX_COLUMNS}
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise FerError(f"{path} line {number} is no JSON: {error}") from error
        if not isinstance(row, dict) or row.keys() != INDEX_COLUMNS.keys():
            raise FerError(f"{path} line {number} must have {', '.join(INDEX_COLUMNS)} and nothing else")
        for name, value in row.items():
            if type(value) is not INDEX_COLUMNS[name]:
                raise FerError(f"{path} line {number}: {name} is {value!r}, no {INDEX_COLUMNS[name].__name__}")
            columns[name].append(value)
    return columns


def row_ids_of(row_ids: NDArray[np.bytes_]) -> tuple[str, ...]:
    """Return row ids as text; FerError where they are none."""
    try:
        return tuple(row_id.decode("ascii") for row_id in row_ids.tolist())
    except UnicodeDecodeError as error:
        raise FerError(f"a row id is no text: {error}") from error
