"""Finds each row of a split in a foreign table: by row id, by path and box, or, on trust alone, by position."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.foreign.table import ForeignTable, RowProblem, refuse_rows
from fer_lightning.data.rows.faults import Fault
from fer_lightning.data.rows.manifest import Manifest, inspect_manifest
from fer_lightning.data.rows.row_checks import check_paths
from fer_lightning.data.rows.row_id import normalise_path, row_id
from fer_lightning.data.selection import Selection
from fer_lightning.errors import FerError

_LEFT_OUT = "faulty, filtered or limited"


@dataclass(frozen=True, eq=False)
class JoinedRows:
    """Where the rows of a split stand in a foreign table."""

    places: NDArray[np.int64]
    """(N,) row of the table for each row of the split, in manifest order."""
    left_aside: dict[str, int]
    """Split, or why they take no part -> rows of the table that the manifest knows, but not as rows of this split."""


def _paths(table: ForeignTable, manifest: Manifest) -> list[str]:
    """Return the table's paths as the manifest would write them; one outside its root stays as it is, and is unknown."""
    faults: list[Fault] = []
    return [normalise_path(path) for path in check_paths(table.keys, manifest.root, table.places, faults)]


def _table_keys(table: ForeignTable, manifest: Manifest) -> Sequence[str]:
    """Return what names each row of the table, in the terms of `_manifest_keys`."""
    if table.join == "row_id":
        return [key.casefold() for key in table.keys]
    paths = _paths(table, manifest)
    if table.bboxes is None:
        return paths
    boxes = table.bboxes.tolist()
    return [row_id(path, None if box[0] < 0 else box) for path, box in zip(paths, boxes, strict=True)]


def _manifest_keys(table: ForeignTable, manifest: Manifest) -> Sequence[str]:
    by_path = table.join == "image_path" and table.bboxes is None
    return [normalise_path(path) for path in manifest.image_paths] if by_path else manifest.row_ids


def _problem(table: ForeignTable, row: int, reason: str) -> RowProblem:
    return RowProblem(f"{table.unit} {table.places[row]}", table.keys[row], reason)


def _refuse_ambiguous(table: ForeignTable, keys: Sequence[str], manifest_keys: Sequence[str]) -> None:
    """Refuse paths that name several boxes of one picture."""
    counts = Counter(manifest_keys)
    if len(counts) == len(manifest_keys):
        return
    problems = [
        _problem(table, row, f"names {counts[key]} rows of the manifest")
        for row, key in enumerate(keys)
        if counts[key] > 1
    ]
    if problems:
        refuse_rows(
            table.path,
            table.sha256,
            problems,
            headline=f"{len(problems)} paths of pictures with several boxes do not tell which row they are of",
            advice="Name the rows by row_id, or give a CSV file the columns bbox_top, bbox_left, bbox_right, bbox_bottom",
        )


def _homes(selection: Selection) -> NDArray[np.str_]:
    """Return for each row of the manifest the split that it takes part in, or why it takes none."""
    homes = np.full(len(selection.manifest), _LEFT_OUT, dtype=f"<U{len(_LEFT_OUT)}")
    for split, rows in selection.rows.items():
        homes[rows] = split
    return homes


def _faulty_keys(table: ForeignTable, selection: Selection) -> frozenset[str]:
    """Return what names the faulty rows that an allowance leaves out of the manifest."""
    if not selection.left_out_lines:
        return frozenset()
    every_row = inspect_manifest(selection.manifest.path, root=selection.manifest.root).every_row
    keys = _manifest_keys(table, every_row)
    return frozenset(
        key for key, line in zip(keys, every_row.lines.tolist(), strict=True) if line in selection.left_out_lines
    )


def _refuse_missing(table: ForeignTable, selection: Selection, split: str, places: NDArray[np.int64]) -> None:
    rows, manifest = selection.rows[split], selection.manifest
    missing = rows[places < 0].tolist()
    if missing:
        problems = [
            RowProblem(f"manifest line {manifest.lines[row]}", manifest.image_paths[row], "not in the file")
            for row in missing
        ]
        headline = f"it lacks {len(missing)} of the {len(rows)} {split} rows of {manifest.path}"
        refuse_rows(table.path, table.sha256, problems, headline=headline)


def _by_key(table: ForeignTable, selection: Selection, split: str) -> JoinedRows:
    manifest = selection.manifest
    keys, manifest_keys = _table_keys(table, manifest), _manifest_keys(table, manifest)
    _refuse_ambiguous(table, keys, manifest_keys)
    number_of = {key: number for number, key in enumerate(manifest_keys)}
    homes, faulty = _homes(selection).tolist(), _faulty_keys(table, selection)
    place_of: dict[int, int] = {}
    left_aside: Counter[str] = Counter()
    problems = []
    for row, key in enumerate(keys):
        number = number_of.get(key)
        home = _LEFT_OUT if number is None and key in faulty else None if number is None else homes[number]
        if home is None:
            problems.append(_problem(table, row, "no row of the manifest"))
        elif number is None or home != split:
            left_aside[home] += 1
        elif (earlier := place_of.setdefault(number, row)) != row:
            problems.append(_problem(table, row, f"the same row as {table.unit} {table.places[earlier]}"))
    if problems:
        refuse_rows(
            table.path,
            table.sha256,
            problems,
            headline=f"{len(problems)} of {len(keys)} rows are unknown to {manifest.path}, or there twice",
            advice=f"Image paths of the manifest look like {manifest.image_paths[0]!r}, row ids like {manifest.row_ids[0]}",
        )
    places = np.array([place_of.get(number, -1) for number in selection.rows[split].tolist()], dtype=np.int64)
    _refuse_missing(table, selection, split, places)
    return JoinedRows(places, dict(left_aside))


def join_rows(table: ForeignTable, selection: Selection, split: str) -> JoinedRows:
    """Find every row of a split in a foreign table.

    Rows of the table that the manifest has elsewhere (in another split, of a source that takes no part) are left aside.

    Args:
        table: whose rows are named by row id, path or path and box, or stand in the order of the split.
        selection: the manifest's rows.
        split: which of them.

    Raises:
        FerError: the split has no rows, the table lacks some, has some twice or unknown ones, or a path names several boxes.
    """
    rows = selection.rows[split]
    if not len(rows):
        raise FerError(
            f"{selection.manifest.path} has no {split} rows after source_filter={selection.filter_report.name}"
        )
    if table.join != "position":
        return _by_key(table, selection, split)
    if len(table.scores) != len(rows):
        raise FerError(
            f"foreign.file: {table.path} has {len(table.scores)} rows, and {selection.manifest.path} has {len(rows)} {split} rows: "
            "they cannot be joined by position"
        )
    return JoinedRows(np.arange(len(rows)), {})
