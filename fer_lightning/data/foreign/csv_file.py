"""Reads foreign scores from a CSV file with a header."""

import csv
import hashlib
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.foreign.csv_columns import class_columns
from fer_lightning.data.foreign.table import ForeignTable, RowProblem, refuse_rows
from fer_lightning.data.rows.columns import BBOX_COLUMNS
from fer_lightning.data.rows.faults import Fault
from fer_lightning.data.rows.row_checks import check_boxes
from fer_lightning.errors import FerError

_CHUNK = 1000  # records held as text at a time
_KEYS = ("row_id", "image_path")


@dataclass
class _Rows:
    """What has been read so far."""

    scores: list[NDArray[np.float64]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    boxes: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in BBOX_COLUMNS})
    lines: list[int] = field(default_factory=list)
    problems: list[tuple[int, RowProblem]] = field(default_factory=list)
    """Line and problem."""


def _check_header(header: Sequence[str], join: str, *, where: str) -> None:
    split = next((mark for mark in (";", "\t", "|") if len(header) == 1 and mark in header[0]), None)
    if split is not None:
        raise FerError(f"{where} separates its columns by {split!r}; they must be separated by commas")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise FerError(f"{where} names the column {', '.join(twice)} twice")
    there = [name for name in _KEYS if name in header]
    if join == "position" and there:
        raise FerError(f"{where} names its rows, so they need no trust in their order: foreign.join={there[0]}")
    if join != "position" and join not in there:
        other = f"; it has {there[0]}: foreign.join={there[0]}" if there else f"; it has {', '.join(header)}"
        raise FerError(f"{where} has no column {join} that its rows could be joined by{other}")
    boxes = [name for name in BBOX_COLUMNS if name in header]
    if boxes and len(boxes) < len(BBOX_COLUMNS):
        raise FerError(f"{where} has {', '.join(boxes)}, but a box needs {', '.join(BBOX_COLUMNS)}")


def _numbers(
    texts: Sequence[str], name: str, lines: Sequence[int], problems: list[tuple[int, RowProblem]]
) -> list[float]:
    """Return texts as numbers; those that are none become NaN, and problems."""
    try:
        if not any("_" in text for text in texts):  # which float() takes between digits
            return list(map(float, texts))
    except ValueError:
        pass
    numbers = []
    for text, line in zip(texts, lines, strict=True):
        try:
            numbers.append(float("" if "_" in text else text))
        except ValueError:
            problems.append((line, RowProblem(f"line {line}", f"{name}={text!r}", "no number")))
            numbers.append(np.nan)
    return numbers


def _read(header: Sequence[str], classes: Sequence[int], key: str, records: Iterator[tuple[list[str], int]]) -> _Rows:
    rows = _Rows()
    while chunk := list(itertools.islice(records, _CHUNK)):
        rows.problems += [
            (line, RowProblem(f"line {line}", f"{len(record)} fields", f"the header has {len(header)}"))
            for record, line in chunk
            if len(record) != len(header)
        ]
        whole = [(record, line) for record, line in chunk if len(record) == len(header)]
        lines = [line for _, line in whole]
        columns = list(zip(*(record for record, _ in whole), strict=True)) or [()] * len(header)
        parts = [_numbers(columns[column], header[column], lines, rows.problems) for column in classes]
        rows.scores.append(np.array(parts, dtype=np.float64).T)
        rows.lines += lines
        if key in _KEYS:
            rows.keys += [text.strip() for text in columns[header.index(key)]]
        for name in rows.boxes:
            rows.boxes[name] += columns[header.index(name)] if name in header else ()
    return rows


def _boxes(path: Path, sha256: str, rows: _Rows, lines: NDArray[np.int64]) -> NDArray[np.int64]:
    faults: list[Fault] = []
    bboxes = check_boxes(rows.boxes, lines, faults)
    if faults:
        problems = [RowProblem(f"line {fault.line}", f"{fault.column}={fault.value}", fault.reason) for fault in faults]
        refuse_rows(path, sha256, problems, headline=f"{len(problems)} boxes that are none")
    return bboxes


def read_csv(path: Path, *, values: str, join: str) -> ForeignTable:
    """Read a CSV file: a column for each class in any order, and `row_id` or `image_path` (with boxes, where it has them).

    Args:
        path: UTF-8, with or without BOM, any line ending.
        values: `logits`, `log_probs` or `probs`; see `class_columns`.
        join: column that names the rows, or `position`.

    Raises:
        FerError: no CSV, a header without what is needed, lines of another length, or scores that are no numbers.
    """
    where, data = f"foreign.file: {path}", path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=""), strict=True)
        header = [name.strip() for name in next(reader, [])]
        if not header:
            raise FerError(f"{where} is empty")
        _check_header(header, join, where=where)
        classes = class_columns(header, values=values, where=where)
        rows = _read(header, classes, join, ((record, reader.line_num) for record in reader if record))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FerError(f"{where} is not a UTF-8 CSV file: {error}") from error
    if rows.problems:
        problems = [problem for _, problem in sorted(rows.problems, key=lambda item: item[0])]
        refuse_rows(path, sha256, problems, headline=f"{len(problems)} entries cannot be read")
    if not rows.lines:
        raise FerError(f"{where} has a header but no rows")
    lines = np.asarray(rows.lines, dtype=np.int64)
    boxed = join == "image_path" and BBOX_COLUMNS[0] in header
    read = {*classes, *(header.index(name) for name in (join, *BBOX_COLUMNS) if name in header)}
    return ForeignTable(
        path=path,
        sha256=sha256,
        scores=np.concatenate(rows.scores),
        join=join,
        keys=tuple(rows.keys),
        bboxes=_boxes(path, sha256, rows, lines) if boxed else None,
        places=lines,
        unit="line",
        ignored=tuple(name for column, name in enumerate(header) if column not in read),
    )
