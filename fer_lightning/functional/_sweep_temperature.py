"""Temperatures of many points at once: Newton on samples of the rows, then on all, with higher derivatives."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_lightning.functional._sweep_kernels import WorkArrays, derivatives, gaps_to_top, masses_at
from fer_lightning.functional._sweep_rows import Block, Floats, SweepRows
from fer_lightning.functional._temperature import MAX_TEMPERATURE, MIN_TEMPERATURE

_FEW_ROWS = 512
_POINTS_AT_ONCE = 32
_DONE_FEW = 0.02  # relative step of Newton on few rows
_LEVELS = ((4096, 0.2), (None, 0.03))  # rows, and the relative step at which a level is done
_MAX_STEPS = 12
_LARGEST_FACTOR = 4.0
_LOW, _HIGH = 1.0 / MAX_TEMPERATURE, 1.0 / MIN_TEMPERATURE
_FROM_BOUND = 1.01  # nearer to a bound than this factor only the reference decides
_SERIES_STEPS = 4
_SERIES_ERROR = 1e-9  # relative, of the first term that is left out, judged by the last two
_LARGEST_RATIO = 0.1  # of neighbouring terms
_REFINING_STEPS = 5
_SMALL_STEP = 1e-5  # relative; what is left after it is about its cube at most
_SLOPE_ROUNDING = 2e-15
_RELATIVE_NOISE = 1e-7


@dataclass(frozen=True, eq=False)
class Estimates:
    """Where the slope of the mean NLL crosses zero.

    Attributes:
        inverse: (P,) 1 / temperature.
        curvature: (P,) second derivative of the mean NLL there.
    """

    inverse: Floats
    curvature: Floats


def derivative_sums(rows: SweepRows, weights: Floats, inverse: Floats, *, narrow: bool = False) -> Floats:
    """(F, P, 4) sums over the rows of each fold of the first four derivatives of the NLL in 1 / temperature.

    Args:
        rows: of the sweep.
        weights: (P, M).
        inverse: (P,) 1 / temperature.
        narrow: work in float32.
    """
    kind = np.float32 if narrow else np.float64
    points = weights.astype(kind)

    def of_block(block: Block) -> Floats:
        work = WorkArrays(len(block.rows), kind)
        scores = block.narrow_scores if narrow else block.scores
        sums = np.empty((len(points), 4))
        with np.errstate(all="ignore"):  # what is not finite is not accepted
            for point, weight in enumerate(points):
                gaps_to_top(scores, weight, work, space=rows.space)
                masses_at(inverse[point], work)
                sums[point] = derivatives(block, work)
        return sums

    totals = np.zeros((rows.num_folds, len(points), 4))
    for block, sums in zip(rows.blocks, rows.per_block(of_block), strict=True):
        totals[block.fold] += sums
    return totals


def _root_of_series(sums: Floats, inverse: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Steps from 1 / temperature to the root of slopes whose four derivatives are given, (..., 4).

    Returns:
        The steps, by Halley where the series would lead far away; and whether the next term could not matter.
    """
    slope, curvature, third, fourth = np.moveaxis(sums, -1, 0)
    newton = -slope / curvature
    halved = 1.0 + 0.5 * newton * third / curvature
    halley = np.where(halved > 0.5, newton / halved, newton)
    step = halley
    for _ in range(_SERIES_STEPS):
        value = slope + step * (curvature + step * (third / 2.0 + step * fourth / 6.0))
        step = step - value / (curvature + step * (third + step * fourth / 2.0))
    step = np.where(np.abs(step - halley) <= 0.1 * np.abs(halley), step, halley)
    cubic = np.abs(step**3 * fourth / (6.0 * curvature))
    ratio = np.maximum(np.abs(step * fourth / (3.0 * third)), np.abs(step * third / (2.0 * curvature)))
    return step, (step != halley) & (cubic * ratio <= _SERIES_ERROR * inverse) & (ratio < _LARGEST_RATIO)


def _curvature_after(sums: Floats, step: Floats) -> Floats:
    """Second derivative at the end of a step."""
    curvature: Floats = sums[..., 1] + step * (sums[..., 2] + 0.5 * step * sums[..., 3])
    return curvature


def _moved(inverse: Floats, step: Floats) -> Floats:
    """A step that stays in the bounds and leaves the order of magnitude."""
    longest = (inverse / _LARGEST_FACTOR, inverse * _LARGEST_FACTOR)
    moved: Floats = (inverse + np.nan_to_num(step)).clip(*longest).clip(_LOW, _HIGH)
    return moved


