"""Rows to batches of uint8 pictures, inside a loader process."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from fer_lightning.data.augment import draw_jitter, make_geometry, sample_generator
from fer_lightning.data.canonical import CanonicalSpec, Picture, canonical_picture, decode
from fer_lightning.data.config import AugmentationConfig, AugmentationKind
from fer_lightning.data.manifest import Manifest
from fer_lightning.data.sampling import SampleKey
from fer_lightning.errors import FerError


class Batch(NamedTuple):
    """A batch as it leaves the loader."""

    pictures: Tensor
    """(N, 3, S, S) uint8 RGB."""
    labels: Tensor
    """(N,) int64."""
    rows: Tensor
    """(N,) int64 row numbers of the manifest."""
    jitters: Tensor
    """(N, 4) float32 colour changes still to be applied; (N, 0) for an evaluation batch."""
    epoch: int = -1
    """Epoch that a training batch was drawn for; -1 for an evaluation batch."""


class _Rows(Dataset[Batch]):
    """Canonical pictures of some manifest rows."""

    def __init__(self, manifest: Manifest, rows: NDArray[np.int64], spec: CanonicalSpec) -> None:
        self._root = manifest.root
        self._paths = [manifest.image_paths[row] for row in rows]
        self._bboxes = manifest.bboxes[rows]
        self._labels = torch.from_numpy(manifest.labels[rows])
        self._lines = manifest.lines[rows]
        self._rows = torch.from_numpy(rows)
        self._spec = spec

    def __len__(self) -> int:
        return len(self._paths)

    def picture(self, position: int) -> Picture:
        """Return the canonical picture at a position of the split."""
        bbox = self._bboxes[position]
        try:
            image = decode(self._root / self._paths[position])
            return canonical_picture(image, None if bbox[0] < 0 else bbox.tolist(), self._spec)
        except FerError as error:
            raise FerError(f"manifest line {self._lines[position]}, {self._paths[position]}: {error}") from None

    def _empty(self, count: int) -> NDArray[np.uint8]:
        return np.empty((count, self._spec.size, self._spec.size, 3), dtype=np.uint8)

    def _batch(self, pictures: NDArray[np.uint8], positions: list[int], jitters: Tensor) -> Batch:
        # Channels-last memory, channels-first shape: what convolutions on CPU and GPU like best.
        return Batch(
            torch.from_numpy(pictures).permute(0, 3, 1, 2), self._labels[positions], self._rows[positions], jitters
        )


class TrainRows(_Rows):
    """Augmented pictures; indexed by a list of sample keys, one batch at a time."""

    def __init__(
        self,
        manifest: Manifest,
        rows: NDArray[np.int64],
        spec: CanonicalSpec,
        augmentation: AugmentationConfig,
        *,
        seed: int,
    ) -> None:
        super().__init__(manifest, rows, spec)
        self._augmentation = augmentation
        self._seed = seed

    def __getitem__(self, keys: list[SampleKey]) -> Batch:
        """Return the batch of these keys."""
        if not hasattr(self, "_geometry"):  # made where it runs: a closure does not travel to a spawned process
            self._geometry = make_geometry(self._augmentation)
        pictures = self._empty(len(keys))
        jitters = torch.zeros(len(keys), 4)
        for index, key in enumerate(keys):
            random = sample_generator(self._seed, key.epoch, key.slot)
            pictures[index] = self._geometry(self.picture(key.position), random)
            jitters[index] = torch.tensor(draw_jitter(self._augmentation, random))
        if self._augmentation.kind is AugmentationKind.none:
            jitters = torch.zeros(len(keys), 0)
        return self._batch(pictures, [key.position for key in keys], jitters)._replace(epoch=keys[0].epoch)


class EvalRows(_Rows):
    """Canonical pictures as they are; indexed by a list of positions, one batch at a time."""

    def __getitem__(self, positions: list[int]) -> Batch:
        """Return the batch at these positions."""
        pictures = self._empty(len(positions))
        for index, position in enumerate(positions):
            pictures[index] = self.picture(position)
        return self._batch(pictures, positions, torch.zeros(len(positions), 0))
