"""Models of several seeds on the same resamples, and with their rows swapped: the draws behind every paired comparison."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from fer_lightning.functional._resampling import chunk_sizes, draw_weights, limits_of_groups
from fer_lightning.functional._row_totals import Floats, RowSums, figures

COMPARED = ("accuracy", "balanced_accuracy", "macro_f1", "minority_f1", "nll", "brier", "ece")

_NOT_A_MEAN = frozenset({"balanced_accuracy", "macro_f1", "minority_f1", "ece"})
_LARGEST = {"nll": np.inf, "brier": 2.0}  # of all others: 1
_ROUNDING = 1e-12

OfSeeds = tuple[RowSums, ...]
"""One for each seed."""
ByGroup = Sequence[sparse.csr_array]
"""(G, K) sums by group, one for each seed."""


@dataclass(frozen=True, eq=False)
class PairedSets:
    """Sums of two arms over the sample, its resamples, and the sample with groups swapped between the arms."""

    sample: tuple[OfSeeds, OfSeeds]
    resampled: tuple[OfSeeds, OfSeeds]
    swapped: tuple[OfSeeds, OfSeeds]


def _totals(weights: Floats, parts: Sequence[sparse.csr_array]) -> list[Floats]:
    """(R, G) weights times each of some (G, K) features, which hold a dozen numbers a row among hundreds of zeros."""
    by_row = np.ascontiguousarray(weights.T)  # as the product reads them
    return [(part.T @ by_row).T for part in parts]


def draw_paired_sets(
    of_a: ByGroup, of_others: Sequence[ByGroup], *, num_resamples: int, seed: int, num_bins: int
) -> list[PairedSets]:
    """Pair an arm with each of some others, all on the same resamples, each seed with the seed of its place.

    Sums of different arms are added up in the same order, so that equal models are equal to the last bit.

    Args:
        of_a: `row_features` of the first arm, summed by group.
        of_others: of the others, each with as many seeds.
        num_resamples: R.
        seed: of the draws.
        num_bins: as the features have them.
    """
    num_seeds, num_groups = len(of_a), of_a[0].shape[0]
    arms = [sparse.csr_array(sparse.hstack(arm, format="csr")) for arm in (of_a, *of_others)]
    random = np.random.default_rng(seed)
    drawn, moved = [], []
    for size in chunk_sizes(num_resamples, num_groups):
        drawn.append(_totals(draw_weights(random, size, num_groups), arms))
        swaps = random.integers(0, 2, size=(size, num_groups), dtype=np.int8).astype(np.float64)
        moved.append(_totals(swaps, arms))
    sample = _totals(np.ones((1, num_groups)), arms)
    resampled, swapped = ([np.concatenate(chunks) for chunks in zip(*parts, strict=True)] for parts in (drawn, moved))

    def of_seeds(totals: Floats) -> OfSeeds:
        return tuple(RowSums.of(part, num_bins=num_bins) for part in np.split(totals, num_seeds, axis=1))

    def moved_to(place: int) -> tuple[OfSeeds, OfSeeds]:
        to_b = swapped[place] - swapped[0]
        return of_seeds(sample[0] + to_b), of_seeds(sample[place] - to_b)

    first_sample, first_resampled = of_seeds(sample[0]), of_seeds(resampled[0])
    return [
        PairedSets(
            sample=(first_sample, of_seeds(sample[place])),
            resampled=(first_resampled, of_seeds(resampled[place])),
            swapped=moved_to(place),
        )
        for place in range(1, len(arms))
    ]


def _nll_difference(a: OfSeeds, b: OfSeeds) -> Floats:
    more_infinite = sum(of_b.infinite_nll - of_a.infinite_nll for of_a, of_b in zip(a, b, strict=True))
    finite = np.mean(
        [of_b.finite_nll / of_b.num_rows - of_a.finite_nll / of_a.num_rows for of_a, of_b in zip(a, b, strict=True)],
        axis=0,
    )
    return np.where(more_infinite == 0, finite, np.copysign(np.inf, more_infinite))


def mean_differences(a: OfSeeds, b: OfSeeds) -> dict[str, Floats]:
    """(R,) b - a of each figure, the mean over seeds; the infinite losses of as many rows on both sides cancel."""
    pairs = [(figures(of_a), figures(of_b)) for of_a, of_b in zip(a, b, strict=True)]
    differences = {
        name: np.mean([of_b[name] - of_a[name] for of_a, of_b in pairs], axis=0) for name in COMPARED if name != "nll"
    }
    return {name: _nll_difference(a, b) if name == "nll" else differences[name] for name in COMPARED}


def limits_of_difference(
    name: str, difference: float, draws: Floats, *, num_groups: int, confidence: float
) -> tuple[float, float]:
    """Percentiles for means over rows; for the others, whose resamples are biased, the pivotal interval."""
    pivotal = 2.0 * difference - draws if name in _NOT_A_MEAN else draws
    largest = _LARGEST.get(name, 1.0)
    return limits_of_groups(
        difference, pivotal, num_groups=num_groups, confidence=confidence, domain=(-largest, largest)
    )


def swap_p_value(difference: float, draws: Floats) -> float:
    """Share of swapped sets at least as far from 0, the observed one included."""
    reached = np.abs(draws) >= abs(difference) * (1.0 - _ROUNDING) - _ROUNDING
    return float((1 + reached.sum()) / (1 + len(draws)))
