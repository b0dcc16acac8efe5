"""The canonical picture: the one deterministic way from a file to uint8 RGB, shared by every consumer."""

import functools
import hashlib
import io
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import FerError

Picture = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB; where a function says compact, (H, W) stands for a picture whose three channels are equal."""

# A loader process forked while OpenCV's thread pool exists would wait for its threads forever, and pictures this small
# gain nothing from them: one process, one thread.
cv2.setNumThreads(1)
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # a broken picture is named by us, once

_TAIL = 64  # bytes in which a whole file shows its end; padding of a few bytes is common
_VERSION = 2  # raise when the same spec would give other pixels


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


def recorded_digest(parameters: Mapping[str, int | float | bool]) -> str | None:
    """Return the digest of recorded parameters; None where they are not those that this version knows."""
    try:
        return CanonicalSpec(**parameters).digest()  # type: ignore[arg-type]  # by name
    except TypeError:
        return None


class MissingPictureError(FerError):
    """There is no such file."""


class EmptyPictureError(FerError):
    """The file has no bytes."""


class TruncatedPictureError(FerError):
    """The file stops before its picture does."""


def decode(path: Path) -> Picture:
    """Decode an image file to (H, W, 3) uint8 RGB, EXIF orientation applied, grey repeated; raises as `decode_compact`."""
    return expand(decode_compact(path))


def decode_compact(path: Path) -> Picture:
    """Decode an image file to (H, W) where the file is grey, else to (H, W, 3) uint8 RGB; EXIF orientation applied.

    Raises:
        MissingPictureError: no such file.
        EmptyPictureError: no bytes.
        TruncatedPictureError: the file stops early, also where a build of OpenCV fills up what is missing with grey.
        FerError: any other file that is no picture.
    """
    data = _read_bytes(path)
    truncated = TruncatedPictureError(f"cannot decode {path} ({data.size} bytes): it is truncated")
    # libpng would write to stderr of its own accord.
    if data[:4].tobytes() == b"\x89PNG" and not _ends(data) and _is_cut_short(data, decoded=True):
        raise truncated
    try:
        image = cv2.imdecode(data, cv2.IMREAD_ANYCOLOR)
    except cv2.error as error:  # the header claims more pixels than OpenCV takes
        raise FerError(f"cannot decode {path} ({data.size} bytes): {error.err}") from None
    # Junk behind a whole picture hides its end, and a picture may be whole but for its end marker: Pillow decides.
    if (image is None or not _ends(data)) and _is_cut_short(data, decoded=image is not None):
        raise truncated
    if image is None:
        raise FerError(f"cannot decode {path} ({data.size} bytes)")
    rgb = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return rgb.astype(np.uint8, copy=False)


def _read_bytes(path: Path) -> NDArray[np.uint8]:
    try:
        data = np.fromfile(path, dtype=np.uint8)  # cv2.imread cannot open non-ASCII paths on Windows
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingPictureError(f"cannot read {path}: {error.strerror}") from error
    except OSError as error:
        raise FerError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # a name that no file can have
        raise MissingPictureError(f"cannot read {str(path)!r}: {error}") from error
    if not data.size:
        raise EmptyPictureError(f"cannot decode {path} (0 bytes)")
    return data


def _ends(data: NDArray[np.uint8]) -> bool:
    """Tell whether a JPEG or PNG file shows its end marker where it should; other formats are taken as they are."""
    head, tail = data[:4].tobytes(), data[-_TAIL:].tobytes()
    return not ((head[:2] == b"\xff\xd8" and b"\xff\xd9" not in tail) or (head == b"\x89PNG" and b"IEND" not in tail))


def _is_cut_short(data: NDArray[np.uint8], *, decoded: bool) -> bool:
    """Ask Pillow, which decodes to the last pixel or says that the file stops early."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data.tobytes())) as image:
            image.load()
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return not decoded and not _ends(data)
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        return not _ends(data) or "truncated" in str(error).lower()
    return not decoded and not _ends(data)


