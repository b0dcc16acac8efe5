"""Tiny image sets with a manifest, in a working directory of their own."""

import csv
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_lightning.data.rows.manifest import Manifest, read_manifest
from fer_lightning.labels import EMOTIONS

Row = dict[str, str]


def make_row(image_path: str, label: str = "Happy", split: str = "train", source: str = "ferplus", **extra: str) -> Row:
    return {"image_path": image_path, "label": label, "split": split, "source": source, **extra}


def make_box(top: object, left: object, right: object, bottom: object) -> Row:
    return {
        "bbox_top": str(top),
        "bbox_left": str(left),
        "bbox_right": str(right),
        "bbox_bottom": str(bottom),
    }


def cycle_rows(count: int, *, split: str = "train", folder: str = "pictures") -> list[Row]:
    """Rows whose labels go round the seven emotions."""
    names = [f"{folder}/{split}{number:03d}.png" for number in range(count)]
    return [make_row(name, EMOTIONS[number % 7], split) for number, name in enumerate(names)]


class Workshop:
    """Makes pictures and manifests under a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = root / "manifest.csv"

    def draw(self, name: str, *, height: int = 24, width: int = 24) -> Path:
        """Write a picture whose pixels depend on its name."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(list(name.encode()))
        coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
        path.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())
        return path

    def write(self, rows: Sequence[Row], *, draw: bool = False) -> Path:
        """Write the manifest, with every column that any row has."""
        columns = list(dict.fromkeys(name for row in rows for name in row))
        with self.manifest.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        if draw:
            for name in {row["image_path"] for row in rows}:
                self.draw(name)
        return self.manifest

    def read(self, rows: Sequence[Row], *, draw: bool = False) -> Manifest:
        """Write the manifest and read it."""
        return read_manifest(self.write(rows, draw=draw))


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """An empty folder that is the working directory, where fault reports go."""
    monkeypatch.chdir(tmp_path)
    return Workshop(tmp_path)
