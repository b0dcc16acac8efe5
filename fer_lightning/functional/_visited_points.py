"""Points that a search has visited in one space: hits are counted at once, calibration is fitted where it decides."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.functional._point_order import (
    HitFigures,
    best_of,
    hit_figures,
    left_by,
    order_of,
    order_of_documents,
)
from fer_lightning.functional._simplex import identity_of
from fer_lightning.functional.ensemble_sweep import FusionSweep, confusions, sweep_weights

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class SearchRows:
    """The rows that a search goes by.

    Attributes:
        teacher_logits: (M, N, 7) float64, finite.
        labels: (N,) int64.
        folds: (N,) int64, at least two of them, or None: calibrated figures are then of the rows fitted on.
        num_bins: of the ECE.
    """

    teacher_logits: Tensor
    labels: Tensor
    folds: Tensor | None
    num_bins: int

    def of(self, rows: Tensor, *, members: Sequence[int] | None = None) -> "SearchRows":
        """Some of the rows, (N,) bool, seen by some of the teachers; folds stay where at least two are left."""
        logits = self.teacher_logits if members is None else self.teacher_logits[list(members)]
        folds = None if self.folds is None else self.folds[rows]
        if folds is not None and bool((folds == folds[0]).all()):
            folds = None
        return SearchRows(logits[:, rows], self.labels[rows], folds, self.num_bins)


def _first_places(names: Sequence[tuple[float, ...]]) -> dict[tuple[float, ...], int]:
    """Where each name stands first."""
    places: dict[tuple[float, ...], int] = {}
    for place, name in enumerate(names):
        places.setdefault(name, place)
    return places


def joined(parts: Sequence[FusionSweep]) -> FusionSweep:
    """Points of several sweeps, one after the other."""
    return FusionSweep(
        **{
            field.name: torch.cat([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(FusionSweep)
        }
    )


def points_of(sweep: FusionSweep) -> list[FusionSweep]:
    """Each point of a sweep by itself."""
    columns = {field.name: getattr(sweep, field.name).split(1) for field in dataclasses.fields(sweep)}
    return [FusionSweep(**dict(zip(columns, point, strict=True))) for point in zip(*columns.values(), strict=True)]


class VisitedPoints:
    """Points of one space, in the order of their first visit."""

    def __init__(self, rows: SearchRows, space: str) -> None:
        self.space = space
        self._rows = rows
        self._weights: list[Tensor] = []
        self._hits: list[tuple[float, float, float]] = []
        self._figures: dict[int, FusionSweep] = {}  # of one point each
        self._index_of: dict[tuple[float, ...], int] = {}

    def __len__(self) -> int:
        return len(self._weights)

    def weights(self, indices: Sequence[int]) -> Tensor:
        """(P, M) of some points."""
        return torch.stack([self._weights[index] for index in indices])

    def visit(self, weights: Tensor, *, confusion: Tensor | None = None) -> list[int]:
        """Index of each of the (P, M) points; new ones are counted, unless their (P, 7, 7) counts are given."""
        names = [identity_of(point) for point in weights]
        new = [i for name, i in _first_places(names).items() if name not in self._index_of]
        if new:
            if confusion is None:
                counts = confusions(self._rows.teacher_logits, self._rows.labels, weights[new], space=self.space)
            else:
                counts = confusion[new]
            for i, hits in zip(new, zip(*hit_figures(counts.double().numpy()), strict=True), strict=True):
                self._index_of[names[i]] = len(self._weights)
                self._weights.append(weights[i])
                self._hits.append(hits)
        return [self._index_of[name] for name in names]

    def hits(self, indices: Sequence[int]) -> HitFigures:
        """Figures of counts of some points."""
        return HitFigures(*np.array([self._hits[index] for index in indices]).T)

    def sweep(self, indices: Sequence[int] | None = None) -> FusionSweep:
        """All figures of some points, or of all of them in the order of their first visit."""
        indices = range(len(self)) if indices is None else indices
        missing = [index for index in dict.fromkeys(indices) if index not in self._figures]
        if missing:
            rows = self._rows
            weights = self.weights(missing)
            swept = sweep_weights(
                rows.teacher_logits,
                rows.labels,
                weights,
                space=self.space,
                folds=rows.folds,
                num_bins=rows.num_bins,
            )
            exact = dataclasses.replace(swept, weights=weights)  # the same points, to the last bit
            self._figures.update(zip(missing, points_of(exact), strict=True))
        return joined([self._figures[index] for index in indices])


def choose(candidates: Sequence[tuple[VisitedPoints, Sequence[int]]], *, by: str) -> tuple[VisitedPoints, int]:
    """The best of some points of one space or several; what is equal in both F1s alone is calibrated.

    Args:
        candidates: points, and indices of some of them.
        by: `macro_f1`, the documents' order, or `nll`.
    """
    candidates = [(points, indices) for points, indices in candidates if indices]
    given = [(points, index) for points, indices in candidates for index in indices]
    left = list(range(len(given)))
    if by != "nll":
        hits = HitFigures(*np.concatenate([points.hits(indices) for points, indices in candidates], axis=1))
        weights = torch.cat([points.weights(indices) for points, indices in candidates])
        left = left_by(order_of_documents(hits, weights, None)[:2]).nonzero()[0].tolist()
    if len(left) == 1:
        return given[left[0]]
    tied = [[given[place][1] for place in left if given[place][0] is points] for points, _ in candidates]
    sweeps = [points.sweep(indices) for (points, _), indices in zip(candidates, tied, strict=True) if indices]
    return given[left[int(best_of(order_of(joined(sweeps), by=by)))]]
