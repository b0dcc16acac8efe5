"""Segment files of the pixel cache: pictures one after another, with a table that says what they are and makes them count."""

import re
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.pictures.canonical import Picture
from fer_lightning.data.pictures.file_stamps import FileStamp, file_stamps
from fer_lightning.data.pictures.store import Pictures
from fer_lightning.data.rows.manifest import Manifest
from fer_lightning.errors import FerError
from fer_lightning.files import write_atomically

_NAME = re.compile(r"segment([0-9]{6}|[1-9][0-9]{6,8})\.(?:bin|npz)")


@dataclass(frozen=True)
class SegmentIndex:
    """Where the cached rows are; entry i of each array is row i of the manifest."""

    segments: NDArray[np.int32]
    """Number of the segment file; -1 where a row is not cached, or its file has changed since."""
    offsets: NDArray[np.int64]
    channels: NDArray[np.uint8]
    checksums: dict[int, int] = field(default_factory=dict)
    """CRC-32 of all bytes of each segment."""


class SegmentMaps:
    """Segment files mapped into memory, each checked when it is first asked for.

    Args:
        folder: of the segments.
        checksums: CRC-32 of each.
    """

    def __init__(self, folder: Path, checksums: dict[int, int]) -> None:
        self._folder = folder
        self._checksums = checksums
        self._maps: dict[int, NDArray[np.uint8]] = {}

    def __getitem__(self, number: int) -> NDArray[np.uint8]:
        """Return a segment's bytes.

        Raises:
            FerError: they are not those that were written.
        """
        pixels = self._maps.get(number)
        if pixels is None:  # threads that come here at once do the same, which harms nothing
            path = _segment_path(self._folder, number)
            pixels = np.memmap(path, dtype=np.uint8, mode="r")
            if zlib.crc32(pixels.data) != self._checksums[number]:
                raise FerError(
                    f"the pixel cache {self._folder} is damaged: {path.name} does not hold the bytes that were written. "
                    "Delete that folder: it is built again"
                )
            self._maps[number] = pixels
        return pixels

    def __getstate__(self) -> dict[str, Any]:
        """Leave the maps behind: a loader process opens and checks its own."""
        return {**self.__dict__, "_maps": {}}


class CachedPictures:
    """Pictures read from segment files."""

    def __init__(self, maps: SegmentMaps, index: SegmentIndex, rows: NDArray[np.int64], size: int) -> None:
        self._maps = maps
        self._segments = index.segments[rows].tolist()
        self._offsets = index.offsets[rows].tolist()
        self._channels = index.channels[rows].tolist()
        self._size = size

    def __call__(self, position: int) -> Picture:
        """Return a view of the picture; it cannot be written to.

        Raises:
            FerError: its segment is damaged.
        """
        offset, channels = self._offsets[position], self._channels[position]
        picture = self._maps[self._segments[position]][offset : offset + self._size * self._size * channels]
        return picture.reshape((self._size, self._size) if channels == 1 else (self._size, self._size, 3))


def write_segment(
    folder: Path, number: int, rows: NDArray[np.int64], stamps: NDArray[np.int64], pictures: Pictures
) -> int:
    """Write the pixels, then the table that makes them count.

    Args:
        folder: of the segments.
        number: of this segment.
        rows: (n,) row numbers of the manifest.
        stamps: (n, 3) stamps of their files, taken before they are decoded.
        pictures: their canonical pictures.

    Returns:
        The number of rows.
    """
    compact = [pictures(position) for position in range(len(rows))]
    checksum = 0
    for picture in compact:
        checksum = zlib.crc32(picture.data, checksum)
    table = {
        "rows": rows,
        "offsets": np.cumsum([0, *(picture.nbytes for picture in compact)], dtype=np.int64),
        "channels": np.array([1 if picture.ndim == 2 else 3 for picture in compact], dtype=np.uint8),
        "stamps": stamps,
        "checksum": np.array(checksum, dtype=np.uint32),
    }

    def write_pixels(path: Path) -> None:
        with path.open("wb") as file:
            for picture in compact:
                file.write(picture.data)

    def write_table(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, **table)  # type: ignore[arg-type]  # none of the names is an option

    write_atomically(_segment_path(folder, number), write_pixels)
    write_atomically(_table_path(folder, number), write_table)
    return len(rows)


def segment_numbers(folder: Path) -> list[int]:
    """Return the numbers of all segments, complete or not; files of other names are not looked at."""
    found = (_NAME.fullmatch(path.name) for path in folder.glob("segment*.*"))
    return sorted({int(match[1]) for match in found if match})


def read_index(folder: Path, manifest: Manifest) -> SegmentIndex:
    """Read the tables of all complete segments; a row counts while its file is as it was when it was decoded."""
    index = SegmentIndex(
        segments=np.full(len(manifest), -1, dtype=np.int32),
        offsets=np.zeros(len(manifest), dtype=np.int64),
        channels=np.zeros(len(manifest), dtype=np.uint8),
    )
    tables = {number: table for number in segment_numbers(folder) if (table := _read_table(folder, number)) is not None}
    if not tables:
        return index
    rows = np.unique(np.concatenate([table["rows"] for table in tables.values()]))
    now = np.zeros((len(manifest), len(FileStamp._fields)), dtype=np.int64)
    now[rows] = file_stamps(manifest, rows)
    for number, table in tables.items():
        same = (now[table["rows"]] == table["stamps"]).all(axis=1)
        kept = table["rows"][same]
        index.segments[kept] = number
        index.offsets[kept] = table["offsets"][:-1][same]
        index.channels[kept] = table["channels"][same]
        index.checksums[number] = int(table["checksum"])
    return index


def _read_table(folder: Path, number: int) -> dict[str, NDArray[Any]] | None:
    """Return a segment's table, or None where the segment is incomplete or of an earlier form."""
    path = _table_path(folder, number)
    if not path.is_file():
        return None
    try:
        with path.open("rb") as raw, np.load(raw) as file:
            table = {name: file[name] for name in ("rows", "offsets", "channels", "stamps", "checksum")}
        whole = _segment_path(folder, number).stat().st_size == table["offsets"][-1]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return table if whole and table["stamps"].shape[1:] == (len(FileStamp._fields),) else None


def _segment_path(folder: Path, number: int) -> Path:
    return folder / f"segment{number:06d}.bin"


def _table_path(folder: Path, number: int) -> Path:
    return folder / f"segment{number:06d}.npz"
