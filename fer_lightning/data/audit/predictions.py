"""Reads predictions of a model, to be joined with a manifest by row id."""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS

_PROBS = tuple(f"prob_{name}" for name in EMOTIONS)
_NEEDED = ("row_id", "image_path", "label", *_PROBS)


@dataclass(frozen=True)
class Predictions:
    """Predictions, one per row."""

    path: Path
    row_ids: tuple[str, ...]
    image_paths: tuple[str, ...]
    labels: tuple[str, ...]
    """Label each was judged against."""
    probs: NDArray[np.float64]
    """(N, 7)."""
    lines: tuple[int, ...]
    """Line of the file."""


def read_predictions(path: Path) -> Predictions:
    """Read `predictions.csv` of `task=evaluate`.

    Raises:
        FerError: no such file, another kind of file, probabilities that are none, or a row predicted twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
            if missing:
                raise FerError(
                    f"audit.predictions: {path} lacks the column {missing[0]}; it takes predictions.csv of task=evaluate"
                )
            records = [(record, reader.line_num) for record in reader]
    except OSError as error:
        raise FerError(f"audit.predictions: cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise FerError(f"audit.predictions: {path} is not a UTF-8 CSV file: {error}") from error
    if not records:
        raise FerError(f"audit.predictions: {path} holds no predictions")
    lines = tuple(line for _, line in records)
    identities = tuple(record["row_id"] for record, _ in records)
    _refuse_twice(identities, lines, path)
    return Predictions(
        path=path,
        row_ids=identities,
        image_paths=tuple(record["image_path"] for record, _ in records),
        labels=tuple(record["label"] for record, _ in records),
        probs=np.asarray([_probs((record[name] for name in _PROBS), path, line) for record, line in records]),
        lines=lines,
    )


def _refuse_twice(identities: tuple[str, ...], lines: tuple[int, ...], path: Path) -> None:
    first: dict[str, int] = {}
    for identity, line in zip(identities, lines, strict=True):
        if first.setdefault(identity, line) != line:
            raise FerError(f"audit.predictions: {path} line {line} predicts the row of line {first[identity]} again")


def _probs(texts: Iterable[str | None], path: Path, line: int) -> list[float]:
    try:
        probs = [float(text or "nan") for text in texts]
    except ValueError:
        probs = [math.nan]
    if not abs(sum(probs) - 1) < 1e-4 or min(probs) < 0:
        raise FerError(f"audit.predictions: {path} line {line} holds no seven probabilities that sum to 1")
    return probs
