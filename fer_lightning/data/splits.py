"""Carves a split by group, stratified by label and source, independent of row order."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.manifest import Manifest
from fer_lightning.data.row_id import normalise_path

_ROUNDS = 10  # two or three are enough


def group_rows(manifest: Manifest, rows: NDArray[np.int64], columns: Sequence[str]) -> NDArray[np.int64]:
    """Number the groups of rows that must stay on one side of a split.

    Rows are linked when they share the image file, or a non-empty value in one of the columns within a source;
    a group is a connected set of linked rows.

    Args:
        manifest: the manifest.
        rows: row numbers.
        columns: manifest columns that link rows, such as `subject`; absent ones are passed over.

    Returns:
        (len(rows),) group numbers.
    """
    parent = np.arange(len(rows))

    def find(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = int(parent[node])
        return node

    keys = [[normalise_path(path) for path in manifest.image_paths]]
    for column in columns:
        if column in manifest.extras:
            values = zip(manifest.sources.tolist(), manifest.extras[column], strict=True)
            keys.append([f"{source}\n{value}" if value else "" for source, value in values])
    for key in keys:
        first: dict[str, int] = {}
        for position, row in enumerate(rows.tolist()):
            if key[row]:
                parent[find(position)] = find(first.setdefault(key[row], position))
    return np.asarray([find(position) for position in range(len(rows))], dtype=np.int64)


def carve_split(
    manifest: Manifest, rows: NDArray[np.int64], *, fraction: float, group_columns: Sequence[str], seed: int
) -> NDArray[np.bool_]:
    """Choose about `fraction` of the rows, whole groups at a time.

    Groups are visited in the order of a seeded hash of their row ids; one is taken if it brings the counts per
    (label, source) closer to `fraction` of each (in summed squared distance), so shares are kept and the result
    does not depend on the order of rows. Further rounds take or give back groups while that comes closer still: a
    large group met late overshoots.

    Args:
        manifest: the manifest.
        rows: row numbers to choose from.
        fraction: wanted share, in (0, 1).
        group_columns: see `group_rows`.
        seed: another seed carves another split.

    Returns:
        (len(rows),) True where a row is carved out.
    """
    groups = group_rows(manifest, rows, group_columns)
    _, sources = np.unique(manifest.sources[rows], return_inverse=True)
    _, cells = np.unique(np.stack([manifest.labels[rows], sources]), axis=1, return_inverse=True)
    missing = np.bincount(cells) * fraction
    members: dict[int, list[int]] = {}
    for position, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(position)

    def order(positions: list[int]) -> str:
        identity = min(manifest.row_ids[rows[position]] for position in positions)
        return hashlib.sha256(f"{seed}\n{identity}".encode()).hexdigest()

    carved = np.zeros(len(rows), dtype=np.bool_)
    visits = [
        (positions, *np.unique(cells[positions], return_counts=True))
        for positions in sorted(members.values(), key=order)
    ]
    for _ in range(_ROUNDS):
        moved = False
        for positions, touched, counts in visits:
            change = -counts if carved[positions[0]] else counts
            if float((change * (2 * missing[touched] - change)).sum()) > 1e-6:  # the squared distance shrinks
                missing[touched] -= change
                carved[positions] = not carved[positions[0]]
                moved = True
        if not moved:
            break
    return carved


def hash_folds(identities: Sequence[str], num_folds: int) -> NDArray[np.int64]:
    """Deal identities to folds in the order of their hashes, so that folds do not depend on row order.

    Args:
        identities: a group key per row: rows of one group share a fold.
        num_folds: number of folds; no fold is empty when there are at least that many groups.

    Returns:
        (N,) fold numbers in 0..num_folds-1.
    """
    ordered = sorted(set(identities), key=lambda identity: hashlib.sha256(identity.encode()).digest())
    fold_of = {identity: position % num_folds for position, identity in enumerate(ordered)}
    return np.fromiter((fold_of[identity] for identity in identities), dtype=np.int64, count=len(identities))
