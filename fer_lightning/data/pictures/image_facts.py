"""What is known about the pictures of a manifest's rows: whether they can be used, their size, and their fingerprints."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_lightning.data.pictures.fact_store import RECORD, FactStore, StoredThumbnails, Thumbnails
from fer_lightning.data.pictures.file_stamps import file_stamp
from fer_lightning.data.pictures.fingerprints import THUMBNAIL_SIDE
from fer_lightning.data.pictures.picture_looks import FileStatus, Looks, Photo, look_at_photos
from fer_lightning.data.rows.manifest import Manifest

__all__ = ["THUMBNAIL_SIDE", "FileStatus", "ImageFacts", "Thumbnails", "image_facts"]

_VERSION = 2  # raise when the same file would give other facts
_ROWS_PER_FILE = 4096
_WORTH_A_BAR = 1000


@dataclass(frozen=True)
class ImageFacts:
    """Facts of some rows; entry i of each array belongs to `rows[i]`."""

    rows: NDArray[np.int64]
    """Row numbers of the manifest."""
    status: NDArray[np.uint8]
    """`FileStatus`; what follows is 0 where it is not ok."""
    heights: NDArray[np.int32]
    """Height of the picture file in pixels, as decoded."""
    widths: NDArray[np.int32]
    contents: NDArray[np.uint64]
    """(n, 2) digest of the pixels inside the row's box: equal pixels, equal digests, whatever the file format."""
    hashes: NDArray[np.uint64]
    """64-bit DCT perceptual hash of the pixels inside the box."""
    mirrored_hashes: NDArray[np.uint64]
    """The same of the mirror image."""
    thumbnails: Thumbnails
    """(n, 32, 32) grey; index with an array of positions, since they may be read only then."""


class _Known(NamedTuple):
    """Facts gathered so far, in the order of the rows asked for."""

    records: NDArray[np.void]
    part_of: NDArray[np.int64]
    places: NDArray[np.int64]
    parts: list[Path | NDArray[np.uint8]]


def image_facts(manifest: Manifest, rows: NDArray[np.int64], *, store: Path | None, num_workers: int = 0) -> ImageFacts:
    """Look at the picture of each row, with progress; what a store holds for an unchanged file is not looked at again.

    A file counts as unchanged while its absolute path, size and times of change stay the same. A call that is stopped
    keeps what it has done but for the last few thousand rows.

    Args:
        manifest: the manifest.
        rows: row numbers.
        store: folder that keeps facts between calls, also shared by several at once; None: look at every picture. One that
            cannot be written is a warning.
        num_workers: processes; 0 or 1: this one.

    Raises:
        FerError: a process was killed from outside.
    """
    kept = FactStore(store)
    records = np.zeros(len(rows), dtype=RECORD)
    records["key"], records["status"] = _keys(manifest, rows)
    known = _Known(records, np.full(len(rows), -1), np.zeros(len(rows), dtype=np.int64), [])
    _recall(kept, known)
    todo = np.flatnonzero((records["status"] == FileStatus.ok) & (known.part_of < 0))
    _look(manifest, rows, todo, known, kept, num_workers)
    return ImageFacts(
        rows=rows,
        status=records["status"].copy(),
        heights=records["height"].copy(),
        widths=records["width"].copy(),
        contents=records["content"].copy(),
        hashes=records["hash"].copy(),
        mirrored_hashes=records["mirrored_hash"].copy(),
        thumbnails=StoredThumbnails(known.parts, known.part_of, known.places),
    )


def _keys(manifest: Manifest, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint64], list[int]]:
    """Return 128 bits per row that name its file as it is now, and its box; and ok, missing or empty."""
    root = os.path.abspath(manifest.root)  # noqa: PTH100  # resolve() would follow links
    state_of: dict[str, tuple[str, int]] = {}
    keys, statuses = bytearray(), []
    for row, box in zip(rows.tolist(), manifest.bboxes[rows].tolist(), strict=True):
        image_path = manifest.image_paths[row]
        if image_path not in state_of:
            state_of[image_path] = _state(f"{root}/{image_path}")
        state, status = state_of[image_path]
        keys += hashlib.blake2b(f"{state}\n{box}".encode(errors="surrogateescape"), digest_size=16).digest()
        statuses.append(status)
    return np.frombuffer(bytes(keys), dtype="<u8").reshape(-1, 2), statuses


def _state(path: str) -> tuple[str, int]:
    try:
        stamp = file_stamp(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name that no file can have
        return "", FileStatus.missing
    except OSError:
        return "", FileStatus.unreadable
    if not stamp.num_bytes:
        return "", FileStatus.empty
    # The decoder's version counts: another one may round other pixels.
    return (
        f"{_VERSION} {cv2.__version__}\n{path}\n{stamp.num_bytes} {stamp.modified_ns} {stamp.changed_ns}",
        FileStatus.ok,
    )


def _recall(store: FactStore, known: _Known) -> None:
    """Fill in what the store has."""
    paths, stored, part_of, places = store.read()
    if not len(stored):
        return
    keys = known.records["key"]
    found = np.minimum(np.searchsorted(stored["key"][:, 0], keys[:, 0]), len(stored) - 1)
    hit = (known.records["status"] == FileStatus.ok) & (stored["key"][found] == keys).all(axis=1)
    known.records[hit] = stored[found[hit]]
    known.part_of[hit] = part_of[found[hit]]
    known.places[hit] = places[found[hit]]
    known.parts.extend(paths)


def _look(
    manifest: Manifest,
    rows: NDArray[np.int64],
    todo: NDArray[np.int64],
    known: _Known,
    store: FactStore,
    num_workers: int,
) -> None:
    """Look at the rows at some positions; a photo is decoded once for all of its boxes."""
    pending: list[Looks] = []
    num_pending = 0
    bar = tqdm(total=len(todo), desc="looking at pictures", unit="image", disable=len(todo) < _WORTH_A_BAR)
    try:
        photos = list(_photos(manifest, rows, todo))
        with bar, contextlib.closing(look_at_photos(photos, num_workers=num_workers)) as all_looks:
            for looks in all_looks:
                pending.append(looks)
                num_pending += len(looks.positions)
                bar.update(len(looks.positions))
                if num_pending >= _ROWS_PER_FILE:
                    batch, pending, num_pending = pending, [], 0
                    _keep(batch, known, store)
    finally:  # also when interrupted
        if pending:
            _keep(pending, known, store)


def _photos(manifest: Manifest, rows: NDArray[np.int64], todo: NDArray[np.int64]) -> Iterator[Photo]:
    faces: dict[str, list[int]] = {}
    for position in todo.tolist():
        faces.setdefault(manifest.image_paths[rows[position]], []).append(position)
    for image_path, positions in faces.items():
        boxes = [tuple(box) if box[0] >= 0 else None for box in manifest.bboxes[rows[positions]].tolist()]
        yield Photo(str(manifest.root / image_path), positions, boxes)


def _keep(batch: list[Looks], known: _Known, store: FactStore) -> None:
    positions = np.concatenate([looks.positions for looks in batch])
    records = np.concatenate([looks.records for looks in batch])
    thumbnails = np.concatenate([looks.thumbnails for looks in batch])
    lasting = np.concatenate([looks.lasting for looks in batch])
    records["key"] = known.records["key"][positions]
    known.records[positions] = records
    positions, records, thumbnails = positions[lasting], records[lasting], thumbnails[lasting]
    if len(positions):
        known.part_of[positions] = len(known.parts)
        known.places[positions] = np.arange(len(positions))
        known.parts.append(store.add(records, thumbnails))
