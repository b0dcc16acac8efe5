"""Which of several ensembles is best: the documents' order, or the NLL."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.functional._row_totals import per_class_f1
from fer_lightning.functional.ensemble_sweep import FusionSweep
from fer_lightning.labels import MINORITY_INDICES

_HIT_TOLERANCE = 1e-12  # rounding of a ratio of counts
_ECE_TOLERANCE = 1e-9  # the temperature it is taken at is a root found to 1e-10
NLL_TOLERANCE = 1e-6

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Criterion(NamedTuple):
    """(..., P) values, of which the larger is better, and the difference that does not count."""

    values: Floats
    tolerance: float


class HitFigures(NamedTuple):
    """Figures of counts alone, each (P,)."""

    macro_f1: Floats
    minority_f1: Floats
    accuracy: Floats


def hit_figures(confusion: Floats) -> HitFigures:
    """Figures of (P, 7, 7) counts, rows the true class."""
    f1 = per_class_f1(confusion)
    correct = np.diagonal(confusion, axis1=1, axis2=2).sum(axis=1)
    return HitFigures(f1.mean(axis=1), f1[:, MINORITY_INDICES].mean(axis=1), correct / confusion.sum(axis=(1, 2)))


def num_used(weights: Tensor) -> Ints:
    """(P,) teachers with weight, of (P, M)."""
    counts: Ints = (weights > 0.0).sum(dim=1).numpy()
    return counts


def left_by(criteria: Sequence[Criterion]) -> NDArray[np.bool_]:
    """(..., P) points that are best by the first criterion, and among its equals by the next, and so on."""
    left = np.ones(np.broadcast_shapes(*(values.shape for values, _ in criteria)), dtype=bool)
    for values, tolerance in criteria:
        best = np.where(left, values, -np.inf).max(axis=-1, keepdims=True)
        left &= values >= best - tolerance
    return left


def best_of(criteria: Sequence[Criterion]) -> Ints:
    """(...) index of the best point, the first of those that are equal in everything."""
    first: Ints = left_by(criteria).argmax(axis=-1)
    return first


def order_of_documents(hits: HitFigures, weights: Tensor, ece: Floats | None) -> list[Criterion]:
    """Macro-F1, minority-F1, ECE where it is known, accuracy, then fewer teachers with weight."""
    return [
        Criterion(hits.macro_f1, _HIT_TOLERANCE),
        Criterion(hits.minority_f1, _HIT_TOLERANCE),
        *([] if ece is None else [Criterion(-ece, _ECE_TOLERANCE)]),
        Criterion(hits.accuracy, _HIT_TOLERANCE),
        Criterion(-num_used(weights).astype(np.float64), 0.0),
    ]


def order_of_nll(nll: Floats, weights: Tensor) -> list[Criterion]:
    """NLL, then fewer teachers with weight: less than 1e-6 nats is no reason to pay for another teacher."""
    return [Criterion(-nll, NLL_TOLERANCE), Criterion(-num_used(weights).astype(np.float64), 0.0)]


def order_of(sweep: FusionSweep, *, by: str) -> list[Criterion]:
    """Criteria of the points of a sweep, `by` macro_f1 (the documents' order) or nll, both calibrated."""
    if by == "nll":
        return order_of_nll(sweep.nll_scaled.numpy(), sweep.weights)
    hits = HitFigures(sweep.macro_f1.numpy(), sweep.minority_f1.numpy(), sweep.accuracy.numpy())
    return order_of_documents(hits, sweep.weights, sweep.ece_scaled.numpy())


def best_point(sweep: FusionSweep) -> int:
    """Index of the best point in the documents' order.

    Macro-F1, then minority-F1, then the calibrated ECE (`ece_scaled`, lower is better), then accuracy, then fewer
    teachers with weight, then the first. F1 and accuracy within 1e-12, and ECE within 1e-9, are equal: that is rounding.
    """
    return int(best_of(order_of(sweep, by="macro_f1")))
