"""Points of the simplex that a weight search visits: regular grids, and moves of weight between two teachers."""

import itertools
import math

import numpy as np
import torch
from torch import Tensor

_MAX_POINTS = 200_000
_MAX_COARSE_POINTS = 500
_COARSE_PARTS = 4
_MAX_SPREAD_POINTS = 300
_SPREAD_PARTS = (10, 8, 5, 4, 2, 1)
_STEP_TOLERANCE = 1e-6
_DIGITS = 12  # that two points must share to be one


def simplex_grid(num_teachers: int, *, step: float) -> Tensor:
    """Every point of the regular grid on the simplex, k / D with D = 1 / step and integers k that sum to D.

    Args:
        num_teachers: M, >= 1.
        step: in (0, 1], divides 1 within 1e-6.

    Returns:
        (P, M) float64 in lexicographic order, P = (D + M - 1 over M - 1): 66 for 3 teachers and steps of 0.1.

    Raises:
        ValueError: no teacher, a step that does not divide 1, or more than 200,000 points.
    """
    if num_teachers < 1:
        raise ValueError(f"a grid of weights needs at least one teacher, got {num_teachers}")
    parts = round(1.0 / step) if 0.0 < step <= 1.0 else 0
    if parts == 0 or abs(parts * step - 1.0) > _STEP_TOLERANCE:
        raise ValueError(f"step of a grid of weights must divide 1 and lie in (0, 1], got {step}")
    num_points = math.comb(parts + num_teachers - 1, num_teachers - 1)
    if num_points > _MAX_POINTS:
        raise ValueError(
            f"a grid of {num_teachers} teachers in steps of {step} has {num_points:,} points, more than {_MAX_POINTS:,}: "
            "take a larger step, or search by simplex, optimise or greedy"
        )
    bars = itertools.combinations(range(parts + num_teachers - 1), num_teachers - 1)
    cuts = np.fromiter(itertools.chain.from_iterable(bars), np.int64, num_points * (num_teachers - 1))
    cuts = cuts.reshape(num_points, num_teachers - 1)
    edges = np.pad(cuts, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, parts + num_teachers - 1)))
    return torch.from_numpy((np.diff(edges, axis=1) - 1) / parts)


def coarse_points(num_teachers: int) -> Tensor:
    """(P, M) where a search begins: steps of 1/4, or only the corners where those are many, and equal weights."""
    parts = _COARSE_PARTS
    if math.comb(parts + num_teachers - 1, num_teachers - 1) > _MAX_COARSE_POINTS:
        parts = 1
    equal = torch.full((1, num_teachers), 1.0 / num_teachers, dtype=torch.float64)
    return torch.cat([simplex_grid(num_teachers, step=1.0 / parts), equal])


def spread_points(num_teachers: int) -> Tensor:
    """(P, M) points all over the simplex, in the finest of a few regular steps that has at most 300 of them."""
    parts = next(
        (parts for parts in _SPREAD_PARTS if math.comb(parts + num_teachers - 1, parts) <= _MAX_SPREAD_POINTS), 1
    )
    return simplex_grid(num_teachers, step=1.0 / parts)


def pair_moves(point: Tensor, step: float) -> Tensor:
    """(P, M) points in which one teacher gave another `step` of its weight in (M,), or all it has where that is less."""
    moves = []
    for giver, taker in itertools.permutations(range(len(point)), 2):
        if point[giver] > 0.0:
            moved = point.clone()
            amount = min(step, float(point[giver]))
            moved[giver] -= amount
            moved[taker] += amount
            moves.append(moved)
    return torch.stack(moves).round(decimals=_DIGITS) if moves else point.new_empty(0, len(point))


def identity_of(point: Tensor) -> tuple[float, ...]:
    """What two points of equal weights have in common, however their weights were rounded."""
    return tuple(round(weight, _DIGITS) for weight in point.tolist())
