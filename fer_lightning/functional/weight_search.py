"""The weights of an ensemble: searched, judged by nested cross-validation, with intervals and the bests of subsets."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fer_lightning.functional._chosen_weights import FoundWeights, search_rows, search_weights
from fer_lightning.functional._point_order import best_point
from fer_lightning.functional._simplex import simplex_grid
from fer_lightning.functional._subset_points import SourcePoint, SubsetPoint, source_bests, subset_bests
from fer_lightning.functional._visited_points import SearchRows, VisitedPoints, choose
from fer_lightning.functional._weight_intervals import TeacherInterval, weight_intervals
from fer_lightning.functional._weight_searches import SearchOptions, visited_points
from fer_lightning.functional.calibration import fit_temperature
from fer_lightning.functional.ensemble_sweep import confusions
from fer_lightning.functional.fusion import fuse_log_probs, fuse_logits
from fer_lightning.functional.teacher_scales import scaled_outside

__all__ = [
    "CrossValidated",
    "FoundWeights",
    "SourcePoint",
    "SubsetPoint",
    "TeacherInterval",
    "best_point",
    "cross_validated",
    "search_weights",
    "simplex_grid",
    "source_bests",
    "subset_bests",
    "weight_intervals",
]


@dataclass(frozen=True, eq=False)
class CrossValidated:
    """Rows scored by weights, a space and a temperature that were chosen without them.

    Attributes:
        log_probs: (N, 7) float64, uncalibrated.
        scaled_log_probs: (N, 7) float64, calibrated.
        fold_weights: (M,) weights chosen outside each fold, folds in ascending order.
        fold_spaces: their spaces.
    """

    log_probs: Tensor
    scaled_log_probs: Tensor
    fold_weights: list[Tensor]
    fold_spaces: list[str]


def _names_of(folds: Tensor) -> list[int]:
    """The folds there are, ascending."""
    return sorted(set(folds.tolist()))


def _grids_outside(rows: SearchRows, folds: Tensor, options: SearchOptions) -> list[list[VisitedPoints]]:
    """The grid counted outside each fold: hits of all rows less those of the fold, from one pass in each space."""
    grid = simplex_grid(len(rows.teacher_logits), step=options.grid_step)
    outside = [rows.of(folds != fold) for fold in _names_of(folds)]
    found: list[list[VisitedPoints]] = [[] for _ in outside]
    for space in options.spaces:
        counts = confusions(rows.teacher_logits, rows.labels, grid, space=space, folds=folds)
        for of_fold, rest, spaces in zip(counts, outside, found, strict=True):
            points = VisitedPoints(rest, space)
            points.visit(grid, confusion=counts.sum(dim=0) - of_fold)
            spaces.append(points)
    return found


def cross_validated(
    teacher_logits: Tensor,
    labels: Tensor,
    folds: Tensor,
    *,
    spaces: Sequence[str],
    search: str,
    aim: str = "macro_f1",
    grid_step: float = 0.1,
    finest_step: float = 0.0125,
    greedy_steps: int = 50,
    num_bins: int = 15,
    scale_teachers: bool = False,
) -> CrossValidated:
    """Judge a search by nested cross-validation, so that the figure does not profit from the choice.

    For each fold the whole search is run on the rows outside it, as `search_weights` does with these rows and their own
    folds (without folds where only one is left); the temperature of the chosen weights is fitted on the same rows, and
    the rows of the fold are scored with both. Temperatures of the teachers are fitted again outside each fold too: among
    those that are cross-fitted once on all rows, the ones of the other folds have seen it.

    Args:
        teacher_logits: (M, N, 7) float, finite; not yet divided by temperatures of the teachers.
        labels: (N,) int64.
        folds: (N,) integers, at least two; rows of one subject or photo belong in one fold.
        spaces: as in `search_weights`, like all the others.
        search: which one.
        aim: of `optimise` and `greedy`.
        grid_step: of `grid`.
        finest_step: of `simplex`.
        greedy_steps: of `greedy`.
        num_bins: of the ECE.
        scale_teachers: divide each teacher's logits by a temperature of its own first (`scaled_outside`).

    Raises:
        ValueError: as `search_weights`.
    """
    options = SearchOptions(tuple(spaces), search, aim, grid_step, finest_step, greedy_steps)
    rows = search_rows(teacher_logits, labels, folds=folds, num_bins=num_bins)
    folds, logits = folds.detach().cpu(), rows.teacher_logits
    log_probs = torch.empty_like(logits[0])
    scaled_log_probs = torch.empty_like(log_probs)
    grids = _grids_outside(rows, folds, options) if search == "grid" and not scale_teachers else None
    fold_weights, fold_spaces = [], []
    for place, fold in enumerate(_names_of(folds)):
        inside = folds == fold
        if scale_teachers:
            logits = scaled_outside(rows.teacher_logits, rows.labels, folds, fold)
        if grids is None:
            rest = replace(rows, teacher_logits=logits).of(~inside)
            visited = [visited_points(rest, space, options) for space in options.spaces]
        else:
            visited = grids[place]
        points, index = choose([(each, range(len(each))) for each in visited], by=options.by)
        weights = points.weights([index])[0]
        fuse = fuse_logits if points.space == "logit" else fuse_log_probs
        fused = fuse(logits, weights)
        fit = fit_temperature(fused[~inside], rows.labels[~inside])
        log_probs[inside] = fused[inside].log_softmax(dim=1)
        scaled_log_probs[inside] = fit.apply(fused[inside])
        fold_weights.append(weights)
        fold_spaces.append(points.space)
    return CrossValidated(log_probs, scaled_log_probs, fold_weights, fold_spaces)
