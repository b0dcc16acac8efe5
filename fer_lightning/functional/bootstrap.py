"""Bootstrap confidence intervals of the headline figures, by group where rows have one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from torch import Tensor

from fer_lightning.functional._resampling import (
    SHARE,
    check_resampling,
    chunk_sizes,
    draw_weights,
    group_index,
    limits_of_groups,
    sums_by_group,
    weighted_totals,
)
from fer_lightning.functional._row_totals import (
    Floats,
    RowSums,
    figures,
    mass_gaps,
    per_class_f1,
    row_features,
    rows_by_class,
)
from fer_lightning.functional._scale_inversion import inverted_limits
from fer_lightning.labels import EMOTIONS, MINORITY_INDICES, NUM_CLASSES

_NEUTRAL_SHAPE = 1.0 / 3.0  # Kerman's: the median of Beta(k + 1/3, n - k + 1/3) is k / n but for O(1 / n^2)

_DOMAINS = {"nll": (0.0, np.inf), "brier": (0.0, 2.0)}  # of all others: shares


@dataclass(frozen=True)
class Interval:
    """A figure and its confidence interval.

    Attributes:
        estimate: of all rows.
        low: lower limit.
        high: upper limit; below the estimate where chance alone gives a calibration error that large.
    """

    estimate: float
    low: float
    high: float


def _mean_rows_where_held(by_group: sparse.csr_array) -> Floats:
    """(7,) mean rows of a class in the groups that hold it, 0 for a class without rows; of (G, K) sums by group."""
    rows = rows_by_class(by_group)
    per_group: Floats = rows.sum(axis=0) / (rows > 0).sum(axis=0).clip(min=1)
    return per_group


def _f1_draws(resampled: Sequence[RowSums], random: np.random.Generator, unit: Floats) -> Floats:
    """(R, 7) F1 of the resamples, the mean over models, each class with random pseudo-counts of correct and wrong rows.

    Resampling alone gives a class with no (or only) correct rows no spread at all, so intervals of rare classes and
    of the means over classes come out too short. Pseudo-counts weigh as much as the rows of the class that come and go
    together, its `unit`: more would drown what the rows say. They are the same for all models, which judge the same rows.
    A class without rows stays at its F1 of 0, a convention.
    """
    shape = (len(resampled[0].confusion), NUM_CLASSES)
    right, wrong = (random.gamma(_NEUTRAL_SHAPE, 1.0, shape) * unit for _ in range(2))
    draws: Floats = np.mean([per_class_f1(sums.confusion, right=right, wrong=wrong) for sums in resampled], axis=0)
    return draws


def _f1_figures(f1: Floats) -> dict[str, Floats]:
    return {
        "macro_f1": f1.mean(axis=1),
        "minority_f1": f1[:, MINORITY_INDICES].mean(axis=1),
        **{f"f1_{name}": f1[:, j] for j, name in enumerate(EMOTIONS)},
    }


def _ece_interval(
    resampled: Sequence[RowSums], sample: Sequence[RowSums], estimate: float, confidence: float
) -> Interval:
    observed = [sums.gap_by_width / sums.num_rows[:, None] for sums in sample]
    deviations = [
        sums.gap_by_width / sums.num_rows[:, None] - gaps for sums, gaps in zip(resampled, observed, strict=True)
    ]

    def at_scale(scale: float) -> Floats:
        errors: Floats = np.mean(
            [np.abs(scale * gaps + noise).sum(axis=1) for gaps, noise in zip(observed, deviations, strict=True)], axis=0
        )
        return errors

    return Interval(estimate, *inverted_limits(at_scale, observed=estimate, plug_in=estimate, confidence=confidence))


def _debiased_interval(sums: RowSums, sample: RowSums, estimate: float, confidence: float) -> Interval:
    sample_shares, observed, _ = mass_gaps(sample)
    shares, gaps, variance = mass_gaps(sums)
    deviations = gaps - observed
    squares = (shares * observed**2).sum(axis=1)
    products = (shares * observed * deviations).sum(axis=1)
    noise = (shares * (deviations**2 - variance)).sum(axis=1)

    def squared_at_scale(scale: float) -> Floats:
        errors: Floats = scale**2 * squares + 2.0 * scale * products + noise
        return errors

    plug_in = float(np.sqrt((sample_shares * observed**2).sum()))
    limits = inverted_limits(squared_at_scale, observed=estimate**2, plug_in=plug_in, confidence=confidence)
    return Interval(estimate, *limits)


def _mean_figures(models: Sequence[RowSums]) -> dict[str, Floats]:
    """(R,) mean over models of each figure."""
    of_each = [figures(sums) for sums in models]
    return {name: np.mean([values[name] for values in of_each], axis=0) for name in of_each[0]}


def intervals_of_mean(
    resampled: Sequence[RowSums],
    sample: Sequence[RowSums],
    by_group: sparse.csr_array,
    random: np.random.Generator,
    *,
    confidence: float,
) -> dict[str, Interval]:
    """Return the interval of the mean figure of some models that were judged on the same rows and resamples.

    Args:
        resampled: R sums of each model; all saw the same resamples.
        sample: sums of each model over all rows.
        by_group: (G, K) sums by group of any of them: only the true classes are looked at.
        random: of the pseudo-counts of F1.
        confidence: of each interval, in (0, 1).

    Returns:
        As `bootstrap_intervals`, without debiased_ece.
    """
    num_groups = by_group.shape[0]
    estimates = {name: float(values[0]) for name, values in _mean_figures(sample).items() if name != "debiased_ece"}
    f1 = _f1_draws(resampled, random, _mean_rows_where_held(by_group))
    draws = {**_mean_figures(resampled), **_f1_figures(f1)}
    intervals = {}
    for name, estimate in estimates.items():
        limits = limits_of_groups(
            estimate, draws[name], num_groups=num_groups, confidence=confidence, domain=_DOMAINS.get(name, SHARE)
        )
        intervals[name] = Interval(estimate, *limits)
    return {**intervals, "ece": _ece_interval(resampled, sample, estimates["ece"], confidence)}


def bootstrap_intervals(
    log_probs: Tensor,
    labels: Tensor,
    *,
    groups: Tensor | None = None,
    num_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    num_bins: int = 15,
) -> dict[str, Interval]:
    """Estimate the headline figures with bootstrap confidence intervals.

    Groups of rows are drawn with replacement, as many as there are. Every figure is a function of sums over rows, so
    one product of weights and sums by group evaluates a chunk of resamples. The limits:

    - accuracy, balanced_accuracy, nll, brier, mean_confidence: percentiles (Efron & Tibshirani 1993, chapter 13), widened
      where groups are few (`limits_of_groups`).
    - f1_<Emotion>, macro_f1, minority_f1: likewise, of resamples in which each class with rows also receives random
      correct and wrong pseudo-counts, Gamma(1/3) in units of its mean rows in the groups that hold it: F1 / (2 - F1) is
      a binomial proportion, and this is its neutral posterior (Kerman 2011, Electron. J. Statist. 5, 1450-1470) where
      rows are independent.
    - ece, debiased_ece: `inverted_limits`, since both are biased, the more the better calibrated the model is. The bins
      of debiased_ece are those of the sample. Not widened, so too short with fewer than some ten groups.

    Args:
        log_probs: (N, 7) log-probabilities, not logits or probabilities.
        labels: (N,) int64.
        groups: (N,) integers; rows of one group (subject, photo) depend on each other and are drawn together. Without,
            every row is a group.
        num_resamples: R.
        confidence: of each interval, in (0, 1).
        seed: of the draws; equal seeds give equal intervals.
        num_bins: of ece and debiased_ece.

    Returns:
        name -> interval: accuracy, balanced_accuracy, macro_f1, minority_f1, f1_<Emotion>, nll (inf if a true class
        had probability 0), brier, ece, debiased_ece, mean_confidence. Estimates equal the functions of `reliability`.
        A class without rows has F1 0 and the interval [0, 0].

    Raises:
        ValueError: fewer than two groups, not log-probabilities, NaN, not seven classes, label out of range, groups of
            another length, num_resamples or num_bins below 1, confidence outside (0, 1).
    """
    check_resampling(num_resamples=num_resamples, confidence=confidence)
    features = row_features(log_probs, labels, num_bins=num_bins)
    by_group = sums_by_group(features, group_index(groups, len(labels)))
    num_groups = by_group.shape[0]
    random = np.random.default_rng(seed)
    totals = [
        weighted_totals(draw_weights(random, size, num_groups), by_group)
        for size in chunk_sizes(num_resamples, num_groups)
    ]
    sums = RowSums.of(np.concatenate(totals), num_bins=num_bins)
    sample = RowSums.of(weighted_totals(np.ones((1, num_groups)), by_group), num_bins=num_bins)
    intervals = intervals_of_mean([sums], [sample], by_group, random, confidence=confidence)
    of_sample = figures(sample)
    intervals["debiased_ece"] = _debiased_interval(sums, sample, float(of_sample["debiased_ece"][0]), confidence)
    return {name: intervals[name] for name in of_sample}
