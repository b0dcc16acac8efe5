"""RAF-DB compound: eleven names to their primary emotion."""

from pathlib import Path

import pytest

from fer_lightning.data.sources.config import Pictures, SourceConfig, SourceKind
from fer_lightning.data.sources.rafdb_compound import read_rafdb_compound
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.errors import FerError
from tests.data.sources.raf_tree import plant_attributes, plant_boxes, plant_raf

NAMES = [
    "Happily Surprised",
    "Happily Disgusted",
    "Sadly Fearful",
    "Sadly Angry",
    "Sadly Surprised",
    "Sadly Disgusted",
    "Fearfully Angry",
    "Fearfully Surprised",
    "Angrily Surprised",
    "Angrily Disgusted",
    "Disgustedly Surprised",
]
PRIMARY = {"Happily": "Happy", "Sadly": "Sad", "Fearfully": "Fear", "Angrily": "Angry", "Disgustedly": "Disgust"}
LINES = [f"{'test' if code % 3 == 0 else 'train'}_{code:04d}.jpg {code}" for code in range(1, 12)]


def read(path: Path, pictures: Pictures = Pictures.aligned) -> SourceReading:
    return read_rafdb_compound(SourceConfig(kind=SourceKind.rafdb_compound, path=str(path), pictures=pictures))


def test_eleven_classes(tmp_path: Path) -> None:
    plant_raf(tmp_path / "compound", LINES, folder="Image/aligned/aligned")
    reading = read(tmp_path)
    assert [row.columns for row in reading.rows] == [{"compound": name} for name in NAMES]
    assert [row.label for row in reading.rows] == [PRIMARY[name.split()[0]] for name in NAMES]
    assert {row.split for row in reading.rows} == {"test"}
    assert reading.notes == [
        f"read from {(tmp_path / 'compound').as_posix()}",
        "11 of 11 pictures are in Image/aligned/aligned, not in Image/aligned",
    ]


def test_boxes_and_attributes(tmp_path: Path) -> None:
    plant_raf(tmp_path, ["train_0001.jpg 8"], folder="Image/original", suffix="")
    plant_boxes(tmp_path, {"train_0001": "1 2 30 40"})
    plant_attributes(tmp_path, {"train_0001": "1\n2\n3\n"})
    (row,) = read(tmp_path, Pictures.boxes).rows
    assert (row.label, row.bbox) == ("Fear", (2, 1, 30, 40))
    assert row.columns == {"compound": "Fearfully Surprised", "gender": "female", "race": "Asian", "age_group": "40-69"}


def test_every_line_is_a_row_or_accounted_for(tmp_path: Path) -> None:
    plant_raf(tmp_path, [*LINES, "train_0012.jpg 12", "train_0013.jpg 0", "train_0014.jpg 1"])
    (tmp_path / "Image/aligned/train_0014_aligned.jpg").unlink()
    reading = read(tmp_path)
    assert len(reading.rows) == 11
    assert [(drop.item, drop.reason, drop.detail) for drop in reading.dropped] == [
        ("list_patition_label.txt:12", "unknown code", "train_0012.jpg 12; expected 1 to 11"),
        ("list_patition_label.txt:13", "unknown code", "train_0013.jpg 0; expected 1 to 11"),
        ("list_patition_label.txt:14", "no such file", "train_0014_aligned.jpg"),
    ]


def test_the_list_of_the_basic_set_is_refused(tmp_path: Path) -> None:
    """Its codes 1 to 7 exist here too and mean other emotions."""
    plant_raf(tmp_path / "basic", ["train_00001.jpg 5"])
    with pytest.raises(FerError, match="is the list of RAF-DB basic, .* give the folder 'compound'"):
        read(tmp_path / "basic")
    plant_raf(tmp_path / "renamed", [f"train_{number:05d}.jpg {number % 7 + 1}" for number in range(100)])
    with pytest.raises(FerError, match="is the list of RAF-DB basic"):
        read(tmp_path / "renamed")


def test_no_list_names_the_places(tmp_path: Path) -> None:
    plant_raf(tmp_path / "basic", ["train_00001.jpg 5"])
    with pytest.raises(FerError, match="no label list at .*, .*/compound/EmoLabel/list_patition_label.txt; path is"):
        read(tmp_path)
