"""From the bytes of a manifest to columns of text."""

import csv
import hashlib
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.rows.columns import BBOX_COLUMNS, REQUIRED_COLUMNS
from fer_lightning.data.rows.faults import Fault, FaultKind
from fer_lightning.errors import FerError

_CHUNK = 1000  # records held as lists at a time: more of them cost memory, and the garbage collector time
_REPEATED = ("label", "split", "source")


@dataclass(frozen=True)
class ManifestTable:
    """A manifest as text."""

    sha256: str
    """SHA-256 of the file's bytes."""
    columns: dict[str, list[str]]
    """Column name -> one value per row."""
    lines: NDArray[np.int64]
    """Line of each row in the file."""
    faults: list[Fault]
    """Records with another number of fields than the header, which became no row."""


def read_table(path: Path) -> ManifestTable:
    """Read a manifest's columns.

    Args:
        path: CSV; UTF-8, with or without BOM, any line ending.

    Raises:
        FerError: no such file, no CSV, a broken header, or no rows.
    """
    if path.is_dir():
        inside = ", ".join(sorted(file.name for file in path.glob("*.csv"))[:5])
        raise FerError(f"{path} is a folder; name the manifest file{f', such as {inside}' if inside else ''}")
    if not path.is_file():
        raise FerError(f"no manifest at {path}")
    data = path.read_bytes()
    if not data.strip():
        raise FerError(f"{path} is empty")
    try:
        reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=""), strict=True)
        header = [name.strip() for name in next(reader, [])]
        _check_header(header, path)
        columns, lines, faults = _read_columns(header, ((record, reader.line_num) for record in reader if record))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FerError(f"{path} is not a UTF-8 CSV file: {error}") from error
    if not len(lines) and not faults:
        raise FerError(f"{path} has a header but no rows")
    return ManifestTable(hashlib.sha256(data).hexdigest(), columns, np.asarray(lines, dtype=np.int64), faults)


def _check_header(header: list[str], path: Path) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in header]
    if missing:
        split = next((mark for mark in (";", "\t", "|") if len(header) == 1 and mark in header[0]), None)
        if split is not None:
            raise FerError(f"{path} separates its columns by {split!r}; a manifest is separated by commas")
        raise FerError(
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; it has {', '.join(header)}"
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise FerError(f"{path} names the column {', '.join(twice)} twice")
    boxes = [name for name in BBOX_COLUMNS if name in header]
    if boxes and len(boxes) < len(BBOX_COLUMNS):
        raise FerError(f"{path} has {', '.join(boxes)} but a box needs {', '.join(BBOX_COLUMNS)}")


def _read_columns(
    header: list[str], records: Iterator[tuple[list[str], int]]
) -> tuple[dict[str, list[str]], list[int], list[Fault]]:
    columns: dict[str, list[str]] = {name: [] for name in header}
    lines: list[int] = []
    faults: list[Fault] = []
    known: dict[str, str] = {}
    while chunk := list(itertools.islice(records, _CHUNK)):
        whole = [item for item in chunk if len(item[0]) == len(header)]
        if len(whole) < len(chunk):  # a broken record cannot be read as columns: its neighbours are judged without it
            reason = f"expected {len(header)} fields"
            broken = [item for item in chunk if len(item[0]) != len(header)]
            faults += [
                Fault(line, "row", str(len(record)), reason, FaultKind.wrong_field_count) for record, line in broken
            ]
        lines += [line for _, line in whole]
        for name, values in zip(header, zip(*(record for record, _ in whole), strict=True), strict=False):
            # One string for equal values of the columns that hold few: 466,000 rows hold three splits.
            columns[name] += [known.setdefault(value, value) for value in values] if name in _REPEATED else values
    return columns, lines, faults
