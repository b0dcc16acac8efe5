"""Intervals of chosen weights: the choice among the evaluated points repeated on resamples of groups of rows."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  the name torch's own documentation uses
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.functional._chosen_weights import FoundWeights, search_rows
from fer_lightning.functional._newton_resamples import refitted_shares
from fer_lightning.functional._point_order import (
    HitFigures,
    best_of,
    order_of_documents,
    order_of_nll,
)
from fer_lightning.functional._resampling import (
    SHARE,
    check_resampling,
    chunk_sizes,
    draw_weights,
    group_index,
    limits_of_groups,
)
from fer_lightning.functional._simplex import identity_of, spread_points
from fer_lightning.functional.ensemble_sweep import FusionSweep
from fer_lightning.functional.fusion import fuse_log_probs, fuse_logits
from fer_lightning.labels import MINORITY_INDICES, NUM_CLASSES

_POINTS_AT_A_TIME = 256
_POINTS_PER_PRODUCT = 8

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class TeacherInterval(NamedTuple):
    """Where a teacher's chosen weight lies when the rows are drawn again, and the share of draws in which it has any."""

    low: float
    high: float
    chosen_share: float


def _predictions(linear: Tensor, weights: Tensor) -> Iterator[NDArray[np.int8]]:
    """(N,) class of the largest weighted mean of (M, 7, N) scores, the first of equal ones, for each of (P, M) points."""
    flat, num_rows = linear.flatten(1), linear.shape[2]
    for start in range(0, len(weights), _POINTS_PER_PRODUCT):
        some = weights[start : start + _POINTS_PER_PRODUCT]
        for scores in (some @ flat).view(len(some), NUM_CLASSES, num_rows).numpy():
            best, predicted = scores[0].copy(), np.zeros(num_rows, dtype=np.int8)
            for c in range(1, NUM_CLASSES):
                predicted[scores[c] > best] = c
                np.maximum(best, scores[c], out=best)
            yield predicted


class _Patterns(NamedTuple):
    """Rows that share their label and their prediction at each of some points.

    Attributes:
        of_row: (N,) pattern of each row.
        labels: (U,) label of each pattern.
        predictions: (P, U) prediction of each pattern at each point.
    """

    of_row: Ints
    labels: NDArray[np.int8]
    predictions: NDArray[np.int8]


def _patterns(columns: NDArray[np.int8]) -> _Patterns:
    """Find equal rows of (N, 1 + P) labels and predictions."""
    columns = np.ascontiguousarray(columns)
    whole_rows = columns.view(np.dtype((np.void, columns.shape[1])))[:, 0]
    _, first, of_row = np.unique(whole_rows, return_index=True, return_inverse=True)
    table = columns[first]
    return _Patterns(of_row, table[:, 0], np.ascontiguousarray(table[:, 1:].T))


def _counts_by_pattern(drawn: Bytes, group_of: Ints, patterns: _Patterns) -> Floats:
    """(R, U) rows of each pattern in each resample, of (R, G) times each group was drawn."""
    num_patterns = len(patterns.labels)
    return np.stack([np.bincount(patterns.of_row, weights=times[group_of], minlength=num_patterns) for times in drawn])


def _resampled_hits(counts: Floats, patterns: _Patterns) -> HitFigures:
    """Figures of counts of P points, each (R, P), of (R, U) rows of each pattern."""
    classes = np.arange(NUM_CLASSES)
    is_label = patterns.labels[:, None] == classes
    support, num_rows = counts @ is_label, counts.sum(axis=1)
    columns: list[tuple[Floats, Floats, Floats]] = []
    for predicted in patterns.predictions:
        is_predicted = predicted[:, None] == classes
        both = counts @ np.concatenate([is_predicted, is_predicted & is_label], axis=1).astype(np.float64)
        found, correct = both[:, :NUM_CLASSES], both[:, NUM_CLASSES:]
        f1 = 2.0 * correct / np.maximum(found + support, 1.0)
        columns.append((f1.mean(axis=1), f1[:, MINORITY_INDICES].mean(axis=1), correct.sum(axis=1) / num_rows))
    return HitFigures(*(np.stack(values, axis=1) for values in zip(*columns, strict=True)))


def _with_spread(evaluated: Tensor) -> Tensor:
    """(P, M) evaluated points, and those of a grid all over the simplex that are not among them."""
    known = {identity_of(point) for point in evaluated}
    further = [point for point in spread_points(evaluated.shape[1]) if identity_of(point) not in known]
    return torch.cat([evaluated, *(point[None] for point in further)])