def canonical_picture(image: Picture, bbox: Sequence[int] | None, spec: CanonicalSpec) -> Picture:
    """Crop, resize and equalise a decoded image.

    The resize is by pixel area where the crop is larger than the square in both directions, else bilinear. CLAHE comes
    after the resize: OpenCV rounds its clip limit to whole counts per tile, which makes it a no-op on 48-100 px faces.
    A grey picture stays grey: OpenCV's way through LAB would set its channels up to 1 apart.

    Args:
        image: (H, W, 3) uint8 RGB, or (H, W) grey.
        bbox: top, left, right, bottom in pixels (right and bottom exclusive), or None for the whole image.
        spec: parameters.

    Returns:
        (size, size, 3) uint8 RGB.

    Raises:
        FerError: the box does not lie inside the image.
    """
    return expand(compact_canonical_picture(image, bbox, spec))


def compact_canonical_picture(
    image: Picture,
    bbox: Sequence[int] | None,
    spec: CanonicalSpec,
    *,
    alter: Callable[[Picture], Picture] | None = None,
) -> Picture:
    """Return the canonical picture as (size, size) where it is grey, else as (size, size, 3); see `canonical_picture`.

    Args:
        image: see `canonical_picture`.
        bbox: see `canonical_picture`.
        spec: parameters.
        alter: applied to the compact picture between the resize and CLAHE; it may not write to what it is given.
    """
    if bbox is not None:
        top, left, right, bottom = bbox
        height, width = image.shape[:2]
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise FerError(
                f"box {tuple(bbox)} (top, left, right, bottom) is outside an image of {height} x {width} pixels"
            )
        image = image[top:bottom, left:right]
    if _is_grey(image):
        image = image[..., 0] if image.ndim == 3 else image
    if image.shape[:2] != (spec.size, spec.size):
        shrinks = min(image.shape[:2]) > spec.size
        resampling = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        image = cv2.resize(image, (spec.size, spec.size), interpolation=resampling).astype(np.uint8, copy=False)
    if alter is not None:
        image = np.ascontiguousarray(alter(image))
    if not spec.clahe:
        return np.ascontiguousarray(image)
    return _equalise_grey(image, spec) if image.ndim == 2 else _equalise_colour(image, spec)


def expand(picture: Picture, out: Picture | None = None) -> Picture:
    """Return a compact picture as (H, W, 3) RGB, in `out` where it is given."""
    if picture.ndim == 2:
        return cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB, dst=out).astype(np.uint8, copy=False)
    if out is None:
        return picture
    out[:] = picture
    return out


def _is_grey(image: Picture) -> bool:
    """Whether the three channels are equal everywhere; one row tells most colour pictures."""
    if image.ndim == 2:
        return True
    middle = image[len(image) // 2]
    if not np.array_equal(middle[:, 0], middle[:, 1]) or not np.array_equal(middle[:, 0], middle[:, 2]):
        return False
    return np.array_equal(image[..., 0], image[..., 1]) and np.array_equal(image[..., 0], image[..., 2])


def _equalise_colour(image: Picture, spec: CanonicalSpec) -> Picture:
    """Apply CLAHE to L of LAB."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = _clahe(spec).apply(np.ascontiguousarray(lab[..., 0]))
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).astype(np.uint8, copy=False)


def _equalise_grey(image: Picture, spec: CanonicalSpec) -> Picture:
    """The same for one channel: both conversions are functions of a pixel's value, and a and b are constant."""
    to_lightness, to_grey = _grey_tables()
    lightness = cv2.LUT(image, to_lightness)
    return cv2.LUT(_clahe(spec).apply(lightness), to_grey).astype(np.uint8, copy=False)


@functools.cache
def _grey_tables() -> tuple[Picture, Picture]:
    """Return OpenCV's grey -> L and L -> grey (the green channel, which differs from the others by 1 at most)."""
    levels = np.arange(256, dtype=np.uint8)[None]
    lab = cv2.cvtColor(cv2.cvtColor(levels, cv2.COLOR_GRAY2RGB), cv2.COLOR_RGB2LAB)
    neutral = np.full((1, 256, 3), 128, dtype=np.uint8)
    neutral[..., 0] = levels
    return np.ascontiguousarray(lab[0, :, 0]), np.ascontiguousarray(cv2.cvtColor(neutral, cv2.COLOR_LAB2RGB)[0, :, 1])


def _clahe(spec: CanonicalSpec) -> cv2.CLAHE:
    return cv2.createCLAHE(spec.clahe_clip_limit, (spec.clahe_tiles, spec.clahe_tiles))
