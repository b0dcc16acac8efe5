"""Training batches: coverage, balance, ranks, repeatability."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.data.sampling import SampleKey, TrainBatches
from fer_lightning.errors import FerError

SKEWED = np.repeat(np.arange(7), [60, 5, 20, 80, 30, 25, 40]).astype(np.int64)  # 260 rows


def make_batches(
    labels: NDArray[np.int64] = SKEWED,
    *,
    batch_size: int = 32,
    seed: int = 3,
    min_per_class: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> TrainBatches:
    return TrainBatches(
        labels, batch_size=batch_size, seed=seed, min_per_class=min_per_class, rank=rank, world_size=world_size
    )


def draw(batches: TrainBatches, epoch: int) -> list[list[SampleKey]]:
    batches.set_epoch(epoch)
    return list(batches)


def positions(drawn: list[list[SampleKey]]) -> list[int]:
    return [key.position for batch in drawn for key in batch]


def test_an_epoch_is_a_permutation_filled_up_from_its_start() -> None:
    batches = make_batches()
    drawn = draw(batches, 0)
    flat = positions(drawn)
    assert len(batches) == len(drawn) == 9
    assert {len(batch) for batch in drawn} == {32}
    assert sorted(flat[:260]) == list(range(260))
    assert flat[260:] == flat[:28]
    assert batches.coverage(0) == 1.0
    assert [key.slot for batch in drawn for key in batch] == list(range(288))
    assert {key.epoch for batch in drawn for key in batch} == {0}


@pytest.mark.parametrize("min_per_class", [0, 2])
def test_each_epoch_has_batches_of_its_own(min_per_class: int) -> None:
    batches = make_batches(min_per_class=min_per_class)
    epochs = [draw(batches, epoch) for epoch in range(4)]
    assert len({tuple(positions(drawn)) for drawn in epochs}) == 4
    assert len({tuple(sorted(key.position for key in batch)) for drawn in epochs for batch in drawn}) == 4 * 9
    assert draw(batches, 2) == epochs[2]
    assert draw(make_batches(min_per_class=min_per_class), 2) == epochs[2]
    assert draw(make_batches(min_per_class=min_per_class, seed=4), 2) != epochs[2]


@pytest.mark.parametrize("min_per_class", [0, 2])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_out_the_epoch(min_per_class: int, world_size: int) -> None:
    ranks = [
        make_batches(min_per_class=min_per_class, batch_size=16, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    drawn = [draw(rank, 1) for rank in ranks]
    assert {len(rank) for rank in ranks} == {-(-260 // (16 * world_size))}
    keys = [key for step in zip(*drawn, strict=True) for batch in step for key in batch]
    assert [key.slot for key in keys] == list(range(len(keys)))
    assert [key.position for key in keys] == ranks[0].epoch_positions(1).tolist()
    if not min_per_class:
        assert {key.position for key in keys} == set(range(260))


def test_two_ranks_see_the_permutation_of_one() -> None:
    alone = draw(make_batches(batch_size=32), 5)
    halves = [draw(make_batches(batch_size=16, rank=rank, world_size=2), 5) for rank in (0, 1)]
    assert [first + second for first, second in zip(*halves, strict=True)] == alone


@pytest.mark.parametrize(("batch_size", "min_per_class"), [(32, 2), (32, 4), (28, 4), (7, 1)])
def test_every_batch_holds_the_classes_asked_for(batch_size: int, min_per_class: int) -> None:
    batches = make_batches(batch_size=batch_size, min_per_class=min_per_class)
    for epoch in (0, 1, 7):
        for batch in draw(batches, epoch):
            counts = np.bincount(SKEWED[[key.position for key in batch]], minlength=7)
            assert len(batch) == batch_size
            assert counts.min() >= min_per_class


def test_balanced_batches_meet_every_row_over_epochs() -> None:
    batches = make_batches(min_per_class=4)  # 28 of 32 slots are balanced
    met: set[int] = set()
    for epoch in range(9):
        drawn = set(positions(draw(batches, epoch)))
        assert batches.coverage(epoch) == len(drawn) / 260 < 1
        met |= drawn
    assert met == set(range(260))


def test_rows_of_a_class_are_met_equally_often() -> None:
    batches = make_batches(batch_size=28, min_per_class=4)  # no free slots: each class is a stream of its own
    counts = sum((np.bincount(positions(draw(batches, epoch)), minlength=260) for epoch in range(12)), np.zeros(260))
    for label in range(7):
        of_class = counts[label == SKEWED]
        assert np.ptp(of_class) <= 1
        assert of_class.sum() == 12 * len(batches) * 4


def test_fewer_rows_than_one_batch() -> None:
    batches = make_batches(np.array([3, 3, 5]), batch_size=8)
    (batch,) = draw(batches, 0)
    assert np.bincount([key.position for key in batch]).tolist() in ([3, 3, 2], [3, 2, 3], [2, 3, 3])
    assert [key.position for key in batch][:3] == [key.position for key in batch][3:6]


def test_absent_class_and_full_batch_are_refused() -> None:
    with pytest.raises(
        FerError, match=r"class-balanced batches need rows of every class, but train has none of Disgust, Neutral"
    ):
        make_batches(np.array([0, 2, 3, 4, 5] * 20), min_per_class=1)
    with pytest.raises(FerError, match=r"5 rows of 7 classes do not fit in a batch of 32"):
        make_batches(min_per_class=5)
    assert len(make_batches(np.array([0, 2, 3, 4, 5] * 20))) == 4
