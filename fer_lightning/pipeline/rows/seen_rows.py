"""Which rows of one manifest show what rows of another show: the same face of a file, its pixels, or a near copy."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.copies.near_duplicates import near_duplicates
from fer_lightning.data.pictures.fact_store import StoredThumbnails, Thumbnails
from fer_lightning.data.pictures.image_facts import ImageFacts, image_facts
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.data.rows.row_id import normalise_path
from fer_lightning.data.splits.leaks import content_families

SEEN_KINDS = ("image", "content", "near_content")
"""How a row can have been seen: the same file and box, equal pixels, a re-encoded or resized copy."""


@dataclass(frozen=True)
class SeenRow:
    """A row to judge and a train row that shows the same."""

    row: int
    """Row number in the manifest to judge."""
    train_row: int
    """Row number in the manifest of the training."""
    kind: str
    """One of `SEEN_KINDS`, the first that holds."""


class _JoinedThumbnails(StoredThumbnails):
    """The thumbnails of two sets, one after the other."""

    def __init__(self, first: Thumbnails, second: Thumbnails) -> None:
        total = len(first) + len(second)
        super().__init__([], np.full(total, -1), np.zeros(total, dtype=np.int64))
        self._first, self._second = first, second

    def __getitem__(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the (k, 32, 32) thumbnails at these positions."""
        found = super().__getitem__(positions)
        early = positions < len(self._first)
        found[early] = self._first[positions[early]]
        found[~early] = self._second[positions[~early] - len(self._first)]
        return found


def _faces(manifest: Manifest, rows: NDArray[np.int64]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the file and the box of each row, alike for two manifests with different roots."""
    root = os.path.realpath(manifest.root)
    for row, box in zip(rows.tolist(), manifest.bboxes[rows].tolist(), strict=True):
        yield normalise_path(f"{root}/{manifest.image_paths[row]}"), tuple(box)


def _joined(first: ImageFacts, second: ImageFacts) -> ImageFacts:
    """Return the facts of both, with their positions as row numbers."""
    return ImageFacts(
        rows=np.arange(len(first.rows) + len(second.rows)),
        status=np.concatenate([first.status, second.status]),
        heights=np.concatenate([first.heights, second.heights]),
        widths=np.concatenate([first.widths, second.widths]),
        contents=np.concatenate([first.contents, second.contents]),
        hashes=np.concatenate([first.hashes, second.hashes]),
        mirrored_hashes=np.concatenate([first.mirrored_hashes, second.mirrored_hashes]),
        thumbnails=_JoinedThumbnails(first.thumbnails, second.thumbnails),
    )


def seen_rows(
    judged: Manifest,
    rows: NDArray[np.int64],
    trained: Manifest,
    train_rows: NDArray[np.int64],
    *,
    store: Path,
    num_workers: int,
) -> list[SeenRow]:
    """Find the rows that show what train rows show.

    Args:
        judged: manifest of the rows to judge.
        rows: their numbers.
        trained: manifest of the train rows; may be the same.
        train_rows: their numbers.
        store: folder of what is known about pictures.
        num_workers: processes that look at pictures.

    Returns:
        Those seen, in the order of `rows`, each once.
    """
    first_of_face: dict[tuple[str, tuple[int, ...]], int] = {}
    for position, face in enumerate(_faces(trained, train_rows)):
        first_of_face.setdefault(face, position)
    absent = len(train_rows)
    matches = [np.asarray([first_of_face.get(face, absent) for face in _faces(judged, rows)], dtype=np.int64)]
    if np.any(matches[0] == absent):
        facts = _joined(
            image_facts(trained, train_rows, store=store, num_workers=num_workers),
            image_facts(judged, rows, store=store, num_workers=num_workers),
        )
        # Train rows come first, and a family is named by its smallest member.
        matches.append(content_families(len(facts.rows), facts)[absent:])
        matches.append(content_families(len(facts.rows), facts, near_duplicates(facts))[absent:])
    seen = []
    for position, row in enumerate(rows.tolist()):
        for kind, match in zip(SEEN_KINDS, matches, strict=False):
            if match[position] < absent:
                seen.append(SeenRow(row, int(train_rows[match[position]]), kind))
                break
    return seen
