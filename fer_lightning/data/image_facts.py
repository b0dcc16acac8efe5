"""What is known about the pictures of a manifest's rows: whether they can be used, their size, and their fingerprints."""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.manifest import Manifest

THUMBNAIL_SIDE = 32


class FileStatus(IntEnum):
    """Whether a row's picture can be used."""

    ok = 0
    missing = 1
    empty = 2
    unreadable = 3
    truncated = 4
    box_outside = 5


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
    thumbnails: NDArray[np.uint8]
    """(n, 32, 32) grey; may be a memory map."""


def image_facts(
    manifest: Manifest, rows: NDArray[np.int64], *, store: Path | None, num_workers: int = 0
) -> ImageFacts:
    """Look at the picture of each row, with progress; what a store holds for an unchanged file is not looked at again.

    Args:
        manifest: the manifest.
        rows: row numbers.
        store: folder that keeps facts between calls; None: look at every picture.
        num_workers: processes; 0 or 1: this one.
    """
    raise NotImplementedError
