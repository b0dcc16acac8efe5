"""Views of a picture that a teacher and its student share: crops whose draws are a row's own, and how to see them again."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.batches.augment import crop_and_flip
from fer_lightning.data.pictures.canonical import Picture
from fer_lightning.data.pictures.store import Pictures, PictureStore
from fer_lightning.data.rows.manifest import Manifest

NUM_DRAWS = 5
"""Random numbers of one view: crop 0-3, mirror 4, as the light augmentation takes them."""
CROP_FLIP_PROBABILITY = 0.5


class PictureView(Protocol):
    """How draws become a crop and a mirror."""

    @property
    def crop_scale_min(self) -> float:
        """Smallest area share of the crop."""
        ...

    @property
    def crop_ratio_max(self) -> float:
        """Largest aspect ratio of the crop; the smallest is its inverse."""
        ...

    @property
    def flip_probability(self) -> float:
        """0: never mirrored, 1: always; between: by the last draw."""
        ...


@dataclass(frozen=True)
class CropView:
    """One of several random crops of every row, mirrored in half of them."""

    index: int
    """0-based."""
    seed: int
    crop_scale_min: float
    """Smallest area share."""
    crop_ratio_max: float
    """Largest aspect ratio; the smallest is its inverse."""

    @property
    def name(self) -> str:
        """What the view is called in file names and records; equal names, equal pictures."""
        return f"crop-{self.index}_s{self.crop_scale_min!r}_r{self.crop_ratio_max!r}_seed{self.seed}"

    @property
    def flip_probability(self) -> float:
        """Of the mirror."""
        return CROP_FLIP_PROBABILITY


def view_picture(picture: Picture, draws: NDArray[np.float64], view: PictureView) -> Picture:
    """Return a picture as a view shows it; the same draws on the same picture give the same pixels.

    Args:
        picture: compact canonical picture, (S, S) or (S, S, 3); not written to.
        draws: (5,) in [0, 1), those of `crop_draws`, or recorded beside soft labels.
        view: how draws become a crop.
    """
    return crop_and_flip(
        picture,
        draws,
        crop_scale_min=view.crop_scale_min,
        crop_ratio_max=view.crop_ratio_max,
        flip_probability=view.flip_probability,
    )


def crop_draws(view: CropView, row_ids: Sequence[str]) -> NDArray[np.float64]:
    """Return the random numbers of each row's crop: (N, 5) in [0, 1).

    A row's numbers depend on the seed, the index of the view and the row's id; on no other row, order or process.

    Args:
        view: which crop.
        row_ids: of the rows.
    """
    draws = np.empty((len(row_ids), NUM_DRAWS), dtype=np.float64)
    prefix = hashlib.sha256(f"{view.seed}\n{view.index}\n".encode())
    for place, row_id in enumerate(row_ids):
        digest = prefix.copy()
        digest.update(row_id.encode())
        key = int.from_bytes(digest.digest()[:16], "little")
        np.random.Generator(np.random.Philox(key=key)).random(out=draws[place])
    return draws


class _CroppedPictures:
    """Crops of some pictures; travels to loader processes."""

    def __init__(self, pictures: Pictures, draws: NDArray[np.float64], view: CropView) -> None:
        self._pictures = pictures
        self._draws = draws
        self._view = view

    def __call__(self, position: int) -> Picture:
        """Return the crop of the picture at a position of the rows."""
        return view_picture(self._pictures(position), self._draws[position], self._view)


class _CroppedStore:
    """A store that shows another one's pictures through a crop."""

    def __init__(self, store: PictureStore, manifest: Manifest, view: CropView) -> None:
        self.spec = store.spec
        self._store = store
        self._manifest = manifest
        self._view = view

    def pictures(self, rows: NDArray[np.int64]) -> Pictures:
        """Return the crops of some rows."""
        draws = crop_draws(self._view, [self._manifest.row_ids[row] for row in rows.tolist()])
        return _CroppedPictures(self._store.pictures(rows), draws, self._view)


def cropped_store(store: PictureStore, manifest: Manifest, view: CropView) -> PictureStore:
    """Return a store of crops: of canonical pictures, after CLAHE, as augmentation crops them.

    Its spec is that of the whole pictures, which each crop is enlarged to.

    Args:
        store: of the whole pictures.
        manifest: the rows of both.
        view: which crop.
    """
    return _CroppedStore(store, manifest, view)
