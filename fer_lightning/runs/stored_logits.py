"""Logits kept beside the proof of what they are of: inferred once, judged as often as wanted."""

import hashlib
import io
import mmap
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.splits.groups import folds_of
from fer_lightning.errors import FerError
from fer_lightning.files import write_atomically
from fer_lightning.labels import NUM_CLASSES
from fer_lightning.runs.artifacts import write_artifact
from fer_lightning.runs.stored_logits_checks import check_stored_logits
from fer_lightning.runs.stored_logits_record import (
    LOGITS_FILE,
    RECORD_FILE,
    ROWS_FILE,
    StoredLogitsRecord,
    read_stored_record,
    stored_folder,
)

if TYPE_CHECKING:
    from torch import Tensor

_TABLES: dict[str, tuple[str, tuple[int, ...]]] = {
    "labels": ("int64", ()),
    "groups": ("int64", ()),
    "face_sides": ("int64", ()),
    "votes": ("float64", (NUM_CLASSES,)),
}
"""Name -> type, and shape of a row; a file without votes lacks them."""
_TEXTS = ("row_ids", "image_paths", "sources")
"""Stored as UTF-8."""
_DAMAGE = (zipfile.BadZipFile, ValueError, EOFError, OSError, NotImplementedError)  # what a broken archive raises


@dataclass(frozen=True, kw_only=True)
class StoredLogits:
    """Scores of a row set, in manifest order, with what judging them needs."""

    record: StoredLogitsRecord
    logits: "Tensor"
    """(N, 7) float32, also where the file keeps float16: nothing is computed in half precision."""
    labels: "Tensor"
    """(N,) int64."""
    row_ids: tuple[str, ...]
    image_paths: tuple[str, ...]
    sources: tuple[str, ...]
    groups: "Tensor"
    """(N,) int64; rows of one number (subject, photo, near copies) belong together."""
    face_sides: "Tensor"
    """(N,) int64 shorter side of the face in pixels of its file; 0 where the file's header does not tell."""
    votes: "Tensor | None"
    """(N, 7) float64 counts, rows of zeros for rows without votes; None where the manifest has no votes."""

    def in_order_of(self, row_ids: Sequence[str]) -> "StoredLogits":
        """Return the same rows in another order; `row_ids` names each of them once."""
        place = {row_id: position for position, row_id in enumerate(self.row_ids)}
        order = [place[row_id] for row_id in row_ids]
        ordered: dict[str, Any] = {name: tuple(getattr(self, name)[row] for row in order) for name in _TEXTS}
        tables = ("logits", *_TABLES)
        ordered |= {name: None if (table := getattr(self, name)) is None else table[order] for name in tables}
        return replace(self, **ordered)

    def folds(self, num_folds: int) -> "Tensor":
        """Return cross-fit folds: (N,) int64 numbers; linked rows share a fold."""
        import torch

        return torch.from_numpy(folds_of(self.row_ids, self.groups.numpy(), num_folds))


def _write(file: Path, content: bytes) -> str:
    write_atomically(file, lambda temporary: temporary.write_bytes(content))
    return hashlib.sha256(content).hexdigest()


def write_stored_logits(folder: Path, stored: StoredLogits) -> StoredLogits:
    """Write `logits.npy` and `rows.npz`, then `storedlogits.json` that vouches for their bytes.

    A reader meets the files of one call, or a record whose digests are of other bytes, which it refuses.

    Args:
        folder: made when missing; earlier ones in it are replaced.
        stored: what to keep; the numbers in the type that its record names.

    Returns:
        The same as a reader gets it: logits rounded to that type, digests as written.

    Raises:
        FerError: what a reader would refuse, e.g. logits that are not finite, or what the type cannot hold.
        OSError: the files cannot be written.
    """
    check_stored_logits(stored, where=str(folder))
    dtype = stored.record.dtype
    kept = stored.logits.numpy().astype(dtype)
    rows = {name: np.array([text.encode() for text in getattr(stored, name)]) for name in _TEXTS}
    tensors = {name: getattr(stored, name) for name in _TABLES}
    rows |= {name: tensor.numpy() for name, tensor in tensors.items() if tensor is not None}
    logits_buffer, rows_buffer = io.BytesIO(), io.BytesIO()
    np.save(logits_buffer, np.ascontiguousarray(kept), allow_pickle=False)
    np.savez(rows_buffer, allow_pickle=False, **rows)
    folder.mkdir(parents=True, exist_ok=True)
    record = replace(
        stored.record,
        logits_sha256=_write(folder / LOGITS_FILE, logits_buffer.getvalue()),
        rows_sha256=_write(folder / ROWS_FILE, rows_buffer.getvalue()),
    )
    write_artifact(folder / RECORD_FILE, record)
    return replace(stored, record=record, logits=stored.logits.new_tensor(kept.astype(np.float32)))


