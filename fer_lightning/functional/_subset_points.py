"""The best weights of every pair and triple of teachers, and the best of given weights on the rows of each source."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fer_lightning.functional._chosen_weights import search_rows
from fer_lightning.functional._simplex import simplex_grid
from fer_lightning.functional._visited_points import SearchRows, VisitedPoints, choose
from fer_lightning.functional._weight_searches import check_spaces
from fer_lightning.functional.ensemble_sweep import FusionSweep


@dataclass(frozen=True, eq=False)
class SubsetPoint:
    """The best weights of some of the teachers, which may leave one of them out.

    Attributes:
        members: indices of the teachers, ascending.
        space: of the best point.
        sweep: the best point alone; its weights are those of the members.
        index: of the best point in `sweep`.
    """

    members: tuple[int, ...]
    space: str
    sweep: FusionSweep
    index: int


@dataclass(frozen=True, eq=False)
class SourcePoint:
    """The best weights on the rows of a source.

    Attributes:
        source: its name.
        n: its rows.
        space: of the best point.
        sweep: the best point alone, with figures of these rows.
        index: of the best point in `sweep`.
    """

    source: str
    n: int
    space: str
    sweep: FusionSweep
    index: int


def _best(rows: SearchRows, spaces: Sequence[str], weights: Tensor) -> tuple[str, FusionSweep]:
    """The best of (P, M) weights in the documents' order, and its figures."""
    visited = [VisitedPoints(rows, space) for space in spaces]
    points, index = choose([(each, each.visit(weights)) for each in visited], by="macro_f1")
    return points.space, points.sweep([index])


def subset_bests(
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    spaces: Sequence[str],
    grid_step: float = 0.1,
    folds: Tensor | None = None,
    num_bins: int = 15,
    sizes: Sequence[int] = (2, 3),
) -> list[SubsetPoint]:
    """Search every subset of some sizes by `simplex_grid`, in the documents' order (`best_point`).

    Args:
        teacher_logits: (M, N, 7) float, finite.
        labels: (N,) int64.
        spaces: `logit`, `prob` or both.
        grid_step: divides 1.
        folds: (N,) integers, at least two, or None; as in `search_weights`.
        num_bins: of the ECE.
        sizes: of the subsets, each >= 1; those larger than M have none.

    Returns:
        One point for each subset, sizes in the order given, members lexicographic.

    Raises:
        ValueError: as `search_weights`, or a size below 1.
    """
    check_spaces(spaces)
    if any(size < 1 for size in sizes):
        raise ValueError(f"sizes of subsets must be at least 1, got {list(sizes)}")
    rows = search_rows(teacher_logits, labels, folds=folds, num_bins=num_bins)
    all_rows = torch.ones_like(rows.labels, dtype=torch.bool)
    found = []
    for size in sizes:
        grid = simplex_grid(size, step=grid_step)
        for members in itertools.combinations(range(len(teacher_logits)), size):
            space, sweep = _best(rows.of(all_rows, members=members), spaces, grid)
            found.append(SubsetPoint(members, space, sweep, 0))
    return found


def source_bests(
    teacher_logits: Tensor,
    labels: Tensor,
    sources: Sequence[str],
    *,
    spaces: Sequence[str],
    weights: Tensor,
    folds: Tensor | None = None,
    num_bins: int = 15,
) -> list[SourcePoint]:
    """Best of given weights on the rows of each source, in the documents' order (`best_point`).

    Args:
        teacher_logits: (M, N, 7) float, finite.
        labels: (N,) int64.
        sources: N names.
        spaces: `logit`, `prob` or both; each tries all weights.
        weights: (P, M) points, for instance those of a search.
        folds: (N,) integers, at least two, or None; where a source lies in one fold, its temperature is fitted on all
            of its rows.
        num_bins: of the ECE.

    Returns:
        One point for each source, names ascending.

    Raises:
        ValueError: as `search_weights`, or another number of sources.
    """
    check_spaces(spaces)
    rows = search_rows(teacher_logits, labels, folds=folds, num_bins=num_bins)
    if len(sources) != len(rows.labels):
        raise ValueError(f"sources must name the source of each of the {len(rows.labels)} rows, got {len(sources)}")
    names, source_of = np.unique(np.asarray(sources), return_inverse=True)
    found = []
    for number, name in enumerate(names.tolist()):
        of_source = torch.from_numpy(source_of == number)
        space, sweep = _best(rows.of(of_source), spaces, weights)
        found.append(SourcePoint(name, int(of_source.sum()), space, sweep, 0))
    return found
