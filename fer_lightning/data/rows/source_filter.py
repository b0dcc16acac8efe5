"""Chooses sources of a manifest; a name that matches nothing is an error."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.config import SOURCES, SourceFilterConfig
from fer_lightning.data.rows.manifest import SPLITS, Manifest
from fer_lightning.errors import FerError


@dataclass(frozen=True)
class SourceFilterReport:
    """What a filter kept and what it left out."""

    name: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    rows_before: int
    rows_after: int
    kept: dict[str, dict[str, int]]
    """source -> split -> rows."""
    left_out: dict[str, int]
    """source -> rows."""


def filter_sources(manifest: Manifest, config: SourceFilterConfig) -> tuple[NDArray[np.int64], SourceFilterReport]:
    """Apply a source filter.

    Args:
        manifest: the manifest.
        config: include and exclude lists.

    Returns:
        Row numbers kept, in manifest order, and the report.

    Raises:
        FerError: an included source has no rows; an excluded one has none and is no known source; nothing is left.
    """
    present = set(np.unique(manifest.sources).tolist())
    _check_names(config, present, manifest)
    chosen = (set(config.include) or present) - set(config.exclude)
    rows = np.flatnonzero(np.isin(manifest.sources, sorted(chosen)))
    if not len(rows):
        raise FerError(
            f"source_filter={config.name} leaves no row of {manifest.path} (sources: {', '.join(sorted(present))})"
        )
    report = SourceFilterReport(
        name=config.name,
        include=tuple(config.include),
        exclude=tuple(config.exclude),
        rows_before=len(manifest),
        rows_after=len(rows),
        kept={source: _split_counts(manifest, source) for source in sorted(chosen)},
        left_out={source: int((manifest.sources == source).sum()) for source in sorted(present - chosen)},
    )
    return rows, report


def _check_names(config: SourceFilterConfig, present: set[str], manifest: Manifest) -> None:
    held = ", ".join(sorted(present))
    absent = [source for source in config.include if source not in present]
    if absent:
        raise FerError(
            f"source_filter={config.name} includes {', '.join(absent)}, which has no row in {manifest.path} "
            f"(its sources: {held}). Use source_filter=all, or name the sources: source_filter.include=[{sorted(present)[0]}]"
        )
    unknown = [source for source in config.exclude if source not in present and source not in SOURCES]
    if unknown:
        raise FerError(
            f"source_filter={config.name} excludes {', '.join(unknown)}, which is neither in {manifest.path} "
            f"(its sources: {held}) nor a known source ({', '.join(SOURCES)})"
        )


def _split_counts(manifest: Manifest, source: str) -> dict[str, int]:
    of_source = manifest.sources == source
    return {split: int((of_source & (manifest.splits == split)).sum()) for split in SPLITS}
