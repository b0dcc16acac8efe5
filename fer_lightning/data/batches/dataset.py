"""Rows to batches of uint8 pictures, inside a loader process."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from fer_lightning.data.batches.augment import (
    LABEL_UNIFORM,
    VIEW_UNIFORM,
    Geometry,
    augmentation_at,
    colour_matrices,
    jitter_bytes,
    jitters_of,
    make_geometry,
    sample_uniforms,
)
from fer_lightning.data.batches.row_logits import NO_VIEW, RowLogits
from fer_lightning.data.batches.sampling import SampleKey
from fer_lightning.data.config import AugmentationConfig, AugmentationKind
from fer_lightning.data.pictures.canonical import Picture, expand
from fer_lightning.data.pictures.store import PictureStore
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.errors import FerError
from fer_lightning.labels import NUM_CLASSES

if TYPE_CHECKING:
    from fer_lightning.data.batches.targets import RowTargets


class Batch(NamedTuple):
    """A batch as it leaves the loader."""

    pictures: Tensor
    """(N, 3, S, S) uint8 RGB."""
    labels: Tensor
    """(N,) int64."""
    rows: Tensor
    """(N,) int64 row numbers of the manifest."""
    jitters: Tensor
    """(N, 4) float32 colour changes still to be applied; (N, 0) where there are none."""
    epoch: int = -1
    """Epoch that a training batch was drawn for; -1 for an evaluation batch."""
    targets: Tensor = torch.empty(0, 0)
    """(N, 7) float32 training targets; (0, 0) where the label is the target."""
    weights: Tensor = torch.empty(0)
    """(N,) float32 loss weights of rows; (0,) where all are 1."""
    partners: Tensor = torch.empty(0, dtype=torch.int64)
    """(N,) int64 place in the batch of the row that each is mixed with; (0,) where nothing is mixed."""
    shares: Tensor = torch.empty(0)
    """(N,) float32 share of each mixed picture that is its own row's; the rest is its partner's."""
    teacher_logits: Tensor = torch.empty(0, 0, 0)
    """(N, M, 7) float32 stored logits of M teachers, NaN for rows without; (0, 0, 0) where nothing is stored."""
    negatives: Tensor = torch.empty(0, 0, dtype=torch.bool)
    """(N, 7) emotions that a row certainly does not show; (0, 0) where they are not used."""


class _Rows(Dataset[Batch]):
    """Canonical pictures of some manifest rows."""

    def __init__(self, manifest: Manifest, rows: NDArray[np.int64], store: PictureStore) -> None:
        self._labels = manifest.labels[rows]
        self._rows = rows
        self._pictures = store.pictures(rows)
        self._size = store.spec.size

    def __len__(self) -> int:
        return len(self._rows)

    def _empty(self, count: int) -> NDArray[np.uint8]:
        return np.empty((count, self._size, self._size, 3), dtype=np.uint8)

    def _batch(
        self, pictures: NDArray[np.uint8], positions: NDArray[np.int64], labels: NDArray[np.int64], jitters: Tensor
    ) -> Batch:
        # Channels-last memory, channels-first shape: what convolutions on CPU and GPU like best.
        return Batch(
            torch.from_numpy(pictures).permute(0, 3, 1, 2),
            torch.from_numpy(labels),
            torch.from_numpy(self._rows[positions]),
            jitters,
        )


class TrainRows(_Rows):
    """Augmented pictures; indexed by a list of sample keys of one epoch, one batch at a time.

    Where teacher logits come with views, a picture is shown through a drawn one instead of the augmentation's random
    crop and flip (and its ramp): the pixels that the teacher saw, were it of this size. The colour jitter follows as
    ever, although the teacher saw none; `none` leaves the teacher's pixels alone. Rows without logits are augmented.

    Args:
        manifest: the manifest.
        rows: the split's rows.
        store: where their canonical pictures come from.
        augmentation: recipe.
        seed: of the run.
        targets: what the rows teach and how much they weigh; None: their labels, alike.
        jitter_here: change colours here, on bytes, where the device is this CPU; else the batch carries the changes.
        row_logits: stored teacher logits of the rows.
        negatives: (len(rows), 7) emotions that each row does not show.

    Raises:
        FerError: teacher logits or negatives of other rows, or views together with an augmentation that they cannot replace.
    """

    def __init__(
        self,
        manifest: Manifest,
        rows: NDArray[np.int64],
        store: PictureStore,
        augmentation: AugmentationConfig,
        *,
        seed: int,
        targets: "RowTargets | None" = None,
        jitter_here: bool = False,
        row_logits: RowLogits | None = None,
        negatives: NDArray[np.bool_] | None = None,
    ) -> None:
        super().__init__(manifest, rows, store)
        if row_logits is not None:
            row_logits.check_fits(len(rows), augmentation)
        if negatives is not None and (negatives.shape != (len(rows), NUM_CLASSES) or negatives.dtype != np.bool_):
            raise FerError(
                f"negatives must be bool of {(len(rows), NUM_CLASSES)}, got {negatives.dtype} of {negatives.shape}"
            )
        self._row_logits = row_logits
        self._negatives = negatives
        self._augmentation = augmentation
        self._targets = targets
        self._seed = seed
        self._jitter_here = jitter_here
        reach = (augmentation.brightness, augmentation.contrast, augmentation.saturation, augmentation.hue)
        self._jitters = augmentation.kind is not AugmentationKind.none and any(reach)
        self._strengths: dict[int, tuple[AugmentationConfig, Geometry]] = {}

    def __getitem__(self, keys: list[SampleKey]) -> Batch:
        """Return the batch of these keys."""
        positions = np.fromiter((key.position for key in keys), dtype=np.int64, count=len(keys))
        slots = np.fromiter((key.slot for key in keys), dtype=np.int64, count=len(keys))
        epoch, first = keys[0].epoch, int(slots.min())
        augmentation, geometry = self._at(epoch)
        uniforms = sample_uniforms(self._seed, epoch, first, int(slots.max()) - first + 1)[slots - first]
        jitters = jitters_of(augmentation, uniforms) if self._jitters else np.empty((len(keys), 0), np.float32)
        views = self._drawn_views(positions, uniforms)
        shown = (
            self._shown(position, uniforms[index], geometry, view)
            for index, (position, view) in enumerate(zip(positions.tolist(), views.tolist(), strict=True))
        )
        pictures = self._empty(len(keys))
        if self._jitters and self._jitter_here:
            matrices = colour_matrices(torch.from_numpy(jitters)).numpy()
            for index, changed in enumerate(shown):
                jitter_bytes(changed, jitters[index], matrices[index], pictures[index])
            jitters = jitters[:, :0]
        else:
            for index, changed in enumerate(shown):
                expand(changed, pictures[index])
        plain = self._batch(pictures, positions, self._labels[positions], torch.from_numpy(jitters))
        taught = self._teach(plain._replace(epoch=epoch), positions, uniforms[:, LABEL_UNIFORM])
        return self._guide(taught, positions, views)

    def _at(self, epoch: int) -> tuple[AugmentationConfig, Geometry]:
        """Return the augmentation of an epoch; made where it runs: a closure does not travel to a spawned process."""
        step = min(epoch, self._augmentation.ramp_epochs)
        if step not in self._strengths:
            augmentation = augmentation_at(self._augmentation, step)
            self._strengths[step] = augmentation, make_geometry(augmentation)
        return self._strengths[step]

    def _drawn_views(self, positions: NDArray[np.int64], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        if self._row_logits is None:
            return np.full(len(positions), NO_VIEW)
        return self._row_logits.drawn_views(positions, uniforms[:, VIEW_UNIFORM])

    def _shown(self, position: int, uniforms: NDArray[np.float64], geometry: Geometry, view: int) -> Picture:
        picture = self._pictures(position)
        if self._row_logits is None or view == NO_VIEW:
            return geometry(picture, uniforms)
        return self._row_logits.picture(picture, position, view)

    def _teach(self, batch: Batch, positions: NDArray[np.int64], draws: NDArray[np.float64]) -> Batch:
        if self._targets is None:
            return batch
        batch = batch._replace(labels=torch.from_numpy(self._targets.labels(positions, draws)))
        targets, weights = self._targets.targets(positions, draws), self._targets.weights(positions)
        if targets is not None:
            batch = batch._replace(targets=torch.from_numpy(targets))
        return batch if weights is None else batch._replace(weights=torch.from_numpy(weights))

    def _guide(self, batch: Batch, positions: NDArray[np.int64], views: NDArray[np.int64]) -> Batch:
        """Add what is known beside the labels."""
        if self._row_logits is not None:
            batch = batch._replace(teacher_logits=torch.from_numpy(self._row_logits.logits(positions, views)))
        if self._negatives is not None:
            batch = batch._replace(negatives=torch.from_numpy(self._negatives[positions]))
        return batch


class EvalRows(_Rows):
    """Canonical pictures as they are; indexed by a list of positions, one batch at a time."""

    def __getitem__(self, positions: list[int]) -> Batch:
        """Return the batch at these positions."""
        pictures = self._empty(len(positions))
        for index, position in enumerate(positions):
            expand(self._pictures(position), pictures[index])
        at = np.asarray(positions, dtype=np.int64)
        return self._batch(pictures, at, self._labels[at], torch.zeros(len(positions), 0))
