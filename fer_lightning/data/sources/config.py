"""Options of one data set on disk: its layout, where it is, and how its labels and pictures are read."""

from dataclasses import dataclass
from enum import Enum


class SourceKind(Enum):
    """Layouts that have an adapter."""

    fer2013 = "fer2013"
    ferplus = "ferplus"
    rafdb_basic = "rafdb_basic"
    rafdb_compound = "rafdb_compound"
    rafml = "rafml"
    affectnet_csv = "affectnet_csv"
    affectnet_numpy = "affectnet_numpy"
    affectnet_folders = "affectnet_folders"
    affectnet_yolo = "affectnet_yolo"
    expw = "expw"
    ckplus = "ckplus"
    jaffe = "jaffe"
    folder = "folder"


class LabelMode(Enum):
    """How FER+ votes become a label."""

    majority = "majority"
    unique_maximum = "unique_maximum"
    probability = "probability"


class Pictures(Enum):
    """Which pictures of a data set that has several renditions."""

    aligned = "aligned"
    boxes = "boxes"
    crops = "crops"


@dataclass(kw_only=True)
class SourceConfig:
    """One data set on disk; its name in the manifest's source column is its key in `build.sources`."""

    kind: SourceKind = SourceKind.folder
    """Layout."""
    path: str | None = None
    """Root of the data set, as its holder publishes it."""
    as_split: str | None = None
    """Put every row into this split, whatever the data set says: `test` for an evaluation source."""
    votes: str | None = None
    """`ferplus`: the vote file; unset: fer2013new.csv below `path`."""
    images: str | None = None
    """`fer2013`, `ferplus`: folder that holds, or is filled with, the pictures of a pixel CSV; unset: `images/<source>`
    beside the manifest. `expw` crops: folder of the crops."""
    labels: LabelMode = LabelMode.unique_maximum
    """`ferplus`: `majority` (more than half of the votes), `unique_maximum` (one emotion above all others) or
    `probability` (the largest share of the seven emotions, ties by class order; meant for `targets=distribution`)."""
    pictures: Pictures = Pictures.aligned
    """`rafdb_*`, `rafml`: `aligned` or `boxes` of the originals. `expw`: `boxes` of the photos or `crops`, never
    both."""
    min_confidence: float | None = None
    """`expw`: rows whose box has a lower confidence are dropped."""
    peak_frames: int = 3
    """`ckplus`: last frames of a labelled sequence that carry its emotion."""
    neutral_frames: int = 1
    """`ckplus`: first frames of a labelled sequence taken as Neutral."""

    def __post_init__(self) -> None:
        """Check ranges and the options that belong to some layouts only."""
        if self.as_split not in {None, "train", "val", "test"}:
            raise ValueError(f"as_split must be train, val or test, got {self.as_split!r}")
        if self.peak_frames < 1 or self.neutral_frames < 0:
            raise ValueError("peak_frames must be at least 1 and neutral_frames at least 0")
        default = type(self).__dataclass_fields__
        for name, kinds in _BELONGS_TO.items():
            if getattr(self, name) != default[name].default and self.kind not in kinds:
                takers = ", ".join(kind.value for kind in kinds)
                raise ValueError(f"{name} has no effect on kind={self.kind.value}; it belongs to {takers}")
        if self.pictures is Pictures.crops and self.kind is not SourceKind.expw:
            raise ValueError("pictures=crops belongs to kind=expw")
        if self.pictures is Pictures.aligned and self.kind is SourceKind.expw:
            raise ValueError("kind=expw has no aligned pictures; choose pictures=boxes or pictures=crops")


_RAF = (SourceKind.rafdb_basic, SourceKind.rafdb_compound, SourceKind.rafml)
_BELONGS_TO = {
    "votes": (SourceKind.ferplus,),
    "images": (SourceKind.fer2013, SourceKind.ferplus, SourceKind.expw),
    "labels": (SourceKind.ferplus,),
    "pictures": (*_RAF, SourceKind.expw),
    "min_confidence": (SourceKind.expw,),
    "peak_frames": (SourceKind.ckplus,),
    "neutral_frames": (SourceKind.ckplus,),
}
