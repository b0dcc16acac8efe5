"""FER2013's pixel CSV: one grey face per line, read strictly, and extracted to PNG files that are kept when right."""

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from fer_lightning.errors import FerError

SIDE = 48
SPLIT_OF_USAGE = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
PIXEL_CSV_PLACES = ("fer2013.csv", "icml_face_data.csv", "fer2013/fer2013.csv", "data/fer2013.csv")
EXPECTED_COLUMNS = "emotion, pixels and Usage"

_VALUES = {str(value): value for value in range(256)}
_PNG_SIZE = SIDE.to_bytes(4) * 2 + bytes((8, 0))  # bytes 16 to 25: width, height, 8 bits, grey
_PNG_END = b"IEND\xaeB`\x82"  # last chunk: a file without it was cut off
_COLUMNS = ("emotion", "pixels", "usage")


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelLine:
    """One line of a pixel CSV."""

    row: int
    """0-based number of the face: its identity in FER2013 and FER+."""
    line: int
    """1-based line of the file."""
    emotion: str
    usage: str
    pixels: bytes | None
    """48 x 48 grey values row by row; None where they cannot be read."""
    fault: str
    """What is wrong with the pixels."""

    @property
    def picture(self) -> str | None:
        """Where the extracted picture lies in the picture folder; None where there cannot be one."""
        return None if self.pixels is None or self.usage not in SPLIT_OF_USAGE else picture_name(self.row, self.usage)


def picture_name(row: int, usage: str) -> str:
    """Return where the picture of a row lies in the picture folder.

    Args:
        row: 0-based row number.
        usage: Training, PublicTest or PrivateTest.
    """
    return f"{SPLIT_OF_USAGE[usage]}/fer{row:07d}.png"


def find_pixel_csv(root: Path) -> Path | None:
    """Return the pixel CSV of a data set, or None."""
    return next((root / place for place in PIXEL_CSV_PLACES if (root / place).is_file()), None)


def table_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and fields of each line of a CSV file that is not blank, header included.

    Raises:
        FerError: not readable as a UTF-8 CSV file.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            for record in reader:
                fields = [field.strip() for field in record]
                if any(fields):
                    yield reader.line_num, fields
    except OSError as error:
        raise FerError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise FerError(f"{path} is not a UTF-8 CSV file: {error}") from error


def read_pixel_csv(path: Path) -> list[PixelLine]:
    """Read `fer2013.csv` or `icml_face_data.csv`: the columns emotion, pixels and Usage in any order.

    Raises:
        FerError: other columns, a line with another number of fields, or no line.
    """
    records = table_records(path)
    _, header = next(records, (0, []))
    names = [name.lower() for name in header]
    if sorted(names) != sorted(_COLUMNS):
        raise FerError(f"{path} has the columns {', '.join(header) or '(none)'}; expected {EXPECTED_COLUMNS}")
    emotion, pixels, usage = (names.index(name) for name in _COLUMNS)
    lines: list[PixelLine] = []
    for line, fields in tqdm(records, desc=f"reading {path.name}", unit="face", disable=None):
        if len(fields) != len(names):
            raise FerError(f"{path}:{line} has {len(fields)} fields; expected {EXPECTED_COLUMNS}")
        values, fault = _pixels(fields[pixels])
        lines.append(
            PixelLine(
                row=len(lines), line=line, emotion=fields[emotion], usage=fields[usage], pixels=values, fault=fault
            )
        )
    if not lines:
        raise FerError(f"{path} has a header but no faces")
    return lines


def _pixels(text: str) -> tuple[bytes | None, str]:
    words = text.split()
    if len(words) != SIDE * SIDE:
        return None, f"{len(words)} numbers instead of {SIDE * SIDE}"
    try:
        return bytes(map(_VALUES.__getitem__, words)), ""
    except KeyError as error:
        return None, f"{error.args[0][:20]!r} is no whole number in 0..255"


def extract_pictures(lines: Sequence[PixelLine], folder: Path) -> None:
    """Write the picture of each line that has one as `<folder>/<split>/fer<row>.png`.

    A file that is whole and holds the right pixels is left untouched, so an interrupted extraction goes on where it
    stopped, and a second one changes nothing. Files appear under their name only when written to the end; they are not
    flushed one by one, as what a power cut leaves behind is seen and replaced the next time.

    Args:
        lines: of `read_pixel_csv`.
        folder: made where it does not exist.

    Raises:
        FerError: the folder cannot be written to.
    """
    wanted = [(folder / line.picture, line.pixels) for line in lines if line.picture and line.pixels is not None]
    try:
        for split in sorted({path.parent for path, _ in wanted}):
            split.mkdir(parents=True, exist_ok=True)
        for path, pixels in tqdm(wanted, desc=f"pictures in {folder}", unit="image", disable=None):
            if not _holds(path, pixels):
                _write(path, pixels)
    except OSError as error:
        raise FerError(f"cannot write pictures to {folder}: {error.strerror}; choose another folder") from error


def _holds(path: Path, pixels: bytes) -> bool:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return False
    if data[16:26] != _PNG_SIZE or not data.endswith(_PNG_END):
        return False
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return image is not None and image.tobytes() == pixels


def _write(path: Path, pixels: bytes) -> None:
    image = np.frombuffer(pixels, np.uint8).reshape(SIDE, SIDE)
    temporary = f"{path.parent}/.{path.name}.{os.getpid()}.tmp"
    with open(temporary, "wb") as file:  # noqa: PTH123  # tens of thousands of files: pathlib would double the time
        file.write(cv2.imencode(".png", image)[1].tobytes())
    os.replace(temporary, path)  # noqa: PTH105
