"""AffectNet as its authors publish it: file lists with boxes, and the photos."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.data.sources.affectnet_codes import NUM_CODES, judge_code
from fer_lightning.data.sources.config import SourceConfig
from fer_lightning.data.sources.folder_files import (
    NO_LABEL,
    NO_SUCH_FILE,
    check_some_found,
    list_folder,
    pictures_below,
    refuse_empty,
    source_root,
)
from fer_lightning.data.sources.pixel_csv import table_records
from fer_lightning.data.sources.repeated import repeated
from fer_lightning.data.sources.rows import SourceReading, SourceRow
from fer_lightning.errors import FerError

Box = tuple[int, int, int, int]

_COLUMNS = (
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)
_NOT_NEEDED = {"facial_landmarks"}
# The official val set comes first: of a face that is listed twice, the first stays.
_SPLIT_OF = {"validation.csv": "val", "training.csv": "train", "automatically_annotated.csv": "train"}
_LIST_FOLDERS = (
    "",
    "Manually_Annotated_file_lists",
    "Automatically_annotated_file_list",
    "Automatically_annotated_file_lists",
)
_PICTURE_FOLDERS = (
    "Manually_Annotated_Images",
    "Manually_Annotated/Manually_Annotated_Images",
    "Automatically_Annotated_Images",
    "Automatically_Annotated/Automatically_Annotated_Images",
)


@dataclass(frozen=True, slots=True)
class _Face:
    """One line of a file list."""

    item: str
    split: str
    picture: str
    """Relative to the folder of the photos."""
    box: tuple[str, ...]
    """x, y, width, height as written."""
    code: int
    affect: dict[str, str]
    """valence and arousal as written."""


def _find_lists(root: Path) -> dict[str, Path]:
    """Return name -> place of the file lists that are there."""
    found: dict[str, Path] = {}
    for name in _SPLIT_OF:
        places = [root / folder / name for folder in _LIST_FOLDERS if (root / folder / name).is_file()]
        if len(places) > 1:
            raise FerError(f"{name} is there more than once: {', '.join(map(str, places))}; keep one")
        found.update((name, place) for place in places)
    if not found:
        folders = ", ".join(str(root / folder) for folder in _LIST_FOLDERS)
        raise FerError(f"no {', '.join(_SPLIT_OF)} in {folders}; expected AffectNet's file lists")
    return found


def _column_places(path: Path, first: Sequence[str]) -> tuple[dict[str, int], bool]:
    """Return column -> place, and whether the first line is a header; a list without one is known by its nine fields."""
    places = {name.lower(): place for place, name in enumerate(first)}
    missing = [name for name in _COLUMNS if name not in _NOT_NEEDED and name.lower() not in places]
    if not missing:
        return {name: places[name.lower()] for name in _COLUMNS if name.lower() in places}, True
    if len(first) == len(_COLUMNS) and first[_COLUMNS.index("expression")].isdigit():
        return {name: place for place, name in enumerate(_COLUMNS)}, False
    raise FerError(f"{path} has the columns {','.join(first)[:200] or '(none)'}; expected {','.join(_COLUMNS)}")


def _read_list(path: Path) -> Iterator[_Face]:
    """Yield the lines of a file list."""
    place: dict[str, int] = {}
    width = 0
    for line, fields in table_records(path):
        if not place:
            place, is_header = _column_places(path, fields)
            width = len(fields)
            if is_header:
                continue
        code = fields[place["expression"]] if len(fields) == width else ""
        if not (code.isascii() and code.isdigit() and int(code) < NUM_CODES):
            shown = ",".join(fields)
            raise FerError(
                f"{path}:{line} reads {shown[:60] + '...' + shown[-40:] if len(shown) > 100 else shown!r}; "
                f"expected {width} fields and an expression of 0 to {NUM_CODES - 1}"
            )
        yield _Face(
            item=f"{path.name}:{line}",
            split=_SPLIT_OF[path.name],
            picture=fields[place["subDirectory_filePath"]].replace("\\", "/"),
            box=tuple(fields[place[name]] for name in _COLUMNS[1:5]),
            code=int(code),
            affect={name: fields[place[name]] for name in ("valence", "arousal")},
        )


def _box(texts: Sequence[str]) -> Box | None:
    """Return top, left, right, bottom of x, y, width, height; None where they are no box. Never clamped."""
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return None
    if not all(number.is_integer() for number in numbers):
        return None
    left, top, width, height = (int(number) for number in numbers)
    if left < 0 or top < 0 or width <= 0 or height <= 0:
        return None
    return top, left, left + width, top + height


class _Photos:
    """The photos that are there."""

    def __init__(self, root: Path, reading: SourceReading) -> None:
        bases = [folder for folder in _PICTURE_FOLDERS if (root / folder).is_dir()]
        self.looked = ", ".join(str(root / base) for base in bases or [""])
        self._place_of: dict[str, str] = {}
        for base in bases:
            for place in pictures_below(root, base, reading):
                self._place_of.setdefault(place.removeprefix(f"{base}/"), place)
        if not bases:
            for folder in list_folder(root).folders:
                if folder not in _LIST_FOLDERS:
                    self._place_of.update((place, place) for place in pictures_below(root, folder, reading))
        self._labelled: set[str] = set()

    def find(self, picture: str) -> str | None:
        """Return where a photo lies, relative to the data set."""
        self._labelled.add(picture)
        return self._place_of.get(picture)

    def unlabelled(self) -> list[str]:
        return [place for picture, place in self._place_of.items() if picture not in self._labelled]


def _row(root: Path, face: _Face, place: str | None) -> SourceRow | tuple[str, str]:
    """Return the row of a line, or the reason why there is none, and a detail."""
    label, reason = judge_code(face.code)
    if label is None:
        return reason, face.picture
    if place is None:
        return NO_SUCH_FILE, face.picture
    box = _box(face.box)
    if box is None:
        return "no usable box", f"x, y, width, height are {', '.join(face.box)}"
    columns = {"orig_image": face.picture, **face.affect}
    return SourceRow(path=f"{root.as_posix()}/{place}", label=label, split=face.split, bbox=box, columns=columns)


def read_affectnet_csv(source: SourceConfig) -> SourceReading:
    """Read AffectNet's lists: Mollahosseini et al. 2017, https://arxiv.org/abs/1708.03985.

    `training.csv` and `automatically_annotated.csv` are train, `validation.csv` is val. The test set is not public: who
    tests on the validation set gives `as_split=test`. A list that should stay out is moved away. Rows are boxes of the
    photos, with `valence` and `arousal` as written. Of a face (photo and box) that is listed again with the same label
    the first stays, validation before training; with another label neither.

    Args:
        source: `path` holds the lists, or their folders, and the photos: `Manually_Annotated_Images/<n>/<name>`, in
            `Manually_Annotated` or not, the same for `Automatically_Annotated`, or `<n>/<name>`.

    Raises:
        FerError: no list, other columns, a line that cannot be read, or none of the photos is there.
    """
    root = source_root(source, "training.csv, validation.csv and Manually_Annotated_Images")
    lists = _find_lists(root)
    faces = [face for path in lists.values() for face in _read_list(path)]
    named = ", ".join(path.relative_to(root).as_posix() for path in lists.values())
    if not faces:
        raise FerError(f"{root}: no face is listed in {named}")
    reading = SourceReading()
    photos = _Photos(root, reading)
    places = [photos.find(face.picture) for face in faces]
    found = any(place is not None for place in places)
    check_some_found(found, named=len(faces), by=named, example=faces[0].picture, looked=photos.looked)
    again = repeated(((face.picture, face.box), str(face.code)) for face in faces)
    for position, (face, place) in enumerate(zip(faces, places, strict=True)):
        if position in again:
            reason, other = again[position]
            reading.drop(face.item, reason, f"{face.picture} is also {faces[other].item}")
            continue
        row = _row(root, face, place)
        if isinstance(row, SourceRow):
            reading.rows.append(row)
        else:
            reading.drop(face.item, *row)
    for place in photos.unlabelled():
        reading.drop(place, NO_LABEL)
    refuse_empty(reading, f"no face of {named} in {root} becomes a row")
    reading.notes.append(f"labels are from {named}")
    return reading
