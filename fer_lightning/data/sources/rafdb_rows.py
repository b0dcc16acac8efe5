"""From a label list of the RAF layout to rows: each line is judged, then joined to its picture, box and attributes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fer_lightning.data.sources.config import Pictures, SourceConfig
from fer_lightning.data.sources.rafdb_files import (
    Box,
    Folder,
    LabelLine,
    find_set,
    picture_names,
    read_attributes,
    read_box,
    read_label_list,
)
from fer_lightning.data.sources.rows import SourceReading, SourceRow
from fer_lightning.errors import FerError


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a line of the label list comes to: a label and a split, or the reason why there is no row."""

    label: str | None = None
    split: str = "test"
    columns: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class RafSet:
    """How one set of the family differs from the others."""

    folder_names: tuple[str, ...]
    """Names of its folder in the published layout."""
    lists: tuple[str, ...]
    """Names of its label list."""
    num_values: tuple[int, ...]
    """Allowed numbers of values in a line."""
    expected: str
    """A line of the list, for messages."""
    judge: Callable[[Path, LabelLine], Verdict]
    """Says what a line comes to; raises where the file cannot be such a list."""
    check: Callable[[Path, Sequence[LabelLine]], None] = lambda _path, _lines: None
    """Refuses the list of another set."""


class _Places:
    """The folders of a set that are read."""

    def __init__(self, base: Path, pictures: Pictures) -> None:
        self.aligned = pictures is Pictures.aligned
        self.prefix = base.as_posix()
        self.pictures = Folder(base, "Image/aligned" if self.aligned else "Image/original")
        self.boxes = None if self.aligned else Folder(base, "Annotation/boundingbox")
        self.attributes = Folder(base, "Annotation/manual")
        self.unreadable_attributes: list[str] = []

    def picture(self, name: str) -> str | None:
        return self.pictures.find(picture_names(name, aligned=self.aligned))

    def box_file(self, name: str) -> str | None:
        return None if self.boxes is None else self.boxes.find((f"{Path(name).stem}_boundingbox.txt",))

    def attributes_of(self, name: str) -> dict[str, str]:
        place = self.attributes.find((f"{Path(name).stem}_manu_attri.txt",))
        if place is None:
            return {}
        try:
            return read_attributes(Path(f"{self.prefix}/{place}"))
        except (ValueError, OSError) as error:
            self.unreadable_attributes.append(f"{place} ({error})")
            return {}


def _check_files(places: _Places, list_path: Path, lines: Sequence[LabelLine]) -> None:
    """Refuse a set of which no picture, or no box, is found: the path is wrong, not each of its rows."""
    named = f"of the {len(lines)} lines of {list_path}"
    if not any(places.picture(line.name) for line in lines):
        example = picture_names(lines[0].name, aligned=places.aligned)[0]
        raise FerError(f"no picture {named} is found, such as {example}; looked in {places.pictures.looked()}")
    if places.boxes is not None and not any(places.box_file(line.name) for line in lines):
        raise FerError(f"no box {named} is found; pictures=boxes looked in {places.boxes.looked()}")


def _listed_before(lines: Sequence[LabelLine]) -> dict[int, tuple[str, str]]:
    """Return line -> (reason, detail) of lines whose picture another line names too."""
    lines_of: dict[str, list[LabelLine]] = {}
    for line in lines:
        lines_of.setdefault(line.name, []).append(line)
    left_out: dict[int, tuple[str, str]] = {}
    for same in lines_of.values():
        agree = len({line.values for line in same}) == 1
        for line in same[1:] if agree else same:
            others = ", ".join(str(other.line) for other in same if other is not line)
            reason = "listed twice" if agree else "conflicting lines"
            left_out[line.line] = (reason, f"{line.name} {' '.join(line.values)}; also on line {others}")
    return left_out


def _box(places: _Places, name: str) -> Box | Verdict:
    place = places.box_file(name)
    if place is None:
        return Verdict(reason="no box", detail=f"{name}: no {Path(name).stem}_boundingbox.txt")
    try:
        return read_box(Path(f"{places.prefix}/{place}"))
    except (ValueError, OverflowError, OSError) as error:
        return Verdict(reason="unreadable box", detail=f"{place}: {error}")


def _row(places: _Places, line: LabelLine, verdict: Verdict) -> SourceRow | Verdict:
    """Join a labelled line to its files."""
    place = places.picture(line.name)
    if verdict.label is None:
        return verdict
    if place is None:
        return Verdict(reason="no such file", detail=picture_names(line.name, aligned=places.aligned)[0])
    box = None if places.aligned else _box(places, line.name)
    if isinstance(box, Verdict):
        return box
    columns = {**verdict.columns, **places.attributes_of(line.name)}
    return SourceRow(
        path=f"{places.prefix}/{place}", label=verdict.label, split=verdict.split, bbox=box, columns=columns
    )


def _notes(places: _Places, lines: Sequence[LabelLine], rows: Sequence[SourceRow]) -> list[str]:
    outer, doubled = places.pictures.places
    inside = sum(row.path.startswith(f"{places.prefix}/{doubled}/") for row in rows)
    notes = [f"{inside} of {len(rows)} pictures are in {doubled}, not in {outer}"] if inside else []
    named = {name for line in lines for name in picture_names(line.name, aligned=places.aligned)}
    extra = sorted(places.pictures.names() - named)
    if extra:
        notes.append(f"{len(extra)} files in {outer} are named by no line of the label list, first {extra[0]}")
    if places.unreadable_attributes:
        bad = places.unreadable_attributes
        notes.append(f"{len(bad)} attribute files cannot be read and are left empty, first {bad[0]}")
    return notes


def read_raf(source: SourceConfig, raf: RafSet) -> SourceReading:
    """Read one set of the RAF layout.

    Args:
        source: `path` is the set's folder or the one above; `pictures` says which rendition.
        raf: what is particular to the set.

    Raises:
        FerError: another layout, or none of the pictures or boxes is there.
    """
    if source.path is None:
        raise FerError(f"kind={source.kind.value} needs path=<folder that holds EmoLabel, Image and Annotation>")
    base, list_path = find_set(source.path, folder_names=raf.folder_names, lists=raf.lists)
    lines = read_label_list(list_path, num_values=raf.num_values, expected=raf.expected)
    raf.check(list_path, lines)
    places = _Places(base, source.pictures)
    _check_files(places, list_path, lines)
    reading = SourceReading()
    if base != Path(source.path):
        reading.notes.append(f"read from {base.as_posix()}")
    left_out = _listed_before(lines)
    for line in lines:
        reason, detail = left_out.get(line.line, ("", ""))
        verdict = Verdict(reason=reason, detail=detail) if reason else raf.judge(list_path, line)
        row = _row(places, line, verdict)
        if isinstance(row, SourceRow):
            reading.rows.append(row)
        else:
            reading.drop(f"{list_path.name}:{line.line}", row.reason, row.detail)
    reading.notes += _notes(places, lines, reading.rows)
    return reading
