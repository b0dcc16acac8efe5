"""The files of the YOLO layout: class names in data.yaml, relative boxes in one text file per picture."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from fer_lightning.data.sources.folder_files import text_lines
from fer_lightning.data.sources.names import emotion_of, other_expression
from fer_lightning.errors import FerError

_NEARLY = 1e-6  # pixels: a relative number has about six digits, so an edge may miss a whole pixel by a little


@dataclass(frozen=True, slots=True)
class YoloClass:
    """A class of data.yaml."""

    name: str
    label: str | None
    """Its emotion, if it is one of the seven."""
    reason: str = ""
    """Else, why it has no rows."""


@dataclass(frozen=True, slots=True)
class RelativeBox:
    """One line of a label file."""

    line: int
    class_index: int
    corners: tuple[float, float, float, float]
    """Centre x, centre y, width, height as shares of the picture."""


def read_classes(path: Path) -> list[YoloClass]:
    """Read the class names, by index.

    Raises:
        FerError: no such file, no names, or a name that is no known expression: the order is never guessed.
    """
    hint = "the class order is in its 'names' and is never guessed; add the data.yaml that came with the labels"
    if not path.is_file():
        raise FerError(f"no {path}; {hint}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FerError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    names = _names(content.get("names")) if isinstance(content, dict) else None
    if not names:
        raise FerError(f"{path} has no 'names' as a list, or as index: name from 0 on; {hint}")
    count = content.get("nc")
    if count is not None and count != len(names):
        raise FerError(f"{path} has {len(names)} names but nc: {count}; {hint}")
    classes = []
    for name in names:
        emotion, other = emotion_of(name), other_expression(name)
        if emotion is None and other is None:
            raise FerError(f"{path} names the class {name!r}, which is no known expression")
        classes.append(YoloClass(name, emotion, other or ""))
    return classes


def _names(names: object) -> list[str] | None:
    """Return the names by index."""
    if isinstance(names, dict):
        by_index = {str(index): name for index, name in names.items()}
        if set(by_index) != {str(index) for index in range(len(by_index))}:
            return None
        names = [by_index[str(index)] for index in range(len(by_index))]
    return [str(name) for name in names] if isinstance(names, list) else None


def read_boxes(path: Path, *, num_classes: int) -> list[RelativeBox]:
    """Read `<class> <centre x> <centre y> <width> <height>` per line, relative to the picture.

    Raises:
        FerError: a line of another form.
    """
    boxes = []
    for line, text in text_lines(path):
        box = _relative_box(line, text.split(), num_classes)
        if box is None:
            raise FerError(
                f"{path}:{line} reads {text!r:.80}; expected '<class 0 to {num_classes - 1}> <centre x> <centre y> <width> "
                "<height>' as shares of the picture"
            )
        boxes.append(box)
    return boxes


def _relative_box(line: int, words: Sequence[str], num_classes: int) -> RelativeBox | None:
    try:
        index, centre_x, centre_y, width, height = words
        corners = (float(centre_x), float(centre_y), float(width), float(height))
        if not 0 <= int(index) < num_classes or not all(map(math.isfinite, corners)):
            return None
    except ValueError:
        return None
    return RelativeBox(line, int(index), corners)


def pixel_box(box: RelativeBox, *, height: int, width: int) -> tuple[int, int, int, int] | None:
    """Return a box in whole pixels, or None where it covers the whole picture but for one pixel at each edge.

    Each edge goes to the nearest whole pixel, halves upwards. Relative numbers are rounded, so an edge that leaves the
    picture by less than a pixel is set to the picture's edge; one that leaves it further is an error.

    Args:
        box: the relative box.
        height: of the picture in pixels.
        width: of the picture in pixels.

    Returns:
        Top, left, right, bottom, right and bottom exclusive.

    Raises:
        ValueError: the box leaves the picture, or has no area.
    """
    centre_x, centre_y, share_x, share_y = box.corners
    edges = (
        ((centre_y - share_y / 2) * height, height),
        ((centre_x - share_x / 2) * width, width),
        ((centre_x + share_x / 2) * width, width),
        ((centre_y + share_y / 2) * height, height),
    )
    shown = ", ".join(f"{edge:.1f}" for edge, _ in edges)
    if any(edge <= -1 + _NEARLY or edge >= side + 1 - _NEARLY for edge, side in edges):
        raise ValueError(f"top, left, right, bottom at {shown} leave the picture")
    top, left, right, bottom = (min(max(math.floor(edge + 0.5), 0), side) for edge, side in edges)
    if bottom <= top or right <= left:
        raise ValueError(f"top, left, right, bottom at {shown} hold no pixel")
    covers = top <= 1 and left <= 1 and right >= width - 1 and bottom >= height - 1
    return None if covers else (top, left, right, bottom)
