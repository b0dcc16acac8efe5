"""AffectNet as packs of one folder per class, named or numbered."""

from pathlib import Path

from fer_lightning.data.sources.affectnet_codes import CODES, NUM_CODES, judge_code
from fer_lightning.data.sources.class_tree import ClassFolder, Verdict, find_class_folders, read_class_folders
from fer_lightning.data.sources.config import SourceConfig
from fer_lightning.data.sources.folder import check_names, judge_name
from fer_lightning.data.sources.folder_files import refuse_empty, source_root
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.errors import FerError

_EXPECTED = "one folder per class (named, or numbered 0 to 7), or split folders with these"


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _judge_number(name: str) -> Verdict | None:
    if not _is_number(name) or int(name) >= NUM_CODES:
        return None
    return Verdict(*judge_code(int(name)))


def _check_numbers(root: Path, folders: list[ClassFolder]) -> None:
    for folder in folders:
        if _judge_number(folder.name) is None:
            raise FerError(f"{root / folder.place} is no class folder: AffectNet's codes are {CODES}")
    if {int(folder.name) for folder in folders} == set(range(1, 8)):
        raise FerError(
            f"{root} has class folders 1 to 7 and none for 0 (Neutral): that is how packs of RAF-DB are numbered, in another "
            "order (1 Surprise, 2 Fear, 3 Disgust, 4 Happy, 5 Sad, 6 Angry, 7 Neutral). Name the folders and use kind=folder"
        )


def _are_numbered(root: Path, folders: list[ClassFolder]) -> bool:
    """Say whether classes are numbers; some of each would leave open which order the numbers are in."""
    numbers = [folder.place for folder in folders if _is_number(folder.name)]
    names = [folder.place for folder in folders if not _is_number(folder.name)]
    if numbers and names:
        raise FerError(f"{root} mixes numbered class folders ({numbers[0]}) with named ones ({names[0]}); use one kind")
    return bool(numbers)


def read_affectnet_folders(source: SourceConfig) -> SourceReading:
    """Read a pack `<split>/<class>/*` or `<class>/*`; pictures are faces cut out already.

    Numbers are AffectNet's expression codes; a note says whether names or numbers were found. AffectNet's own test set is
    not public, so a pack's `test` is what its maker made of the rest.

    Args:
        source: `path` is the folder that holds the split or class folders.

    Raises:
        FerError: no such tree, names and numbers mixed, a folder that is no class, or no picture.
    """
    root = source_root(source, _EXPECTED)
    reading = SourceReading()
    folders = find_class_folders(root, reading)
    if _are_numbered(root, folders):
        _check_numbers(root, folders)
        reading.notes.append(f"class folders are numbers, read as AffectNet's codes: {CODES}")
        read_class_folders(root, folders, _judge_number, reading)
    else:
        check_names(root, folders)
        reading.notes.append("class folders are names")
        read_class_folders(root, folders, judge_name, reading)
    refuse_empty(reading, f"{root} holds no pictures of the seven emotions in {_EXPECTED}")
    return reading
