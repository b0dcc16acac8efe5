"""Weights chosen by a search over one space or several, with every point that was evaluated on the way."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fer_lightning.functional._bins import check_num_bins
from fer_lightning.functional._checks import at_least_float32, check_labels
from fer_lightning.functional._point_order import best_of, order_of
from fer_lightning.functional._visited_points import SearchRows, joined
from fer_lightning.functional._weight_searches import SearchOptions, visited_points
from fer_lightning.functional.ensemble_sweep import FusionSweep
from fer_lightning.labels import NUM_CLASSES


@dataclass(frozen=True, eq=False)
class FoundWeights:
    """The result of a search.

    Attributes:
        points: every point that was evaluated, by space.
        space: of the chosen point.
        index: of the chosen point in `points[space]`.
        weights: (M,) of the chosen point.
        by: what decided: `macro_f1`, the documents' order, or `nll`.
    """

    points: dict[str, FusionSweep]
    space: str
    index: int
    weights: Tensor
    by: str


def search_rows(teacher_logits: Tensor, labels: Tensor, *, folds: Tensor | None, num_bins: int) -> SearchRows:
    """What a search goes by, as float64 on the CPU.

    Raises:
        ValueError: shapes, types or ranges, logits that are not finite, folds that are not at least two.
    """
    if teacher_logits.ndim != 3 or teacher_logits.numel() == 0 or teacher_logits.shape[2] != NUM_CLASSES:
        raise ValueError(
            f"teacher_logits must have shape (M, N, {NUM_CLASSES}), none 0, got {tuple(teacher_logits.shape)}"
        )
    logits = at_least_float32(teacher_logits, name="teacher_logits").detach().to("cpu", torch.float64)
    finite = torch.isfinite(logits).all(dim=2)
    if not bool(finite.all()):
        teacher, row = (~finite).nonzero()[0].tolist()
        raise ValueError(
            f"teacher_logits must be finite; {int((~finite).sum())} rows are not, first row {row} of teacher {teacher}: "
            f"{logits[teacher, row].tolist()}"
        )
    labels = check_labels(labels.detach().cpu(), num_rows=logits.shape[1], num_classes=NUM_CLASSES)
    check_num_bins(num_bins)
    if folds is not None:
        if folds.shape != labels.shape or folds.is_floating_point() or folds.dtype == torch.bool:
            raise ValueError(f"folds must be ({len(labels)},) integers, got {folds.dtype} {tuple(folds.shape)}")
        folds = folds.detach().cpu()
        if bool((folds == folds[0]).all()):
            raise ValueError(f"folds must be at least two, got only fold {int(folds[0])}")
    return SearchRows(logits, labels, folds, num_bins)


def search_weights(
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    spaces: Sequence[str],
    search: str,
    aim: str = "macro_f1",
    grid_step: float = 0.1,
    finest_step: float = 0.0125,
    greedy_steps: int = 50,
    folds: Tensor | None = None,
    num_bins: int = 15,
) -> FoundWeights:
    """Search the weights of an ensemble on the given rows; every search is deterministic.

    - `grid`: all points of `simplex_grid`.
    - `simplex`: steps of 1/4 (only the corners where these are more than 500 points) and equal weights; then weight is
      moved between pairs of teachers, from the best point on, in steps that halve down to `finest_step`.
    - `optimise`: the same direct search with steps from 1/8 to 1/1024, begun at the best of the coarse points and of the
      minimum of the NLL. In logit space that is the joint minimum over weights and temperature, a convex problem, and
      with the aim `nll` it is the answer; in prob space it is the minimum at temperature 1, which is convex too, and the
      search goes on from there with the temperature free. F1 is piecewise constant: it has no gradient to follow.
    - `greedy`: forward selection with replacement from the best single teacher, `greedy_steps` picks, of which the best
      prefix counts; weights are shares of the picks. Caruana et al. 2004, https://doi.org/10.1145/1015330.1015432.

    The chosen point is the best of all evaluated ones: in the documents' order (`best_point`), or, for `optimise` and
    `greedy` with the aim `nll`, the one of the lowest `nll_scaled`, among those within 1e-6 nats of it the one of
    the fewest teachers, then the first. It is the scaled NLL because a temperature is fitted to any weights in the
    end, and the raw one would reward only what is less confident.

    Args:
        teacher_logits: (M, N, 7) float, finite.
        labels: (N,) int64.
        spaces: `logit`, `prob` or both, the first is preferred among equals.
        search: `grid`, `simplex`, `optimise` or `greedy`.
        aim: `macro_f1` (with the rest of the documents' order) or `nll`; of `optimise` and `greedy` alone.
        grid_step: of `grid`, divides 1.
        finest_step: of `simplex`.
        greedy_steps: of `greedy`, picks.
        folds: (N,) integers, at least two: scaled figures are cross-fitted; None: they are of the rows fitted on.
        num_bins: of the ECE.

    Raises:
        ValueError: an unknown choice, shapes, types or ranges, logits that are not finite, a grid of too many points.
    """
    options = SearchOptions(tuple(spaces), search, aim, grid_step, finest_step, greedy_steps)
    rows = search_rows(teacher_logits, labels, folds=folds, num_bins=num_bins)
    points = {space: visited_points(rows, space, options).sweep() for space in options.spaces}
    best = int(best_of(order_of(joined(list(points.values())), by=options.by)))
    for space, sweep in points.items():
        if best < len(sweep.weights):
            return FoundWeights(points, space, best, sweep.weights[best], options.by)
        best -= len(sweep.weights)
    raise AssertionError("the best point lies in none of the spaces")
