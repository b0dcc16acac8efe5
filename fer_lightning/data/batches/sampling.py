"""Which rows make up each training batch: a function of (seed, epoch, rank), of nothing else."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from fer_lightning.data.batches.draws import GroupedDraws
from fer_lightning.data.batches.row_weights import row_weights
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS, NUM_CLASSES


class SampleKey(NamedTuple):
    """One drawn sample."""

    position: int
    """Position in the split."""
    epoch: int
    slot: int
    """Place in the epoch, over all ranks: two draws of one row get different augmentations."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How training rows are drawn; unless said otherwise, each once an epoch."""

    classes_equal: bool = False
    """Every class is drawn equally often."""
    sources_equal: bool = False
    """Every class is drawn equally often, and within a class each of its sources."""
    by_weight: bool = False
    """Rows are drawn in proportion to the manifest's `weight` column.

    Rows of one weight are a group with an exact share of every epoch. Many small weights that differ in late digits
    only are exact row by row but tend to be drawn in the same epochs: round such a column.
    """
    min_per_class: int = 0
    """At least this many rows of every class in each batch."""


class TrainBatches(Sampler[list[SampleKey]]):
    """Batches of one epoch, for one rank.

    Each batch takes `min_per_class` rows of every class from that class's own shuffled stream and fills up from a
    stream over all rows. Streams run on over epochs, so every row is met at a known pace; with `min_per_class` 0 an
    epoch is one permutation of all rows. The last batch is filled up from the start of the permutation: all batches
    have the same size. Where `draws` are given, they say what an epoch holds.
    """

    def __init__(
        self,
        labels: NDArray[np.int64],
        *,
        batch_size: int,
        seed: int,
        min_per_class: int = 0,
        rank: int = 0,
        world_size: int = 1,
        draws: GroupedDraws | None = None,
    ) -> None:
        self._labels = labels
        self._draws = draws
        self._batch_size = batch_size
        self._seed = seed
        self._min_per_class = min_per_class
        self._rank = rank
        self._world_size = world_size
        self._epoch = 0
        self._first_batch = 0
        self._clock: Callable[[], int] | None = None
        self._batches_done: Callable[[], int] | None = None
        self._num_batches = batches_per_epoch(len(labels), batch_size=batch_size, world_size=world_size)
        if min_per_class * NUM_CLASSES > batch_size:
            raise FerError(f"{min_per_class} rows of {NUM_CLASSES} classes do not fit in a batch of {batch_size}")
        self._members = [np.flatnonzero(labels == index) for index in range(NUM_CLASSES)]
        if min_per_class:
            _check_classes(labels)

    def set_epoch(self, epoch: int, batches_done: int = 0) -> None:
        """Choose the epoch, and the batches of it left out, of the next iteration; Lightning calls this."""
        self._epoch, self._first_batch = epoch, batches_done

    def follow(self, clock: Callable[[], int], batches_done: Callable[[], int] | None = None) -> None:
        """Ask for the epoch at the start of each iteration from now on, and for its batches that are done already.

        All batches of an epoch done count as none: the epoch that the clock names has not begun.
        """
        self._clock, self._batches_done = clock, batches_done

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[list[SampleKey]]:
        # Not a generator: where an iteration starts is settled when it is asked for, not when its first batch is.
        if self._clock is not None:
            done = 0 if self._batches_done is None else self._batches_done()
            self.set_epoch(self._clock(), done % self._num_batches)
        return self._batches(self._epoch, self._first_batch)

    def _batches(self, epoch: int, first_batch: int) -> Iterator[list[SampleKey]]:
        table = self.epoch_positions(epoch)
        for batch in range(first_batch, self._num_batches):
            start = (batch * self._world_size + self._rank) * self._batch_size
            rows = table[start : start + self._batch_size].tolist()
            yield [SampleKey(row, epoch, start + offset) for offset, row in enumerate(rows)]

    def epoch_positions(self, epoch: int) -> NDArray[np.int64]:
        """Return the positions of a whole epoch over all ranks, in order of slots."""
        if self._draws is not None:
            return self._draws.epoch_positions(epoch)
        num_global = self._num_batches * self._world_size
        if not self._min_per_class:
            order = self._shuffled(np.arange(len(self._labels)), stream=NUM_CLASSES, cycle=epoch)
            return np.resize(order, num_global * self._batch_size)
        fill = self._batch_size - self._min_per_class * NUM_CLASSES
        streams = [
            self._stream(members, index, epoch, num_global * self._min_per_class).reshape(num_global, -1)
            for index, members in enumerate(self._members)
        ]
        everything = np.arange(len(self._labels))
        streams.append(self._stream(everything, NUM_CLASSES, epoch, num_global * fill).reshape(num_global, fill))
        return np.concatenate(streams, axis=1).reshape(-1)

    def coverage(self, epoch: int) -> float:
        """Return the share of the split's rows that an epoch shows at least once."""
        return len(np.unique(self.epoch_positions(epoch))) / len(self._labels)

    def _stream(self, members: NDArray[np.int64], stream: int, epoch: int, count: int) -> NDArray[np.int64]:
        """Return an epoch's stretch of an endless stream of permutations of the members."""
        first, last = epoch * count, (epoch + 1) * count
        cycles = range(first // len(members), -(-last // len(members)))
        drawn = [self._shuffled(members, stream=stream, cycle=cycle) for cycle in cycles]
        if not drawn:
            return np.empty(0, dtype=np.int64)
        offset = first - cycles[0] * len(members)
        return np.concatenate(drawn)[offset : offset + count]

    def _shuffled(self, members: NDArray[np.int64], *, stream: int, cycle: int) -> NDArray[np.int64]:
        return np.random.default_rng([self._seed, stream, cycle]).permutation(members)


def batches_per_epoch(num_rows: int, *, batch_size: int, world_size: int) -> int:
    """Return the batches of each rank in an epoch: enough for every row once, the last one filled up."""
    return -(-num_rows // (batch_size * world_size))


def _grouped(
    manifest: Manifest, rows: NDArray[np.int64], sampling: Sampling
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Return the units of groups, and the levels from groups down to rows, as `GroupedDraws` takes them."""
    if sampling.by_weight:
        weights, groups = np.unique(row_weights(manifest, rows), return_inverse=True)
        return weights * np.bincount(groups), [groups]
    labels = manifest.labels[rows]
    _check_classes(labels)
    equal = np.ones(NUM_CLASSES, dtype=np.int64)
    if not sampling.sources_equal:
        return equal, [labels]
    names, sources = np.unique(manifest.sources[rows], return_inverse=True)
    pairs, pair_of_row = np.unique(labels * len(names) + sources, return_inverse=True)
    return equal, [pairs // len(names), pair_of_row]


def _check_classes(labels: NDArray[np.int64]) -> None:
    counts = np.bincount(labels, minlength=NUM_CLASSES)
    absent = [name for name, count in zip(EMOTIONS, counts, strict=True) if not count]
    if absent:
        raise FerError(f"class-balanced batches need rows of every class, but train has none of {', '.join(absent)}")


def make_train_batches(
    manifest: Manifest,
    rows: NDArray[np.int64],
    sampling: Sampling,
    *,
    batch_size: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
) -> TrainBatches:
    """Return a rank's batches of some rows.

    Shares are exact: see `GroupedDraws`. Ranks share out the batches of one rank with as many rows at a time.

    Args:
        manifest: the manifest.
        rows: row numbers of the train split.
        sampling: how they are drawn; at most one of its options is set.
        batch_size: rows of a batch of one rank.
        seed: of the run.
        rank: this rank.
        world_size: number of ranks.

    Raises:
        FerError: a class to be balanced has no rows, or rows have no weights to be drawn by.
    """
    draws = None
    if sampling.classes_equal or sampling.sources_equal or sampling.by_weight:
        units, levels = _grouped(manifest, rows, sampling)
        num_batches = batches_per_epoch(len(rows), batch_size=batch_size, world_size=world_size)
        draws = GroupedDraws(units, levels, num_draws=num_batches * world_size * batch_size, seed=seed)
    return TrainBatches(
        manifest.labels[rows],
        batch_size=batch_size,
        seed=seed,
        min_per_class=sampling.min_per_class,
        rank=rank,
        world_size=world_size,
        draws=draws,
    )
