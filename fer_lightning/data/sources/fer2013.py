"""FER2013: the pixel CSV in either of its spellings, or train/test folders with one folder per class."""

import os
from pathlib import Path

from fer_lightning.data.sources.config import SourceConfig
from fer_lightning.data.sources.names import emotion_of
from fer_lightning.data.sources.pixel_csv import (
    EXPECTED_COLUMNS,
    SPLIT_OF_USAGE,
    extract_pictures,
    find_pixel_csv,
    read_pixel_csv,
)
from fer_lightning.data.sources.rows import SourceReading, SourceRow
from fer_lightning.errors import FerError

_EMOTION_OF_CODE = {
    "0": "Angry",
    "1": "Disgust",
    "2": "Fear",
    "3": "Happy",
    "4": "Sad",
    "5": "Surprise",
    "6": "Neutral",
}
_SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "publictest": "val",
    "test": "test",
    "privatetest": "test",
}
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")


def _from_pixels(csv_path: Path, images_dir: Path) -> SourceReading:
    lines = read_pixel_csv(csv_path)
    reading = SourceReading(notes=[f"pixels of {csv_path} are in {images_dir}"])
    for line in lines:
        item, label = f"{csv_path.name}:{line.line}", _EMOTION_OF_CODE.get(line.emotion)
        if line.usage not in SPLIT_OF_USAGE:
            reading.drop(item, "unknown usage", f"{line.usage!r}; expected one of {', '.join(SPLIT_OF_USAGE)}")
        elif label is None:
            reading.drop(item, "unknown emotion", f"{line.emotion!r}; expected 0 to 6")
        elif line.picture is None:
            reading.drop(item, "unreadable pixels", line.fault)
        else:
            path, split = f"{images_dir.as_posix()}/{line.picture}", SPLIT_OF_USAGE[line.usage]
            reading.rows.append(SourceRow(path=path, label=label, split=split, columns={"fer2013_row": str(line.row)}))
    if not reading.rows:
        raise FerError(f"no line of {csv_path} can be used: {_counts(reading)}; expected {EXPECTED_COLUMNS}")
    extract_pictures(lines, images_dir)
    return reading


def _from_folders(root: Path, splits: list[str]) -> SourceReading:
    reading = SourceReading()
    for split in splits:
        for class_folder in _names(root / split, folders=True):
            _read_class(reading, root, split, class_folder)
        for name in _names(root / split, folders=False):
            reading.drop(f"{split}/{name}", "in no class folder")
    if not reading.rows:
        raise FerError(f"{root} has no pictures in {'|'.join(splits)}/<class>/: {_counts(reading)}")
    others = [name for name in _names(root, folders=True) if name not in splits]
    if others:
        reading.notes.append(f"folders of {root} that were not read: {', '.join(others)}")
    found = {row.split for row in reading.rows}
    if "val" not in found and "test" in found:
        reading.notes.append("the test folder of such packs is PublicTest and PrivateTest together; there is no val")
    return reading


def _read_class(reading: SourceReading, root: Path, split: str, class_folder: str) -> None:
    label = emotion_of(class_folder)
    folder = f"{split}/{class_folder}"
    for name in _names(root / folder, folders=False):
        item = f"{folder}/{name}"
        if label is None:
            reading.drop(item, "unknown emotion", f"folder {class_folder!r}")
        elif not name.lower().endswith(_SUFFIXES):
            reading.drop(item, "not a picture")
        else:
            path = f"{root.as_posix()}/{item}"
            reading.rows.append(SourceRow(path=path, label=label, split=_SPLIT_FOLDERS[split.lower()]))
    for name in _names(root / folder, folders=True):
        reading.drop(f"{folder}/{name}/", "folder inside a class folder")


def _names(folder: Path, *, folders: bool) -> list[str]:
    """List the visible sub-folders, or the visible files, in order; hidden names are no items of a data set."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() == folders and not e.name.startswith("."))
    except OSError as error:
        raise FerError(f"cannot list {folder}: {error.strerror}") from error


def _counts(reading: SourceReading) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reading.reasons().items()) or "nothing found"


def read_fer2013(source: SourceConfig, *, images_dir: Path) -> SourceReading:
    """Read FER2013.

    Emotion codes are 0 Angry, 1 Disgust, 2 Fear, 3 Happy, 4 Sad, 5 Surprise, 6 Neutral; Training is train, PublicTest
    val, PrivateTest test. Rows of the CSV carry their number in the column `fer2013_row`: FER+ labels the same pixels.

    Args:
        source: `path` holds `fer2013.csv`, `icml_face_data.csv`, or `train/<class>/*` and `test/<class>/*`.
        images_dir: folder for the pictures of the CSV.

    Raises:
        FerError: none of these layouts, or nothing in it can be used.
    """
    if source.path is None:
        raise FerError("kind=fer2013 needs path=<folder of fer2013.csv>")
    root = Path(source.path)
    csv_path = find_pixel_csv(root)
    if csv_path is not None:
        return _from_pixels(csv_path, images_dir)
    splits = [name for name in _names(root, folders=True) if name.lower() in _SPLIT_FOLDERS]
    if not splits:
        raise FerError(
            f"{root} is no FER2013: expected fer2013.csv or icml_face_data.csv ({EXPECTED_COLUMNS}), "
            "or folders train/<class> and test/<class>"
        )
    return _from_folders(root, splits)
