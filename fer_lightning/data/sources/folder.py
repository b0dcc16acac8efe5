"""A tree with one folder per class."""

from pathlib import Path

from fer_lightning.data.sources.class_tree import ClassFolder, Verdict, find_class_folders, read_class_folders
from fer_lightning.data.sources.config import SourceConfig
from fer_lightning.data.sources.folder_files import refuse_empty, source_root
from fer_lightning.data.sources.names import emotion_of, other_expression
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS


def judge_name(name: str) -> Verdict | None:
    """Return what a class comes to by its name; None where it is none."""
    emotion, other = emotion_of(name), other_expression(name)
    return Verdict(emotion, other or "") if emotion or other else None


def check_names(root: Path, folders: list[ClassFolder]) -> None:
    """Refuse a folder that is named as no class.

    Raises:
        FerError: naming it.
    """
    for folder in folders:
        if judge_name(folder.name) is None:
            raise FerError(
                f"{root / folder.place} is no class folder: expected one of {', '.join(EMOTIONS)} or a synonym; "
                "move it out of the tree"
            )


def read_folder(source: SourceConfig) -> SourceReading:
    """Read `<class>/*` or `<split>/<class>/*`.

    Class folders are named as in `labels.EMOTIONS`, by a common synonym, in any case, numbered or not; pictures of other
    known expressions (contempt, ...) are accounted for. Folders inside a class folder belong to it. A folder that holds
    only one of its own name is read through.

    Args:
        source: `path` is the tree.

    Raises:
        FerError: no such tree, a folder whose name is no class, split folders beside class folders, or no picture.
    """
    root = source_root(source, "one folder per class, or split folders with these")
    reading = SourceReading()
    folders = find_class_folders(root, reading)
    check_names(root, folders)
    read_class_folders(root, folders, judge_name, reading)
    refuse_empty(reading, f"{root} holds no images in class folders named {', '.join(EMOTIONS)}")
    return reading