def _hits_of_resamples(
    points: dict[str, Tensor], logits: Tensor, labels: Tensor, *, drawn: Bytes, group_of: Ints
) -> HitFigures:
    """Figures of counts of (P, M) points of all spaces, each (R, P)."""
    num_rows = len(labels)
    parts = []
    for space, weights in points.items():
        scores = logits if space == "logit" else logits.softmax(dim=2)
        linear = scores.transpose(1, 2).contiguous()
        for start in range(0, len(weights), _POINTS_AT_A_TIME):
            some = weights[start : start + _POINTS_AT_A_TIME]
            columns = np.empty((1 + len(some), num_rows), dtype=np.int8)
            columns[0] = labels.numpy()
            for place, predicted in enumerate(_predictions(linear, some), start=1):
                columns[place] = predicted
            patterns = _patterns(columns.T)
            counts = _counts_by_pattern(drawn, group_of, patterns)
            parts.append(_resampled_hits(counts, patterns))
    return HitFigures(*(np.concatenate(values, axis=1) for values in zip(*parts, strict=True)))


def _nll_of_resamples(
    sweeps: dict[str, FusionSweep], logits: Tensor, labels: Tensor, *, drawn: Bytes, group_of: Ints
) -> Floats:
    """(R, P) NLL of all points of all spaces, each at the temperature of all rows."""
    columns = []
    for space, sweep in sweeps.items():
        fuse = fuse_logits if space == "logit" else fuse_log_probs
        for weights, temperature in zip(sweep.weights, sweep.temperatures.tolist(), strict=True):
            losses = F.cross_entropy(fuse(logits, weights) / temperature, labels, reduction="none").numpy()
            columns.append(np.bincount(group_of, weights=losses))
    times = drawn.astype(np.float64)
    means: Floats = times @ np.stack(columns, axis=1) / (times @ np.bincount(group_of))[:, None]
    return means


def _chosen_again(found: FoundWeights, logits: Tensor, labels: Tensor, *, drawn: Bytes, group_of: Ints) -> Floats:
    """(R, M) weights chosen on each resample."""
    if found.by == "nll" and found.space == "logit":
        temperature = float(found.points["logit"].temperatures[found.index])
        return refitted_shares(logits, labels, found.weights, temperature=temperature, drawn=drawn, group_of=group_of)
    points = {space: sweep.weights for space, sweep in found.points.items()}
    if found.by == "nll":
        weights = torch.cat(list(points.values()))
        order = order_of_nll(_nll_of_resamples(found.points, logits, labels, drawn=drawn, group_of=group_of), weights)
    else:
        points = {space: _with_spread(evaluated) for space, evaluated in points.items()}
        weights = torch.cat(list(points.values()))
        hits = _hits_of_resamples(points, logits, labels, drawn=drawn, group_of=group_of)
        order = order_of_documents(hits, weights, None)
    chosen: Floats = weights.numpy()[best_of(order)]
    return chosen


def weight_intervals(
    teacher_logits: Tensor,
    labels: Tensor,
    found: FoundWeights,
    *,
    groups: Tensor | None = None,
    num_resamples: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[TeacherInterval]:
    """Percentile intervals of the chosen weights: the choice is made again on each resample of groups.

    - In the documents' order, again among all evaluated points and a grid all over the simplex (the points of `simplex`,
      `optimise` and `greedy` crowd around the chosen one), but without the ECE, which would need a temperature of every
      point on every resample: macro-F1, minority-F1, accuracy, fewer teachers, the first.
    - By the NLL in logit space, over all weights: one Newton step from the chosen ones, with the temperature free.
    - By the NLL in prob space, again among all evaluated points, each at the temperature of all rows.

    Among points limits are no finer than these lie apart. Limits are widened where groups are few (`limits_of_groups`).

    Args:
        teacher_logits: (M, N, 7) float, the same rows that were searched.
        labels: (N,) int64.
        found: what was found on them.
        groups: (N,) integers; rows of one group are drawn together. Without, every row is a group.
        num_resamples: R, >= 1.
        confidence: of the intervals, in (0, 1).
        seed: of the draws; equal seeds give equal results.

    Returns:
        One interval for each teacher.

    Raises:
        ValueError: shapes, types or ranges; other teachers than those of `found`; fewer than two groups.
    """
    check_resampling(num_resamples=num_resamples, confidence=confidence)
    rows = search_rows(teacher_logits, labels, folds=None, num_bins=1)
    if len(found.weights) != len(rows.teacher_logits):
        raise ValueError(
            f"found has weights of {len(found.weights)} teachers, but there are {len(rows.teacher_logits)}"
        )
    group_of = group_index(groups, len(rows.labels))
    num_groups, random = int(group_of.max()) + 1, np.random.default_rng(seed)
    drawn = np.concatenate(  # as bytes: a group is never drawn 256 times of 255, and of more with no chance to speak of
        [draw_weights(random, size, num_groups).astype(np.uint8) for size in chunk_sizes(num_resamples, num_groups)]
    )
    chosen = _chosen_again(found, rows.teacher_logits, rows.labels, drawn=drawn, group_of=group_of)
    intervals = []
    for estimate, draws in zip(found.weights.tolist(), chosen.T, strict=True):
        low, high = limits_of_groups(estimate, draws, num_groups=num_groups, confidence=confidence, domain=SHARE)
        intervals.append(TeacherInterval(low, high, float((draws > 0.0).mean())))
    return intervals
