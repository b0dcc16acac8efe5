"""Batches of the same rows for several models at once: each file decoded once, each canonical picture made once."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.data.pictures.canonical import Picture, decode_compact, expand
from fer_lightning.data.pictures.store import Pictures, PictureStore


class DecodeOnce:
    """Decodes files; the last one of each thread is remembered, for pictures that are cut from it in another way."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def __call__(self, path: Path) -> Picture:
        """Return the decoded file; raises as `decode_compact`."""
        last: tuple[Path, Picture] | None = getattr(self._of_thread, "last", None)
        if last is None or last[0] != path:
            last = self._of_thread.last = (path, decode_compact(path))
        return last[1]


class _Remembered:
    """Pictures whose last one of each thread is remembered."""

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self._of_thread = threading.local()

    def __call__(self, position: int) -> Picture:
        """Return the picture at a position of the rows."""
        last: tuple[int, Picture] | None = getattr(self._of_thread, "last", None)
        if last is None or last[0] != position:
            last = self._of_thread.last = (position, self._pictures(position))
        return last[1]


class RememberingStore:
    """A store of some rows whose pictures several other stores are made from: each is made once.

    Args:
        store: where the pictures come from.
        rows: the only rows that are asked for.
    """

    def __init__(self, store: PictureStore, rows: NDArray[np.int64]) -> None:
        self.spec = store.spec
        self._pictures = _Remembered(store.pictures(rows))

    def pictures(self, rows: NDArray[np.int64]) -> Pictures:  # the store's rows
        """Return the pictures of the store's rows."""
        return self._pictures


class SharedKey(NamedTuple):
    """Which batch is made, of which pictures."""

    shard: int
    positions: list[int]
    """Of the rows."""
    kinds: list[int]
    """Which kinds of pictures are wanted."""
    jobs: list[int]
    """For whom; not looked at here."""
    is_last: bool
    """Of its shard."""


class SharedBatch(NamedTuple):
    """The pictures of some rows, in every kind that was asked for."""

    key: SharedKey
    pictures: list[Tensor]
    """(N, 3, S, S) uint8 RGB of each of `key.kinds`."""


class SharedRows:
    """Makes batches of several kinds of pictures of the same rows.

    Args:
        rows: row numbers.
        stores: one for each kind.
    """

    def __init__(self, rows: NDArray[np.int64], stores: Sequence[PictureStore]) -> None:
        self._sizes = [store.spec.size for store in stores]
        self._pictures = [store.pictures(rows) for store in stores]

    def __getitem__(self, key: SharedKey) -> SharedBatch:
        """Return a batch: row by row, so that what kinds have in common is done once."""
        sizes = [self._sizes[kind] for kind in key.kinds]
        arrays = [np.empty((len(key.positions), size, size, 3), dtype=np.uint8) for size in sizes]
        for index, position in enumerate(key.positions):
            for kind, array in zip(key.kinds, arrays, strict=True):
                expand(self._pictures[kind](position), array[index])
        # Channels-last memory, channels-first shape: what convolutions on CPU and GPU like best.
        return SharedBatch(key, [torch.from_numpy(array).permute(0, 3, 1, 2) for array in arrays])
