"""Options of the data room: which manifest, which rows, which pictures."""

from dataclasses import dataclass, field
from enum import Enum

SOURCES = (
    "ferplus",
    "rafdb_basic",
    "affectnet_full_balanced",
    "expw_hq",
    "expw_full",
    "fer2013_uniform_7",
    "rafml_argmax",
    "rafdb_compound_mapped",
    "affectnet_yolo_format",
)
"""Source names of the documents; a manifest may hold others."""


@dataclass(kw_only=True)
class DataConfig:
    """The manifest and how its rows become pictures."""

    manifest: str | None = None
    """Manifest CSV. See `task=build_manifest` for making one."""
    root: str | None = None
    """Folder that image paths are relative to; the manifest's own folder unless set."""
    val_fraction: float = 0.1
    """Share of train rows carved out as val, by group, when the manifest has no val rows."""
    group_columns: list[str] = field(default_factory=lambda: ["subject", "orig_image"])
    """Rows that share a value in any of these columns stay on one side of a carved split."""
    max_bad_rows: int = 0
    """How many faulty rows may be left out (they are counted and listed); 0 makes any fault an error."""
    num_workers: int | None = None
    """Loader processes; unset: 8, or the number of processors less one where that is smaller. Never changes results."""
    clahe: bool = True
    """Contrast-limited histogram equalisation of the L channel, after the resize."""
    clahe_clip_limit: float = 2.0
    """CLAHE clip limit."""
    clahe_tiles: int = 8
    """CLAHE grid: this many tiles a side."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 < self.val_fraction < 1:
            raise ValueError(f"data.val_fraction must lie in (0, 1), got {self.val_fraction}")
        if self.max_bad_rows < 0:
            raise ValueError(f"data.max_bad_rows must be at least 0, got {self.max_bad_rows}")
        if self.num_workers is not None and self.num_workers < 0:
            raise ValueError(f"data.num_workers must be at least 0, got {self.num_workers}")
        if self.clahe_clip_limit <= 0 or self.clahe_tiles < 1:
            raise ValueError("data.clahe_clip_limit and data.clahe_tiles must be positive")


@dataclass(kw_only=True)
class SourceFilterConfig:
    """Which sources of the manifest take part."""

    name: str = "all"
    """Name for reports."""
    include: list[str] = field(default_factory=list)
    """Only these sources, each of which must have rows; empty: every source."""
    exclude: list[str] = field(default_factory=list)
    """Not these sources."""

    def __post_init__(self) -> None:
        """Refuse a source on both lists."""
        both = sorted(set(self.include) & set(self.exclude))
        if both:
            raise ValueError(f"source_filter includes and excludes {', '.join(both)}")


class AugmentationKind(Enum):
    """Who draws the random changes of a training picture."""

    none = "none"
    light = "light"
    strong = "strong"


@dataclass(kw_only=True)
class AugmentationConfig:
    """Random changes of training pictures, after the canonical picture."""

    kind: AugmentationKind = AugmentationKind.light
    """`none`, `light` (crop, flip, colour jitter) or `strong` (an albumentations pipeline before the jitter)."""
    crop_scale_min: float = 0.8
    """Smallest area share of the random crop."""
    crop_ratio_max: float = 1.1
    """Largest aspect ratio of the random crop; the smallest is its inverse."""
    flip_probability: float = 0.5
    """Horizontal flip."""
    brightness: float = 0.2
    """Brightness factor in 1 +- this."""
    contrast: float = 0.2
    """Contrast factor in 1 +- this."""
    saturation: float = 0.2
    """Saturation factor in 1 +- this."""
    hue: float = 0.02
    """Hue shift in +- this, in turns of the colour circle."""
    rotation_degrees: float = 15.0
    """`strong` only: rotation in +- this."""
    erase_probability: float = 0.25
    """`strong` only: chance of one erased rectangle."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 < self.crop_scale_min <= 1:
            raise ValueError(f"augmentation.crop_scale_min must lie in (0, 1], got {self.crop_scale_min}")
        if self.crop_ratio_max < 1:
            raise ValueError(f"augmentation.crop_ratio_max must be at least 1, got {self.crop_ratio_max}")
        for name in ("flip_probability", "erase_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augmentation.{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"augmentation.{name} must lie in [0, 1), got {getattr(self, name)}")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"augmentation.hue must lie in [0, 0.5], got {self.hue}")


class BuildSource(Enum):
    """What a manifest is built from."""

    generated = "generated"
    folder = "folder"


@dataclass(kw_only=True)
class BuildConfig:
    """A manifest to build."""

    source: BuildSource = BuildSource.generated
    """`generated` draws a FER set; `folder` reads a folder-per-class tree."""
    output: str = "datasets/generated"
    """`generated`: folder to fill. `folder`: the manifest file to write; unset means `manifest.csv` in the tree."""
    overwrite: bool = False
    """Replace an existing manifest whose content would differ."""
    num_images: int = 6000
    """`generated`: number of faces."""
    seed: int = 1337
    """`generated`: seed of the whole set; `folder`: seed of carved splits."""
    exact_duplicates: int = 0
    """`generated`: exact duplicates to plant across splits."""
    near_duplicates: int = 0
    """`generated`: near duplicates (re-encoded, resized) to plant across splits."""
    tree: str | None = None
    """`folder`: root of `<split>/<class>/*` or `<class>/*`."""
    source_name: str = "folder"
    """`folder`: value of the manifest's source column."""
    val_fraction: float = 0.1
    """`folder`: share carved as val when the tree has no split folders, or none for val."""
    test_fraction: float = 0.1
    """`folder`: share carved as test when the tree has no split folders."""

    def __post_init__(self) -> None:
        """Check ranges and the fields that belong to one source."""
        if self.num_images < 1:
            raise ValueError(f"build.num_images must be at least 1, got {self.num_images}")
        if self.source is BuildSource.folder and self.tree is None:
            raise ValueError("build=folder needs build.tree=<folder that holds one folder per class>")
        if not (
            0 < self.val_fraction < 1 and 0 <= self.test_fraction < 1 and self.val_fraction + self.test_fraction < 1
        ):
            raise ValueError("build.val_fraction and build.test_fraction must be shares that leave rows for train")
