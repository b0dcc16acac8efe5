"""Small pictures of manifest rows, as data URIs for pages of one file."""

import base64
from pathlib import Path

import cv2
import numpy as np

from fer_lightning.data.pictures.canonical import Picture, decode
from fer_lightning.errors import FerError

_SIDE = 128
_QUALITY = 80
_BOX_COLOUR = (255, 40, 40)


def thumbnail(path: Path, bbox: tuple[int, int, int, int] | None, *, whole: bool) -> str | None:
    """Return a picture as a JPEG data URI; None where it cannot be read.

    Args:
        path: the picture file.
        bbox: top, left, right, bottom of the face, or None for the whole picture.
        whole: show the whole picture with the box drawn into it, instead of what is inside the box.
    """
    try:
        picture = decode(path)
    except FerError:
        return None
    if bbox is not None and not whole:
        top, left, right, bottom = bbox
        picture = picture[top:bottom, left:right]
    if picture.size == 0:
        return None
    small, scale = _shrunk(picture)
    if bbox is not None and whole:
        small = _with_box(small, [round(side * scale) for side in bbox])
    _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def _shrunk(picture: Picture) -> tuple[Picture, float]:
    height, width = picture.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    if scale == 1.0:
        return np.ascontiguousarray(picture), scale
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False), scale


def _with_box(picture: Picture, box: list[int]) -> Picture:
    """Draw a box; what lies outside the picture lies on a margin added for it, as wide as the picture at most."""
    height, width = picture.shape[:2]
    top, left, right, bottom = box
    below, beside = (min(max(0, end - side + 3), side) for end, side in ((bottom, height), (right, width)))
    grown = cv2.copyMakeBorder(picture, 0, below, 0, beside, cv2.BORDER_CONSTANT, value=(225, 225, 225))
    drawn: Picture = cv2.rectangle(grown, (left, top), (right - 1, bottom - 1), _BOX_COLOUR, 2).astype(np.uint8)
    return drawn
