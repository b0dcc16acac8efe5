"""What every adapter returns: rows, and an account of everything that became none."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceRow:
    """One face of a data set."""

    path: str
    """The picture file: as given in the source's `path` option and below it, `/` separated."""
    label: str
    """One of `labels.EMOTIONS`."""
    split: str | None
    """train, val or test; None where the data set does not say: carved later, by group."""
    bbox: tuple[int, int, int, int] | None = None
    """Top, left, right, bottom in whole pixels, right and bottom exclusive; None: the whole picture."""
    columns: dict[str, str] = field(default_factory=dict)
    """Further manifest columns by name: subject, orig_image, face_id, confidence, vote_Angry, gender, ..."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """One item of a data set that became no row."""

    item: str
    """What it was: a file, or a line of an annotation file such as `fer2013new.csv:812`."""
    reason: str
    """One of few fixed phrases, so that drops can be counted: `contempt`, `tie`, `no such file`, ..."""
    detail: str = ""
    """What a person needs to check it: the votes, the value found."""


@dataclass(kw_only=True)
class SourceReading:
    """A data set, read: each item is a row or is accounted for."""

    rows: list[SourceRow] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a person should know: `pictures are in aligned/aligned`."""

    def drop(self, item: str, reason: str, detail: str = "") -> None:
        """Account for an item that becomes no row."""
        self.dropped.append(Dropped(item, reason, detail))

    def reasons(self) -> dict[str, int]:
        """Return reason -> items dropped for it, most frequent first."""
        return dict(Counter(drop.reason for drop in self.dropped).most_common())
