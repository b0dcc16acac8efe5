"""The canonical picture: the one deterministic way from a file to uint8 RGB, shared by every consumer."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import FerError

Picture = NDArray[np.uint8]

# A loader process forked while OpenCV's thread pool exists would wait for its threads forever, and pictures this small
# gain nothing from them: one process, one thread.
cv2.setNumThreads(1)

_VERSION = 1  # raise when the same spec would give other pixels


@dataclass(frozen=True, kw_only=True)
class CanonicalSpec:
    """Parameters of the canonical picture."""

    size: int
    """Side of the square in pixels."""
    clahe: bool = True
    clahe_clip_limit: float = 2.0
    clahe_tiles: int = 8

    def digest(self) -> str:
        """Return the SHA-256 of the parameters: equal digests, equal pictures."""
        fields = {"version": _VERSION, **asdict(self), "clahe_clip_limit": float(self.clahe_clip_limit)}
        if not self.clahe:
            del fields["clahe_clip_limit"], fields["clahe_tiles"]
        return hashlib.sha256(repr(sorted(fields.items())).encode()).hexdigest()


def decode(path: Path) -> Picture:
    """Decode an image file to (H, W, 3) uint8 RGB, EXIF orientation applied, grey repeated.

    Raises:
        FerError: missing, empty or broken file.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)  # cv2.imread cannot open non-ASCII paths on Windows
    except OSError as error:
        raise FerError(f"cannot read {path}: {error.strerror}") from error
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as error:  # the header claims more pixels than OpenCV takes
        raise FerError(f"cannot decode {path} ({data.size} bytes): {error.err}") from None
    if image is None:
        raise FerError(f"cannot decode {path} ({data.size} bytes)")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def canonical_picture(image: Picture, bbox: Sequence[int] | None, spec: CanonicalSpec) -> Picture:
    """Crop, resize and equalise a decoded image.

    The resize is by pixel area where the crop is larger than the square in both directions, else bilinear. CLAHE comes
    after the resize: OpenCV rounds its clip limit to whole counts per tile, which makes it a no-op on 48-100 px faces.

    Args:
        image: (H, W, 3) uint8 RGB.
        bbox: top, left, right, bottom in pixels (right and bottom exclusive), or None for the whole image.
        spec: parameters.

    Returns:
        (size, size, 3) uint8 RGB.

    Raises:
        FerError: the box does not lie inside the image.
    """
    if bbox is not None:
        top, left, right, bottom = bbox
        height, width = image.shape[:2]
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise FerError(
                f"box {tuple(bbox)} (top, left, right, bottom) is outside an image of {height} x {width} pixels"
            )
        image = image[top:bottom, left:right]
    if image.shape[:2] != (spec.size, spec.size):
        shrinks = min(image.shape[:2]) > spec.size
        resampling = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        image = cv2.resize(image, (spec.size, spec.size), interpolation=resampling).astype(np.uint8, copy=False)
    return _equalise(image, spec) if spec.clahe else np.ascontiguousarray(image)


def _equalise(image: Picture, spec: CanonicalSpec) -> Picture:
    """Apply CLAHE to L of LAB."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    clahe = cv2.createCLAHE(spec.clahe_clip_limit, (spec.clahe_tiles, spec.clahe_tiles))
    lab[..., 0] = clahe.apply(np.ascontiguousarray(lab[..., 0]))
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).astype(np.uint8, copy=False)
