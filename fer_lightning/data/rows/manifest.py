"""A manifest CSV as columns, every row checked against the vocabulary."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.rows.columns import BBOX_COLUMNS, OPTIONAL_COLUMNS, REQUIRED_COLUMNS, SPLITS, VOTE_COLUMNS
from fer_lightning.data.rows.faults import Fault, FaultKind, settle_faults
from fer_lightning.data.rows.listings import FolderListings
from fer_lightning.data.rows.manifest_file import ManifestTable, read_table
from fer_lightning.data.rows.row_checks import (
    check_boxes,
    check_crops,
    check_duplicates,
    check_labels,
    check_numbers,
    check_paths,
    check_vocabulary,
)
from fer_lightning.data.rows.row_id import row_id, row_set_fingerprint
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS

__all__ = [
    "BBOX_COLUMNS",
    "OPTIONAL_COLUMNS",
    "REQUIRED_COLUMNS",
    "SPLITS",
    "VOTE_COLUMNS",
    "Inspection",
    "Manifest",
    "inspect_manifest",
    "missing_files",
    "read_manifest",
]


@dataclass(frozen=True)
class Manifest:
    """The rows of a manifest as columns; row i is entry i of each."""

    path: Path
    root: Path
    """Folder that image paths are relative to."""
    sha256: str
    """SHA-256 of the file's bytes."""
    image_paths: tuple[str, ...]
    """Relative to `root`, `/` separated."""
    labels: NDArray[np.int64]
    splits: NDArray[np.str_]
    sources: NDArray[np.str_]
    bboxes: NDArray[np.int64]
    """(N, 4) top, left, right, bottom in pixels (right and bottom exclusive); -1 where a row is a whole image."""
    row_ids: tuple[str, ...]
    lines: NDArray[np.int64]
    """Line of each row in the file."""
    extras: dict[str, tuple[str, ...]]
    """Other columns as text, known and unknown."""
    unknown_columns: tuple[str, ...]
    faults: tuple[Fault, ...] = ()
    """What was wrong with the rows left out by an explicit allowance."""

    def __len__(self) -> int:
        return len(self.image_paths)

    @property
    def rows_left_out(self) -> int:
        """Faulty rows left out by an explicit allowance."""
        return len({fault.line for fault in self.faults})

    @property
    def has_bbox(self) -> NDArray[np.bool_]:
        """(N,) whether the row is a box of a larger image."""
        return self.bboxes[:, 0] >= 0

    def take(self, rows: NDArray[np.int64]) -> "Manifest":
        """Return the manifest with only these rows, in this order."""
        return replace(
            self,
            image_paths=tuple(self.image_paths[row] for row in rows),
            labels=self.labels[rows],
            splits=self.splits[rows],
            sources=self.sources[rows],
            bboxes=self.bboxes[rows],
            row_ids=tuple(self.row_ids[row] for row in rows),
            lines=self.lines[rows],
            extras={name: tuple(values[row] for row in rows) for name, values in self.extras.items()},
        )

    def fingerprint(self, rows: NDArray[np.int64]) -> str:
        """Return the row-set fingerprint of some rows."""
        return row_set_fingerprint((self.row_ids[row] for row in rows), (EMOTIONS[self.labels[row]] for row in rows))


@dataclass(frozen=True)
class Inspection:
    """A manifest and everything wrong with its rows."""

    manifest: Manifest
    """The rows without a fault; there may be none."""
    faults: tuple[Fault, ...]
    """In the order of the checks."""
    every_row: Manifest
    """Faulty rows included, but for those with another number of fields than the header; an unknown label is -1."""


def read_manifest(path: Path, *, root: Path | None = None, max_bad_rows: int = 0) -> Manifest:
    """Read and check a manifest; no image is opened.

    Args:
        path: CSV with at least `image_path,label,split,source`; UTF-8, with or without BOM, any line ending.
        root: folder that image paths are relative to; the manifest's own folder unless given.
        max_bad_rows: how many faulty rows may be left out.

    Returns:
        The rows in file order. Unknown columns are kept and listed.

    Raises:
        FerError: no such file, a broken header, or more faulty rows than allowed: an unknown label or split,
            an empty source, a path outside the root, an incomplete or degenerate box, a crop with the box of its
            photo, a number that is none, a duplicate row.
    """
    inspection = inspect_manifest(path, root=root)
    bad_lines = settle_faults(inspection.faults, manifest=path, max_bad_rows=max_bad_rows)
    if not len(inspection.manifest):
        raise FerError(f"no row is left of {path}: all {len(bad_lines)} are faulty")
    return replace(inspection.manifest, faults=inspection.faults)


def inspect_manifest(path: Path, *, root: Path | None = None) -> Inspection:
    """Read a manifest and collect what is wrong with its rows; no image is opened.

    Args:
        path: as for `read_manifest`.
        root: as for `read_manifest`.

    Raises:
        FerError: no such file, no CSV, a broken header, or no rows.
    """
    table = read_table(path)
    faults = list(table.faults)
    every_row = _checked(path, path.parent if root is None else root, table, faults)
    if not faults:
        return Inspection(every_row, (), every_row)
    bad_lines = np.asarray(sorted({fault.line for fault in faults}), dtype=np.int64)
    good = every_row.take(np.flatnonzero(~np.isin(every_row.lines, bad_lines)))
    return Inspection(good, tuple(faults), every_row)


def _checked(path: Path, root: Path, table: ManifestTable, faults: list[Fault]) -> Manifest:
    columns, lines = table.columns, table.lines
    paths = check_paths(columns["image_path"], root, lines, faults)
    labels = check_labels(columns["label"], lines, faults)
    check_vocabulary(columns, lines, faults)
    check_numbers(columns, lines, faults)
    bboxes = check_boxes(columns, lines, faults)
    check_crops(columns, paths, bboxes, lines, faults)
    has_bbox = bboxes[:, 0] >= 0
    boxes = iter(bboxes[has_bbox].tolist())
    row_ids = tuple(
        row_id(image_path, next(boxes) if boxed else None)
        for image_path, boxed in zip(paths, has_bbox.tolist(), strict=True)
    )
    check_duplicates(row_ids, paths, lines, faults)
    others = [name for name in columns if name not in REQUIRED_COLUMNS and name not in BBOX_COLUMNS]
    return Manifest(
        path=path,
        root=root,
        sha256=table.sha256,
        image_paths=paths,
        labels=labels,
        splits=np.asarray(columns["split"], dtype="<U5"),  # a long unknown value does not widen every row
        sources=np.asarray(columns["source"], dtype=np.str_),
        bboxes=bboxes,
        row_ids=row_ids,
        lines=lines,
        extras={name: tuple(columns[name]) for name in others},
        unknown_columns=tuple(n for n in columns if n not in REQUIRED_COLUMNS and n not in OPTIONAL_COLUMNS),
    )


def missing_files(manifest: Manifest, rows: NDArray[np.int64]) -> list[Fault]:
    """Find rows whose image is not on disk, with one directory listing per folder.

    Args:
        manifest: the manifest.
        rows: row numbers to look at.
    """
    listings = FolderListings(manifest.root)
    faults = []
    for row in rows.tolist():
        path = manifest.image_paths[row]
        folder, _, name = path.rpartition("/")
        if name not in listings.names(folder):
            hint = listings.hint(path)
            reason = f"no such file under {manifest.root}" + (f"; {hint}" if hint else "")
            faults.append(Fault(int(manifest.lines[row]), "image_path", path, reason, FaultKind.missing_file))
    return faults
