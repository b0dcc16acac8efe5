"""Searches of weights against brute force, and what must hold of each of them."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fer_lightning.functional.calibration import fit_temperature
from fer_lightning.functional.ensemble_sweep import sweep_weights
from fer_lightning.functional.fusion import fuse_log_probs, fuse_logits
from fer_lightning.functional.reliability import classification_scores, reliability_report
from fer_lightning.functional.weight_search import FoundWeights, cross_validated, search_weights, simplex_grid
from tests.functional.teacher_rows import teacher_rows
from tests.functional.weight_searches import SEARCHES, name_of

SPACES = ("logit", "prob")


def _by_brute_force(logits: Tensor, labels: Tensor) -> tuple[str, list[float]]:
    """The best grid point by sorting tuples of the documents' figures, each from the functions of its name."""
    ranked = []
    for place, (space, fuse) in enumerate([("logit", fuse_logits), ("prob", fuse_log_probs)]):
        for number, weights in enumerate(simplex_grid(len(logits), step=0.25).tolist()):
            fused = fuse(logits, weights)
            scaled = fit_temperature(fused, labels).apply(fused)
            scores = classification_scores(fused.argmax(dim=1), labels)
            ece = reliability_report(scaled, labels).ece
            used = sum(weight > 0 for weight in weights)
            key = (-round(scores.macro_f1, 11), -round(scores.minority_f1, 11), round(ece, 8), -scores.accuracy, used)
            ranked.append((key, place, number, space, weights))
    *_, space, weights = min(ranked)
    return space, weights


@pytest.mark.parametrize("num_rows", [20, 60, 300])
@pytest.mark.parametrize("seed", range(3))
def test_grid_finds_what_brute_force_finds(seed: int, num_rows: int) -> None:
    logits, labels, _ = teacher_rows(3, num_rows, seed=seed)
    found = search_weights(logits, labels, spaces=SPACES, search="grid", grid_step=0.25)
    assert (found.space, found.weights.tolist()) == _by_brute_force(logits, labels)
    assert {space: len(sweep.weights) for space, sweep in found.points.items()} == {"logit": 15, "prob": 15}


def _key(found: FoundWeights) -> tuple[float, float]:
    """What decided, larger is better."""
    sweep = found.points[found.space]
    if found.by == "nll":
        return -float(sweep.nll_scaled[found.index]), 0.0
    return float(sweep.macro_f1[found.index]), float(sweep.minority_f1[found.index])


@pytest.mark.parametrize("options", SEARCHES, ids=name_of)
def test_every_search_repeats_returns_its_points_once_and_beats_each_teacher(options: dict[str, Any]) -> None:
    logits, labels, folds = teacher_rows(3, 250)
    found, again = (search_weights(logits, labels, spaces=SPACES, folds=folds, **options) for _ in range(2))
    assert (found.space, found.index) == (again.space, again.index)
    for space, sweep in found.points.items():
        assert torch.equal(sweep.weights, again.points[space].weights)
        assert torch.equal(sweep.ece_scaled, again.points[space].ece_scaled)
        assert len({tuple(point) for point in sweep.weights.round(decimals=9).tolist()}) == len(sweep.weights)
        one_by_one = sweep_weights(logits, labels, sweep.weights[-1:], space=space, folds=folds)
        assert float(one_by_one.nll_scaled) == pytest.approx(float(sweep.nll_scaled[-1]), abs=1e-9)
    assert torch.equal(found.weights, found.points[found.space].weights[found.index])
    for corner in torch.eye(3, dtype=torch.float64):
        single = sweep_weights(logits, labels, corner[None], space="logit", folds=folds)
        alone = FoundWeights({"logit": single}, "logit", 0, corner, found.by)
        assert _key(found) >= _key(alone)


def test_optimise_is_never_worse_than_its_starts_and_simplex_never_than_quarters() -> None:
    for seed in range(3):
        logits, labels, _ = teacher_rows(3, 200, seed=seed)
        quarters = search_weights(logits, labels, spaces=SPACES, search="grid", grid_step=0.25)
        for search in ("simplex", "optimise"):
            assert _key(search_weights(logits, labels, spaces=SPACES, search=search)) >= _key(quarters)


def test_simplex_keeps_to_multiples_of_the_finest_step() -> None:
    logits, labels, _ = teacher_rows(3, 200)
    found = search_weights(logits, labels, spaces=["logit"], search="simplex", finest_step=0.05)
    multiples = found.points["logit"].weights / 0.05
    off_grid = (multiples - multiples.round()).abs().amax(dim=1) > 1e-9
    assert found.points["logit"].weights[off_grid].tolist() == [[1 / 3] * 3]


def test_lowest_nll_is_found_in_either_space() -> None:
    logits, labels, _ = teacher_rows(2, 300)
    for space in SPACES:
        found = search_weights(logits, labels, spaces=[space], search="optimise", aim="nll")
        fine = sweep_weights(logits, labels, simplex_grid(2, step=0.002), space=space)
        assert float(found.points[space].nll_scaled[found.index]) <= float(fine.nll_scaled.min()) + 2e-6


