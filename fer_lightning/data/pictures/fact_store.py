"""Keeps what is known about pictures on disk, so that an unchanged file is looked at once."""

import functools
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.pictures.fingerprints import THUMBNAIL_SIDE
from fer_lightning.files import write_atomically

RECORD = np.dtype(
    [
        ("key", "<u8", (2,)),
        ("status", "u1"),
        ("height", "<i4"),
        ("width", "<i4"),
        ("content", "<u8", (2,)),
        ("hash", "<u8"),
        ("mirrored_hash", "<u8"),
    ]
)
"""What is known about a picture, but for its thumbnail; `key` names the file, its state and the box."""

_SUFFIX = ".facts"
_THUMBNAIL_BYTES = THUMBNAIL_SIDE**2

_logger = logging.getLogger(__name__)


class StoredThumbnails:
    """Thumbnails that are read when asked for.

    Args:
        parts: files of the store, or (m, 32, 32) arrays.
        part_of: (n,) number of the part that holds each thumbnail; -1: none, it is black.
        position_in_part: (n,) where in the part.
    """

    def __init__(
        self,
        parts: Sequence[Path | NDArray[np.uint8]],
        part_of: NDArray[np.int64],
        position_in_part: NDArray[np.int64],
    ) -> None:
        self._parts = parts
        self._part_of = part_of
        self._position_in_part = position_in_part

    def __len__(self) -> int:
        return len(self._part_of)

    def __getitem__(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the (k, 32, 32) thumbnails at these positions."""
        found = np.zeros((len(positions), THUMBNAIL_SIDE, THUMBNAIL_SIDE), dtype=np.uint8)
        part_of = self._part_of[positions]
        for number in np.unique(part_of[part_of >= 0]).tolist():
            here = np.flatnonzero(part_of == number)
            part = self._parts[number]
            thumbnails = _read_thumbnails(part) if isinstance(part, Path) else part
            found[here] = thumbnails[self._position_in_part[positions[here]]]
        return found


Thumbnails = NDArray[np.uint8] | StoredThumbnails
"""(n, 32, 32) grey, all in memory or read when asked for; index with an array of positions."""


class FactStore:
    """A folder of files that are written once and never changed, so that any number of processes may add to it.

    Where the folder cannot be made or written, a warning says so, and nothing more is kept: facts can be had again.

    Args:
        folder: made if missing; None: nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._give_up(folder, error)

    def read(self) -> tuple[list[Path], NDArray[np.void], NDArray[np.int64], NDArray[np.int64]]:
        """Return the files, all records in the order of their keys, the number of each one's file and its place there."""
        paths, tables = [], []
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")) if self._folder is not None else ():
            try:
                table = _read_records(path)
            except (OSError, ValueError, EOFError) as error:
                _logger.warning("%s is damaged (%s); its pictures are looked at again", path, error)
                continue
            paths.append(path)
            tables.append(table)
        records = np.concatenate([np.empty(0, dtype=RECORD), *tables])
        lengths = [len(table) for table in tables]
        part_of = np.repeat(np.arange(len(tables)), lengths)
        places = np.concatenate([np.empty(0, dtype=np.int64), *(np.arange(length) for length in lengths)])
        order = np.argsort(records["key"][:, 0], kind="stable")
        return paths, records[order], part_of[order], places[order]

    def add(self, records: NDArray[np.void], thumbnails: NDArray[np.uint8]) -> Path | NDArray[np.uint8]:
        """Write records and their thumbnails; the file's name follows from the keys, so the same work is kept once.

        Returns:
            Where the thumbnails are: the file, or themselves where nothing is kept.
        """
        if self._folder is None:
            return thumbnails
        name = hashlib.blake2b(np.ascontiguousarray(records["key"]).tobytes(), digest_size=16).hexdigest()
        path = self._folder / f"{name}{_SUFFIX}"

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.save(file, records)
                file.write(thumbnails.tobytes())

        try:
            write_atomically(path, write)
        except OSError as error:
            self._give_up(self._folder, error)
            return thumbnails
        return path

    def _give_up(self, folder: Path, error: OSError) -> None:
        _warn_once(folder.absolute(), error.strerror or str(error))
        self._folder = None


@functools.cache
def _warn_once(folder: Path, reason: str) -> None:
    """One warning, however many stores of a process are opened there."""
    _logger.warning(
        "cannot keep what is known about pictures in %s: %s; they are looked at again next time", folder, reason
    )


def _read_records(path: Path) -> NDArray[np.void]:
    with path.open("rb") as file:
        records: NDArray[np.void] = np.load(file, allow_pickle=False)
        if records.dtype != RECORD or path.stat().st_size != file.tell() + len(records) * _THUMBNAIL_BYTES:
            raise ValueError("not the expected content")
    return records


def _read_thumbnails(path: Path) -> NDArray[np.uint8]:
    with path.open("rb") as file:
        count = _count_of_header(file)
        offset = file.tell() + count * RECORD.itemsize
    shape = (count, THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return np.memmap(path, dtype=np.uint8, mode="r", offset=offset, shape=shape)


def _count_of_header(file: BinaryIO) -> int:
    """Read the header of an array file and return the array's length."""
    np.lib.format.read_magic(file)
    (count,), _, _ = np.lib.format.read_array_header_1_0(file)
    return int(count)
