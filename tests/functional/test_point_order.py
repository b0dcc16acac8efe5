"""The documents' order, figure by figure, and what counts as equal."""

import pytest
import torch

from fer_lightning.functional.ensemble_sweep import FusionSweep
from fer_lightning.functional.weight_search import best_point


def _swept(rows: list[tuple[float, float, float, float]], weights: list[list[float]]) -> FusionSweep:
    """A sweep of which only (macro-F1, minority-F1, ECE, accuracy) and the weights matter."""
    macro, minority, ece, accuracy = torch.tensor(rows, dtype=torch.float64).T
    other = torch.zeros(len(rows), dtype=torch.float64)
    counts = torch.zeros(len(rows), 7, 7, dtype=torch.int64)
    points = torch.tensor(weights, dtype=torch.float64)
    return FusionSweep(
        points, counts, accuracy, macro, minority, counts[:, 0], other, -ece, other, other, other > 0, other, ece, other
    )


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([(0.5, 0.9, 0.0, 0.9), (0.6, 0.1, 0.9, 0.1), (0.6 - 1e-9, 0.9, 0.0, 0.9)], 1),
        ([(0.6, 0.3, 0.1, 0.9), (0.6, 0.4, 0.9, 0.1), (0.6 + 1e-15, 0.3, 0.0, 0.9)], 1),
        ([(0.6, 0.4, 0.1, 0.9), (0.6, 0.4, 0.05, 0.1), (0.6, 0.4, 0.07, 0.9)], 1),
        ([(0.6, 0.4, 0.1, 0.7), (0.6, 0.4, 0.1 + 1e-11, 0.8), (0.6, 0.4, 0.1, 0.8)], 2),
        ([(0.6, 0.4, 0.1, 0.7), (0.6, 0.4, 0.1, 0.7), (0.5, 0.4, 0.1, 0.8)], 0),
    ],
    ids=["macro-F1", "minority-F1", "ECE", "accuracy, then fewer teachers", "the first"],
)
def test_order_of_the_documents(rows: list[tuple[float, float, float, float]], best: int) -> None:
    assert best_point(_swept(rows, [[0.5, 0.5], [0.4, 0.6], [1.0, 0.0]])) == best
