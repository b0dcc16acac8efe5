"""Linked sets against a walk over neighbours."""

import numpy as np
import pytest

from fer_lightning.data.splits.linked_sets import smallest_linked


def walked(num_nodes: int, links: list[tuple[int, int]]) -> list[int]:
    """Visit from each node in turn, smallest first."""
    neighbours: list[list[int]] = [[] for _ in range(num_nodes)]
    for first, second in links:
        neighbours[first].append(second)
        neighbours[second].append(first)
    smallest = [-1] * num_nodes
    for start in range(num_nodes):
        reached = [start] if smallest[start] < 0 else []
        for node in reached:
            if smallest[node] < 0:
                smallest[node] = start
                reached += neighbours[node]
    return smallest


@pytest.mark.parametrize("seed", range(5))
def test_random_links(seed: int) -> None:
    random = np.random.default_rng(seed)
    links = random.integers(0, 60, (40, 2))
    found = smallest_linked(60, links[:, 0], links[:, 1])
    assert found.tolist() == walked(60, [(int(first), int(second)) for first, second in links])


def test_without_links_each_node_is_alone() -> None:
    empty = np.empty(0, dtype=np.int64)
    assert smallest_linked(4, empty, empty).tolist() == [0, 1, 2, 3]
    assert smallest_linked(0, empty, empty).tolist() == []
