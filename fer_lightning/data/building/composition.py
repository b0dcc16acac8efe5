"""Rows on their way into a manifest, and the account of every item that is none."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.labels import EMOTIONS

_RANK = {"test": 0, "val": 1, "train": 2, "": 3}


@dataclass(frozen=True, slots=True)
class Removed:
    """One item of a data set that is no row of the manifest."""

    source: str
    item: str
    """A file, or a line of an annotation file."""
    reason: str
    detail: str = ""


@dataclass(kw_only=True)
class Composition:
    """Rows on their way into a manifest."""

    manifest: Manifest
    """Sorted by source, path and box; a split is empty where the data set does not say."""
    preference: tuple[str, ...]
    """Sources; of two copies the one of the earlier source stays."""
    kept: NDArray[np.bool_]
    """(N,) whether the row is still one."""
    removed: list[Removed] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Source -> what a person should know of it."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """Numbers of the rows still there."""
        return np.flatnonzero(self.kept)

    def split_ranks(self) -> NDArray[np.int64]:
        """Return (N,) how much a row's place is worth: 0 test, 1 val, 2 train, 3 not decided."""
        return np.asarray([_RANK[split] for split in self.manifest.splits.tolist()], dtype=np.int64)

    def item(self, row: int) -> str:
        """Name a row: its path, and its box where it has one."""
        path, box = self.manifest.image_paths[row], self.manifest.bboxes[row].tolist()
        return path if box[0] < 0 else f"{path}[{','.join(map(str, box))}]"

    def remove(self, row: int, reason: str, detail: str = "") -> None:
        """Take a row out and account for it."""
        self.kept[row] = False
        self.removed.append(Removed(str(self.manifest.sources[row]), self.item(row), reason, detail))

    def finished(self) -> Manifest:
        """Return the rows that are left, as a manifest."""
        return self.manifest.take(self.rows)


def with_splits(composition: Composition, splits: NDArray[np.str_]) -> Composition:
    """Return the composition with other splits; the account goes on."""
    return replace(composition, manifest=replace(composition.manifest, splits=splits))


def repeated(rows: NDArray[np.int64], codes: NDArray[np.int64]) -> list[list[int]]:
    """Return the rows that share a number with another, by number; each list in row order."""
    _, dense, counts = np.unique(codes, return_inverse=True, return_counts=True)
    several = counts[dense] > 1
    rows, dense = rows[several], dense[several]
    order = np.lexsort((rows, dense))
    starts = np.flatnonzero(np.diff(dense[order])) + 1
    return [group.tolist() for group in np.split(rows[order], starts)] if len(rows) else []


def _without_contradictions(composition: Composition, members: Sequence[int]) -> list[int]:
    """Take out the rows of a source whose labels for the same picture disagree."""
    manifest = composition.manifest
    labels: dict[str, set[int]] = {}
    for row in members:
        labels.setdefault(str(manifest.sources[row]), set()).add(int(manifest.labels[row]))
    agreeing = []
    for row in members:
        found = labels[str(manifest.sources[row])]
        if len(found) == 1:
            agreeing.append(row)
        else:
            others = [composition.item(other) for other in members if other != row]
            names = " and ".join(EMOTIONS[label] for label in sorted(found))
            composition.remove(row, "labels disagree", f"{names}: same as {', '.join(others[:3])}")
    return agreeing


def keep_one_of_each(
    composition: Composition, rows: NDArray[np.int64], codes: NDArray[np.int64], *, same: str, between: str
) -> None:
    """Keep one row of those that show the same; where a source contradicts itself about it, none of that source's.

    The row of the more protected split stays (test, val, train), then that of the earlier source, then the first path.

    Args:
        composition: rows are taken out of it.
        rows: row numbers.
        codes: (len(rows),) equal numbers for rows that show the same.
        same: reason, where both rows are of one source.
        between: reason, where they are of two; `{}` becomes the source whose row stays.
    """
    manifest, ranks = composition.manifest, composition.split_ranks()
    place = {source: number for number, source in enumerate(composition.preference)}
    for members in repeated(rows, codes):
        agreeing = _without_contradictions(composition, members)
        ordered = sorted(agreeing, key=lambda row: (int(ranks[row]), place[str(manifest.sources[row])], row))
        for row in ordered[1:]:
            first, source = ordered[0], str(manifest.sources[ordered[0]])
            reason = same if manifest.sources[row] == source else between.format(source)
            split = str(manifest.splits[first]) or "no split yet"
            label, other = EMOTIONS[manifest.labels[row]], EMOTIONS[manifest.labels[first]]
            differs = "" if label == other else f", labelled {other} there and {label} here"
            composition.remove(row, reason, f"{source} {composition.item(first)} ({split}){differs}")
