"""Plants tiny pictures and texts in folders of a data set."""

from pathlib import Path

import cv2
import numpy as np

from fer_lightning.data.sources.rows import SourceReading


def plant_picture(path: Path, *, height: int = 8, width: int = 8) -> Path:
    """Write a picture whose grey depends on its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((height, width), sum(path.name.encode()) % 256, dtype=np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path


def plant_pictures(root: Path, *names: str) -> None:
    for name in names:
        plant_picture(root / name)


def plant_text(path: Path, text: str) -> Path:
    """Write text byte for byte."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def plant_bytes(root: Path, *names: str) -> None:
    """Write files that are not looked into."""
    for name in names:
        plant_text(root / name, name)


def summary(reading: SourceReading, root: Path) -> list[tuple[str, str, str | None]]:
    """Return path relative to the data set, label and split of each row."""
    return [(row.path.removeprefix(f"{root.as_posix()}/"), row.label, row.split) for row in reading.rows]


def drops(reading: SourceReading) -> list[tuple[str, str]]:
    """Return item and reason of each drop, sorted."""
    return sorted((drop.item, drop.reason) for drop in reading.dropped)
