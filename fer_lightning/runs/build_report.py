"""`<manifest>.build.json`: how a manifest was built, source by source."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict

from fer_lightning.runs.artifacts import STRICT, read_artifact


@dataclass(frozen=True, kw_only=True)
class BuiltSource:
    """One source of a built manifest."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: str
    """Its layout, or `manifest` where rows of manifests were joined."""
    path: str | None
    """Where it was read, as given; None for rows of manifests."""
    items: int
    """Everything the data set holds: rows and what became none."""
    rows: dict[str, dict[str, int]]
    """split -> label -> rows."""
    dropped: dict[str, int]
    """Reason -> items that became no row, most frequent first."""
    carved: dict[str, int]
    """Split -> rows placed there by carving, not by the data set."""
    pinned: int
    """Carved rows that follow a copy, photo or subject in another row's split."""
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class InputManifest:
    """A manifest whose rows were taken."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    path: str
    sha256: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """How a manifest was built."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int = 1
    manifest: str
    """File name; the report lies beside it."""
    manifest_sha256: str
    root: str
    """Folder of the image paths, relative to the manifest's own."""
    mode: str
    clean: bool
    min_side: int
    test_fraction: float
    val_fraction: float
    seed: int
    inputs: list[InputManifest]
    sources: dict[str, BuiltSource]
    leaks_left: dict[str, int]
    """Kind -> values of a group column, or photos, that the data sets themselves have on two sides."""


def report_path(manifest: Path) -> Path:
    """Return the place of a manifest's build report."""
    return manifest.with_name(f"{manifest.stem}.build.json")


def recorded_root(manifest: Path, sha256: str) -> Path | None:
    """Return the root that a manifest was built with; None where no report beside it speaks of these bytes.

    Raises:
        FerError: a report that cannot be read.
    """
    if not report_path(manifest).is_file():
        return None
    report = read_artifact(report_path(manifest), BuildReport)
    return manifest.parent / report.root if report.manifest_sha256 == sha256 else None
