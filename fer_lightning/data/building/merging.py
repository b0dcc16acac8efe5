"""Joins the rows of several manifests, chosen by source, split and confidence, under one root."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.building.compose import RootedPaths, RowTable, sorted_manifest
from fer_lightning.data.building.composition import Composition, Removed
from fer_lightning.data.config import SOURCES
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.data.rows.row_id import row_id
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class RowChoice:
    """Which rows of the manifests are taken."""

    include: Sequence[str] = ()
    """Only these sources; empty: all."""
    exclude: Sequence[str] = ()
    splits: Sequence[str] = ()
    """Only rows of these splits; empty: all."""
    as_split: str | None = None
    """Put every row into this split."""
    min_confidence: float | None = None
    """Rows whose confidence is lower are left out; rows without one stay."""


class _Joined:
    """Rows taken so far, and where each was seen first."""

    def __init__(self, rooted: RootedPaths, as_split: str | None) -> None:
        self.table = RowTable()
        self.removed: list[Removed] = []
        self.conflicts: list[str] = []
        self._rooted = rooted
        self._as_split = as_split
        self._seen: dict[str, tuple[int, str]] = {}

    def add(self, manifest: Manifest, rows: NDArray[np.int64]) -> None:
        """Take rows of a manifest; a row that is in already is compared."""
        table = self.table
        for row in rows.tolist():
            where = f"{manifest.path} line {manifest.lines[row]}"
            source, box = str(manifest.sources[row]), tuple(manifest.bboxes[row].tolist())
            path = self._rooted.relative((manifest.root / manifest.image_paths[row]).as_posix(), source)
            identity = row_id(path, None if box[0] < 0 else box)
            columns = {name: values[row] for name, values in manifest.extras.items() if values[row]}
            split = self._as_split or str(manifest.splits[row])
            label = int(manifest.labels[row])
            first, seen_in = self._seen.setdefault(identity, (len(table.labels), where))
            if first < len(table.labels):
                self._compare(first, seen_in, (label, split, source, columns), where)
                continue
            table.image_paths.append(path)
            table.labels.append(label)
            table.splits.append(split)
            table.sources.append(source)
            table.bboxes.append(box)
            table.columns.append(columns)

    def _compare(self, first: int, seen_in: str, row: tuple[int, str, str, dict[str, str]], where: str) -> None:
        """Join a repeated row with its first one, or note what they disagree about."""
        table, (label, split, source, columns) = self.table, row
        kept = dict(table.columns[first])
        pairs = {
            "label": (EMOTIONS[table.labels[first]], EMOTIONS[label]),
            "split": (table.splits[first], split),
            "source": (table.sources[first], source),
            **{name: (kept.get(name, value), value) for name, value in columns.items()},
        }
        differing = [f"{name} {one} or {other}" for name, (one, other) in pairs.items() if one != other]
        path = table.image_paths[first]
        if differing:
            self.conflicts.append(f"{path}: {', '.join(differing)} ({seen_in}, {where})")
        else:
            table.columns[first] = {**columns, **kept}
            self.removed.append(Removed(source, path, "row of an earlier manifest", f"{where} repeats {seen_in}"))


def _chosen_rows(manifest: Manifest, choice: RowChoice, removed: list[Removed]) -> NDArray[np.int64]:
    """Return the rows that are taken, and account for the others."""
    reasons = np.full(len(manifest), "", dtype=object)
    if choice.min_confidence is not None and "confidence" in manifest.extras:
        low = [bool(text) and float(text) < choice.min_confidence for text in manifest.extras["confidence"]]
        reasons[np.asarray(low)] = f"confidence below {choice.min_confidence:g}"
    if choice.splits:
        reasons[~np.isin(manifest.splits, list(choice.splits))] = "split left out"
    if choice.include:
        reasons[~np.isin(manifest.sources, list(choice.include))] = "source left out"
    reasons[np.isin(manifest.sources, list(choice.exclude))] = "source left out"
    out = reasons != ""
    for row in np.flatnonzero(out).tolist():
        where = f"{manifest.path} line {manifest.lines[row]}"
        removed.append(Removed(str(manifest.sources[row]), manifest.image_paths[row], str(reasons[row]), where))
    return np.flatnonzero(~out)


def _check_names(choice: RowChoice, present: Sequence[str]) -> None:
    held = ", ".join(sorted(present))
    absent = [name for name in choice.include if name not in present]
    if absent:
        raise FerError(f"build.include names {', '.join(absent)}, which no manifest has (their sources: {held})")
    unknown = [name for name in choice.exclude if name not in present and name not in SOURCES]
    if unknown:
        raise FerError(f"build.exclude names {', '.join(unknown)}, which is no source of these manifests ({held})")


def join_manifests(manifests: Sequence[Manifest], choice: RowChoice, *, rooted: RootedPaths, path: Path) -> Composition:
    """Join manifests; boxes and all columns survive, image paths are put under the new root.

    A row that is in several manifests is taken once; what one of them leaves empty is filled in from the other.

    Args:
        manifests: each with its own root; of copies the one of the earlier manifest's source stays.
        choice: rows to take.
        rooted: the new root.
        path: the manifest they will be in.

    Raises:
        FerError: a source that no manifest has, no row left, a picture outside the root, or rows that contradict
            each other between manifests.
    """
    preference = list(dict.fromkeys(name for one in manifests for name in np.unique(one.sources).tolist()))
    _check_names(choice, preference)
    joined = _Joined(rooted, choice.as_split)
    for manifest in manifests:
        joined.add(manifest, _chosen_rows(manifest, choice, joined.removed))
    rooted.check()
    if joined.conflicts:
        shown = "\n  ".join(joined.conflicts[:_SHOWN])
        more = f"\n  ... and {len(joined.conflicts) - _SHOWN} more" if len(joined.conflicts) > _SHOWN else ""
        raise FerError(
            f"{len(joined.conflicts)} row{'s differ' if len(joined.conflicts) > 1 else ' differs'} between manifests:\n  {shown}{more}\n"
            "Mend one of the manifests, or take only one side: build.splits, build.include, build.exclude"
        )
    if not joined.table.labels:
        count = len(joined.removed)
        raise FerError(
            f"no row is taken: {count} row{'s' if count > 1 else ''} left out by build.include, build.exclude, "
            "build.splits or build.min_confidence"
        )
    return Composition(
        manifest=sorted_manifest(joined.table, path=path, root=rooted.root),
        preference=tuple(preference),
        kept=np.ones(len(joined.table.labels), dtype=np.bool_),
        removed=joined.removed,
    )
