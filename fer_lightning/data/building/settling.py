"""Cleans a composition, places its rows in splits, and looks at what the splits still share."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.building.carving import Carved, CarvingPlan, carve_sources, sources_to_carve
from fer_lightning.data.building.cleaning import only_kept, remove_copies, remove_near_copies, remove_unusable
from fer_lightning.data.building.composition import Composition, with_splits
from fer_lightning.data.copies.near_duplicates import NearPairs, near_duplicates
from fer_lightning.data.pictures.image_facts import ImageFacts, image_facts
from fer_lightning.data.rows.manifest import SPLITS
from fer_lightning.data.splits.leaks import content_families, find_leaks
from fer_lightning.errors import FerError


@dataclass(frozen=True, kw_only=True)
class Settling:
    """How a composition is settled."""

    clean: bool
    """Take out unusable pictures and copies."""
    min_side: int
    """Smallest side of a picture or box when cleaning, in pixels."""
    plan: CarvingPlan
    store: Path
    """Folder that keeps what is known about pictures."""
    num_workers: int


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A composition whose rows all have their place."""

    composition: Composition
    carved: dict[str, Carved]
    leaks: dict[str, int]
    """Kind -> how many photos, subjects or pictures the data sets themselves have on two sides."""


def settle(composition: Composition, how: Settling) -> Settled:
    """Clean, carve and check a composition.

    Pictures are looked at where cleaning or carving needs it.

    Raises:
        FerError: no row is left, or a source of which no picture can be used.
    """
    official = composition.manifest.splits != ""
    facts = near = families = None
    if how.clean or any(sources_to_carve(composition, how.plan)):
        facts = image_facts(composition.manifest, composition.rows, store=how.store, num_workers=how.num_workers)
        if how.clean:
            _clean(composition, facts, min_side=how.min_side)
        near = near_duplicates(only_kept(composition, facts))
        if how.clean:
            near = _keep_apart(composition, facts, near, official)
        families = content_families(len(composition.manifest), only_kept(composition, facts), near)
    splits, carved = carve_sources(composition, how.plan, families)
    composition = with_splits(composition, splits)
    if facts is not None and near is not None and how.clean:
        near = _keep_apart(composition, facts, near, official)
    if not composition.kept.any():
        raise FerError(
            f"no row is left for {composition.manifest.path}: all {len(composition.removed)} items were dropped"
        )
    return Settled(composition=composition, carved=carved, leaks=_leaks(composition, how, facts, near))


def _clean(composition: Composition, facts: ImageFacts, *, min_side: int) -> None:
    remove_unusable(composition, facts, min_side=min_side)
    for shared in remove_copies(composition, facts):
        note = f"{shared.source} and {shared.other} have {shared.pictures} pictures in common, pixel for pixel"
        composition.notes.setdefault(shared.source, []).append(note)


def _keep_apart(composition: Composition, facts: ImageFacts, near: NearPairs, official: NDArray[np.bool_]) -> NearPairs:
    """Take out near copies across splits, and return the near duplicates among the rows that are left."""
    while True:
        before = int(composition.kept.sum())
        remove_near_copies(composition, near, official=official)
        if int(composition.kept.sum()) == before:
            return near
        near = near_duplicates(only_kept(composition, facts))  # a row that is gone may have stood for others


def _leaks(composition: Composition, how: Settling, facts: ImageFacts | None, near: NearPairs | None) -> dict[str, int]:
    rows, splits = composition.rows, composition.manifest.splits
    leaks = find_leaks(
        composition.manifest,
        {split: rows[splits[rows] == split] for split in SPLITS},
        group_columns=how.plan.group_columns,
        facts=None if facts is None else only_kept(composition, facts),
        near=near,
    )
    return dict(sorted(Counter(leak.kind for leak in leaks).items()))
