"""Which rows make up each training batch: a function of (seed, epoch, rank), of nothing else."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS, NUM_CLASSES


class SampleKey(NamedTuple):
    """One drawn sample."""

    position: int
    """Position in the split."""
    epoch: int
    slot: int
    """Place in the epoch, over all ranks: two draws of one row get different augmentations."""


class TrainBatches(Sampler[list[SampleKey]]):
    """Batches of one epoch, for one rank.

    Each batch takes `min_per_class` rows of every class from that class's own shuffled stream and fills up from a
    stream over all rows. Streams run on over epochs, so every row is met at a known pace; with `min_per_class` 0 an
    epoch is one permutation of all rows. The last batch is filled up from the start of the permutation: all batches
    have the same size.
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
    ) -> None:
        self._labels = labels
        self._batch_size = batch_size
        self._seed = seed
        self._min_per_class = min_per_class
        self._rank = rank
        self._world_size = world_size
        self._epoch = 0
        self._clock: Callable[[], int] | None = None
        self._num_batches = -(-len(labels) // (batch_size * world_size))
        if min_per_class * NUM_CLASSES > batch_size:
            raise FerError(f"{min_per_class} rows of {NUM_CLASSES} classes do not fit in a batch of {batch_size}")
        self._members = [np.flatnonzero(labels == index) for index in range(NUM_CLASSES)]
        absent = [EMOTIONS[index] for index, members in enumerate(self._members) if not len(members)]
        if min_per_class and absent:
            raise FerError(
                f"class-balanced batches need rows of every class, but train has none of {', '.join(absent)}"
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields; Lightning calls this."""
        self._epoch = epoch

    def follow(self, clock: Callable[[], int]) -> None:
        """Ask the clock for the epoch at the start of each iteration from now on."""
        self._clock = clock

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[list[SampleKey]]:
        if self._clock is not None:
            self._epoch = self._clock()
        table = self.epoch_positions(self._epoch)
        for batch in range(self._num_batches):
            start = (batch * self._world_size + self._rank) * self._batch_size
            rows = table[start : start + self._batch_size].tolist()
            yield [SampleKey(row, self._epoch, start + offset) for offset, row in enumerate(rows)]

    def epoch_positions(self, epoch: int) -> NDArray[np.int64]:
        """Return the positions of a whole epoch over all ranks, in order of slots."""
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
