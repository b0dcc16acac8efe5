"""Takes out rows whose picture cannot be used, copies, and near copies that official splits set apart."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.building.composition import Composition, keep_one_of_each, repeated
from fer_lightning.data.copies.near_duplicates import NearPairs
from fer_lightning.data.pictures.image_facts import FileStatus, ImageFacts
from fer_lightning.errors import FerError

_REASONS = {
    FileStatus.missing: "no such file",
    FileStatus.empty: "empty file",
    FileStatus.unreadable: "not a readable picture",
    FileStatus.truncated: "truncated picture",
    FileStatus.box_outside: "box outside its picture",
}
_SAME_PIXELS = 0.5  # share of a source's pictures; two sources that share more are one data set under two names


@dataclass(frozen=True)
class SharedPictures:
    """Two sources that hold the same pictures."""

    source: str
    other: str
    pictures: int


def remove_unusable(composition: Composition, facts: ImageFacts, *, min_side: int) -> None:
    """Take out rows whose picture cannot be read, does not hold its box, or is too small.

    Args:
        composition: rows are taken out of it.
        facts: of its rows.
        min_side: smallest allowed side of the box, or of the picture where there is none, in pixels.

    Raises:
        FerError: a source that had rows has none left: its path or root is wrong.
    """
    bboxes = composition.manifest.bboxes[facts.rows]
    boxed = bboxes[:, 0] >= 0
    heights = np.where(boxed, bboxes[:, 3] - bboxes[:, 0], facts.heights)
    widths = np.where(boxed, bboxes[:, 2] - bboxes[:, 1], facts.widths)
    usable = facts.status == FileStatus.ok
    for position in np.flatnonzero(~usable).tolist():
        composition.remove(int(facts.rows[position]), _REASONS[FileStatus(int(facts.status[position]))])
    for position in np.flatnonzero(usable & (np.minimum(heights, widths) < min_side)).tolist():
        size = f"{heights[position]} x {widths[position]} pixels (height x width)"
        composition.remove(int(facts.rows[position]), f"smaller than {min_side} pixels", size)
    _refuse_empty_sources(composition, facts)


def _refuse_empty_sources(composition: Composition, facts: ImageFacts) -> None:
    sources = composition.manifest.sources
    for source in np.unique(sources[facts.rows]).tolist():
        if not np.any(composition.kept & (sources == source)):
            last = next(drop for drop in reversed(composition.removed) if drop.source == source)
            raise FerError(
                f"{source}: none of its {int((sources[facts.rows] == source).sum())} pictures can be used; "
                f"{composition.manifest.root / last.item}: {last.reason} {last.detail}".rstrip()
                + ". Is the path (or root) right, and build.min_side?"
            )


def remove_copies(composition: Composition, facts: ImageFacts) -> list[SharedPictures]:
    """Keep one row per picture (equal pixels), as `keep_one_of_each` says.

    Returns:
        Pairs of sources of which one holds most of the other.
    """
    known = composition.kept[facts.rows] & (facts.status == FileStatus.ok)
    rows = facts.rows[known]
    _, codes = np.unique(facts.contents[known], axis=0, return_inverse=True)
    shared = _shared_pictures(composition, rows, codes)
    keep_one_of_each(composition, rows, codes, same="copy within its source", between="same picture as a row of {}")
    return shared


def _shared_pictures(
    composition: Composition, rows: NDArray[np.int64], codes: NDArray[np.int64]
) -> list[SharedPictures]:
    sources = composition.manifest.sources
    counts: dict[tuple[str, str], int] = {}
    for members in repeated(rows, codes):
        names = sorted({str(sources[row]) for row in members})
        for number, one in enumerate(names):
            for other in names[number + 1 :]:
                counts[one, other] = counts.get((one, other), 0) + 1
    sizes = {str(source): int((sources[rows] == source).sum()) for source in np.unique(sources[rows])}
    return [
        SharedPictures(one, other, pictures)
        for (one, other), pictures in sorted(counts.items())
        if pictures > _SAME_PIXELS * min(sizes[one], sizes[other])
    ]


def remove_near_copies(composition: Composition, near: NearPairs, *, official: NDArray[np.bool_]) -> None:
    """Take out rows that are near copies of a row in a more protected split.

    A row that a data set placed itself is never taken out for one that was placed here.

    Args:
        composition: rows are taken out of it.
        near: near duplicates among its rows.
        official: (N,) whether the data set says which split the row is in.
    """
    manifest, ranks = composition.manifest, composition.split_ranks()
    decided = ranks < 3
    worth = np.where(official, ranks, ranks + 3)  # lower stays
    for rank, split in enumerate(("test", "val", "train")):
        for one, other in ((near.first, near.second), (near.second, near.first)):
            apart = decided[one] & decided[other] & (ranks[one] != ranks[other]) & (worth[one] < worth[other])
            for position in np.flatnonzero(apart & (ranks[one] == rank)).tolist():
                stays, goes = int(one[position]), int(other[position])
                if composition.kept[stays] and composition.kept[goes]:
                    alike = f"similarity {near.similarity[position]:.3f}"
                    alike += ", mirrored" if near.mirrored[position] else ""
                    where = f"{manifest.sources[stays]} {composition.item(stays)} ({alike})"
                    composition.remove(goes, f"near copy of a {split} row", where)


def only_kept(composition: Composition, facts: ImageFacts) -> ImageFacts:
    """Return the facts as if the pictures of rows taken out were not there."""
    there = composition.kept[facts.rows]
    return replace(facts, status=np.where(there, facts.status, FileStatus.missing).astype(np.uint8))
