"""Rows of several data sets side by side, as one manifest in memory, with an account of every item that is no row."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fer_lightning.data.building.composition import Composition, Removed, keep_one_of_each
from fer_lightning.data.rows.manifest import OPTIONAL_COLUMNS, Manifest
from fer_lightning.data.rows.row_id import row_id
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.errors import FerError
from fer_lightning.labels import emotion_index

_NO_CSV_TEXT = re.compile("[\x00\n\r\ud800-\udfff]")


@dataclass(kw_only=True)
class RowTable:
    """Rows as columns, before they are a manifest."""

    image_paths: list[str] = field(default_factory=list)
    """Relative to the root."""
    labels: list[int] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    bboxes: list[tuple[int, ...]] = field(default_factory=list)
    """-1 four times where a row is a whole picture."""
    columns: list[Mapping[str, str]] = field(default_factory=list)
    """Further columns of each row."""


def sorted_manifest(table: RowTable, *, path: Path, root: Path) -> Manifest:
    """Return rows as a manifest, sorted by source, path and box."""
    keys = list(zip(table.sources, table.image_paths, table.bboxes, strict=True))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    names = sorted({name for columns in table.columns for name in columns})
    boxes = [table.bboxes[row] for row in order]
    paths = tuple(table.image_paths[row] for row in order)
    return Manifest(
        path=path,
        root=root,
        sha256="",
        image_paths=paths,
        labels=np.asarray([table.labels[row] for row in order], dtype=np.int64),
        splits=np.asarray([table.splits[row] for row in order], dtype="<U5"),
        sources=np.asarray([table.sources[row] for row in order], dtype=np.str_),
        bboxes=np.asarray(boxes, dtype=np.int64).reshape(-1, 4),
        row_ids=tuple(row_id(name, None if box[0] < 0 else box) for name, box in zip(paths, boxes, strict=True)),
        lines=np.arange(len(order), dtype=np.int64) + 2,
        extras={name: tuple(table.columns[row].get(name, "") for row in order) for name in names},
        unknown_columns=tuple(name for name in names if name not in OPTIONAL_COLUMNS),
    )


class RootedPaths:
    """Turns picture files into paths relative to a root; remembers folders, of which there are few."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._base = os.path.abspath(root)  # noqa: PTH100  # resolve() would follow links
        self._known: dict[str, str] = {}
        self.outside: dict[str, set[str]] = {}
        """Source -> folders that are not below the root."""

    def relative(self, path: str, source: str) -> str:
        """Return a path relative to the root, `/` separated."""
        folder, name = os.path.split(path)
        if folder not in self._known:
            absolute = os.path.abspath(folder)  # noqa: PTH100
            try:
                prefix = os.path.relpath(absolute, self._base).replace(os.sep, "/")
            except ValueError:  # another drive of Windows
                prefix = ".."
            self._known[folder] = "" if prefix == "." else f"{prefix}/"
        prefix = self._known[folder]
        if prefix.startswith("../"):
            self.outside.setdefault(source, set()).add(os.path.abspath(folder))  # noqa: PTH100
        return prefix + name

    def check(self) -> None:
        """Refuse pictures outside the root.

        Raises:
            FerError: naming the root that would hold all pictures.
        """
        if not self.outside:
            return
        folders = {os.path.abspath(folder) for folder in self._known}  # noqa: PTH100
        try:
            wider = f"build.root={os.path.commonpath(folders)} holds them all"
        except ValueError:
            wider = "no folder holds them all; move them to one disk"
        where = "; ".join(f"{source} in {min(found)}" for source, found in sorted(self.outside.items()))
        raise FerError(
            f"pictures lie outside of {self.root}, the folder that image paths are relative to: {where}. "
            f"{wider} (training on the manifest then takes the same data.root)"
        )


def _first_spoilt(path: str, texts: Iterable[str]) -> str | None:
    """Return a text that would not come back from a manifest as it was; a backslash in a path is read as a slash."""
    if "\\" in path:
        return path
    return next((text for text in (path, *texts) if _NO_CSV_TEXT.search(text)), None)


def _is_box(bbox: tuple[int, int, int, int]) -> bool:
    """Whether a box has an area and starts inside; -1 would read as a whole picture."""
    top, left, right, bottom = bbox
    return 0 <= top < bottom and 0 <= left < right


def compose(
    readings: Mapping[str, SourceReading], *, path: Path, root: Path, as_splits: Mapping[str, str | None]
) -> Composition:
    """Put data sets side by side.

    Args:
        readings: name in the manifest -> the data set as read, in order of preference.
        path: the manifest they will be in.
        root: folder that its image paths are relative to.
        as_splits: source -> the split that all its rows go to, or None.

    Raises:
        FerError: a picture outside the root, or no row at all.
    """
    table, rooted = RowTable(), RootedPaths(root)
    removed: list[Removed] = []
    for source, reading in readings.items():
        removed += [Removed(source, drop.item, drop.reason, drop.detail) for drop in reading.dropped]
        for row in reading.rows:
            name = rooted.relative(row.path, source)
            spoilt = _first_spoilt(name, row.columns.values())
            if spoilt is not None:
                removed.append(Removed(source, repr(name), "text that cannot stand in a manifest", repr(spoilt)))
                continue
            if row.bbox is not None and not _is_box(row.bbox):
                removed.append(Removed(source, name, "box outside its picture", ",".join(map(str, row.bbox))))
                continue
            table.image_paths.append(name)
            table.labels.append(emotion_index(row.label))
            table.splits.append(as_splits.get(source) or row.split or "")
            table.sources.append(source)
            table.bboxes.append(row.bbox or (-1, -1, -1, -1))
            table.columns.append(row.columns)
    rooted.check()
    composition = Composition(
        manifest=sorted_manifest(table, path=path, root=root),
        preference=tuple(readings),
        kept=np.ones(len(table.labels), dtype=np.bool_),
        removed=removed,
        notes={source: list(reading.notes) for source, reading in readings.items()},
    )
    _, codes = np.unique(np.asarray(composition.manifest.row_ids, dtype="S64"), return_inverse=True)
    keep_one_of_each(composition, composition.rows, codes, same="listed twice", between="also listed by {}")
    return composition
