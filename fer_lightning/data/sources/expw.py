"""ExpW: one label list for faces of photos, read as boxes of the photos or as crops of them, never both."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.data.sources.config import Pictures, SourceConfig
from fer_lightning.data.sources.folder_files import (
    NO_LABEL,
    NO_SUCH_FILE,
    check_some_found,
    pictures_below,
    refuse_empty,
    source_root,
    text_lines,
)
from fer_lightning.data.sources.repeated import repeated
from fer_lightning.data.sources.rows import SourceReading, SourceRow
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS

_LISTS = ("label.lst", "label/label.lst")
_PHOTO_FOLDERS = ("image/origin", "origin", "image")
_NUM_VALUES = 7
_EXPECTED = "'<photo> <face id> <top> <left> <right> <bottom> <confidence> <expression 0 to 6>'"


@dataclass(frozen=True, slots=True)
class _Face:
    """One line of the label list."""

    line: int
    photo: str
    face_id: int
    box: tuple[int, int, int, int]
    """Top, left, right, bottom."""
    confidence: str
    """As written."""
    label: str


class _Pictures:
    """The photos, or crops, that are there."""

    def __init__(self, source: SourceConfig, root: Path, reading: SourceReading) -> None:
        self.are_crops = source.pictures is Pictures.crops
        self.root, self.folders = _places(source, root)
        places = [place for folder in self.folders for place in pictures_below(self.root, folder, reading)]
        self._place_of: dict[str, str] = {}
        self._others: list[str] = []
        for place in places:
            name = place.rpartition("/")[2]
            key = name.rpartition(".")[0] if self.are_crops else name
            if self._place_of.setdefault(key, place) != place:
                self._others.append(place)
        self._labelled: set[str] = set()

    def names(self, face: _Face) -> tuple[str, ...]:
        """Return the names the picture of a face may have; of crops without suffix."""
        if not self.are_crops:
            return (face.photo,)
        stem = face.photo.rpartition(".")[0] or face.photo
        return f"{stem}_{face.face_id}", f"{stem}_face{face.face_id}"

    def find(self, face: _Face) -> str | None:
        """Return where the picture of a face lies, relative to `root`."""
        found = next((name for name in self.names(face) if name in self._place_of), None)
        if found is None:
            return None
        self._labelled.add(found)
        return self._place_of[found]

    def unlabelled(self) -> list[str]:
        return sorted(self._others + [place for name, place in self._place_of.items() if name not in self._labelled])

    def looked(self) -> str:
        return ", ".join(str(self.root / folder) for folder in self.folders)


def _places(source: SourceConfig, root: Path) -> tuple[Path, list[str]]:
    """Return the root of the pictures and the folders in it."""
    if source.pictures is Pictures.crops:
        if source.images is None:
            raise FerError("pictures=crops needs images=<folder of the crops, named <photo>_<face id>>")
        if not Path(source.images).is_dir():
            raise FerError(f"no folder {source.images}; images is the folder of the crops")
        return Path(source.images), [""]
    if source.images is not None:
        raise FerError("images names a folder of crops; it belongs to pictures=crops")
    found = next((folder for folder in _PHOTO_FOLDERS if (root / folder).is_dir()), None)
    if found is None:
        folders = ", ".join(str(root / folder) for folder in _PHOTO_FOLDERS)
        raise FerError(f"no photos of ExpW: none of the folders {folders} is there")
    return root, [found]


def _find_list(root: Path) -> Path:
    path = next((root / name for name in _LISTS if (root / name).is_file()), None)
    if path is None:
        raise FerError(
            f"no label list at {' or '.join(str(root / name) for name in _LISTS)}; expected ExpW's label.lst"
        )
    return path


def _read_list(path: Path) -> list[_Face]:
    """Read the label list."""
    faces = []
    for line, text in text_lines(path):
        face = _face(line, text.rsplit(None, _NUM_VALUES))
        if face is None:
            raise FerError(f"{path}:{line} reads {text!r:.160}; expected {_EXPECTED}")
        faces.append(face)
    if not faces:
        raise FerError(f"{path} is empty; expected lines such as {_EXPECTED}")
    return faces


def _face(line: int, words: Sequence[str]) -> _Face | None:
    if len(words) != _NUM_VALUES + 1:
        return None
    photo, face_id, *corners, confidence, code = words
    try:
        top, left, right, bottom = (int(corner) for corner in corners)
        if not math.isfinite(float(confidence)) or int(face_id) < 0 or not 0 <= int(code) < len(EMOTIONS):
            return None
    except ValueError:
        return None
    return _Face(line, photo, int(face_id), (top, left, right, bottom), confidence, EMOTIONS[int(code)])


def _row(source: SourceConfig, pictures: _Pictures, face: _Face, place: str | None) -> SourceRow | tuple[str, str]:
    """Return the row of a line, or the reason why there is none, and a detail."""
    if source.min_confidence is not None and float(face.confidence) < source.min_confidence:
        return "low confidence", face.confidence
    if place is None:
        return NO_SUCH_FILE, " or ".join(pictures.names(face))
    top, left, right, bottom = face.box
    if not pictures.are_crops and not (0 <= top < bottom and 0 <= left < right):
        return "no usable box", f"top, left, right, bottom are {', '.join(map(str, face.box))}"
    return SourceRow(
        path=f"{pictures.root.as_posix()}/{place}",
        label=face.label,
        split=None,
        bbox=None if pictures.are_crops else face.box,
        columns={"orig_image": face.photo, "face_id": str(face.face_id), "confidence": face.confidence},
    )


def _left_out(faces: Sequence[_Face], places: Sequence[str | None]) -> dict[int, tuple[str, str]]:
    """Return position -> reason and detail of faces that are given twice, and of crops that two photos could be of."""
    found: dict[int, tuple[str, str]] = {}
    for position, (reason, other) in repeated(((face.photo, face.face_id), face.label) for face in faces).items():
        found[position] = (
            reason,
            f"{faces[position].photo} face {faces[position].face_id}, also line {faces[other].line}",
        )
    photos_of: dict[str, set[str]] = {}
    for face, place in zip(faces, places, strict=True):
        photos_of.setdefault(place or "", set()).add(face.photo)
    for position, place in enumerate(places):
        if place and len(photos_of[place]) > 1:
            found.setdefault(
                position, ("crop of two photos", f"{place} may be of {', '.join(sorted(photos_of[place]))}")
            )
    return found


def read_expw(source: SourceConfig) -> SourceReading:
    """Read ExpW: Zhang et al. 2018, https://arxiv.org/abs/1609.06426.

    There is no official split; `orig_image` keeps the faces of a photo together. `confidence` is the detector's, as
    written. Right and bottom of a box are taken as exclusive.

    Args:
        source: `path` holds `label.lst` or `label/label.lst`. `pictures=boxes`: photos in `image/origin`, `origin` or
            `image`, rows with a box. `pictures=crops`: pictures `<photo>_<face id>` or `<photo>_face<face id>` in the
            folder `images`, rows without a box. Below `min_confidence` there is no row.

    Raises:
        FerError: another layout, a line that cannot be read, or none of the pictures is there.
    """
    if source.pictures is Pictures.aligned:
        raise FerError("kind=expw has no aligned pictures; choose pictures=boxes or pictures=crops")
    root = source_root(source, "label.lst and image/origin")
    path = _find_list(root)
    faces = _read_list(path)
    reading = SourceReading()
    pictures = _Pictures(source, root, reading)
    places = [pictures.find(face) for face in faces]
    example = " or ".join(pictures.names(faces[0]))
    check_some_found(any(places), named=len(faces), by=path, example=example, looked=pictures.looked())
    left_out = _left_out(faces, places)
    for position, (face, place) in enumerate(zip(faces, places, strict=True)):
        row = left_out.get(position) or _row(source, pictures, face, place)
        if isinstance(row, SourceRow):
            reading.rows.append(row)
        else:
            reading.drop(f"{path.name}:{face.line}", *row)
    for place in pictures.unlabelled():
        reading.drop(place, NO_LABEL)
    refuse_empty(reading, f"no face of {path} becomes a row")
    return reading
