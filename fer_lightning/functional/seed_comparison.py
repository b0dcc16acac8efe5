"""Two ways of training, each of several seeds, on the same rows: what differs for these runs, and what would for others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import stdtrit  # scipy.stats takes a second to import
from torch import Tensor

from fer_lightning.functional._paired_sets import (
    COMPARED,
    OfSeeds,
    PairedSets,
    draw_paired_sets,
    limits_of_difference,
    mean_differences,
    swap_p_value,
)
from fer_lightning.functional._resampling import check_resampling, group_index, sums_by_group
from fer_lightning.functional._row_totals import Floats, figures, row_features
from fer_lightning.functional.bootstrap import intervals_of_mean
from fer_lightning.functional.intervals import MeanInterval, mean_interval

_OF_FIGURES, _OF_SEEDS = 1, 2  # streams of random numbers beside the one of the resamples


@dataclass(frozen=True)
class SeedFigure:
    """One figure of an arm.

    Attributes:
        estimate: mean over seeds.
        low: lower limit of this mean over other rows, for the networks that were trained.
        high: upper limit.
        per_seed: (S,) of each seed.
    """

    estimate: float
    low: float
    high: float
    per_seed: tuple[float, ...]


@dataclass(frozen=True)
class SeedDifference:
    """One figure of two arms.

    Attributes:
        estimate_a: mean over the seeds of the first arm.
        estimate_b: of the second.
        difference: b - a.
        low: lower limit over other rows, for the very networks that were trained.
        high: upper limit.
        p_value: two-sided, in (0, 1]; of these networks too.
        per_seed: (S,) b - a, seed by seed.
        over_seeds: mean of these with its Student-t interval: over other seeds, on the very rows that were judged. Without
            deviation and limits for one seed, or where one of them is infinite.
        low_of_rows_and_seeds: lower limit over other rows and other seeds; None where `over_seeds` has none.
        high_of_rows_and_seeds: upper limit.
    """

    estimate_a: float
    estimate_b: float
    difference: float
    low: float
    high: float
    p_value: float
    per_seed: tuple[float, ...]
    over_seeds: MeanInterval
    low_of_rows_and_seeds: float | None
    high_of_rows_and_seeds: float | None


@dataclass(frozen=True)
class SeedComparison:
    """Two arms on the same rows; by figure: accuracy, balanced_accuracy, macro_f1, minority_f1, nll, brier, ece."""

    of_a: dict[str, SeedFigure]
    of_b: dict[str, SeedFigure]
    differences: dict[str, SeedDifference]


@dataclass(frozen=True)
class _Drawing:
    """How intervals are drawn."""

    num_resamples: int
    seed: int
    confidence: float
    num_bins: int


def _sums_of_arm(
    log_probs: Sequence[Tensor], labels: Tensor, index: np.ndarray, num_bins: int
) -> list[sparse.csr_array]:
    return [sums_by_group(row_features(scores, labels, num_bins=num_bins), index) for scores in log_probs]


def _own_figures(
    sample: OfSeeds, resampled: OfSeeds, by_group: sparse.csr_array, drawing: _Drawing
) -> dict[str, SeedFigure]:
    random = np.random.default_rng([drawing.seed, _OF_FIGURES])
    intervals = intervals_of_mean(resampled, sample, by_group, random, confidence=drawing.confidence)
    of_each = [figures(sums) for sums in sample]
    return {
        name: SeedFigure(
            intervals[name].estimate,
            intervals[name].low,
            intervals[name].high,
            tuple(float(values[name][0]) for values in of_each),
        )
        for name in COMPARED
    }


def _over_seeds(difference: float, per_seed: Sequence[float], confidence: float) -> MeanInterval:
    if not all(map(math.isfinite, per_seed)):
        return MeanInterval(mean=difference, deviation=None, low=None, high=None)
    return mean_interval(per_seed, confidence=confidence)


def _seed_draws(over_seeds: MeanInterval, num_seeds: int, drawing: _Drawing) -> Floats | None:
    """(R,) deviations of the mean over S seeds from its expectation: s / sqrt(S) times Student's t, evenly spread."""
    if over_seeds.deviation is None:
        return None
    order = np.random.default_rng([drawing.seed, _OF_SEEDS]).permutation(drawing.num_resamples)
    variates = stdtrit(num_seeds - 1, (order + 0.5) / drawing.num_resamples)
    draws: Floats = over_seeds.deviation / math.sqrt(num_seeds) * variates
    return draws


