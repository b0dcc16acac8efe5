"""Tables of an audit: rows per source, split and class; picture sizes per source."""

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.pictures.image_facts import FileStatus, ImageFacts
from fer_lightning.data.rows.columns import SPLITS
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.labels import EMOTIONS

_EDGES = (0, 32, 48, 64, 96, 128, 224, 384, 512, 1024)
SIZE_BINS = (
    *(f"{low}-{high - 1}" for low, high in itertools.pairwise(_EDGES)),
    f"{_EDGES[-1]} and more",
)
"""Shorter sides in pixels."""

ClassCounts = dict[str, dict[str, dict[str, int]]]


class SourceSizes(NamedTuple):
    """Shorter sides of a source's picture files, in pixels."""

    source: str
    files: int
    smallest: int
    median: float
    largest: int
    histogram: dict[str, int]
    """Range -> files."""


def class_counts(manifest: Manifest, rows: NDArray[np.int64]) -> ClassCounts:
    """Return source -> split -> emotion -> rows."""
    labels, splits, sources = manifest.labels[rows], manifest.splits[rows], manifest.sources[rows]
    table: ClassCounts = {}
    for source in np.unique(sources).tolist():
        table[source] = {}
        for split in SPLITS:
            counts = np.bincount(labels[(sources == source) & (splits == split)], minlength=len(EMOTIONS))
            table[source][split] = dict(zip(EMOTIONS, counts.tolist(), strict=True))
    return table


def source_sizes(manifest: Manifest, facts: ImageFacts) -> list[SourceSizes]:
    """Return the sizes of each source's files; a file of several faces counts once."""
    usable = np.flatnonzero(facts.status == FileStatus.ok)
    paths = [manifest.image_paths[row] for row in facts.rows[usable].tolist()]
    first = np.asarray(
        sorted({path: place for place, path in reversed(list(enumerate(paths)))}.values()), dtype=np.int64
    )
    files = usable[first]
    sources = manifest.sources[facts.rows[files]]
    shorter = np.minimum(facts.heights[files], facts.widths[files])
    sizes = []
    for source in np.unique(sources).tolist():
        sides = shorter[sources == source]
        counts = np.bincount(np.digitize(sides, _EDGES[1:]), minlength=len(SIZE_BINS)).tolist()
        histogram = {name: count for name, count in zip(SIZE_BINS, counts, strict=True) if count}
        median = float(np.median(sides))
        sizes.append(SourceSizes(source, len(sides), int(sides.min()), median, int(sides.max()), histogram))
    return sizes
