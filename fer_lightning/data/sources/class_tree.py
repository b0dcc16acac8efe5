"""Trees of one folder per class, with or without split folders above."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.data.sources.folder_files import joined, list_folder, pictures_below
from fer_lightning.data.sources.rows import SourceReading, SourceRow
from fer_lightning.errors import FerError

SPLIT_OF = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names of split folders, in lower case."""


@dataclass(frozen=True, slots=True)
class ClassFolder:
    """A folder whose pictures are of one class."""

    place: str
    """Relative to the data set."""
    name: str
    split: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a class comes to: a label, or the reason why there is none."""

    label: str | None
    reason: str = ""


def _through_doubled(root: Path, place: str, name: str, reading: SourceReading) -> str:
    """Descend while a folder holds nothing but a folder of its own name, as archives unpacked into one do."""
    while True:
        files = list_folder(root / place)
        if [folder.casefold() for folder in files.folders] != [name.casefold()] or files.pictures:
            return place
        inside = joined(place, files.folders[0])
        if not list_folder(root / inside).folders:
            return place  # pictures of a class, not classes
        reading.notes.append(f"the folder is doubled: read from {inside}")
        place = inside


def find_class_folders(root: Path, reading: SourceReading) -> list[ClassFolder]:
    """Find the folders right below a data set, or below its split folders; pictures beside them are accounted for.

    Hidden folders, and files beside the class folders that are no pictures, are no part of the data set.

    Raises:
        FerError: split folders beside others.
    """
    name = root.resolve().name
    top = "" if name.lower() in SPLIT_OF else _through_doubled(root, "", name, reading)
    files = list_folder(root / top)
    splits = [name for name in files.folders if name.lower() in SPLIT_OF]
    if splits and len(splits) < len(files.folders):
        others = ", ".join(name for name in files.folders if name not in splits)
        raise FerError(f"{root / top} mixes split folders with others: {others}")
    found = []
    if splits:
        _account_strays(reading, top, files.pictures)
    for name in splits or [""]:
        place = _through_doubled(root, joined(top, name), name, reading) if name else top
        files = list_folder(root / place)
        _account_strays(reading, place, files.pictures)
        split = SPLIT_OF[name.lower()] if name else None
        found += [ClassFolder(joined(place, folder), folder, split) for folder in files.folders]
    return found


def _account_strays(reading: SourceReading, place: str, pictures: tuple[str, ...]) -> None:
    for name in pictures:
        reading.drop(joined(place, name), "not in a class folder")


def _pictures_of(root: Path, folder: ClassFolder, is_class: Callable[[str], bool], reading: SourceReading) -> list[str]:
    """Return the pictures of a class folder, those of folders in it included, unless these are named as something else."""

    def visit(place: str) -> None:
        name = place.rpartition("/")[2]
        if name.casefold() == folder.name.casefold():
            reading.notes.append(f"the folder is doubled: read through {place}")
        elif is_class(name) or name.lower() in SPLIT_OF:
            raise FerError(f"{root / place} is named as a class or split but is inside the class folder {folder.place}")

    return pictures_below(root, folder.place, reading, visit=visit)


def read_class_folders(
    root: Path, folders: list[ClassFolder], judge: Callable[[str], Verdict | None], reading: SourceReading
) -> None:
    """Read the pictures of class folders into rows or drops.

    Args:
        root: the data set.
        folders: its class folders.
        judge: says what a class comes to; None for a name that is no class.
        reading: takes rows and drops.

    Raises:
        FerError: a folder in a class folder that is named as another class or a split.
    """
    rows = []
    for folder in folders:
        verdict = judge(folder.name)
        if verdict is None:
            raise ValueError(f"{folder.name} is no class")
        for place in _pictures_of(root, folder, lambda name: judge(name) is not None, reading):
            if verdict.label is None:
                reading.drop(place, verdict.reason)
            else:
                rows.append(SourceRow(path=f"{root.as_posix()}/{place}", label=verdict.label, split=folder.split))
    reading.rows += sorted(rows, key=lambda row: row.path)
    reading.dropped.sort(key=lambda drop: drop.item)