def _differences(
    sets: PairedSets, own: tuple[dict[str, SeedFigure], dict[str, SeedFigure]], num_groups: int, drawing: _Drawing
) -> dict[str, SeedDifference]:
    draws, null = mean_differences(*sets.resampled), mean_differences(*sets.swapped)
    by_seed = [mean_differences((a,), (b,)) for a, b in zip(*sets.sample, strict=True)]
    differences = {}
    for name, values in mean_differences(*sets.sample).items():
        difference, per_seed = float(values[0]), tuple(float(of_one[name][0]) for of_one in by_seed)
        over_seeds = _over_seeds(difference, per_seed, drawing.confidence)
        seed_draws = _seed_draws(over_seeds, len(by_seed), drawing)

        low, high = limits_of_difference(
            name, difference, draws[name], num_groups=num_groups, confidence=drawing.confidence
        )
        of_both: tuple[float | None, float | None] = None, None
        if seed_draws is not None:
            widest = limits_of_difference(
                name, difference, draws[name] + seed_draws, num_groups=num_groups, confidence=drawing.confidence
            )
            of_both = min(low, widest[0]), max(high, widest[1])
        differences[name] = SeedDifference(
            own[0][name].estimate,
            own[1][name].estimate,
            difference,
            low,
            high,
            swap_p_value(difference, null[name]),
            per_seed,
            over_seeds,
            *of_both,
        )
    return differences


def _check_seeds(baseline: Sequence[Tensor], others: Sequence[Sequence[Tensor]]) -> None:
    numbers = [len(arm) for arm in (baseline, *others)]
    if not others or min(numbers) < 1 or len(set(numbers)) > 1:
        raise ValueError(f"arms are compared seed by seed: each needs as many as the others, got {numbers}")


def compare_arms_over_seeds(
    baseline: Sequence[Tensor],
    others: Sequence[Sequence[Tensor]],
    labels: Tensor,
    *,
    groups: Tensor | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
    num_bins: int = 15,
) -> list[SeedComparison]:
    """Compare each of some arms with a baseline, as `compare_over_seeds` does, all on the same resamples.

    Args:
        baseline: S times (N, 7) log-probabilities.
        others: the other arms, at least one, each with the same seeds in the same order.
        labels: (N,) int64.
        groups: (N,) integers.
        num_resamples: R.
        seed: of all draws.
        confidence: of the intervals, in (0, 1).
        num_bins: of the ECE.

    Returns:
        A comparison for each of the others, the baseline being its arm a.

    Raises:
        ValueError: as `compare_over_seeds`, or no other arm.
    """
    check_resampling(num_resamples=num_resamples, confidence=confidence)
    _check_seeds(baseline, others)
    drawing = _Drawing(num_resamples, seed, confidence, num_bins)
    index = group_index(groups, len(labels))
    of_a, *of_others = (_sums_of_arm(arm, labels, index, num_bins) for arm in (baseline, *others))
    pairs = draw_paired_sets(of_a, of_others, num_resamples=num_resamples, seed=seed, num_bins=num_bins)
    own_a = _own_figures(pairs[0].sample[0], pairs[0].resampled[0], of_a[0], drawing)
    comparisons = []
    for sets in pairs:
        own_b = _own_figures(sets.sample[1], sets.resampled[1], of_a[0], drawing)
        differences = _differences(sets, (own_a, own_b), of_a[0].shape[0], drawing)
        comparisons.append(SeedComparison(own_a, own_b, differences))
    return comparisons


def compare_over_seeds(
    log_probs_a: Sequence[Tensor],
    log_probs_b: Sequence[Tensor],
    labels: Tensor,
    *,
    groups: Tensor | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
    num_bins: int = 15,
) -> SeedComparison:
    """Compare two arms of S networks each, trained alike but for the seed, on the same rows.

    A figure of an arm is the mean over its seeds of the figure of each. What each interval says:

    - low, high: what other rows of the same kind would show of the very networks that were trained, as
      `paired_comparison` has it: whole groups are drawn, all networks of both arms judged on the same resamples. With one
      seed each it is that comparison. It says nothing of other seeds.
    - over_seeds: what other seeds would show on the very rows that were judged: mean +- t s / sqrt(S) of the differences,
      seed by seed.
    - low_of_rows_and_seeds, high_of_rows_and_seeds: what other seeds would show on other rows; the one to go by for a
      statement about the two ways of training. A bootstrap of two levels: each resample of rows meets a deviation
      s / sqrt(S) t of the seeds, t drawn from Student's distribution with S - 1 degrees of freedom, since seeds that are
      drawn with replacement are too few for tails (three have ten different means). s holds what rows add to a single
      seed's difference too, so this is counted twice; and the interval always holds that of rows alone. It is conservative.

    p-values: both arms' rows are swapped, a whole group at a time in all seeds together. An arm's own figures have the
    intervals of `bootstrap_intervals`, of the mean over its seeds.

    Args:
        log_probs_a: S times (N, 7) log-probabilities of the first arm.
        log_probs_b: of the second, the same seeds in the same order; rows in the same order.
        labels: (N,) int64.
        groups: (N,) integers; rows of one group are drawn and swapped together. Without, every row is a group.
        num_resamples: resamples of the intervals, and as many swaps of the tests.
        seed: of all draws; equal seeds give equal results.
        confidence: of the intervals, in (0, 1).
        num_bins: of the ECE.

    Returns:
        The comparison, b - a.

    Raises:
        ValueError: arms without seeds, or not equally many; otherwise as `paired_comparison`.
    """
    (comparison,) = compare_arms_over_seeds(
        log_probs_a,
        [log_probs_b],
        labels,
        groups=groups,
        num_resamples=num_resamples,
        seed=seed,
        confidence=confidence,
        num_bins=num_bins,
    )
    return comparison
