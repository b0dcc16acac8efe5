"""Arms of several seeds: plain loops with the same draws, every possible swap, scipy's t, simulated seeds and rows."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from fer_lightning.functional import _resampling
from fer_lightning.functional._resampling import draw_weights
from fer_lightning.functional.bootstrap import bootstrap_intervals
from fer_lightning.functional.paired import paired_comparison
from fer_lightning.functional.reliability import reliability_report
from fer_lightning.functional.seed_comparison import SeedComparison, compare_arms_over_seeds, compare_over_seeds

NAMES = ["accuracy", "balanced_accuracy", "macro_f1", "minority_f1", "nll", "brier", "ece"]
PIVOTAL = {"balanced_accuracy", "macro_f1", "minority_f1", "ece"}


def _arms(num_rows: int, noises: Sequence[Sequence[float]], *, seed: int = 0) -> tuple[list[list[Tensor]], Tensor]:
    """log_probs of each arm and seed, which see the truth through noise of a given size, and labels."""
    generator = torch.Generator().manual_seed(seed)

    def noise() -> Tensor:
        return torch.randn(num_rows, 7, generator=generator, dtype=torch.float64)

    logits = noise() * 2
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    return [[(logits + size * noise()).log_softmax(1) for size in arm] for arm in noises], labels


def _figures(log_probs: Tensor, labels: Tensor) -> dict[str, float]:
    report = reliability_report(log_probs, labels)
    named = {name: float(getattr(report.scores, name)) for name in NAMES[:4]}
    return {**named, "nll": report.nll, "brier": report.brier, "ece": report.ece}


def _mean(arm: Sequence[Tensor], labels: Tensor) -> dict[str, float]:
    of_each = [_figures(log_probs, labels) for log_probs in arm]
    return {name: sum(figures[name] for figures in of_each) / len(arm) for name in NAMES}


def _change(a: Sequence[Tensor], b: Sequence[Tensor], labels: Tensor) -> dict[str, float]:
    of_a, of_b = _mean(a, labels), _mean(b, labels)
    return {name: of_b[name] - of_a[name] for name in NAMES}


@pytest.mark.parametrize("grouped", [False, True])
def test_one_seed_is_the_paired_comparison(grouped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ((a,), (b,)), labels = _arms(240, [[1.0], [0.6]])
    monkeypatch.setattr(_resampling, "_CHUNK_BYTES", 8 * 240 * 50)
    groups = torch.arange(240) // 3 if grouped else None
    found = compare_over_seeds([a], [b], labels, groups=groups, num_resamples=300, seed=5, confidence=0.9, num_bins=10)
    expected = paired_comparison(a, b, labels, groups=groups, num_resamples=300, seed=5, confidence=0.9, num_bins=10)
    assert list(found.differences) == NAMES
    for name, row in found.differences.items():
        assert {key: asdict(row)[key] for key in asdict(expected.differences[name])} == asdict(
            expected.differences[name]
        )
        assert row.per_seed == (row.difference,)
        assert asdict(row.over_seeds) == {"mean": row.difference, "deviation": None, "low": None, "high": None}
        assert (row.low_of_rows_and_seeds, row.high_of_rows_and_seeds) == (None, None)


def test_figures_are_means_over_seeds() -> None:
    (a, b), labels = _arms(300, [[1.0, 1.5, 0.5], [0.8, 0.9, 0.4]])
    found = compare_over_seeds(a, b, labels, num_resamples=5)
    for arm, figures in ((a, found.of_a), (b, found.of_b)):
        expected = _mean(arm, labels)
        for name in NAMES:
            assert figures[name].estimate == pytest.approx(expected[name], abs=1e-12)
            each = [_figures(log_probs, labels)[name] for log_probs in arm]
            assert figures[name].per_seed == pytest.approx(each, abs=1e-12)
    for name, row in found.differences.items():
        assert (row.estimate_a, row.estimate_b) == (found.of_a[name].estimate, found.of_b[name].estimate)
        assert row.difference == pytest.approx(row.estimate_b - row.estimate_a, abs=1e-12)
        pairs = zip(found.of_a[name].per_seed, found.of_b[name].per_seed, strict=True)
        assert row.per_seed == pytest.approx([of_b - of_a for of_a, of_b in pairs], abs=1e-12)


def test_intervals_equal_a_plain_loop_with_the_same_draws() -> None:
    (a, b), labels = _arms(120, [[1.0, 1.2], [0.8, 0.7]])
    found = compare_over_seeds(a, b, labels, num_resamples=60, seed=7, confidence=0.8).differences
    draws: dict[str, list[float]] = {name: [] for name in NAMES}
    for counts in draw_weights(np.random.default_rng(7), 60, 120):
        drawn = torch.from_numpy(np.repeat(np.arange(120), counts.astype(int)))
        change = _change([each[drawn] for each in a], [each[drawn] for each in b], labels[drawn])
        for name, value in change.items():
            draws[name].append(value)
    for name, row in found.items():
        ascending = sorted(draws[name])
        low, high = ascending[math.floor(0.1 * 59)], ascending[math.ceil(0.9 * 59)]
        wider = math.sqrt(120 / 119) * stats.t(119).ppf(0.9) / stats.norm.ppf(0.9)
        low, high = (row.difference + wider * (limit - row.difference) for limit in (low, high))
        if name in PIVOTAL:
            low, high = 2 * row.difference - high, 2 * row.difference - low
        assert (row.low, row.high) == pytest.approx((low, high), abs=1e-12), name


def test_p_values_approach_those_of_every_possible_swap_of_all_seeds_together() -> None:
    (a, b), labels = _arms(40, [[0.5, 0.9], [2.0, 0.9]])
    groups = torch.arange(40) % 8
    found = compare_over_seeds(a, b, labels, groups=groups, num_resamples=20_000).differences
    observed = _change(a, b, labels)
    reached = dict.fromkeys(NAMES, 0)
    for swap in itertools.product([False, True], repeat=8):
        swapped = torch.tensor(swap)[groups][:, None]
        moved_a = [torch.where(swapped, of_b, of_a) for of_a, of_b in zip(a, b, strict=True)]
        moved_b = [torch.where(swapped, of_a, of_b) for of_a, of_b in zip(a, b, strict=True)]
        moved = _change(moved_a, moved_b, labels)
        for name in NAMES:
            reached[name] += abs(moved[name]) >= abs(observed[name]) - 1e-12
    for name in NAMES:
        assert found[name].p_value == pytest.approx(reached[name] / 2**8, abs=0.015), name


def test_the_interval_over_seeds_is_that_of_a_paired_t_test() -> None:
    (a, b), labels = _arms(200, [[1.0, 1.5, 0.5, 1.1], [0.8, 1.4, 0.4, 1.2]])
    found = compare_over_seeds(a, b, labels, num_resamples=10, confidence=0.9)
    for name, row in found.differences.items():
        test = stats.ttest_rel(found.of_b[name].per_seed, found.of_a[name].per_seed)
        low, high = test.confidence_interval(0.9)
        over = row.over_seeds
        assert (over.mean, over.low, over.high) == pytest.approx((row.difference, low, high), abs=1e-12)


def test_copies_of_a_seed_are_one_seed() -> None:
    ((a,), (b,)), labels = _arms(150, [[1.0], [0.7]])
    once = compare_over_seeds([a], [b], labels, num_resamples=200)
    thrice = compare_over_seeds([a] * 3, [b] * 3, labels, num_resamples=200)
    for name in NAMES:
        one, three = once.differences[name], thrice.differences[name]
        assert (three.low, three.high, three.p_value) == pytest.approx((one.low, one.high, one.p_value), abs=1e-12)
        assert three.over_seeds.deviation == pytest.approx(0.0, abs=1e-15)
        both = (three.low_of_rows_and_seeds, three.high_of_rows_and_seeds)
        assert both == pytest.approx((three.low, three.high), abs=1e-12)
        for of_one, of_three in ((once.of_a, thrice.of_a), (once.of_b, thrice.of_b)):
            limits = (of_one[name].low, of_one[name].high)
            assert (of_three[name].low, of_three[name].high) == pytest.approx(limits, abs=1e-9)


def test_own_figures_have_the_intervals_of_bootstrap_intervals() -> None:
    ((a,), (b,)), labels = _arms(400, [[1.0], [0.7]])
    found = compare_over_seeds([a], [b], labels)
    for log_probs, own in ((a, found.of_a), (b, found.of_b)):
        expected = bootstrap_intervals(log_probs, labels, seed=3)
        for name in NAMES:
            width = expected[name].high - expected[name].low
            assert own[name].estimate == pytest.approx(expected[name].estimate, abs=1e-12)
            limits = (expected[name].low, expected[name].high)
            assert (own[name].low, own[name].high) == pytest.approx(limits, abs=0.12 * width), name


def test_seeds_of_independent_errors_narrow_their_mean() -> None:
    (a, b), labels = _arms(400, [[2.0] * 8, [2.0] * 8])
    of_all, of_one = compare_over_seeds(a, b, labels), compare_over_seeds(a[:1], b[:1], labels)
    for name in ("accuracy", "nll", "macro_f1"):
        all_seeds, one = of_all.differences[name], of_one.differences[name]
        assert (all_seeds.high - all_seeds.low) / (one.high - one.low) == pytest.approx(8**-0.5, rel=0.25)


def test_where_rows_say_nothing_new_both_levels_are_the_t_interval() -> None:
    labels = torch.arange(21) % 7
    certain = torch.nn.functional.one_hot(labels, 7).double()

    def sure_by(logit: float) -> Tensor:  # every row alike
        return (certain * logit).log_softmax(1)

    a, b = [sure_by(size) for size in (1.0, 1.2, 0.9)], [sure_by(size) for size in (1.5, 1.4, 1.8)]
    row = compare_over_seeds(a, b, labels).differences["nll"]
    assert (row.low, row.high) == pytest.approx((row.difference,) * 2, abs=1e-12)
    over, few = row.over_seeds, math.sqrt(21 / 20) * stats.t(20).ppf(0.975) / stats.norm.ppf(0.975)
    assert over.low is not None
    expected = row.difference - few * (row.difference - over.low)
    assert row.low_of_rows_and_seeds == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("num_seeds", [2, 4])
def test_only_the_interval_of_rows_and_seeds_holds_the_truth_of_the_two_ways_of_training(num_seeds: int) -> None:
    random = np.random.default_rng(num_seeds)

    def noises(arm: int, number: int) -> list[float]:  # what a seed makes of the network
        return [float(size) for size in (1.2, 0.9)[arm] * np.exp(0.25 * random.standard_normal(number))]

    found = []
    for sample in range(4):
        (many_a, many_b), labels = _arms(1500, [noises(0, 40), noises(1, 40)], seed=9000 + sample)
        found.append(_change(many_a, many_b, labels))
    truth = {name: sum(change[name] for change in found) / len(found) for name in NAMES}
    held_by_both, held_by_rows = dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, 0)
    for trial in range(60):
        (a, b), labels = _arms(400, [noises(0, num_seeds), noises(1, num_seeds)], seed=1000 + trial)
        for name, row in compare_over_seeds(a, b, labels, num_resamples=200, seed=trial).differences.items():
            assert row.low_of_rows_and_seeds is not None
            assert row.high_of_rows_and_seeds is not None
            assert row.low_of_rows_and_seeds <= row.low
            assert row.high_of_rows_and_seeds >= row.high
            held_by_both[name] += row.low_of_rows_and_seeds <= truth[name] <= row.high_of_rows_and_seeds
            held_by_rows[name] += row.low <= truth[name] <= row.high
    assert all(count >= 54 for count in held_by_both.values()), held_by_both
    assert held_by_rows["nll"] < 36


def test_several_arms_are_compared_as_each_alone() -> None:
    (a, b, c), labels = _arms(90, [[1.0, 1.1], [0.8, 0.7], [1.5, 1.4]])
    together = compare_arms_over_seeds(a, [b, c], labels, num_resamples=50)
    alone = [compare_over_seeds(a, other, labels, num_resamples=50) for other in (b, c)]
    assert together == alone


def test_equal_arms_do_not_differ() -> None:
    (a,), labels = _arms(100, [[1.0, 0.5]])
    for row in compare_over_seeds(a, [each.clone() for each in a], labels, num_resamples=50).differences.values():
        assert (row.difference, row.low, row.high, row.p_value) == (0.0, 0.0, 0.0, 1.0)
        assert (row.low_of_rows_and_seeds, row.high_of_rows_and_seeds) == (0.0, 0.0)


def _impossible(log_probs: Tensor, labels: Tensor, row: int) -> Tensor:
    changed = log_probs.clone()
    changed[row] = -torch.inf
    changed[row, (int(labels[row]) + 1) % 7] = 0.0
    return changed


def _without_nan(found: SeedComparison) -> bool:
    numbers = [
        value
        for figures in (found.of_a, found.of_b, found.differences)
        for row in figures.values()
        for value in asdict(row).values()
        if isinstance(value, float)
    ]
    return not any(map(math.isnan, numbers))


def test_an_infinite_loss_of_one_seed_decides_and_leaves_no_interval_over_seeds() -> None:
    (a, b), labels = _arms(80, [[1.0, 0.5], [0.9, 0.6]])
    found = compare_over_seeds(a, [b[0], _impossible(b[1], labels, 3)], labels, num_resamples=100)
    row = found.differences["nll"]
    assert (row.difference, row.per_seed[1], found.of_b["nll"].estimate) == (math.inf, math.inf, math.inf)
    assert asdict(row.over_seeds) == {"mean": math.inf, "deviation": None, "low": None, "high": None}
    assert row.low_of_rows_and_seeds is None
    assert _without_nan(found)
    in_both = compare_over_seeds(
        [_impossible(a[0], labels, 3), a[1]], [b[0], _impossible(b[1], labels, 3)], labels, num_resamples=100
    )
    assert math.isfinite(in_both.differences["nll"].difference)  # as many infinite losses on both sides cancel
    assert in_both.differences["nll"].per_seed == (-math.inf, math.inf)
    assert _without_nan(in_both)


def test_an_absent_class_counts_nothing() -> None:
    (a, b), labels = _arms(200, [[1.0, 0.9], [0.7, 0.8]])
    kept = labels != 1
    found = compare_over_seeds([each[kept] for each in a], [each[kept] for each in b], labels[kept], num_resamples=50)
    assert found.of_a["macro_f1"].estimate == pytest.approx(_mean([each[kept] for each in a], labels[kept])["macro_f1"])


def test_equal_seeds_of_the_draws_repeat() -> None:
    (a, b), labels = _arms(60, [[1.0, 0.9], [0.7, 0.8]])
    first = compare_over_seeds(a, b, labels, num_resamples=50, seed=2)
    assert compare_over_seeds(a, b, labels, num_resamples=50, seed=2) == first
    assert compare_over_seeds(a, b, labels, num_resamples=50, seed=3) != first


def test_arms_that_do_not_fit_are_refused() -> None:
    (a, b), labels = _arms(50, [[1.0, 0.9], [0.7, 0.8]])
    with pytest.raises(ValueError, match=r"each needs as many as the others, got \[2, 1\]"):
        compare_over_seeds(a, b[:1], labels)
    with pytest.raises(ValueError, match=r"got \[0, 0\]"):
        compare_over_seeds([], [], labels)
    with pytest.raises(ValueError, match=r"got \[2\]"):
        compare_arms_over_seeds(a, [], labels)
    with pytest.raises(ValueError, match="labels must have shape"):
        compare_over_seeds(a, [b[0], b[1][:-1]], labels)
    with pytest.raises(ValueError, match="at least two independent groups"):
        compare_over_seeds(a, b, labels, groups=torch.ones(50, dtype=torch.int64))
    with pytest.raises(ValueError, match="confidence must lie in"):
        compare_over_seeds(a, b, labels, confidence=1.0)
