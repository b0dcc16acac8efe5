"""Training batches: coverage, balance, exact shares, ranks, repeatability, places in the middle of an epoch."""

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.data.batches.sampling import SampleKey, Sampling, TrainBatches, make_train_batches
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS
from tests.data.conftest import Workshop, make_row

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


EVERY_SAMPLING = [
    Sampling(),
    Sampling(classes_equal=True),
    Sampling(sources_equal=True),
    Sampling(by_weight=True),
    Sampling(min_per_class=2),
]
WEIGHTS = ["1", "0.25", "", "2.5", "0", "0.013"]


@pytest.fixture
def mixed(workshop: Workshop) -> Manifest:
    """260 train rows of seven unequal classes and three sources, not all of them in every class; ten val rows."""
    sources = ["ferplus", "rafdb_basic", "expw_hq"]
    rows = [
        make_row(
            f"{number}.png",
            EMOTIONS[label],
            source=sources[0 if label == 1 else number * number % 3],
            weight=WEIGHTS[number % 6],
        )
        for number, label in enumerate(SKEWED.tolist())
    ]
    return workshop.read([make_row(f"val{number}.png", split="val") for number in range(10)] + rows)


TRAIN = np.arange(10, 270)


def made(
    manifest: Manifest, sampling: Sampling, *, batch_size: int = 30, rank: int = 0, world: int = 1
) -> TrainBatches:
    return make_train_batches(manifest, TRAIN, sampling, batch_size=batch_size, seed=3, rank=rank, world_size=world)


def assert_exact_shares(batches: TrainBatches, groups: NDArray[np.int64], shares: list[Fraction]) -> None:
    total = np.zeros(len(shares), dtype=np.int64)
    for epoch in range(25):
        counts = np.bincount(groups[positions(draw(batches, epoch))], minlength=len(shares))
        total += counts
        assert counts.sum() == len(batches) * 30
        for count, so_far, share in zip(counts.tolist(), total.tolist(), shares, strict=True):
            assert floor(share) <= count <= ceil(share)
            assert floor((epoch + 1) * share) <= so_far <= ceil((epoch + 1) * share)


def test_classes_are_drawn_equally_often_and_their_rows_too(mixed: Manifest) -> None:
    batches = made(mixed, Sampling(classes_equal=True))
    assert len(batches) == 9
    assert_exact_shares(batches, SKEWED, [Fraction(270, 7)] * 7)
    sizes = np.bincount(SKEWED)
    assert_exact_shares(batches, np.arange(260), [Fraction(270, 7 * int(sizes[label])) for label in SKEWED])


def test_sources_of_a_class_are_drawn_equally_often(mixed: Manifest) -> None:
    pairs = sorted({(int(mixed.labels[row]), str(mixed.sources[row])) for row in TRAIN})
    sources_of_class = [sum(label == other for other, _ in pairs) for label in range(7)]
    assert set(sources_of_class) == {1, 2}  # squares leave two rests of a division by three
    groups = np.array([pairs.index((int(mixed.labels[row]), str(mixed.sources[row]))) for row in TRAIN])
    batches = made(mixed, Sampling(sources_equal=True))
    assert_exact_shares(batches, groups, [Fraction(270, 7 * sources_of_class[label]) for label, _ in pairs])
    assert_exact_shares(batches, SKEWED, [Fraction(270, 7)] * 7)


def test_rows_are_drawn_in_proportion_to_their_weights(mixed: Manifest) -> None:
    weights = [Fraction(WEIGHTS[number % 6] or "1") for number in range(260)]
    batches = made(mixed, Sampling(by_weight=True))
    assert_exact_shares(batches, np.arange(260), [270 * weight / sum(weights) for weight in weights])
    assert batches.coverage(0) < 1


def test_equal_weights_are_a_permutation_per_epoch(workshop: Workshop) -> None:
    manifest = workshop.read([make_row(f"{number}.png", weight="0.7") for number in range(64)])
    batches = make_train_batches(manifest, np.arange(64), Sampling(by_weight=True), batch_size=16, seed=1)
    orders = [positions(draw(batches, epoch)) for epoch in range(4)]
    assert all(sorted(order) == list(range(64)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    filled = make_train_batches(manifest, np.arange(64), Sampling(by_weight=True), batch_size=20, seed=1)
    counts = np.bincount(positions(draw(filled, 0)), minlength=64)
    assert sorted(counts.tolist()) == [1] * 48 + [2] * 16


@pytest.mark.parametrize("sampling", EVERY_SAMPLING[:4])
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_together_draw_what_one_rank_draws(mixed: Manifest, sampling: Sampling, world: int) -> None:
    for epoch in (0, 5):
        alone = draw(made(mixed, sampling), epoch)
        ranks = [
            draw(made(mixed, sampling, batch_size=30 // world, rank=rank, world=world), epoch) for rank in range(world)
        ]
        assert [[key for batch in step for key in batch] for step in zip(*ranks, strict=True)] == alone


def test_balanced_batches_are_well_mixed(mixed: Manifest) -> None:
    for epoch in range(3):
        for batch in draw(made(mixed, Sampling(classes_equal=True)), epoch):
            counts = np.bincount(SKEWED[[key.position for key in batch]], minlength=7)
            assert counts.max() <= 13  # of 30, 4.3 expected


@pytest.mark.parametrize("sampling", EVERY_SAMPLING)
@pytest.mark.parametrize(("rank", "world"), [(0, 1), (1, 2)])
def test_an_iteration_goes_on_in_the_middle_of_an_epoch(
    mixed: Manifest, sampling: Sampling, rank: int, world: int
) -> None:
    whole = draw(made(mixed, sampling, batch_size=15, rank=rank, world=world), 4)
    for done in range(len(whole)):
        batches = made(mixed, sampling, batch_size=15, rank=rank, world=world)
        batches.follow(lambda: 4, lambda done=done: done)  # type: ignore[misc]
        assert list(batches) == whole[done:]
        assert len(batches) == len(whole)
    batches = made(mixed, sampling, batch_size=15, rank=rank, world=world)
    batches.set_epoch(4, batches_done=3)
    assert list(batches) == whole[3:]


def test_the_clocks_are_read_when_an_iteration_is_asked_for() -> None:
    batches = make_batches()
    epoch, done = 2, len(batches)  # as a checkpoint of the end of epoch 1 says it
    batches.follow(lambda: epoch, lambda: done)
    from_start = iter(batches)
    done = 5
    resumed = iter(batches)
    epoch, done = 3, 0
    batches.set_epoch(7)
    plain = make_batches()
    assert list(from_start) == draw(plain, 2)
    assert list(resumed) == draw(plain, 2)[5:]
    assert list(batches) == draw(plain, 3)


def test_balanced_classes_without_rows_are_refused(workshop: Workshop) -> None:
    manifest = workshop.read([make_row(f"{number}.png", EMOTIONS[number % 5]) for number in range(20)])
    for sampling in (Sampling(classes_equal=True), Sampling(sources_equal=True)):
        with pytest.raises(FerError, match="train has none of Surprise, Neutral"):
            make_train_batches(manifest, np.arange(20), sampling, batch_size=4, seed=1)
    with pytest.raises(FerError, match="needs a column named weight"):
        make_train_batches(manifest, np.arange(20), Sampling(by_weight=True), batch_size=4, seed=1)
