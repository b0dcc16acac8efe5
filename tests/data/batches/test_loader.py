"""Batches in order from threads and processes, and no thread left behind."""

import threading
import time
from typing import Any

import pytest
import torch

from fer_lightning.data.batches.dataset import Batch
from fer_lightning.data.batches.loader import Loader, ThreadedLoader, make_loader
from fer_lightning.errors import FerError


class Numbers:
    """A dataset whose batches hold their key; even ones take longer to make."""

    def __init__(self, broken: int = -1) -> None:
        self._broken = broken
        self.made: list[int] = []

    def __len__(self) -> int:
        return 100

    def __getitem__(self, key: int) -> Batch:
        if key == self._broken:
            raise FerError(f"manifest line {key}: broken")
        time.sleep(0.004 * (key % 2 == 0))
        self.made.append(key)
        numbers = torch.full((2,), key)
        return Batch(numbers.view(2, 1, 1, 1), numbers, numbers, torch.zeros(2, 0))


def keys_of(loader: Loader) -> list[int]:
    return [int(batch.labels[0]) for batch in loader]


def loader_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("loader")]


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize(("num_workers", "processes"), [(0, False), (1, False), (3, False), (0, True), (2, True)])
def test_every_kind_yields_the_same_batches_in_order(num_workers: int, processes: bool) -> None:
    keys = [5, 2, 8, 1, 1, 9, 4]
    loader = make_loader(Numbers(), keys, num_workers=num_workers, processes=processes)
    assert len(loader) == 7
    assert keys_of(loader) == keys
    assert keys_of(loader) == keys
    assert not loader_threads()


def test_threads_are_taken_where_opencv_does_the_work() -> None:
    assert isinstance(make_loader(Numbers(), [1], num_workers=1, processes=False), ThreadedLoader)
    assert not isinstance(make_loader(Numbers(), [1], num_workers=1, processes=True), ThreadedLoader)


def test_few_batches_are_made_ahead() -> None:
    numbers = Numbers()
    batches = iter(ThreadedLoader(numbers, list(range(50)), num_threads=2))
    next(batches)
    time.sleep(0.1)
    assert sorted(numbers.made) == [0, 1, 2, 3]


def test_a_loop_that_stops_early_leaves_no_thread() -> None:
    batches = iter(ThreadedLoader(Numbers(), list(range(50)), num_threads=3))
    next(batches)
    assert loader_threads()
    batches.close()  # type: ignore[attr-defined]  # what the end of a `for` loop that breaks does
    assert not loader_threads()


def test_an_error_comes_out_where_its_batch_would() -> None:
    batches = iter(ThreadedLoader(Numbers(broken=6), [4, 5, 6, 7], num_threads=2))
    assert [int(next(batches).labels[0]) for _ in range(2)] == [4, 5]
    with pytest.raises(FerError, match="^manifest line 6: broken$"):
        next(batches)
    assert not loader_threads()


def test_an_epoch_begins_where_the_sampler_stands_when_it_is_asked_for() -> None:
    class Clock:
        epoch = 0

        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Any:
            return iter([self.epoch])

    clock = Clock()
    loader = ThreadedLoader(Numbers(), clock, num_threads=1)  # type: ignore[arg-type]  # like a sampler
    batches = iter(loader)
    clock.epoch = 7
    assert int(next(batches).labels[0]) == 0
    assert keys_of(loader) == [7]
