"""Decodes photos, in several processes where that pays, and takes down what is to be known about each face."""

from collections.abc import Generator, Sequence
from concurrent.futures import Future, as_completed
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.pictures.canonical import (
    EmptyPictureError,
    MissingPictureError,
    Picture,
    TruncatedPictureError,
    decode,
)
from fer_lightning.data.pictures.fact_store import RECORD
from fer_lightning.data.pictures.fingerprints import THUMBNAIL_SIDE, content_digest, perceptual_hashes, thumbnail
from fer_lightning.data.pictures.worker_pool import worker_pool
from fer_lightning.errors import FerError

Box = tuple[int, int, int, int]

_PHOTOS_PER_TASK = 64
_WORTH_A_POOL = 256  # photos: starting the processes takes as long as looking at these


class FileStatus(IntEnum):
    """Whether a row's picture can be used."""

    ok = 0
    missing = 1
    empty = 2
    unreadable = 3
    truncated = 4
    box_outside = 5


class Photo(NamedTuple):
    """A file and the faces that are wanted of it."""

    path: str
    positions: Sequence[int]
    """What the caller knows each face by."""
    boxes: Sequence[Box | None]
    """Top, left, right, bottom of each face; None: the whole photo."""


class Looks(NamedTuple):
    """What was seen; entry i of each array belongs to one face."""

    positions: NDArray[np.int64]
    records: NDArray[np.void]
    """`RECORD` without its key."""
    thumbnails: NDArray[np.uint8]
    lasting: NDArray[np.bool_]
    """Whether it stays true while the file does; a file that could not be opened may open the next time."""


def look_at_photos(photos: Sequence[Photo], *, num_workers: int) -> Generator[Looks]:
    """Look at photos, some at a time, in the order in which they are done.

    Args:
        photos: the photos.
        num_workers: processes; 0 or 1, or few photos: this one.

    Raises:
        FerError: a process was killed from outside.
    """
    tasks = [photos[start : start + _PHOTOS_PER_TASK] for start in range(0, len(photos), _PHOTOS_PER_TASK)]
    if num_workers <= 1 or len(photos) < _WORTH_A_POOL:
        yield from map(_look_at, tasks)
        return
    advice = "with fewer processes (data.num_workers)"
    with worker_pool(min(num_workers, len(tasks)), task="looks at pictures", advice=advice) as pool:
        futures: set[Future[Looks]] = {pool.submit(_look_at, task) for task in tasks}
        for future in as_completed(futures):
            futures.discard(future)  # its arrays are not kept
            yield future.result()


def _look_at(photos: Sequence[Photo]) -> Looks:
    positions = np.asarray([position for photo in photos for position in photo.positions], dtype=np.int64)
    records = np.zeros(len(positions), dtype=RECORD)
    thumbnails = np.zeros((len(positions), THUMBNAIL_SIDE, THUMBNAIL_SIDE), dtype=np.uint8)
    lasting = np.ones(len(positions), dtype=np.bool_)
    face = 0
    for photo in photos:
        faces = slice(face, face + len(photo.boxes))
        face = faces.stop
        try:
            picture = decode(Path(photo.path))
        except FerError as error:
            records["status"][faces] = _status_of(error)
            lasting[faces] = error.__cause__ is None and not isinstance(error, EmptyPictureError)
            continue
        for index, box in zip(range(faces.start, faces.stop), photo.boxes, strict=True):
            _take_down(picture, box, records, thumbnails, index)
    usable = records["status"] == FileStatus.ok
    records["hash"][usable], records["mirrored_hash"][usable] = perceptual_hashes(thumbnails[usable])
    return Looks(positions, records, thumbnails, lasting)


def _status_of(error: FerError) -> FileStatus:
    kinds = {
        MissingPictureError: FileStatus.missing,
        EmptyPictureError: FileStatus.empty,
        TruncatedPictureError: FileStatus.truncated,
    }
    return kinds.get(type(error), FileStatus.unreadable)


def _take_down(
    picture: Picture, box: Box | None, records: NDArray[np.void], thumbnails: NDArray[np.uint8], index: int
) -> None:
    height, width = picture.shape[:2]
    if box is not None:
        top, left, right, bottom = box
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            records["status"][index] = FileStatus.box_outside
            return
        picture = picture[top:bottom, left:right]
    records["height"][index], records["width"][index] = height, width
    records["content"][index] = content_digest(picture)
    thumbnails[index] = thumbnail(picture)
