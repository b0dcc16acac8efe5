"""Checks of a manifest's columns; each adds what it finds to one list of faults."""

import math
import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.rows.columns import BBOX_COLUMNS, SPLITS, VOTE_COLUMNS
from fer_lightning.data.rows.faults import Fault, FaultKind
from fer_lightning.data.rows.row_id import normalise_path
from fer_lightning.data.sources.names import emotion_of
from fer_lightning.labels import EMOTIONS

_LONGEST_SIDE = 2**31 - 1  # of an image in any format; above, a corner would not fit in 64 bits
_IMAGE_SUFFIXES = {"jpg", "jpeg", "png", "bmp", "gif", "tif", "tiff", "webp", "jp2", "pgm", "ppm"}

_INDEX_OF_LABEL = {name: index for index, name in enumerate(EMOTIONS)}

Columns = Mapping[str, Sequence[str]]
Lines = NDArray[np.int64]


def check_paths(values: Sequence[str], root: Path, lines: Lines, faults: list[Fault]) -> tuple[str, ...]:
    """Return the paths relative to the root, `/` separated."""
    prefix = os.path.abspath(root).replace("\\", "/").rstrip("/") + "/"  # noqa: PTH100  # resolve() would follow links
    paths = []
    for row, value in enumerate(values):
        path = value.replace("\\", "/")
        if path.startswith(prefix):
            path = path[len(prefix) :]
        if not path.strip():
            faults.append(Fault(int(lines[row]), "image_path", value, "empty path", FaultKind.empty_path))
        elif (
            path.startswith("/") or path[1:2] == ":" or (".." in path and normalise_path(path).split("/", 1)[0] == "..")
        ):
            reason = f"path leaves the root {root}; set data.root"
            faults.append(Fault(int(lines[row]), "image_path", value, reason, FaultKind.leaves_root))
        paths.append(path)
    return tuple(paths)


def check_labels(values: Sequence[str], lines: Lines, faults: list[Fault]) -> NDArray[np.int64]:
    """Return class indices, -1 for an unknown label."""
    labels = np.fromiter((_INDEX_OF_LABEL.get(value, -1) for value in values), dtype=np.int64, count=len(values))
    reason = f"unknown label; expected one of {', '.join(EMOTIONS)}"
    for row in np.flatnonzero(labels < 0).tolist():
        meant = emotion_of(values[row])
        said = reason if meant is None else f"{reason}; did you mean {meant}?"
        faults.append(Fault(int(lines[row]), "label", values[row], said, FaultKind.unknown_label))
    return labels


def check_vocabulary(columns: Columns, lines: Lines, faults: list[Fault]) -> None:
    """Check splits, sources and negative labels."""
    reason = f"unknown split; expected one of {', '.join(SPLITS)}"
    _refuse(columns, "split", set(columns["split"]) - set(SPLITS), reason, FaultKind.unknown_split, lines, faults)
    blank = {source for source in set(columns["source"]) if not source.strip()}
    _refuse(columns, "source", blank, "empty source", FaultKind.empty_source, lines, faults)
    if "neg_label" in columns:
        bad = {value for value in set(columns["neg_label"]) if value and set(value.split("|")) - set(EMOTIONS)}
        reason = f"not names among {', '.join(EMOTIONS)}, separated by |"
        _refuse(columns, "neg_label", bad, reason, FaultKind.bad_neg_label, lines, faults)


def check_numbers(columns: Columns, lines: Lines, faults: list[Fault]) -> None:
    """Check the columns that hold a number or nothing."""
    for name, low in (("confidence", -math.inf), ("weight", 0.0), *((vote, 0.0) for vote in VOTE_COLUMNS)):
        if name in columns:
            bad = {value for value in set(columns[name]) if value and not _is_number(value, low)}
            reason = "not a finite number" if low else "not a finite number of at least 0"
            _refuse(columns, name, bad, reason, FaultKind.bad_number, lines, faults)


def _is_number(text: str, low: float) -> bool:
    try:
        number = float(text)
    except ValueError:
        return False
    return math.isfinite(number) and number >= low and "_" not in text


def _refuse(
    columns: Columns, name: str, bad: set[str], reason: str, kind: FaultKind, lines: Lines, faults: list[Fault]
) -> None:
    """Add a fault per row whose value is among the bad ones."""
    if bad:
        values = enumerate(columns[name])
        faults += [Fault(int(lines[row]), name, value, reason, kind) for row, value in values if value in bad]


def check_boxes(columns: Columns, lines: Lines, faults: list[Fault]) -> NDArray[np.int64]:
    """Return (N, 4) boxes, -1 where a row has none."""
    bboxes = np.full((len(lines), 4), -1, dtype=np.int64)
    if BBOX_COLUMNS[0] not in columns:
        return bboxes
    for row, texts in enumerate(zip(*(columns[name] for name in BBOX_COLUMNS), strict=True)):
        if any(texts):
            box = _box(texts)
            if isinstance(box, str):
                faults.append(Fault(int(lines[row]), "bbox", ",".join(texts), box, FaultKind.bad_box))
            else:
                bboxes[row] = box
    return bboxes


def _box(texts: Sequence[str]) -> list[int] | str:
    """Return top, left, right, bottom, or what is wrong with them."""
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return "a box needs four numbers (top,left,right,bottom)"
    top, left, right, bottom = numbers
    if not all(number.is_integer() for number in numbers):
        return "box corners are whole pixels"
    if top < 0 or left < 0 or bottom <= top or right <= left or max(right, bottom) > _LONGEST_SIDE:
        return "box is outside its image or has no area"
    return [int(number) for number in numbers]


def check_crops(
    columns: Columns, paths: Sequence[str], bboxes: NDArray[np.int64], lines: Lines, faults: list[Fault]
) -> None:
    """Find crops that still carry the box of the photo they were cut from: they would be cropped twice."""
    if "orig_image" not in columns:
        return
    originals = columns["orig_image"]
    for row in np.flatnonzero(bboxes[:, 0] >= 0).tolist():
        original = originals[row]
        if original and not _is_same_file(original, paths[row]):
            reason = f"a crop of {original} that still carries the box of its photo; empty its box, or name the photo"
            faults.append(Fault(int(lines[row]), "image_path", paths[row], reason, FaultKind.crop_with_box))


def _is_same_file(original: str, path: str) -> bool:
    """Compare base names; without its suffix where the original is named without one."""
    one, other = (name.replace("\\", "/").rpartition("/")[2] for name in (original, path))
    if one.rpartition(".")[2].lower() not in _IMAGE_SUFFIXES:
        other = other.rpartition(".")[0] or other
    return one == other or unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)


def check_duplicates(row_ids: Sequence[str], paths: Sequence[str], lines: Lines, faults: list[Fault]) -> None:
    """Find rows of the same path and box as an earlier one."""
    if len(set(row_ids)) == len(row_ids):
        return
    first_line: dict[str, int] = {}
    for identity, path, line in zip(row_ids, paths, lines.tolist(), strict=True):
        first = first_line.setdefault(identity, line)
        if first != line:
            reason = f"duplicate of line {first} (same path and box)"
            faults.append(Fault(line, "image_path", path, reason, FaultKind.duplicate_row, (first,)))
