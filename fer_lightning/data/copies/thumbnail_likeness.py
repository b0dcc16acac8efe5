"""How alike two pictures are, by the low frequencies of their thumbnails."""

import math

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.pictures.fact_store import Thumbnails
from fer_lightning.data.pictures.fingerprints import THUMBNAIL_SIDE

_COARSE, _FINE = 8, 16  # frequencies in each direction
_COARSE_POWER, _FINE_POWER = 0.5, 1.0
_FINE_SHARE = 0.25
_WORTH_A_CLOSER_LOOK = 0.93
_PAIRS = 1 << 16
_THUMBNAILS = 4096


def _cosines() -> NDArray[np.float64]:
    angles = np.outer(np.arange(_FINE), np.arange(THUMBNAIL_SIDE) + 0.5) * np.pi / THUMBNAIL_SIDE
    basis = np.cos(angles)
    basis[0] /= np.sqrt(2)
    return basis


def _weights(frequencies: int, power: float) -> NDArray[np.float64]:
    """Let high frequencies count about as much as the low ones, which carry most of a picture's variance."""
    index = np.arange(frequencies)
    return np.hypot(*np.meshgrid(index, index)) ** power


def _mirror_signs(frequencies: int) -> NDArray[np.float32]:
    signs = np.where(np.arange(frequencies) % 2, -1, 1).astype(np.float32)
    return np.tile(signs, frequencies)


_COSINES = _cosines()


def _directions(thumbnails: NDArray[np.uint8], frequencies: int, power: float) -> NDArray[np.float32]:
    """Return the weighted frequencies as unit vectors: their dot product is a correlation."""
    basis = _COSINES[:frequencies]
    means = thumbnails.mean(axis=(1, 2), keepdims=True)
    spectrum = (basis @ (thumbnails - means) @ basis.T) * _weights(frequencies, power)
    vectors = spectrum.reshape(len(spectrum), frequencies**2)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    flat = norms[:, 0] < 1e-6  # nothing to compare; the constant's place, which is free, makes flat pictures alike
    vectors[flat], norms[flat] = 0, 1
    vectors[flat, 0] = 1
    directions: NDArray[np.float32] = (vectors / norms).astype(np.float32)
    return directions


class ThumbnailLikeness:
    """Likeness of pairs of pictures, as they are or with one of them mirrored; 1 for equal thumbnails.

    The correlation of the 8 x 8 lowest frequencies outlives encoding and shrinking, which take away detail, but not
    clipped highlights; the correlation of the 16 x 16 lowest, weighted towards detail, outlives a change of light. The
    larger of the two counts, the second with a quarter of what it lacks to 1, and only for pairs that come near.

    Args:
        thumbnails: grey ones; read a part at a time.
        positions: (n,) which of them are compared.
    """

    def __init__(self, thumbnails: Thumbnails, positions: NDArray[np.int64]) -> None:
        self._thumbnails = thumbnails
        self._positions = positions
        self._coarse = np.empty((len(positions), _COARSE**2), dtype=np.float32)
        for start in range(0, len(positions), _THUMBNAILS):
            part = slice(start, start + _THUMBNAILS)
            self._coarse[part] = _directions(thumbnails[positions[part]], _COARSE, _COARSE_POWER)

    def of(self, first: NDArray[np.int64], second: NDArray[np.int64], *, mirrored: bool) -> NDArray[np.float64]:
        """Return the likeness of pairs.

        Args:
            first: (p,) indices into the positions.
            second: (p,) the same; these are mirrored, if any.
            mirrored: compare with the mirror image.
        """
        likeness = np.empty(len(first), dtype=np.float64)
        for start in range(0, len(first), _PAIRS):
            part = slice(start, start + _PAIRS)
            likeness[part] = self._of_some(first[part], second[part], mirrored=mirrored)
        return likeness

    def _of_some(self, first: NDArray[np.int64], second: NDArray[np.int64], *, mirrored: bool) -> NDArray[np.float64]:
        likeness = _dot(self._coarse[first], self._coarse[second], mirrored=mirrored)
        near = np.flatnonzero(likeness >= _WORTH_A_CLOSER_LOOK)
        if len(near):
            shown, index = np.unique(np.concatenate([first[near], second[near]]), return_inverse=True)
            fine = np.empty((len(shown), _FINE**2), dtype=np.float32)
            for start in range(0, len(shown), _THUMBNAILS):
                part = slice(start, start + _THUMBNAILS)
                fine[part] = _directions(self._thumbnails[self._positions[shown[part]]], _FINE, _FINE_POWER)
            closer = _dot(fine[index[: len(near)]], fine[index[len(near) :]], mirrored=mirrored)
            likeness[near] = np.maximum(likeness[near], 1 - _FINE_SHARE * (1 - closer))
        return likeness


def _dot(first: NDArray[np.float32], second: NDArray[np.float32], *, mirrored: bool) -> NDArray[np.float64]:
    if mirrored:
        second = second * _mirror_signs(math.isqrt(second.shape[1]))
    products: NDArray[np.float64] = np.minimum(np.einsum("ij,ij->i", first, second), 1).astype(np.float64)
    return products
