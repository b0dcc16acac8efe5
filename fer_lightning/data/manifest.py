"""Reads a manifest CSV into columns and checks every row against the vocabulary."""

import csv
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.faults import Fault, settle_faults
from fer_lightning.data.row_id import normalise_path, row_id, row_set_fingerprint
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS

REQUIRED_COLUMNS = ("image_path", "label", "split", "source")
BBOX_COLUMNS = ("bbox_top", "bbox_left", "bbox_right", "bbox_bottom")
VOTE_COLUMNS = tuple(f"vote_{emotion}" for emotion in EMOTIONS)
OPTIONAL_COLUMNS = (
    "subject",
    "orig_image",
    "face_id",
    *BBOX_COLUMNS,
    "confidence",
    "weight",
    "neg_label",
    *VOTE_COLUMNS,
)
SPLITS = ("train", "val", "test")

_LONGEST_SIDE = 2**31 - 1  # of an image in any format; above, a corner would not fit in 64 bits

_INDEX_OF_LABEL = {name: index for index, name in enumerate(EMOTIONS)}


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
            an empty source, a path outside the root, an incomplete or degenerate box, a duplicate row.
    """
    header, records, lines = _read_csv(path)
    base = path.parent if root is None else root
    faults = [
        Fault(line, "row", str(len(record)), f"expected {len(header)} fields")
        for record, line in zip(records, lines, strict=True)
        if len(record) != len(header)
    ]
    if faults:  # a broken row cannot be read as columns: its neighbours are judged without it
        broken = {fault.line for fault in faults}
        kept = [(record, line) for record, line in zip(records, lines, strict=True) if line not in broken]
        records, lines = [record for record, _ in kept], [line for _, line in kept]
    columns: dict[str, tuple[str, ...]] = dict.fromkeys(header, ())
    columns.update(zip(header, zip(*records, strict=True), strict=False))
    manifest, column_faults = _from_columns(path, base, columns, np.asarray(lines, dtype=np.int64))
    faults += column_faults
    bad_lines = settle_faults(faults, manifest=path, max_bad_rows=max_bad_rows)
    if not bad_lines:
        return manifest
    good = np.flatnonzero(~np.isin(manifest.lines, np.fromiter(bad_lines, dtype=np.int64)))
    if not len(good):
        raise FerError(f"no row is left of {path}: all {len(bad_lines)} are faulty")
    return replace(manifest.take(good), faults=tuple(faults))


def _read_csv(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Return header, records and the line number of each record."""
    if not path.is_file():
        raise FerError(f"no manifest at {path}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            records, lines = [], []
            for record in reader:
                if record:
                    records.append(record)
                    lines.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise FerError(f"{path} is not a UTF-8 CSV file: {error}") from error
    missing = [name for name in REQUIRED_COLUMNS if name not in header]
    if missing:
        raise FerError(
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; it has {', '.join(header)}"
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise FerError(f"{path} names the column {', '.join(twice)} twice")
    boxes = [name for name in BBOX_COLUMNS if name in header]
    if boxes and len(boxes) < len(BBOX_COLUMNS):
        raise FerError(f"{path} has {', '.join(boxes)} but a box needs {', '.join(BBOX_COLUMNS)}")
    if not records:
        raise FerError(f"{path} has a header but no rows")
    return header, records, lines


def _from_columns(
    path: Path, root: Path, columns: dict[str, tuple[str, ...]], lines: NDArray[np.int64]
) -> tuple[Manifest, list[Fault]]:
    faults: list[Fault] = []
    paths = _paths(columns["image_path"], root, lines, faults)
    labels = _labels(columns["label"], lines, faults)
    for line, split in zip(lines, columns["split"], strict=True):
        if split not in SPLITS:
            faults.append(Fault(int(line), "split", split, f"unknown split; expected one of {', '.join(SPLITS)}"))
    for line, source in zip(lines, columns["source"], strict=True):
        if not source.strip():
            faults.append(Fault(int(line), "source", source, "empty source"))
    bboxes = _bboxes(columns, lines, faults)
    row_ids = tuple(
        row_id(image_path, None if bbox[0] < 0 else bbox)
        for image_path, bbox in zip(paths, bboxes.tolist(), strict=True)
    )
    _find_duplicates(row_ids, paths, lines, faults)
    manifest = Manifest(
        path=path,
        root=root,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        image_paths=paths,
        labels=labels,
        splits=np.asarray(columns["split"], dtype="<U5"),  # a long unknown value does not widen every row
        sources=np.asarray(columns["source"], dtype=np.str_),
        bboxes=bboxes,
        row_ids=row_ids,
        lines=lines,
        extras={n: v for n, v in columns.items() if n not in REQUIRED_COLUMNS and n not in BBOX_COLUMNS},
        unknown_columns=tuple(n for n in columns if n not in REQUIRED_COLUMNS and n not in OPTIONAL_COLUMNS),
    )
    return manifest, faults


def _paths(values: Sequence[str], root: Path, lines: NDArray[np.int64], faults: list[Fault]) -> tuple[str, ...]:
    prefix = os.path.abspath(root).replace("\\", "/").rstrip("/") + "/"  # noqa: PTH100  # resolve() would follow links
    paths = []
    for line, value in zip(lines, values, strict=True):
        path = value.replace("\\", "/")
        if path.startswith(prefix):
            path = path[len(prefix) :]
        if not path.strip():
            faults.append(Fault(int(line), "image_path", value, "empty path"))
        elif path.startswith("/") or path[1:2] == ":" or normalise_path(path).split("/", 1)[0] == "..":
            faults.append(Fault(int(line), "image_path", value, f"path leaves the root {root}; set data.root"))
        paths.append(path)
    return tuple(paths)


def _labels(values: Sequence[str], lines: NDArray[np.int64], faults: list[Fault]) -> NDArray[np.int64]:
    labels = np.fromiter((_INDEX_OF_LABEL.get(value, -1) for value in values), dtype=np.int64, count=len(values))
    for row in np.flatnonzero(labels < 0).tolist():
        reason = f"unknown label; expected one of {', '.join(EMOTIONS)}"
        faults.append(Fault(int(lines[row]), "label", values[row], reason))
    return labels


def _bboxes(columns: dict[str, tuple[str, ...]], lines: NDArray[np.int64], faults: list[Fault]) -> NDArray[np.int64]:
    bboxes = np.full((len(lines), 4), -1, dtype=np.int64)
    if BBOX_COLUMNS[0] not in columns:
        return bboxes
    for row, texts in enumerate(zip(*(columns[name] for name in BBOX_COLUMNS), strict=True)):
        if not any(texts):
            continue
        shown = ",".join(texts)
        try:
            numbers = [float(text) for text in texts]
        except ValueError:
            faults.append(Fault(int(lines[row]), "bbox", shown, "a box needs four numbers (top,left,right,bottom)"))
            continue
        top, left, right, bottom = numbers
        if not all(number.is_integer() for number in numbers):
            faults.append(Fault(int(lines[row]), "bbox", shown, "box corners are whole pixels"))
        elif top < 0 or left < 0 or bottom <= top or right <= left or max(right, bottom) > _LONGEST_SIDE:
            faults.append(Fault(int(lines[row]), "bbox", shown, "box is outside its image or has no area"))
        else:
            bboxes[row] = [int(number) for number in numbers]
    return bboxes


def _find_duplicates(
    row_ids: Sequence[str], paths: Sequence[str], lines: NDArray[np.int64], faults: list[Fault]
) -> None:
    first_line: dict[str, int] = {}
    for identity, path, line in zip(row_ids, paths, lines.tolist(), strict=True):
        if identity in first_line:
            faults.append(
                Fault(line, "image_path", path, f"duplicate of line {first_line[identity]} (same path and box)")
            )
        else:
            first_line[identity] = line


def missing_files(manifest: Manifest, rows: NDArray[np.int64]) -> list[Fault]:
    """Find rows whose image is not on disk, with one directory listing per folder.

    Args:
        manifest: the manifest.
        rows: row numbers to look at.
    """
    listings: dict[str, frozenset[str]] = {}
    faults = []
    for row in rows.tolist():
        folder, _, name = manifest.image_paths[row].rpartition("/")
        if folder not in listings:
            try:
                with os.scandir(manifest.root / folder) as entries:
                    listings[folder] = frozenset(entry.name for entry in entries)
            except (OSError, ValueError):  # absent, no folder, unreadable, or a name the system cannot have
                listings[folder] = frozenset()
        if name not in listings[folder]:
            where = f"no such file under {manifest.root}"
            faults.append(Fault(int(manifest.lines[row]), "image_path", manifest.image_paths[row], where))
    return faults
