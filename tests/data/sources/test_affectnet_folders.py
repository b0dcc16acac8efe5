"""AffectNet packs of one folder per class."""

from pathlib import Path

import pytest

from fer_lightning.data.sources.affectnet_folders import read_affectnet_folders
from fer_lightning.data.sources.config import SourceConfig, SourceKind
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.errors import FerError
from tests.data.sources.picture_tree import drops, plant_bytes, plant_pictures, summary

BY_NUMBER = ["Neutral", "Happy", "Sad", "Surprise", "Fear", "Disgust", "Angry"]


def read(root: Path) -> SourceReading:
    return read_affectnet_folders(SourceConfig(kind=SourceKind.affectnet_folders, path=str(root)))


def test_numbered_folders_are_in_the_order_of_affectnet(tmp_path: Path) -> None:
    plant_pictures(tmp_path, *(f"{split}/{code}/{code}.png" for split in ("Train", "Test") for code in range(8)))
    reading = read(tmp_path)
    expected = [(f"Test/{code}/{code}.png", name, "test") for code, name in enumerate(BY_NUMBER)]
    expected += [(f"Train/{code}/{code}.png", name, "train") for code, name in enumerate(BY_NUMBER)]
    assert summary(reading, tmp_path) == expected
    assert drops(reading) == [("Test/7/7.png", "contempt"), ("Train/7/7.png", "contempt")]
    codes = "0 Neutral, 1 Happy, 2 Sad, 3 Surprise, 4 Fear, 5 Disgust, 6 Angry, 7 Contempt"
    assert reading.notes == [f"class folders are numbers, read as AffectNet's codes: {codes}"]


def test_named_folders_without_splits(tmp_path: Path) -> None:
    plant_pictures(tmp_path, "Anger/a.jpg", "surprise/b.png", "Contempt/c.png")
    plant_bytes(tmp_path, "labels.csv", "Anger/desktop.ini")
    reading = read(tmp_path)
    assert summary(reading, tmp_path) == [("Anger/a.jpg", "Angry", None), ("surprise/b.png", "Surprise", None)]
    assert drops(reading) == [("Anger/desktop.ini", "no image file"), ("Contempt/c.png", "contempt")]
    assert reading.notes == ["class folders are names"]


def test_numbered_names_go_by_name(tmp_path: Path) -> None:
    plant_pictures(tmp_path, "VAL/0_Angry/a.png", "valid/1_neutral/a.png")
    assert [row.label for row in read(tmp_path).rows] == ["Angry", "Neutral"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("train/0/a.png", "train/happy/a.png"),
            r"mixes numbered class folders \(train/0\) with named ones \(train/happy",
        ),
        (
            ("train/0/a.png", "test/happy/a.png"),
            r"mixes numbered class folders \(train/0\) with named ones \(test/happy",
        ),
        (("0/a.png", "11/a.png"), "11 is no class folder: AffectNet's codes are 0 Neutral, 1 Happy"),
        (("happy/a.png", "hapy/a.png"), "hapy is no class folder"),
        (("7/a.png",), "holds no pictures of the seven emotions .*; left out: 1 contempt"),
        ((), "holds no pictures of the seven emotions in one folder per class"),
        (("0/1/a.png",), "0/1 is named as a class or split but is inside the class folder 0"),
    ],
)
def test_unclear_tree_is_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    plant_bytes(tmp_path, *names)
    with pytest.raises(FerError, match=message):
        read(tmp_path)


def test_packs_of_rafdb_are_not_read_in_the_order_of_affectnet(tmp_path: Path) -> None:
    plant_pictures(tmp_path, *(f"train/{code}/{code}.png" for code in range(1, 8)))
    with pytest.raises(FerError, match="that is how packs of RAF-DB are numbered, in another order .1 Surprise"):
        read(tmp_path)
