"""Bests of pairs, triples and sources against a search on just these teachers or rows."""

import pytest
import torch

from fer_lightning.functional.ensemble_sweep import sweep_weights
from fer_lightning.functional.weight_search import (
    best_point,
    search_weights,
    simplex_grid,
    source_bests,
    subset_bests,
)
from tests.functional.teacher_rows import teacher_rows

SPACES = ("logit", "prob")


def test_every_pair_and_triple_has_the_best_of_its_grid() -> None:
    logits, labels, folds = teacher_rows(4, 200)
    found = subset_bests(logits, labels, spaces=SPACES, grid_step=0.25, folds=folds)
    assert [point.members for point in found] == [
        *[(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)],
        *[(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)],
    ]
    for point in found:
        alone = search_weights(
            logits[list(point.members)], labels, spaces=SPACES, search="grid", grid_step=0.25, folds=folds
        )
        sweep = alone.points[alone.space]
        assert point.space == alone.space
        assert point.sweep.weights[point.index].tolist() == alone.weights.tolist()
        for name in ("macro_f1", "nll", "ece_scaled", "temperatures"):
            assert getattr(point.sweep, name)[point.index] == pytest.approx(
                float(getattr(sweep, name)[alone.index]), abs=1e-9
            )


def test_subsets_larger_than_the_ensemble_do_not_exist() -> None:
    logits, labels, _ = teacher_rows(2, 50)
    assert [point.members for point in subset_bests(logits, labels, spaces=["logit"])] == [(0, 1)]
    assert [point.members for point in subset_bests(logits, labels, spaces=["logit"], sizes=[1])] == [(0,), (1,)]
    with pytest.raises(ValueError, match="sizes"):
        subset_bests(logits, labels, spaces=["logit"], sizes=[0])
    with pytest.raises(ValueError, match="spaces"):
        subset_bests(logits, labels, spaces=[])


def test_each_source_has_the_best_of_the_given_points_on_its_rows() -> None:
    logits, labels, folds = teacher_rows(3, 300)
    sources = ["rafdb" if row % 3 else "affectnet" for row in range(300)]
    sources[0] = "lone"
    grid = simplex_grid(3, step=0.25)
    found = source_bests(logits, labels, sources, spaces=["logit"], weights=grid, folds=folds)
    assert [(point.source, point.n) for point in found] == [("affectnet", 99), ("lone", 1), ("rafdb", 200)]
    for point in found:
        rows = torch.tensor([source == point.source for source in sources])
        kept = None if point.n == 1 else folds[rows]
        sweep = sweep_weights(logits[:, rows], labels[rows], grid, space="logit", folds=kept)
        best = best_point(sweep)
        assert point.sweep.weights[point.index].tolist() == grid[best].tolist()
        assert int(point.sweep.confusion.sum()) == point.n
        assert float(point.sweep.nll_scaled[point.index]) == pytest.approx(float(sweep.nll_scaled[best]), abs=1e-9)
    with pytest.raises(ValueError, match="each of the 300 rows, got 299"):
        source_bests(logits, labels, sources[:-1], spaces=["logit"], weights=grid)
