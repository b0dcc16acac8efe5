"""The one DataModule: batches of a manifest's splits for every Lightning module."""

import os
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.data.batches.augment import jitter_colours, to_float
from fer_lightning.data.batches.dataset import Batch, EvalRows, TrainRows
from fer_lightning.data.batches.loader import Loader, make_loader
from fer_lightning.data.batches.row_logits import RowLogits
from fer_lightning.data.batches.sampling import Sampling, TrainBatches, make_train_batches
from fer_lightning.data.batches.targets import RowTargets
from fer_lightning.data.config import AugmentationConfig, AugmentationKind
from fer_lightning.data.pictures.store import PictureStore
from fer_lightning.data.selection import Selection
from fer_lightning.errors import FerError

_MOST_WORKERS = 8


def worker_count(wanted: int | None) -> int:
    """Return the number of loader threads or processes: as wanted, or one less than the processors, at most 8."""
    if wanted is not None:
        return wanted
    return min(_MOST_WORKERS, max((os.cpu_count() or 1) - 1, 0))


def eval_loader(
    selection: Selection,
    split: str,
    store: PictureStore,
    *,
    batch_size: int,
    num_workers: int,
    rank: int = 0,
    world_size: int = 1,
) -> Loader:
    """Return a loader over a split in manifest order, every row once.

    Of several ranks each gets every so many-th batch, and all get the same number: where they do not share out evenly, the
    last ones get batches that another rank has too. A rank with fewer batches would let the others wait for ever, as
    they exchange their buffers before each one.

    Args:
        selection: rows per split.
        split: which of them.
        store: their pictures.
        batch_size: rows at a time.
        num_workers: threads beside the main one.
        rank: this rank.
        world_size: number of ranks.

    Raises:
        FerError: the split has no rows.
    """
    rows = selection.rows[split]
    if not len(rows):
        raise FerError(
            f"split {split!r} of {selection.manifest.path} has no rows after source_filter={selection.filter_report.name}"
        )
    batches = [list(range(start, min(start + batch_size, len(rows)))) for start in range(0, len(rows), batch_size)]
    batches = [batches[(rank + turn) % len(batches)] for turn in range(0, len(batches), world_size)]
    return make_loader(EvalRows(selection.manifest, rows, store), batches, num_workers=num_workers, processes=False)


class FerDataModule(lightning.LightningDataModule):
    """Train, val and test batches of a selection.

    Colour jitter runs batched on an accelerator; where the device is the CPU, the loader applies it to the bytes, which
    costs a tenth. The step to floats runs on the device.
    """

    def __init__(
        self,
        selection: Selection,
        store: PictureStore,
        augmentation: AugmentationConfig,
        *,
        batch_size: int,
        sampling: Sampling,
        targets: RowTargets | None = None,
        row_logits: RowLogits | None = None,
        negatives: NDArray[np.bool_] | None = None,
        seed: int,
        num_workers: int,
    ) -> None:
        super().__init__()
        self._selection = selection
        self._store = store
        self._augmentation = augmentation
        self._batch_size = batch_size
        self._sampling = sampling
        self._targets = targets
        self._row_logits = row_logits
        self._negatives = negatives
        self._seed = seed
        self._num_workers = num_workers

    def rows(self, split: str) -> Tensor:
        """Return the row numbers of a split, in manifest order."""
        return torch.from_numpy(self._selection.rows[split])

    def train_batches(self) -> TrainBatches:
        """Return this rank's batch sampler."""
        rank, world_size = self._place()
        rows = self._selection.rows["train"]
        if not len(rows):
            raise FerError(f"{self._selection.manifest.path} has no train rows")
        return make_train_batches(
            self._selection.manifest,
            rows,
            self._sampling,
            batch_size=self._batch_size,
            seed=self._seed,
            rank=rank,
            world_size=world_size,
        )

    def train_dataloader(self) -> Loader:
        """Return the training loader; each batch is made whole by one thread or process."""
        selection = self._selection
        batches = self.train_batches()
        if self.trainer is not None:
            # Lightning calls set_epoch only after a resumed run's first iterator has begun to prefetch, and
            # `current_epoch` is still 0 then; these counters are right as soon as the checkpoint is loaded.
            loop = self.trainer.fit_loop
            epochs: Any = loop.epoch_progress.current
            done: Any = loop.epoch_loop.batch_progress.current
            batches.follow(lambda: epochs.processed, lambda: done.processed)
        rows = TrainRows(
            selection.manifest,
            selection.rows["train"],
            self._store,
            self._augmentation,
            seed=self._seed,
            targets=self._targets,
            jitter_here=not self._on_accelerator(),
            row_logits=self._row_logits,
            negatives=self._negatives,
        )
        return make_loader(
            rows,
            batches,
            num_workers=self._num_workers,
            processes=self._augmentation.kind in {AugmentationKind.strong, AugmentationKind.custom},
            pin_memory=self._device_type() == "cuda",
        )

    def val_dataloader(self) -> Loader:
        """Return the val loader."""
        return self._eval_loader("val")

    def test_dataloader(self) -> Loader:
        """Return the test loader."""
        return self._eval_loader("test")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Turn uint8 pictures into floats in [0, 1], and apply the colour jitter that is still to be applied."""
        pictures = to_float(batch.pictures)
        if batch.jitters.shape[1]:
            pictures = jitter_colours(pictures, batch.jitters)
        drawn: Batch = batch._replace(pictures=pictures)
        return drawn

    def _device_type(self) -> str:
        return "cpu" if self.trainer is None else str(self.trainer.strategy.root_device.type)

    def _on_accelerator(self) -> bool:
        return self._device_type() != "cpu"

    def _place(self) -> tuple[int, int]:
        """Return this process's rank, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _eval_loader(self, split: str) -> Loader:
        rank, world_size = self._place()
        return eval_loader(
            self._selection,
            split,
            self._store,
            batch_size=self._batch_size,
            num_workers=self._num_workers,
            rank=rank,
            world_size=world_size,
        )
