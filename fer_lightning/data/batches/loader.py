"""Batches made ahead in parallel: by threads where OpenCV does the work, by processes where Python does."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from torch.utils.data import DataLoader, Sampler

from fer_lightning.data.batches.dataset import Batch

_AHEAD = 2  # batches ready or in the making beyond one per thread


class Batches(Protocol):
    """Something that makes a batch from its keys."""

    def __getitem__(self, keys: Any) -> Batch:
        """Return the batch of some keys."""
        ...


class Loader(Protocol):
    """A loader as Lightning takes it."""

    def __iter__(self) -> Iterator[Batch]:
        """Start an epoch."""
        ...

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        ...


class ThreadedLoader:
    """Yields batches in order while threads make the next ones.

    Decoding, cropping and colour changes run in OpenCV without Python's global lock, so that threads do them side by
    side, and a batch reaches the training loop without being copied between processes: with two of them 2.5 times the
    batches a second of two processes.

    Args:
        batches: makes a batch; from several threads at once.
        keys: the keys of each batch of an epoch; asked for an iterator at the start of each.
        num_threads: at least 1.
        pin_memory: put pictures into page-locked memory, from where a GPU copies them on its own.
    """

    batch_sampler = None  # Lightning asks for it where there is a sampler

    def __init__(
        self,
        batches: Batches,
        keys: "Sampler[Any] | Sequence[Any]",
        *,
        num_threads: int,
        pin_memory: bool = False,
    ) -> None:
        self._batches = batches
        self.sampler = keys
        """Where Lightning looks for `set_epoch`."""
        self._num_threads = num_threads
        self._pin_memory = pin_memory

    def __len__(self) -> int:
        return len(self.sampler) if isinstance(self.sampler, Sized) else 0

    def __iter__(self) -> Iterator[Batch]:
        return self._made_ahead(iter(self.sampler))  # where the epoch starts is settled here, not at its first batch

    def _made_ahead(self, keys: Iterator[Any]) -> Iterator[Batch]:
        pool = ThreadPoolExecutor(self._num_threads, thread_name_prefix="loader")
        waiting: deque[Future[Batch]] = deque()
        try:
            for of_batch in keys:
                waiting.append(pool.submit(self._make, of_batch))
                if len(waiting) >= self._num_threads + _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # also when the training loop stops in the middle
            pool.shutdown(wait=True, cancel_futures=True)

    def _make(self, keys: Any) -> Batch:
        batch = self._batches[keys]
        return batch._replace(pictures=batch.pictures.pin_memory()) if self._pin_memory else batch


def make_loader(
    batches: Any, keys: "Sampler[Any] | Sequence[Any]", *, num_workers: int, processes: bool, pin_memory: bool = False
) -> Loader:
    """Return a loader; what it yields depends on none of the options.

    Args:
        batches: a dataset that makes a batch from its keys.
        keys: the keys of each batch of an epoch.
        num_workers: threads or processes beside the training loop; 0: batches are made when they are asked for.
        processes: use processes, for datasets that spend their time in Python.
        pin_memory: put pictures into page-locked memory.
    """
    if num_workers and not processes:
        return ThreadedLoader(batches, keys, num_threads=num_workers, pin_memory=pin_memory)
    loader: Iterable[Batch] = DataLoader(
        batches,
        sampler=keys,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
    )
    return loader  # type: ignore[return-value]  # a DataLoader with a sized sampler has a length
