"""AffectNet in YOLO layout: one text file of relative boxes per picture, classes named in data.yaml."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from fer_lightning.data.rows.boxes import image_size
from fer_lightning.data.sources.class_tree import SPLIT_OF
from fer_lightning.data.sources.config import SourceConfig
from fer_lightning.data.sources.folder_files import (
    NO_LABEL,
    NO_SUCH_FILE,
    account_others,
    list_folder,
    refuse_empty,
    source_root,
)
from fer_lightning.data.sources.repeated import repeated
from fer_lightning.data.sources.rows import SourceReading, SourceRow
from fer_lightning.data.sources.yolo_files import RelativeBox, YoloClass, pixel_box, read_boxes, read_classes
from fer_lightning.errors import FerError

_EXPECTED = "data.yaml, and <split>/images and <split>/labels"
_THREADS = 8
_WORTH_A_BAR = 5000


@dataclass(frozen=True, slots=True)
class _Labelled:
    """A picture and the file with its boxes."""

    picture: str
    """Relative to the data set."""
    labels: str
    split: str


def _splits(root: Path) -> list[tuple[str, str]]:
    """Return folder and split of each split that is there."""
    found = [(name, SPLIT_OF[name.lower()]) for name in list_folder(root).folders if name.lower() in SPLIT_OF]
    if not found:
        raise FerError(f"no split folder (train, valid, test) in {root}; expected {_EXPECTED}")
    for name, _ in found:
        for folder in (root / name / "images", root / name / "labels"):
            if not folder.is_dir():
                raise FerError(f"no folder {folder}; expected {_EXPECTED}")
    return found


def _labelled(root: Path, name: str, split: str, reading: SourceReading) -> list[_Labelled]:
    """Join the pictures of a split to their label files by stem, and account for those without the other."""
    images, labels = f"{name}/images", f"{name}/labels"
    pictures, files = list_folder(root / images), list_folder(root / labels)
    account_others(reading, images, pictures)
    for folder in pictures.folders:
        reading.drop(f"{images}/{folder}", "folder inside a folder")
    stems = {file.removesuffix(".txt") for file in files.others if file.endswith(".txt") and not file.startswith(".")}
    for file in sorted((*files.folders, *files.pictures, *files.others, *files.dangling)):
        if file.removesuffix(".txt") not in stems:
            reading.drop(f"{labels}/{file}", "no label file")
    pictures_of: dict[str, list[str]] = {}
    for picture in pictures.pictures:
        pictures_of.setdefault(picture.rpartition(".")[0], []).append(f"{images}/{picture}")
    found = []
    for stem, places in pictures_of.items():
        for place in places:
            if stem not in stems:
                reading.drop(place, NO_LABEL)
            elif len(places) > 1:
                reading.drop(place, "several pictures of one label file", f"{labels}/{stem}.txt")
            else:
                found.append(_Labelled(place, f"{labels}/{stem}.txt", split))
    for stem in sorted(stems - set(pictures_of)):
        reading.drop(f"{labels}/{stem}.txt", NO_SUCH_FILE, "no picture of this label file")
    return found


def _sizes(root: Path, pictures: Sequence[str]) -> dict[str, tuple[int, int] | None]:
    """Return picture -> height and width, or None where it has no readable header."""
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = pool.map(lambda picture: image_size(root / picture), pictures)
        bar = tqdm(sizes, total=len(pictures), desc="sizes", unit="image", disable=len(pictures) < _WORTH_A_BAR)
        return dict(zip(pictures, bar, strict=True))


def _read_faces(
    root: Path, labelled: _Labelled, size: tuple[int, int] | None, classes: Sequence[YoloClass], reading: SourceReading
) -> None:
    """Read the faces of one picture into rows or drops."""
    boxes = read_boxes(root / labelled.labels, num_classes=len(classes))
    if not boxes:
        reading.drop(labelled.labels, "empty label file")
        return
    again = repeated((box.corners, classes[box.class_index].name) for box in boxes)
    for face_id, box in enumerate(boxes):
        item, verdict = f"{labelled.labels}:{box.line}", classes[box.class_index]
        if face_id in again:
            reason, other = again[face_id]
            reading.drop(item, reason, f"the box is also on line {boxes[other].line}")
        elif verdict.label is None:
            reading.drop(item, verdict.reason)
        elif size is None:
            reading.drop(item, "unreadable picture", labelled.picture)
        else:
            _place_face(root, labelled, (face_id, box, verdict.label), size, reading)


def _place_face(
    root: Path,
    labelled: _Labelled,
    face: tuple[int, RelativeBox, str],
    size: tuple[int, int],
    reading: SourceReading,
) -> None:
    face_id, box, label = face
    try:
        bbox = pixel_box(box, height=size[0], width=size[1])
    except ValueError as error:
        detail = f"{labelled.picture} of {size[0]} x {size[1]} pixels (height x width): {error}"
        reading.drop(f"{labelled.labels}:{box.line}", "no usable box", detail)
        return
    columns = {"orig_image": labelled.picture, "face_id": str(face_id)}
    path = f"{root.as_posix()}/{labelled.picture}"
    reading.rows.append(SourceRow(path=path, label=label, split=labelled.split, bbox=bbox, columns=columns))


def _check_splits(splits: Iterable[tuple[str, str]], root: Path) -> None:
    """Refuse two folders of one split, such as val and valid."""
    folder_of: dict[str, str] = {}
    for name, split in splits:
        if folder_of.setdefault(split, name) != name:
            raise FerError(f"{root} holds {folder_of[split]} and {name}, both of the split {split}; keep one")


def read_affectnet_yolo(source: SourceConfig) -> SourceReading:
    """Read `<split>/images/<name>.<suffix>` with `<split>/labels/<name>.txt`, one row per face.

    The class order is what `data.yaml` says, whatever it is. Boxes become whole pixels as `yolo_files.pixel_box` says; a
    box that covers its picture is none. `orig_image` is the picture, `face_id` the face's place in the label file.

    Args:
        source: `path` holds `data.yaml` and the folders of the splits: `train`, `valid` or `val`, `test`.

    Raises:
        FerError: another layout, no class names, a line that cannot be read, or no picture has a label file.
    """
    root = source_root(source, _EXPECTED)
    classes = read_classes(root / "data.yaml")
    splits = _splits(root)
    _check_splits(splits, root)
    reading = SourceReading()
    labelled = [found for name, split in splits for found in _labelled(root, name, split, reading)]
    sizes = _sizes(root, [found.picture for found in labelled])
    for found in labelled:
        _read_faces(root, found, sizes[found.picture], classes, reading)
    refuse_empty(reading, f"no picture in <split>/images of {root} has a usable line in its file in <split>/labels")
    named = ", ".join(f"{index} {entry.name}" for index, entry in enumerate(classes))
    reading.notes.append(f"classes as in data.yaml: {named}")
    return reading
