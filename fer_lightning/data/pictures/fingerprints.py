"""Fingerprints of a picture: a digest of its pixels, a grey thumbnail, and perceptual hashes of that and its mirror image."""

import hashlib

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.pictures.canonical import Picture

THUMBNAIL_SIDE = 32

_FREQUENCIES = 8  # the lowest in each direction
_SCALE = 2**14
# Whole numbers: every sum is exact in float64, so a hash does not depend on how a matrix product is ordered.
_COSINES = np.rint(
    _SCALE * np.cos(np.pi / THUMBNAIL_SIDE * np.outer(np.arange(_FREQUENCIES), np.arange(THUMBNAIL_SIDE) + 0.5))
)
_MIRROR_SIGNS = np.where(np.arange(_FREQUENCIES) % 2, -1.0, 1.0)  # an odd cosine changes its sign from left to right
_BIT_VALUES = np.uint64(1) << np.arange(_FREQUENCIES**2, dtype=np.uint64)


def content_digest(picture: Picture) -> NDArray[np.uint64]:
    """Return 128 bits of the pixels and shape of a picture: (2,) uint64.

    Args:
        picture: (H, W, 3) RGB or (H, W) grey; three equal channels count as grey.
    """
    if picture.ndim == 3 and _is_grey(picture):
        picture = picture[..., 0]
    digest = hashlib.blake2b(repr(picture.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(picture).data)
    return np.frombuffer(digest.digest(), dtype="<u8")


def _is_grey(picture: Picture) -> bool:
    for rows in (picture[: 1 + len(picture) // 16], picture):  # colour shows in the first rows already
        red, green, blue = rows[..., 0], rows[..., 1], rows[..., 2]
        if not (np.array_equal(red, green) and np.array_equal(red, blue)):
            return False
    return True


def thumbnail(picture: Picture) -> NDArray[np.uint8]:
    """Return a picture as (32, 32) grey, resampled by pixel area."""
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(np.ascontiguousarray(grey), (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)
    return small.astype(np.uint8, copy=False)


def perceptual_hashes(thumbnails: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Hash thumbnails, and their mirror images, by which of their low frequencies exceed the median.

    A bit per coefficient of the 8 x 8 lowest frequencies of the DCT, 0 for the constant one: brightness and contrast do
    not count. A flat picture has the hash 0.

    Args:
        thumbnails: (n, 32, 32) grey.

    Returns:
        (n,) hashes and (n,) hashes of the mirror images.
    """
    means = np.rint(thumbnails.mean(axis=(1, 2), keepdims=True))
    coefficients = _COSINES @ (thumbnails - means) @ _COSINES.T
    return _bits(coefficients), _bits(coefficients * _MIRROR_SIGNS)


def _bits(coefficients: NDArray[np.float64]) -> NDArray[np.uint64]:
    flat = coefficients.reshape(len(coefficients), _FREQUENCIES**2)
    above = flat > np.median(flat[:, 1:], axis=1, keepdims=True)
    above[:, 0] = False
    hashes: NDArray[np.uint64] = np.where(above, _BIT_VALUES, np.uint64(0)).sum(axis=1, dtype=np.uint64)
    return hashes
