"""Connected sets of linked rows."""

import numpy as np
from numpy.typing import NDArray


def smallest_linked(num_nodes: int, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the smallest node that each node is linked to, directly or through others.

    Args:
        num_nodes: nodes are 0..num_nodes-1.
        first: (L,) one end of each link.
        second: (L,) the other end.

    Returns:
        (num_nodes,) node numbers; equal for two nodes exactly when a chain of links joins them.
    """
    smallest = np.arange(num_nodes, dtype=np.int64)
    if not len(first):
        return smallest
    from scipy.sparse import coo_array  # half a second, for those who have links
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(num_nodes, num_nodes))
    count, set_of = connected_components(links, directed=False)
    lowest = np.full(count, num_nodes, dtype=np.int64)
    np.minimum.at(lowest, set_of, smallest)
    return lowest[set_of]
