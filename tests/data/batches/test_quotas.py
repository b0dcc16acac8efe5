"""Exact shares of draws, by brute force over small cases."""

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest

from fer_lightning.data.batches.draws import GroupedDraws
from fer_lightning.data.batches.quotas import ExactQuotas

EPOCHS = 40


def assert_exact(counts: list[int], total: list[int], shares: list[Fraction], epochs: int) -> None:
    for count, so_far, share in zip(counts, total, shares, strict=True):
        assert floor(share) <= count <= ceil(share)
        assert floor(epochs * share) <= so_far <= ceil(epochs * share)


@pytest.mark.parametrize("largest_unit", [2, 11, 1000])
def test_every_epoch_and_all_epochs_so_far_give_each_group_its_share(largest_unit: int) -> None:
    random = np.random.default_rng(largest_unit)
    for _ in range(60):
        units = random.integers(0, largest_unit + 1, random.integers(1, 13))
        units[0] += 1
        num_draws = int(random.integers(1, 40))
        shares = [Fraction(num_draws * int(unit), int(units.sum())) for unit in units]
        quotas, total = ExactQuotas(units, num_draws), np.zeros(len(units), dtype=np.int64)
        for epoch in range(EPOCHS):
            counts = quotas.next_epoch(random)
            total += counts
            assert counts.sum() == num_draws
            assert_exact(counts.tolist(), total.tolist(), shares, epoch + 1)


def test_units_near_the_limit_do_not_overflow() -> None:
    units = np.array([2**43, 2**43 - 1, 1], dtype=np.int64)
    quotas = ExactQuotas(units, 10**6 + 1)
    total = sum((quotas.next_epoch(np.random.default_rng(0)) for _ in range(200)), np.zeros(3, dtype=np.int64))
    assert total.sum() == 200 * (10**6 + 1)
    shares = [Fraction(200 * (10**6 + 1) * int(unit), 2**44) for unit in units]
    assert all(abs(count - share) < 1 for count, share in zip(total.tolist(), shares, strict=True))


def test_rows_of_a_group_share_its_draws_exactly() -> None:
    random = np.random.default_rng(4)
    for seed in range(60):
        num_rows, num_groups = int(random.integers(5, 50)), int(random.integers(1, 6))
        groups = random.integers(-1, num_groups, num_rows)
        groups[0] = 0
        sizes = np.bincount(groups[groups >= 0], minlength=num_groups)
        units = (random.integers(0, 30, num_groups) + (np.arange(num_groups) == 0)) * (sizes > 0)
        num_draws = int(random.integers(1, 120))
        shares = [
            Fraction(num_draws * int(units[group]), int(units.sum()) * int(sizes[group])) if group >= 0 else Fraction(0)
            for group in groups
        ]
        draws, total = GroupedDraws(units, [groups], num_draws=num_draws, seed=seed), np.zeros(num_rows, dtype=np.int64)
        for epoch in range(EPOCHS):
            counts = np.bincount(draws.epoch_positions(epoch), minlength=num_rows)
            total += counts
            assert counts.sum() == num_draws
            assert_exact(counts.tolist(), total.tolist(), shares, epoch + 1)


def test_an_epoch_is_the_same_in_any_order_of_asking() -> None:
    groups = np.arange(30) % 4
    units = np.array([1, 2, 3, 4])

    def make(seed: int = 1) -> GroupedDraws:
        return GroupedDraws(units, [groups], num_draws=37, seed=seed)

    straight = make()
    epochs = [straight.epoch_positions(epoch).tolist() for epoch in range(8)]
    jumping = make()
    for epoch in (6, 2, 2, 7, 0):
        assert jumping.epoch_positions(epoch).tolist() == epochs[epoch]
    assert len({tuple(epoch) for epoch in epochs}) == 8
    assert make(2).epoch_positions(0).tolist() != epochs[0]


def test_who_gets_the_extra_draws_changes_with_the_round() -> None:
    draws = GroupedDraws(np.ones(1, dtype=np.int64), [np.zeros(40, dtype=np.int64)], num_draws=20, seed=0)
    halves = [frozenset(draws.epoch_positions(epoch).tolist()) for epoch in range(8)]
    for first, second in zip(halves[::2], halves[1::2], strict=True):
        assert first | second == set(range(40))
    assert len(set(halves)) == 8