def read_stored_logits(path: Path, *, option: str) -> StoredLogits:
    """Read stored logits and check that they are what their record says.

    Args:
        path: the folder, or one of its files.
        option: the option that named it, for messages.

    Raises:
        FerError: missing, damaged, of another class order, not the rows recorded, or not logits; names file and field.
    """
    folder = stored_folder(path)
    record = read_stored_record(folder, option=option)
    logits_file, rows_file = folder / LOGITS_FILE, folder / ROWS_FILE
    with _mapped(logits_file, record.logits_sha256, "logits_sha256", option=option) as content:
        logits = _read_logits(content, record, where=f"{option}: {logits_file}")
    with _mapped(rows_file, record.rows_sha256, "rows_sha256", option=option) as content:
        arrays = _read_arrays(content, where=f"{option}: {rows_file}")
    stored = _from_arrays(record, logits, arrays, where=f"{option}: {rows_file}")
    check_stored_logits(stored, where=f"{option}: {folder}")
    return stored


@contextmanager
def _mapped(file: Path, recorded: str, field: str, *, option: str) -> Iterator[mmap.mmap]:
    """Map a file into memory, after making sure that the record vouches for these very bytes.

    What is taken from it is copied: a map of a file that somebody cuts short later would end the process.
    """
    try:
        if not file.stat().st_size:
            raise FerError(f"{option}: {file} is damaged: it is empty")
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            digest = hashlib.sha256(content).hexdigest()
            if digest != recorded:
                raise FerError(
                    f"{option}: {file} is not the file that {RECORD_FILE} vouches for: {field} is {recorded[:12]}, its "
                    f"{len(content)} bytes have {digest[:12]}. It was cut short or changed since"
                )
            yield content
    except OSError as error:
        raise FerError(f"{option}: cannot read {file}: {error.strerror}") from error


def _read_logits(content: mmap.mmap, record: StoredLogitsRecord, *, where: str) -> NDArray[np.float32]:
    try:
        logits = np.load(cast("IO[bytes]", content), allow_pickle=False)
    except _DAMAGE as error:
        raise FerError(f"{where} is damaged: {str(error).splitlines()[0]}") from error
    expected = (record.n, NUM_CLASSES)
    if not isinstance(logits, np.ndarray) or str(logits.dtype) != record.dtype or logits.shape != expected:
        found = f"{logits.dtype} of shape {logits.shape}" if isinstance(logits, np.ndarray) else "an archive"
        raise FerError(f"{where}: logits is {found}; expected {record.dtype} of shape {expected}, n being recorded")
    return logits.astype(np.float32, copy=False)


def _read_arrays(content: mmap.mmap, *, where: str) -> dict[str, NDArray[np.generic]]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except _DAMAGE as error:
        raise FerError(f"{where} is damaged: {str(error).splitlines()[0]}") from error
    expected = {*_TABLES, *_TEXTS}
    if set(arrays) | {"votes"} != expected:
        missing, unknown = sorted(expected - set(arrays) - {"votes"}), sorted(set(arrays) - expected)
        raise FerError(f"{where}: arrays missing: {missing}, unknown: {unknown}")
    return arrays


def _from_arrays(
    record: StoredLogitsRecord, logits: NDArray[np.float32], arrays: dict[str, NDArray[np.generic]], *, where: str
) -> StoredLogits:
    import torch

    for name, array in arrays.items():
        kind, row = _TABLES.get(name, ("bytes", ()))
        right_kind = array.dtype.kind == "S" if kind == "bytes" else array.dtype == np.dtype(kind)
        if not right_kind or array.shape != (record.n, *row):
            found = f"{array.dtype} of shape {array.shape}"
            raise FerError(f"{where}: {name} is {found}; expected {kind} of shape {(record.n, *row)}, n being recorded")
    texts = {}
    for name in _TEXTS:
        try:
            texts[name] = tuple(text.decode() for text in arrays[name].tolist())
        except UnicodeDecodeError as error:
            raise FerError(f"{where}: {name} is not UTF-8: {error}") from error
    tables = {name: torch.from_numpy(arrays[name]) if name in arrays else None for name in _TABLES}
    return StoredLogits(record=record, logits=torch.from_numpy(logits), **texts, **tables)  # type: ignore[arg-type]  # by name
