"""Facts and near copies of rows, made by hand."""

from collections.abc import Sequence

import numpy as np

from fer_lightning.data.copies.near_duplicates import NearPairs
from fer_lightning.data.pictures.image_facts import THUMBNAIL_SIDE, FileStatus, ImageFacts


def make_facts(
    contents: str, *, statuses: dict[int, FileStatus] | None = None, sizes: Sequence[tuple[int, int]] | None = None
) -> ImageFacts:
    """Facts of rows 0, 1, ...: rows of equal letters have equal pixels; 48 x 48 pixels unless sizes (h, w) are given."""
    count = len(contents)
    status = np.zeros(count, dtype=np.uint8)
    for row, value in (statuses or {}).items():
        status[row] = value
    usable = status == FileStatus.ok
    height_and_width = np.asarray(sizes or [(48, 48)] * count, dtype=np.int32).reshape(count, 2) * usable[:, None]
    digests = np.asarray([[ord(letter) % 3, ord(letter)] for letter in contents], dtype=np.uint64).reshape(count, 2)
    return ImageFacts(
        rows=np.arange(count),
        status=status,
        heights=height_and_width[:, 0],
        widths=height_and_width[:, 1],
        contents=digests * usable[:, None].astype(np.uint64),
        hashes=np.zeros(count, dtype=np.uint64),
        mirrored_hashes=np.zeros(count, dtype=np.uint64),
        thumbnails=np.zeros((count, THUMBNAIL_SIDE, THUMBNAIL_SIDE), dtype=np.uint8),
    )


def make_pairs(*pairs: tuple[int, int, float, bool]) -> NearPairs:
    """Near copies: first row, second row, similarity, mirrored."""
    columns = list(zip(*pairs, strict=True)) or [(), (), (), ()]
    return NearPairs(
        first=np.asarray(columns[0], dtype=np.int64),
        second=np.asarray(columns[1], dtype=np.int64),
        distance=np.zeros(len(pairs), dtype=np.int64),
        similarity=np.asarray(columns[2], dtype=np.float64),
        mirrored=np.asarray(columns[3], dtype=np.bool_),
    )
