"""Puts the rows of a composition that no data set has placed into train, val and test, copies on one side."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.building.composition import Composition
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.data.splits.groups import carve_split, group_rows

_NOBODY = 3
"""Rank of a row that is in no split yet."""


@dataclass(frozen=True, kw_only=True)
class CarvingPlan:
    """Which shares are carved, and what stays together."""

    test_fraction: float
    """Of sources without any split; 0: none."""
    val_fraction: float
    """Of the train rows of sources without val rows; 0: none."""
    group_columns: Sequence[str]
    seed: int
    keep_whole: frozenset[str]
    """Sources whose train rows all stay train."""


@dataclass(frozen=True, kw_only=True)
class Carved:
    """What was carved from one source."""

    rows: dict[str, int]
    """Split -> rows that the data set did not place there."""
    pinned: int
    """Rows among them that follow a copy, photo or subject in another row's split."""


def sources_to_carve(composition: Composition, plan: CarvingPlan) -> tuple[list[str], list[str]]:
    """Return the sources whose val is carved from train, and those that have rows without a split."""
    from_train, from_all = [], []
    manifest = composition.manifest
    for source in composition.preference:
        splits = set(manifest.splits[composition.kept & (manifest.sources == source)].tolist())
        if "" in splits:
            from_all.append(source)
        elif (
            splits and "train" in splits and "val" not in splits and plan.val_fraction and source not in plan.keep_whole
        ):
            from_train.append(source)
    return from_train, from_all


def carve_sources(
    composition: Composition, plan: CarvingPlan, families: NDArray[np.int64] | None
) -> tuple[NDArray[np.str_], dict[str, Carved]]:
    """Place every row; rows that a data set placed stay there, but for a val split carved where there is none.

    Each source is carved alone, so that its split is the same whatever else is in the composition; but a row linked to
    one that has its place already (a copy in another source) goes where that is: test, else val, else train.

    Args:
        composition: the rows that are left are placed.
        plan: shares and links.
        families: (N,) numbers of rows that show the same picture; None: unknown.

    Returns:
        (N,) splits of all rows, and what was carved per source.
    """
    manifest, rows = composition.manifest, composition.rows
    from_train, from_all = sources_to_carve(composition, plan)
    groups = np.zeros(len(manifest), dtype=np.int64)
    groups[rows] = group_rows(manifest, rows, plan.group_columns, families)
    ranks = composition.split_ranks()
    movable = composition.kept & (manifest.splits == "train") & np.isin(manifest.sources, from_train)
    settled = composition.kept & ~movable & (ranks < _NOBODY)
    carved = {}
    for source in (*from_train, *from_all):
        mine = composition.kept & (manifest.sources == source) & ~settled
        chosen = np.flatnonzero(mine)
        wanted = _carve_alone(manifest, chosen, groups, plan, with_test=source in from_all)
        at = _sides(groups, ranks, settled)[groups[chosen]]
        if source in from_train:
            # The data set says train: its rows are not moved for a copy's sake, only kept from being carved.
            at = np.where(at < _NOBODY, 2, at)
        ranks[chosen] = np.where(at < _NOBODY, at, wanted)
        settled |= mine
        counts = Counter(("test", "val", "train")[rank] for rank in ranks[chosen].tolist())
        if source in from_train:
            counts = Counter(val=counts["val"])
        carved[source] = Carved(rows=dict(sorted(counts.items())), pinned=int((at < _NOBODY).sum()))
        shares = {"val": plan.val_fraction, "test": plan.test_fraction if source in from_all else 0}
        empty = [split for split, share in shares.items() if share and not counts[split]]
        if empty and len(chosen):
            note = f"too few groups to carve {' and '.join(empty)}: {len(chosen)} rows all stay in other splits"
            composition.notes.setdefault(source, []).append(note)
    return np.asarray(["test", "val", "train", ""], dtype="<U5")[ranks], carved


def _carve_alone(
    manifest: Manifest, rows: NDArray[np.int64], groups: NDArray[np.int64], plan: CarvingPlan, *, with_test: bool
) -> NDArray[np.int64]:
    """Return (len(rows),) ranks as if there were no other source."""
    ranks = np.full(len(rows), 2, dtype=np.int64)
    shares = [(1, plan.val_fraction)]
    if with_test:
        shares = [(0, plan.test_fraction), (1, plan.val_fraction / (1 - plan.test_fraction))]
    for rank, fraction in shares:
        left = np.flatnonzero(ranks == 2)
        if fraction > 0 and len(left):
            chosen = carve_split(
                manifest, rows[left], fraction=fraction, group_columns=(), seed=plan.seed, families=groups
            )
            ranks[left[chosen]] = rank
    return ranks


def _sides(groups: NDArray[np.int64], ranks: NDArray[np.int64], settled: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the most protected split that each group has a settled row in."""
    sides = np.full(int(groups.max(initial=0)) + 1, _NOBODY, dtype=np.int64)
    np.minimum.at(sides, groups[settled], ranks[settled])
    return sides
