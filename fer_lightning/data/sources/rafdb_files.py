"""The file layout that RAF-DB basic, RAF-DB compound and RAF-ML share: label list, pictures, boxes, attributes."""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.errors import FerError

Box = tuple[int, int, int, int]

_GENDERS = ("male", "female", "unsure")
_RACES = ("Caucasian", "African-American", "Asian")
_AGE_GROUPS = ("0-3", "4-19", "20-39", "40-69", "70+")
_ATTRIBUTES = (("gender", _GENDERS), ("race", _RACES), ("age_group", _AGE_GROUPS))
_LANDMARK_LINES = 5


@dataclass(frozen=True, slots=True)
class LabelLine:
    """One line of a label list."""

    line: int
    """1-based."""
    name: str
    """File name of the original picture."""
    values: tuple[str, ...]


def find_set(path: str, *, folder_names: Sequence[str], lists: Sequence[str]) -> tuple[Path, Path]:
    """Return the folder of a set and its label list.

    Args:
        path: that folder, or the one above it.
        folder_names: names of the folder in the published layout.
        lists: names of the label list in its folder `EmoLabel`, in order of preference.

    Raises:
        FerError: no list in any of these places.
    """
    places = [Path(path), *(Path(path) / name for name in folder_names)]
    for base in places:
        for name in lists:
            if (base / "EmoLabel" / name).is_file():
                return base, base / "EmoLabel" / name
    looked = ", ".join(f"{base.as_posix()}/EmoLabel/{lists[0]}" for base in places)
    raise FerError(f"no label list at {looked}; path is the folder that holds EmoLabel, Image and Annotation")


def read_label_list(path: Path, *, num_values: Sequence[int], expected: str) -> list[LabelLine]:
    """Read a list of `<file name> <value> ...`, separated by spaces or tabs; blank lines are skipped.

    Args:
        path: the list.
        num_values: allowed numbers of values; all lines have the same.
        expected: such a line, for messages.

    Raises:
        FerError: unreadable, empty, or a line of another form.
    """
    try:
        texts = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise FerError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FerError(f"{path} is not UTF-8 text: {error}") from error
    lines: list[LabelLine] = []
    for number, text in enumerate(texts, start=1):
        name, *values = text.split() or [""]
        if not name:
            continue
        if len(values) not in ({len(lines[0].values)} if lines else num_values):
            raise FerError(f"{path}:{number} reads {text.strip()!r:.120}; expected lines such as '{expected}'")
        lines.append(LabelLine(number, name, tuple(values)))
    if not lines:
        raise FerError(f"{path} is empty; expected lines such as '{expected}'")
    return lines


class Folder:
    """A folder of a set, with a folder of the same name inside it where an archive was unpacked into its own folder."""

    def __init__(self, base: Path, name: str) -> None:
        self.places = (name, f"{name}/{name.rpartition('/')[2]}")
        self.base = base
        self._names = [_file_names(base / place) for place in self.places]

    def find(self, names: Iterable[str]) -> str | None:
        """Return where the first of these names that exists lies, relative to the set's folder."""
        for name in names:
            for place, listing in zip(self.places, self._names, strict=True):
                if name in listing:
                    return f"{place}/{name}"
        return None

    def names(self) -> set[str]:
        """Return the name of every file in it."""
        return {name for listing in self._names for name in listing}

    def looked(self) -> str:
        """Say where was looked, and what is still packed."""
        archives = [f"{self.places[0]}{suffix}" for suffix in (".zip", ".rar", ".tar")]
        packed = [name for name in archives if (self.base / name).is_file()]
        hint = f"; unpack {', '.join(packed)}" if packed else ""
        return " and ".join((self.base / place).as_posix() for place in self.places) + hint


def _file_names(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file() and not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise FerError(f"cannot list {folder}: {error.strerror}") from error


def picture_names(name: str, *, aligned: bool) -> tuple[str, ...]:
    """Return the file names a picture may have, the published one first.

    Args:
        name: as in the label list: `train_00001.jpg`.
        aligned: the aligned rendition: `train_00001_aligned.jpg`.
    """
    stem, dot, suffix = name.rpartition(".")
    return (f"{stem}_aligned{dot}{suffix}", name) if aligned and stem else (name,)


def read_box(path: Path) -> Box:
    """Read `x_min y_min x_max y_max` and return top, left, right, bottom in whole pixels.

    Each edge goes to the nearest pixel edge, halves upwards; right and bottom are then exclusive. The box is not
    clamped to its picture: one that reaches outside has to be seen.

    Raises:
        ValueError: not four finite numbers.
        OSError: unreadable file.
    """
    x_min, y_min, x_max, y_max = (math.floor(float(word) + 0.5) for word in _words(path))
    return y_min, x_min, x_max, y_max


def read_attributes(path: Path) -> dict[str, str]:
    """Read gender, race and age group, as words, from below the five landmarks.

    Raises:
        ValueError: not five lines of landmarks and three known codes.
        OSError: unreadable file.
    """
    words = _words(path)
    codes = words[2 * _LANDMARK_LINES :]
    if len(codes) != len(_ATTRIBUTES):
        raise ValueError(f"{len(words)} numbers instead of {2 * _LANDMARK_LINES + len(_ATTRIBUTES)}")
    known = {name: dict(zip(map(str, range(len(words))), words, strict=True)) for name, words in _ATTRIBUTES}
    try:
        return {name: known[name][code] for (name, _), code in zip(_ATTRIBUTES, codes, strict=True)}
    except KeyError as error:
        raise ValueError(f"unknown code {error.args[0]!r}") from None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split()
    except UnicodeDecodeError:
        raise ValueError("no UTF-8 text") from None
