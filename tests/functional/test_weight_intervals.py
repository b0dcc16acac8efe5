"""Intervals of weights against plain loops over resamples, and against simulated truth."""

import numpy as np
import pytest
import torch

from fer_lightning.functional._convex_weights import lowest_logit_nll
from fer_lightning.functional._resampling import draw_weights, limits_of_groups
from fer_lightning.functional.calibration import fit_temperature
from fer_lightning.functional.fusion import fuse_log_probs, fuse_logits
from fer_lightning.functional.reliability import classification_scores
from fer_lightning.functional.weight_search import search_weights, weight_intervals
from tests.functional.teacher_rows import teacher_rows

SPACES = ("logit", "prob")


def _resampled_rows(num_rows: int, groups: torch.Tensor | None, num_resamples: int) -> list[np.ndarray]:
    """Rows of each resample, those of one group together."""
    group_of = np.arange(num_rows) if groups is None else groups.numpy()
    drawn = draw_weights(np.random.default_rng(0), num_resamples, int(group_of.max()) + 1).astype(int)
    return [np.repeat(np.arange(num_rows), times[group_of]) for times in drawn]


@pytest.mark.parametrize("grouped", [False, True])
def test_documents_order_against_a_loop(grouped: bool) -> None:
    logits, labels, _ = teacher_rows(2, 90)
    groups = torch.arange(90) // 3 if grouped else None
    found = search_weights(logits, labels, spaces=SPACES, search="grid", grid_step=0.1)
    points = [(space, point) for space in SPACES for point in found.points[space].weights]
    chosen = []
    for rows in _resampled_rows(90, groups, 40):
        keys = []
        for number, (space, point) in enumerate(points):
            fused = (fuse_logits if space == "logit" else fuse_log_probs)(logits, point)
            scores = classification_scores(fused.argmax(dim=1)[rows], labels[rows])
            used = int((point > 0).sum())
            keys.append((-round(scores.macro_f1, 11), -round(scores.minority_f1, 11), -scores.accuracy, used, number))
        chosen.append(points[min(keys)[-1]][1].numpy())
    intervals = weight_intervals(logits, labels, found, groups=groups, num_resamples=40)
    for interval, estimate, draws in zip(intervals, found.weights.tolist(), np.array(chosen).T, strict=True):
        num_groups = 30 if grouped else 90
        limits = limits_of_groups(estimate, draws, num_groups=num_groups, confidence=0.95, domain=(0.0, 1.0))
        assert interval[:2] == limits
        assert interval.chosen_share == (draws > 0).mean()


def test_points_of_a_greedy_search_are_joined_by_those_of_a_grid() -> None:
    logits, labels, _ = teacher_rows(3, 400)
    narrow = search_weights(logits, labels, spaces=["logit"], search="greedy", aim="macro_f1", greedy_steps=3)
    grid = search_weights(logits, labels, spaces=["logit"], search="grid", grid_step=0.1)
    of_narrow, of_grid = (weight_intervals(logits, labels, found, num_resamples=100) for found in (narrow, grid))
    for one, other in zip(of_narrow, of_grid, strict=True):
        assert one.high - one.low > 0.5 * (other.high - other.low)  # its own few points alone would say next to nothing


def test_lowest_nll_in_prob_space_against_a_loop() -> None:
    logits, labels, _ = teacher_rows(2, 80)
    found = search_weights(logits, labels, spaces=["prob"], search="greedy", aim="nll", greedy_steps=6)
    sweep, chosen = found.points["prob"], []
    for rows in _resampled_rows(80, None, 30):
        losses = []
        for point, temperature in zip(sweep.weights, sweep.temperatures, strict=True):
            log_probs = (fuse_log_probs(logits, point) / temperature).log_softmax(dim=1)
            losses.append(float(-log_probs[rows, labels[rows]].mean()))
        chosen.append(sweep.weights[int(np.argmin(losses))].numpy())
    draws = np.array(chosen)[:, 0]
    limits = limits_of_groups(float(found.weights[0]), draws, num_groups=80, confidence=0.95, domain=(0.0, 1.0))
    assert weight_intervals(logits, labels, found, num_resamples=30)[0][:2] == pytest.approx(limits, abs=1e-12)


