"""How differently teachers err: disagreement, correlation of errors, and what a perfect choice among them would reach."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fer_lightning.functional._checks import check_labels
from fer_lightning.labels import NUM_CLASSES


@dataclass(frozen=True)
class PairDiversity:
    """Two teachers on the same rows.

    Attributes:
        disagreement: share of rows with different predictions.
        error_correlation: phi coefficient of their errors, -1..1; None where one of them has no error or nothing else.
        both_wrong: share of rows that neither has right.
        one_right: share of rows that exactly one has right.
        cohen_kappa: agreement of their predictions beyond chance; None where both always predict the same one class.
    """

    disagreement: float
    error_correlation: float | None
    both_wrong: float
    one_right: float
    cohen_kappa: float | None


def _checked(predictions: tuple[Tensor, ...], labels: Tensor) -> tuple[Tensor, ...]:
    """Predictions of each teacher, then the labels, as int64 on the CPU."""
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"labels must have shape (N,) with N >= 1, got {tuple(labels.shape)}")
    named = [*(("predictions", of) for of in predictions), ("labels", labels)]
    return tuple(
        check_labels(of.detach().cpu(), num_rows=len(labels), num_classes=NUM_CLASSES, name=name) for name, of in named
    )


def _phi(wrong_a: Tensor, wrong_b: Tensor) -> float | None:
    """Pearson correlation of two (N,) bool vectors, None where one is constant."""
    both, only_a = int((wrong_a & wrong_b).sum()), int((wrong_a & ~wrong_b).sum())
    only_b, neither = int((wrong_b & ~wrong_a).sum()), int((~wrong_a & ~wrong_b).sum())
    product = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    return (both * neither - only_a * only_b) / math.sqrt(product) if product else None


def _kappa(predictions_a: Tensor, predictions_b: Tensor) -> float | None:
    """Cohen's kappa, in integers up to the last quotient."""
    num_rows = len(predictions_a)
    agreed = int((predictions_a == predictions_b).sum()) * num_rows
    counts_a, counts_b = (torch.bincount(of, minlength=NUM_CLASSES) for of in (predictions_a, predictions_b))
    by_chance = int((counts_a * counts_b).sum())
    return (agreed - by_chance) / (num_rows**2 - by_chance) if by_chance < num_rows**2 else None


def pair_diversity(predictions_a: Tensor, predictions_b: Tensor, labels: Tensor) -> PairDiversity:
    """Compare the errors of two teachers.

    Reference: Kuncheva and Whitaker 2003, https://doi.org/10.1023/A:1022859003006, sections 2 and 3; Cohen 1960,
    https://doi.org/10.1177/001316446002000104.

    Args:
        predictions_a: (N,) int64 classes, N >= 1.
        predictions_b: (N,) int64, rows in the same order.
        labels: (N,) int64.

    Raises:
        ValueError: no rows, shapes, types, or a class out of range.
    """
    a, b, truth = _checked((predictions_a, predictions_b), labels)
    wrong_a, wrong_b = a != truth, b != truth
    return PairDiversity(
        disagreement=float((a != b).double().mean()),
        error_correlation=_phi(wrong_a, wrong_b),
        both_wrong=float((wrong_a & wrong_b).double().mean()),
        one_right=float((wrong_a ^ wrong_b).double().mean()),
        cohen_kappa=_kappa(a, b),
    )


def oracle_accuracy(predictions: Tensor, labels: Tensor) -> float:
    """Share of rows that at least one teacher has right: what no choice among their predictions can exceed.

    Args:
        predictions: (M, N) int64 classes, M >= 1.
        labels: (N,) int64.

    Raises:
        ValueError: no teacher, no rows, shapes, types, or a class out of range.
    """
    if predictions.ndim != 2 or len(predictions) == 0:
        raise ValueError(f"predictions must have shape (M, N) with M >= 1, got {tuple(predictions.shape)}")
    *of_teachers, truth = _checked(tuple(predictions), labels)
    return float((torch.stack(of_teachers) == truth).any(dim=0).double().mean())