def _from_few_rows(rows: SweepRows, weights: Floats) -> Floats:
    """(P,) estimates of 1 / temperature from few rows, for many points in each operation."""
    sample = rows.sample(_FEW_ROWS)
    found = []
    for part in np.array_split(weights, -(-len(weights) // _POINTS_AT_ONCE)):
        gaps = np.einsum("pm,mcn->cpn", part, sample.scores)
        if rows.space == "prob":
            np.log(gaps, out=gaps)
        of_label = np.take_along_axis(gaps, sample.labels.astype(np.int64)[None, None], axis=0)[0]
        gaps -= of_label
        shifted = gaps - gaps.max(axis=0)
        inverse, done = np.ones(len(part)), np.zeros(len(part), dtype=np.bool_)
        for _ in range(_MAX_STEPS):
            masses = np.exp(shifted * inverse[:, None])
            total = masses.sum(axis=0)
            first, second = (np.einsum("cpn,cpn->pn", masses, power) / total for power in (gaps, gaps * gaps))
            newton = -first.mean(axis=1) / (second - first * first).mean(axis=1)
            before, inverse = inverse, np.where(done, inverse, _moved(inverse, newton))
            done |= np.abs(inverse - before) <= _DONE_FEW * before
            if done.all():
                break
        found.append(inverse)
    return np.concatenate(found)


def estimate(rows: SweepRows, weights: Floats) -> Estimates:
    """Roots to about 1e-6, from few and then from all rows.

    A point that has no root, or one that is hard to find, comes back with any number: check the slope.
    """
    with np.errstate(all="ignore"):
        inverse, curvature = _from_few_rows(rows, weights), np.full(len(weights), np.nan)
    for num_rows, done in _LEVELS:
        if num_rows is not None and rows.num_rows < 4 * num_rows:
            continue
        level = rows if num_rows is None else rows.thinned(num_rows)
        active = np.arange(len(weights))
        for _ in range(_MAX_STEPS):
            start = inverse[active]
            sums = derivative_sums(level, weights[active], start, narrow=rows.narrow).sum(axis=0)
            with np.errstate(all="ignore"):
                inverse[active] = moved = _moved(start, _root_of_series(sums, start)[0])
            curvature[active] = _curvature_after(sums, moved - start) / level.num_rows
            active = active[np.abs(moved - start) > done * start]
            if not len(active):
                break
    return Estimates(inverse, curvature)


def trusted(rows: SweepRows, inverse: Floats, curvature: Floats) -> NDArray[np.bool_]:
    """Whether roots lie well inside the bounds, and the slope there is steep enough not to drown in rounding."""
    inside = (inverse > _LOW * _FROM_BOUND) & (inverse < _HIGH / _FROM_BOUND)
    noise = _SLOPE_ROUNDING * max(1.0, rows.largest_logit)
    return inside & (curvature * inverse * _RELATIVE_NOISE > noise)


@dataclass(frozen=True, eq=False)
class FoldTemperatures:
    """Temperatures to cross-fit with.

    Attributes:
        overall: (P,) 1 / temperature of all rows.
        of_folds: (P, F) 1 / temperature of the rows of all other folds.
        certain: (P,) whether both are exact to about 1e-9; if not, they are not to be used.
    """

    overall: Floats
    of_folds: Floats
    certain: NDArray[np.bool_]


def _refined(rows: SweepRows, weights: Floats, inverse: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Steps until one is small: roots, mean curvature there, and which have arrived."""
    inverse, curvature = inverse.clip(_LOW, _HIGH), np.full(len(inverse), np.nan)
    arrived = np.zeros(len(inverse), dtype=np.bool_)
    for _ in range(_REFINING_STEPS):
        active = np.flatnonzero(~arrived)
        if not len(active):
            break
        sums = derivative_sums(rows, weights[active], inverse[active]).sum(axis=0)
        with np.errstate(all="ignore"):
            step = np.nan_to_num(_root_of_series(sums, inverse[active])[0])
        arrived[active] = np.abs(step) <= _SMALL_STEP * inverse[active]
        inverse[active] = (inverse[active] + step).clip(_LOW, _HIGH)
        curvature[active] = sums[:, 1] / rows.num_rows
    return inverse, curvature, arrived


def fold_temperatures(rows: SweepRows, weights: Floats, inverse: Floats) -> FoldTemperatures:
    """Temperatures of all rows and of all but each fold.

    A fold moves the temperature so little that the slope's Taylor series around that of all rows tells where; where
    the series is too short, one more pass measures the slope at the place it tells.

    Args:
        rows: of the sweep, with folds.
        weights: (P, M).
        inverse: (P,) 1 / temperature of all rows, nearly.
    """
    sums = derivative_sums(rows, weights, inverse)
    totals = sums.sum(axis=0)
    of_others = np.concatenate([totals[None], totals - sums])
    with np.errstate(all="ignore"):
        step, certain = _root_of_series(of_others, inverse)
    roots = inverse + step
    of_sets = [rows, *(rows.without(fold) for fold in range(rows.num_folds))]
    curvature = _curvature_after(of_others, step) / np.array([of_set.num_rows for of_set in of_sets])[:, None]
    for position, of_set in enumerate(of_sets):
        unsure = np.flatnonzero(~certain[position] & np.isfinite(roots[position]))
        if len(unsure):
            refined = _refined(of_set, weights[unsure], roots[position, unsure])
            roots[position, unsure], curvature[position, unsure], certain[position, unsure] = refined
    exact = np.logical_and.reduce(certain & trusted(rows, roots, curvature), axis=0)
    return FoldTemperatures(roots[0], roots[1:].T.copy(), exact)
