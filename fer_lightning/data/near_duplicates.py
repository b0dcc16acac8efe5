"""Pairs of pictures that are copies of each other but for encoding, size or mirroring."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.image_facts import ImageFacts


@dataclass(frozen=True)
class NearPairs:
    """Near duplicates among some rows."""

    first: NDArray[np.int64]
    """(p,) row numbers of the manifest."""
    second: NDArray[np.int64]
    distance: NDArray[np.int64]
    """Hamming distance of the perceptual hashes."""
    similarity: NDArray[np.float64]
    """Correlation of the thumbnails, 1 for equal ones."""
    mirrored: NDArray[np.bool_]


def hamming_pairs(hashes: NDArray[np.uint64], others: NDArray[np.uint64] | None = None, *, radius: int) -> NDArray[np.int64]:
    """Find every pair within a Hamming radius without comparing all pairs.

    Returns:
        (p, 2) positions i < j (within one set), or i in `hashes` and j in `others`.
    """
    raise NotImplementedError


def near_duplicates(facts: ImageFacts, *, radius: int = 8, min_similarity: float = 0.975) -> NearPairs:
    """Find pairs whose hashes are close and whose thumbnails agree; equal pixels are left to `ImageFacts.contents`."""
    raise NotImplementedError