def test_newton_steps_come_close_to_fitting_each_resample_anew() -> None:
    logits, labels, _ = teacher_rows(3, 3000)
    found = search_weights(logits, labels, spaces=["logit"], search="optimise", aim="nll")
    refitted = []
    for rows in _resampled_rows(3000, None, 60):
        weights = lowest_logit_nll(logits[:, rows], labels[rows])
        assert weights is not None
        refitted.append(weights.numpy())
    intervals = weight_intervals(logits, labels, found, num_resamples=60)
    for interval, estimate, draws in zip(intervals, found.weights.tolist(), np.array(refitted).T, strict=True):
        limits = limits_of_groups(estimate, draws, num_groups=3000, confidence=0.95, domain=(0.0, 1.0))
        assert interval[:2] == pytest.approx(limits, abs=0.004)


def test_intervals_cover_the_weights_of_all_the_world() -> None:
    logits, labels, _ = teacher_rows(2, 30_000, seed=4)
    truth = lowest_logit_nll(logits, labels)
    assert truth is not None
    covered = 0
    for start in range(0, 30_000, 600):
        rows = slice(start, start + 600)
        found = search_weights(
            logits[:, rows], labels[rows], spaces=["logit"], search="greedy", aim="nll", greedy_steps=5
        )
        low, high, _ = weight_intervals(logits[:, rows], labels[rows], found, num_resamples=100)[0]
        covered += low <= float(truth[0]) <= high
    assert covered >= 43


def test_shares_tell_a_worthless_teacher_and_seeds_repeat() -> None:
    logits, labels, _ = teacher_rows(2, 400)
    misled = torch.nn.functional.one_hot((labels + 1) % 7, 7).double()
    logits = torch.cat([logits, 9.0 * misled[None]])
    for options in ({"search": "grid"}, {"search": "optimise", "aim": "nll"}):
        found = search_weights(logits, labels, spaces=["logit"], **options)  # type: ignore[arg-type]
        intervals = weight_intervals(logits, labels, found, num_resamples=50, seed=3)
        assert intervals == weight_intervals(logits, labels, found, num_resamples=50, seed=3)
        assert intervals[2].chosen_share <= 0.1
        assert intervals[0].chosen_share == 1.0
        assert all(
            0.0 <= low <= weight <= high <= 1.0 for (low, high, _), weight in zip(intervals, found.weights, strict=True)
        )


def test_equal_teachers_and_one_teacher_have_intervals() -> None:
    logits, labels, _ = teacher_rows(1, 60)
    for options in ({"search": "grid"}, {"search": "optimise", "aim": "nll"}):
        alone = search_weights(logits, labels, spaces=["logit"], **options)  # type: ignore[arg-type]
        assert weight_intervals(logits, labels, alone, num_resamples=20) == [(1.0, 1.0, 1.0)]
        twins = search_weights(logits.repeat(2, 1, 1), labels, spaces=["logit"], **options)  # type: ignore[arg-type]
        for low, high, share in weight_intervals(logits.repeat(2, 1, 1), labels, twins, num_resamples=20):
            assert 0.0 <= low <= high <= 1.0
            assert 0.0 <= share <= 1.0


def test_what_cannot_be_resampled_is_refused() -> None:
    logits, labels, _ = teacher_rows(2, 40)
    found = search_weights(logits, labels, spaces=["logit"], search="grid")
    with pytest.raises(ValueError, match="weights of 2 teachers, but there are 1"):
        weight_intervals(logits[:1], labels, found)
    with pytest.raises(ValueError, match="at least two independent groups"):
        weight_intervals(logits, labels, found, groups=torch.zeros(40, dtype=torch.int64))
    with pytest.raises(ValueError, match="num_resamples"):
        weight_intervals(logits, labels, found, num_resamples=0)


def test_temperature_of_the_chosen_point_is_the_one_that_was_fitted() -> None:
    logits, labels, _ = teacher_rows(2, 200)
    found = search_weights(logits, labels, spaces=["logit"], search="optimise", aim="nll")
    fit = fit_temperature(fuse_logits(logits, found.weights), labels)
    assert float(found.points["logit"].temperatures[found.index]) == pytest.approx(fit.temperature, rel=1e-6)
