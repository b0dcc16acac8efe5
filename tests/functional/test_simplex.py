"""Points of the simplex: counts, order, exactness, and moves that stay inside."""

import itertools
import math
from fractions import Fraction

import pytest
import torch

from fer_lightning.functional._simplex import coarse_points, identity_of, pair_moves, simplex_grid


def test_three_teachers_in_tenths_have_the_66_points_of_a_triple_loop() -> None:
    by_hand = [[a / 10, b / 10, c / 10] for a, b, c in itertools.product(range(11), repeat=3) if a + b + c == 10]
    grid = simplex_grid(3, step=0.1)
    assert grid.dtype == torch.float64
    assert grid.tolist() == by_hand
    assert len(by_hand) == 66


@pytest.mark.parametrize(("num_teachers", "parts"), [(1, 10), (2, 1), (2, 3), (4, 7), (6, 10)])
def test_grid_is_complete_exact_and_lexicographic(num_teachers: int, parts: int) -> None:
    grid = simplex_grid(num_teachers, step=1 / parts).tolist()
    assert len(grid) == math.comb(parts + num_teachers - 1, num_teachers - 1)
    assert grid == sorted(grid)
    counts = [[Fraction(weight).limit_denominator(parts) * parts for weight in point] for point in grid]
    assert all(sum(point) == parts for point in counts)
    assert len({tuple(point) for point in counts}) == len(grid)
    assert all(
        weight == float(Fraction(int(k), parts))
        for point, of in zip(grid, counts, strict=True)
        for weight, k in zip(point, of, strict=True)
    )


def test_a_grid_of_too_many_points_names_them_and_the_other_searches() -> None:
    with pytest.raises(
        ValueError, match=r"12 teachers in steps of 0\.1 has 352,716 points.*simplex, optimise or greedy"
    ):
        simplex_grid(12, step=0.1)
    with pytest.raises(ValueError, match="at least one teacher"):
        simplex_grid(0, step=0.1)
    for step in (0.0, 0.3, -0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match="divide 1"):
            simplex_grid(2, step=step)


def test_coarse_points_are_quarters_and_the_centre_or_corners_and_the_centre() -> None:
    few, many = coarse_points(3), coarse_points(12)
    assert torch.equal(few[:-1], simplex_grid(3, step=0.25))
    assert few[-1].tolist() == [1 / 3] * 3
    assert torch.equal(many[:-1].flip(0), torch.eye(12, dtype=torch.float64))
    assert many[-1].tolist() == [1 / 12] * 12


def test_moves_keep_the_sum_and_stop_at_zero() -> None:
    moves = pair_moves(torch.tensor([0.05, 0.95, 0.0], dtype=torch.float64), 0.1).tolist()
    assert moves == [[0.0, 1.0, 0.0], [0.0, 0.95, 0.05], [0.15, 0.85, 0.0], [0.05, 0.85, 0.1]]
    assert pair_moves(torch.ones(1, dtype=torch.float64), 0.1).shape == (0, 1)


def test_points_that_differ_by_rounding_are_one() -> None:
    rounded = torch.tensor([0.1 + 0.2, 0.7], dtype=torch.float64)
    assert identity_of(rounded) == identity_of(torch.tensor([0.3, 0.7], dtype=torch.float64))
    assert identity_of(rounded) != identity_of(torch.tensor([0.3001, 0.6999], dtype=torch.float64))
