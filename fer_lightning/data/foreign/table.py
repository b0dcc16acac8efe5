"""Scores of another program as they lie in its file, and the refusal of those of its rows that cannot be used."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS

_SHOWN = 5
_INDEX_OF = {name.casefold(): index for index, name in enumerate(EMOTIONS)}


@dataclass(frozen=True, eq=False)
class ForeignTable:
    """Scores of some rows, in the order of their file."""

    path: Path
    sha256: str
    """Of the file's bytes."""
    scores: NDArray[np.float64]
    """(n, 7) as in the file, columns in the order of `labels.EMOTIONS`."""
    join: str
    """What `keys` are: `row_id`, `image_path` or `position`."""
    keys: tuple[str, ...]
    """One per row; empty for `position`."""
    bboxes: NDArray[np.int64] | None
    """(n, 4) top, left, right, bottom beside image paths, -1 for a whole image; None where the file has no boxes."""
    places: NDArray[np.int64]
    """(n,) line or row number of each row."""
    unit: str
    """What `places` count: `line` of a CSV file (its header is line 1), or `row` of an array (the first one is 0)."""
    ignored: tuple[str, ...]
    """Columns or arrays that are not read."""


class RowProblem(NamedTuple):
    """What is wrong with one row."""

    place: str
    """Where it stands."""
    row: str
    """Which row it is, or its value."""
    reason: str


def refuse_rows(
    path: Path, sha256: str, problems: Sequence[RowProblem], *, headline: str, advice: str = ""
) -> NoReturn:
    """Refuse a file for some of its rows; many of them are listed in `<name>_<sha256>.rows.csv` in the working directory.

    Args:
        path: the file.
        sha256: its digest.
        problems: all of them, at least one.
        headline: what they are and how many.
        advice: what to do.

    Raises:
        FerError: always.
    """
    shown = "".join(f"\n  {place}: {reason} ({row})" for place, row, reason in problems[:_SHOWN])
    if len(problems) > _SHOWN:
        shown += f"\n  ... and {len(problems) - _SHOWN} more. All of them: {_write_list(path, sha256, problems)}"
    raise FerError(f"foreign.file: {path}: {headline}:{shown}" + (f"\n{advice}" if advice else ""))


def _write_list(path: Path, sha256: str, problems: Iterable[RowProblem]) -> str:
    """Write all problems where the command runs: the folder of a foreign file may be read-only."""
    report = Path(f"{path.stem}_{sha256[:8]}.rows.csv")
    try:
        with report.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(RowProblem._fields)
            writer.writerows(problems)
    except OSError as error:
        return f"(no list: cannot write {report} here: {error.strerror})"
    return str(report)


def class_index(name: str) -> int | None:
    """Return the index of an emotion whose name may be written in any case; None for any other name."""
    return _INDEX_OF.get(name.strip().casefold())
