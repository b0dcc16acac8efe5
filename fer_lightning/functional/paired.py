"""Two models on the same rows: differences with paired bootstrap intervals and randomisation tests."""

from dataclasses import dataclass

from scipy.special import bdtr
from torch import Tensor

from fer_lightning.functional._paired_sets import (
    draw_paired_sets,
    limits_of_difference,
    mean_differences,
    swap_p_value,
)
from fer_lightning.functional._resampling import check_resampling, group_index, sums_by_group
from fer_lightning.functional._row_totals import figures, row_features


@dataclass(frozen=True)
class PairedDifference:
    """One figure of two models.

    Attributes:
        estimate_a: of the first model.
        estimate_b: of the second.
        difference: b - a.
        low: lower limit of the difference.
        high: upper limit.
        p_value: two-sided, in (0, 1].
    """

    estimate_a: float
    estimate_b: float
    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class PairedComparison:
    """Two models on the same rows.

    Attributes:
        differences: by figure: accuracy, balanced_accuracy, macro_f1, minority_f1, nll, brier, ece.
        mcnemar_p: exact two-sided McNemar test of equal accuracy. It takes every row as independent, so it is too
            small where groups of rows depend on each other.
        discordant: rows that only a has right, rows that only b has right.
    """

    differences: dict[str, PairedDifference]
    mcnemar_p: float
    discordant: tuple[int, int]


def _mcnemar(log_probs_a: Tensor, log_probs_b: Tensor, labels: Tensor) -> tuple[float, tuple[int, int]]:
    labels = labels.detach().cpu()
    right_a, right_b = (scores.detach().cpu().argmax(dim=1) == labels for scores in (log_probs_a, log_probs_b))
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    tail = float(bdtr(min(only_a, only_b), only_a + only_b, 0.5))  # P(at most so many of fair coins)
    return min(1.0, 2.0 * tail), (only_a, only_b)


def paired_comparison(
    log_probs_a: Tensor,
    log_probs_b: Tensor,
    labels: Tensor,
    *,
    groups: Tensor | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
    num_bins: int = 15,
) -> PairedComparison:
    """Compare two models on the same rows.

    Intervals: both models are evaluated on the same resamples of groups. Percentiles for accuracy, nll and brier,
    the pivotal interval 2 d - (d*_high, d*_low) for the others (Davison & Hinkley 1997, section 5.2); both widened where
    groups are few (`limits_of_groups`).

    p-values: the two models' rows are swapped, a whole group at a time, with probability 1/2; p is the share
    (1 + reached) / (1 + R) of such sets whose difference is at least as far from 0 as the one observed (Yeh 2000,
    https://aclanthology.org/C00-2137). The hypothesis is that the two are interchangeable, which is more than an
    equal figure: an over- and an underconfident model with equal ECE are not.

    Args:
        log_probs_a: (N, 7) log-probabilities of the first model.
        log_probs_b: (N, 7) of the second, rows in the same order.
        labels: (N,) int64.
        groups: (N,) integers; rows of one group are drawn and swapped together. Without, every row is a group.
        num_resamples: resamples of the intervals, and as many swaps of the tests.
        seed: of all draws; equal seeds give equal results.
        confidence: of the intervals, in (0, 1).
        num_bins: of the ECE.

    Returns:
        The comparison. A difference of nll is infinite where one model alone, or on more rows, gave a true class
        probability 0.

    Raises:
        ValueError: as `bootstrap_intervals`, for either model.
    """
    check_resampling(num_resamples=num_resamples, confidence=confidence)
    index = group_index(groups, len(labels))
    by_group = [
        sums_by_group(row_features(scores, labels, num_bins=num_bins), index) for scores in (log_probs_a, log_probs_b)
    ]
    (sets,) = draw_paired_sets(by_group[:1], [by_group[1:]], num_resamples=num_resamples, seed=seed, num_bins=num_bins)
    draws, null = mean_differences(*sets.resampled), mean_differences(*sets.swapped)
    of_a, of_b = (figures(sums) for (sums,) in sets.sample)
    num_groups, differences = by_group[0].shape[0], {}
    for name, values in mean_differences(*sets.sample).items():
        difference = float(values[0])
        low, high = limits_of_difference(name, difference, draws[name], num_groups=num_groups, confidence=confidence)
        p_value = swap_p_value(difference, null[name])
        differences[name] = PairedDifference(float(of_a[name][0]), float(of_b[name][0]), difference, low, high, p_value)
    return PairedComparison(differences, *_mcnemar(log_probs_a, log_probs_b, labels))
