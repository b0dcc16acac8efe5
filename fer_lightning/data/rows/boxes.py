"""Checks that boxes lie inside their images, from image headers alone."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from fer_lightning.data.rows.faults import Fault, FaultKind
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.errors import FerError

_EXIF_ORIENTATION = 0x0112
_TURNED_SIDEWAYS = {5, 6, 7, 8}
_THREADS = 8
_WORTH_A_BAR = 5000


def boxes_outside_images(manifest: Manifest, rows: NDArray[np.int64]) -> list[Fault]:
    """Find rows whose box does not lie inside the image, or whose image has no readable header.

    Args:
        manifest: the manifest.
        rows: row numbers to look at; rows without a box cost nothing.
    """
    boxed = rows[manifest.has_bbox[rows]]
    paths = sorted({manifest.image_paths[row] for row in boxed})
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = pool.map(lambda path: image_size(manifest.root / path), paths)
        bar = tqdm(sizes, total=len(paths), desc="checking boxes", unit="image", disable=len(paths) < _WORTH_A_BAR)
        size_of = dict(zip(paths, bar, strict=True))
    faults = []
    for row in boxed.tolist():
        path, (top, left, right, bottom) = manifest.image_paths[row], manifest.bboxes[row].tolist()
        size = size_of[path]
        if size is None:
            faults.append(
                Fault(int(manifest.lines[row]), "image_path", path, "not a readable image", FaultKind.unreadable)
            )
        elif bottom > size[0] or right > size[1]:
            reason = f"box is outside its image of {size[0]} x {size[1]} pixels (height x width)"
            faults.append(
                Fault(int(manifest.lines[row]), "bbox", f"{top},{left},{right},{bottom}", reason, FaultKind.box_outside)
            )
    return faults


def image_size(path: Path) -> tuple[int, int] | None:
    """Return (height, width) as the decoder will see it: EXIF orientation applied."""
    try:
        with Image.open(path) as image:
            if image.getexif().get(_EXIF_ORIENTATION) not in _TURNED_SIDEWAYS:
                return image.height, image.width
    except Image.DecompressionBombError:
        pass  # too large for Pillow, not for the decoder
    except (UnidentifiedImageError, OSError):
        return None
    return _decoded_size(path)


def _decoded_size(path: Path) -> tuple[int, int] | None:
    """Ask the decoder: on turned images Pillow differs from it (XMP tags; TIFF, whose sides it has swapped already)."""
    from fer_lightning.data.pictures.canonical import decode  # OpenCV

    try:
        height, width = decode(path).shape[:2]
    except FerError:
        return None
    return height, width
