"""JAFFE: subject and emotion from the file name."""

from pathlib import Path

import pytest

from fer_lightning.data.sources.config import SourceConfig, SourceKind
from fer_lightning.data.sources.jaffe import read_jaffe
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.errors import FerError
from tests.data.sources.picture_tree import drops, plant_bytes, plant_pictures, summary

NAMES = {
    "KA.AN1.39.tiff": "Angry",
    "KA.DI2.43.tiff": "Disgust",
    "KA.FE3.47.tiff": "Fear",
    "KL.HA1.158.tiff": "Happy",
    "KL.NE1.155.tiff": "Neutral",
    "YM.SA1.58.tiff": "Sad",
    "YM.SU2.62.tiff": "Surprise",
}


def read(root: Path) -> SourceReading:
    return read_jaffe(SourceConfig(kind=SourceKind.jaffe, path=str(root)))


@pytest.mark.parametrize("folder", ["", "jaffedbase/"])
def test_names_say_subject_and_emotion(tmp_path: Path, folder: str) -> None:
    plant_pictures(tmp_path, *(folder + name for name in NAMES))
    reading = read(tmp_path)
    assert summary(reading, tmp_path) == [(folder + name, label, None) for name, label in NAMES.items()]
    assert [row.columns for row in reading.rows] == [{"subject": name[:2]} for name in NAMES]
    assert reading.dropped == []


def test_other_files_are_accounted_for(tmp_path: Path) -> None:
    plant_pictures(
        tmp_path, "KA.AN1.39.TIF", "ka.ha1.29.png", "KA.HA2.30.jpg", "KA.XX1.39.tiff", "KA.AN1.png", "deep/a/b.png"
    )
    plant_bytes(tmp_path, "README", ".DS_Store", "deep/KA.AN1.39.txt")
    reading = read(tmp_path)
    assert [(row.label, row.columns["subject"]) for row in reading.rows] == [
        ("Angry", "KA"),
        ("Happy", "KA"),
        ("Happy", "KA"),
    ]
    assert drops(reading) == [
        (".DS_Store", "no image file"),
        ("KA.AN1.png", "name is not of the JAFFE pattern"),
        ("KA.XX1.39.tiff", "name is not of the JAFFE pattern"),
        ("README", "no image file"),
        ("deep/KA.AN1.39.txt", "no image file"),
        ("deep/a", "folder inside a folder"),
    ]


def test_another_set_is_refused(tmp_path: Path) -> None:
    plant_bytes(tmp_path, "happy/a.png")
    with pytest.raises(
        FerError, match="has a name such as KA.AN1.39.tiff; left out: 1 name is not of the JAFFE pattern"
    ):
        read(tmp_path)
    with pytest.raises(FerError, match="no folder .*absent"):
        read(tmp_path / "absent")
