"""A tree with one folder per class to manifest rows."""

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS

log = logging.getLogger(__name__)

_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_SYNONYMS = {
    "anger": "Angry",
    "disgusted": "Disgust",
    "fearful": "Fear",
    "happiness": "Happy",
    "sadness": "Sad",
    "surprised": "Surprise",
    "suprise": "Surprise",
    **{name.lower(): name for name in EMOTIONS},
}


@dataclass(frozen=True)
class FolderRow:
    """One image of the tree."""

    image_path: str
    """Relative to the tree, `/` separated."""
    label: str
    split: str | None
    """None where the tree has no split folders."""
    content: str
    """SHA-256 of the file: equal files are one group when a split is carved."""


def read_folder_tree(tree: Path) -> list[FolderRow]:
    """Read `<tree>/<class>/*` or `<tree>/<split>/<class>/*`, sorted by path.

    Class folders are named as in `labels.EMOTIONS` in any case, or by a common synonym (anger, happiness, suprise, ...).
    Files that are no images are left out and counted.

    Raises:
        FerError: no such tree, a folder whose name is no class, split folders beside class folders, or no image.
    """
    if not tree.is_dir():
        raise FerError(f"build.tree: no folder {tree}")
    children = sorted(path for path in tree.iterdir() if path.is_dir() and not path.name.startswith("."))
    split_folders = [path for path in children if path.name.lower() in _SPLITS]
    if split_folders and len(split_folders) < len(children):
        others = ", ".join(path.name for path in children if path not in split_folders)
        raise FerError(f"{tree} mixes split folders with others: {others}")
    skipped: Counter[str] = Counter()
    rows: list[FolderRow] = []
    for folder in split_folders or [tree]:
        split = _SPLITS[folder.name.lower()] if split_folders else None
        rows += _read_classes(tree, folder, split, skipped)
    if not rows:
        raise FerError(f"{tree} holds no images in class folders named {', '.join(EMOTIONS)}")
    if skipped:
        log.info("%s: left out files that are no images: %s", tree, dict(sorted(skipped.items())))
    return sorted(rows, key=lambda row: row.image_path)


def _read_classes(tree: Path, folder: Path, split: str | None, skipped: Counter[str]) -> list[FolderRow]:
    rows = []
    for class_folder in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        label = _SYNONYMS.get(class_folder.name.lower())
        if label is None:
            raise FerError(
                f"{class_folder} is no class folder: expected one of {', '.join(EMOTIONS)} or a synonym; move it out of the tree"
            )
        for path in sorted(class_folder.rglob("*")):
            if path.is_dir():
                continue
            if any(part.startswith(".") for part in path.relative_to(class_folder).parts):
                skipped["(hidden)"] += 1  # macOS leaves `._name.jpg` beside `name.jpg`
                continue
            if path.suffix.lower() not in _IMAGE_SUFFIXES:
                skipped[path.suffix.lower() or "(no suffix)"] += 1
                continue
            rows.append(FolderRow(_manifest_path(path, tree), label, split, _content(path)))
    return rows


def _manifest_path(path: Path, tree: Path) -> str:
    name = path.relative_to(tree).as_posix()
    if any(character in "\\\n\r" or "\ud800" <= character <= "\udfff" for character in name):
        raise FerError(f"{name!r} in {tree} cannot stand in a manifest (backslash, line break or no UTF-8); rename it")
    return name


def _content(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise FerError(f"cannot read {path}: {error.strerror}") from error
