"""Options of building a manifest: from which data sets or manifests, and how it is cleaned, split and merged."""

from dataclasses import dataclass, field
from enum import Enum

from fer_lightning.data.sources.config import SourceConfig


class BuildMode(Enum):
    """Where the rows of a manifest come from."""

    generated = "generated"
    folder = "folder"
    sources = "sources"
    merge = "merge"
    curate = "curate"


@dataclass(kw_only=True)
class BuildConfig:
    """A manifest to build."""

    mode: BuildMode = BuildMode.generated
    """`generated` draws a FER set; `folder` reads one folder-per-class tree; `sources` composes data sets in their
    published layouts; `merge` joins manifests; `curate` picks rows of one or more manifests."""
    output: str = "datasets/generated"
    """`generated`: folder to fill. Else: the manifest file to write (`folder`: unset means `manifest.csv` in the
    tree)."""
    root: str | None = None
    """Folder that the manifest's image paths are relative to; unset: the manifest's own folder. Training on it takes
    the same `data.root`."""
    overwrite: bool = False
    """Replace an existing manifest whose content would differ."""
    seed: int = 1337
    """Seed of a generated set, or of carved splits."""
    num_images: int = 6000
    """`generated`: number of faces."""
    exact_duplicates: int = 0
    """`generated`: exact duplicates to plant across splits."""
    near_duplicates: int = 0
    """`generated`: near duplicates (re-encoded, resized) to plant across splits."""
    tree: str | None = None
    """`folder`: root of `<split>/<class>/*` or `<class>/*`."""
    source_name: str = "folder"
    """`folder`: value of the manifest's source column."""
    sources: dict[str, SourceConfig] = field(default_factory=dict)
    """`sources`: name in the manifest -> data set. `+source=[ferplus,rafdb_basic]` adds ready ones."""
    clean: bool = True
    """Leave out, and account for, rows whose picture is missing, empty, unreadable, truncated, too small or does not
    hold its box, and copies of a picture that is in already. false: rows as the data sets have them."""
    min_side: int = 16
    """Cleaning: a picture whose shorter side (of its box, where it has one) is smaller is left out."""
    val_fraction: float = 0.1
    """Share of train rows carved as val where a source has no val rows, by group; 0: none."""
    test_fraction: float = 0.1
    """Share carved as test where a source has no splits at all, by group; 0: none."""
    group_columns: list[str] = field(default_factory=lambda: ["subject", "orig_image"])
    """Rows of a source that share a value in any of these columns stay on one side, and so do copies of a picture."""
    manifests: list[str] = field(default_factory=list)
    """`merge`, `curate`: manifests to take rows from."""
    include: list[str] = field(default_factory=list)
    """`merge`, `curate`: only these sources; empty: all."""
    exclude: list[str] = field(default_factory=list)
    """`merge`, `curate`: not these sources."""
    splits: list[str] = field(default_factory=list)
    """`merge`, `curate`: only rows of these splits; empty: all."""
    as_split: str | None = None
    """`merge`, `curate`: put every row into this split."""
    min_confidence: float | None = None
    """`curate`: rows whose confidence column is lower are left out; rows without one stay."""

    def __post_init__(self) -> None:
        """Check ranges and the fields that one mode needs."""
        if self.num_images < 1 or self.min_side < 1:
            raise ValueError("build.num_images and build.min_side must be at least 1")
        if self.mode is BuildMode.folder and self.tree is None:
            raise ValueError("build=folder needs build.tree=<folder that holds one folder per class>")
        if self.mode is BuildMode.sources and not self.sources:
            raise ValueError(
                "build=sources needs data sets: '+source=[ferplus,rafdb_basic]' build.sources.ferplus.path=<folder>"
            )
        if self.mode in {BuildMode.merge, BuildMode.curate} and not self.manifests:
            raise ValueError(f"build={self.mode.value} needs 'build.manifests=[a.csv,b.csv]'")
        if not (
            0 <= self.val_fraction < 1 and 0 <= self.test_fraction < 1 and self.val_fraction + self.test_fraction < 1
        ):
            raise ValueError("build.val_fraction and build.test_fraction must be shares that leave rows for train")
        for name in [*self.splits, *([] if self.as_split is None else [self.as_split])]:
            if name not in {"train", "val", "test"}:
                raise ValueError(f"build.splits and build.as_split take train, val and test, got {name!r}")
        for name, source in self.sources.items():
            if source.path is None:
                raise ValueError(f"build.sources.{name}.path=<root of the data set> is required")