def test_greedy_is_forward_selection_with_replacement() -> None:
    logits, labels, _ = teacher_rows(3, 150)
    found = search_weights(logits, labels, spaces=["logit"], search="greedy", aim="nll", greedy_steps=6)
    counts, best = [0, 0, 0], []
    for picks in range(1, 7):
        trials = []
        for teacher in range(3):
            counts[teacher] += 1
            weights = [count / picks for count in counts]
            trials.append((fit_temperature(fuse_logits(logits, weights), labels).nll, teacher, weights))
            counts[teacher] -= 1
        nll, teacher, weights = min(trials)
        counts[teacher] += 1
        best.append((nll, weights))
    assert found.weights.tolist() == pytest.approx(min(best)[1])
    assert float(found.points["logit"].nll_scaled[found.index]) == pytest.approx(min(best)[0], abs=1e-9)


@pytest.mark.parametrize("options", SEARCHES, ids=name_of)
def test_one_teacher_twenty_rows_absent_classes_and_equal_teachers(options: dict[str, Any]) -> None:
    logits, labels, folds = teacher_rows(1, 20)
    labels = labels.clamp(max=2)
    alone = search_weights(logits, labels, spaces=SPACES, folds=folds, **options)
    assert alone.weights.tolist() == [1.0]
    same = search_weights(logits.repeat(3, 1, 1), labels, spaces=["logit"], folds=folds, **options)
    assert sorted(same.weights.tolist()) == [0.0, 0.0, 1.0]
    judged = cross_validated(logits.repeat(3, 1, 1), labels, folds, spaces=["logit"], **options)
    assert judged.log_probs.numpy() == pytest.approx(logits[0].log_softmax(dim=1).numpy(), abs=1e-12)


def test_a_teacher_of_noise_gets_no_weight() -> None:
    logits, labels, _ = teacher_rows(2, 2000)
    generator = torch.Generator().manual_seed(3)
    noise = 6.0 * torch.randn(1, 2000, 7, dtype=torch.float64, generator=generator)
    for options in SEARCHES:
        found = search_weights(torch.cat([logits, noise]), labels, spaces=SPACES, **options)
        assert float(found.weights[2]) < 0.02, options
        assert float(found.weights[:2].min()) > 0.0, options


def test_weights_follow_their_teachers() -> None:
    logits, labels, _ = teacher_rows(3, 300)
    order = [2, 0, 1]
    for space in SPACES:
        found, moved = (
            search_weights(given, labels, spaces=[space], search="optimise", aim="nll")
            for given in (logits, logits[order])
        )
        assert moved.weights.tolist() == pytest.approx(found.weights[order].tolist(), abs=2e-3)
    for seed in range(3):
        logits, labels, _ = teacher_rows(3, 700, seed=seed)
        found, moved = (
            search_weights(given, labels, spaces=["logit"], search="grid") for given in (logits, logits[order])
        )
        assert moved.weights.tolist() == found.weights[order].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spaces": []}, "spaces takes logit and prob"),
        ({"spaces": ["logit", "logit"]}, "each once"),
        ({"spaces": ["cosine"]}, "spaces takes logit and prob"),
        ({"search": "random"}, "search must be one of grid, simplex, optimise, greedy, got 'random'"),
        ({"search": "greedy", "aim": "ece"}, "aim must be one of macro_f1, nll"),
        ({"search": "greedy", "greedy_steps": 0}, "greedy_steps must be at least 1"),
        ({"search": "simplex", "finest_step": 0.0}, "finest_step"),
        ({"grid_step": 0.3}, "divide 1"),
        ({"num_bins": 0}, "num_bins"),
        ({"folds": torch.zeros(30, dtype=torch.int64)}, "at least two, got only fold 0"),
        ({"folds": torch.zeros(29, dtype=torch.int64)}, r"folds must be \(30,\) integers"),
    ],
)
def test_wrong_options_are_refused(change: dict[str, Any], message: str) -> None:
    logits, labels, _ = teacher_rows(2, 30)
    with pytest.raises(ValueError, match=message):
        search_weights(logits, labels, **{"spaces": ["logit"], "search": "grid", **change})


def test_wrong_rows_are_refused_and_named() -> None:
    logits, labels, folds = teacher_rows(2, 30)
    broken = logits.clone()
    broken[1, 17, 3] = torch.inf
    for given, of, message in [
        (broken, labels, "1 rows are not, first row 17 of teacher 1"),
        (logits[:0], labels, r"shape \(M, N, 7\), none 0, got \(0, 30, 7\)"),
        (logits[..., :6], labels, r"shape \(M, N, 7\)"),
        (logits, labels[:-1], r"labels must have shape \(30,\)"),
        (logits, labels + 7, r"labels must lie in 0\.\.6"),
    ]:
        with pytest.raises(ValueError, match=message):
            search_weights(given, of, spaces=["logit"], search="grid")
        with pytest.raises(ValueError, match=message):
            cross_validated(given, of, folds, spaces=["logit"], search="grid")
