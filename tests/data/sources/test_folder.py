"""Folder-per-class trees."""

import sys
from pathlib import Path

import pytest

from fer_lightning.data.sources.config import SourceConfig
from fer_lightning.data.sources.folder import read_folder
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.errors import FerError
from tests.data.sources.picture_tree import drops, plant_bytes, summary


def read(root: Path) -> SourceReading:
    return read_folder(SourceConfig(path=str(root)))


def test_class_folders_with_synonyms_and_any_case(tmp_path: Path) -> None:
    plant_bytes(tmp_path, "anger/b.JPG", "HAPPY/a.png", "suprise/c.webp", "sadness/deep/er/d.jpeg", "6_Neutral/e.tif")
    reading = read(tmp_path)
    assert summary(reading, tmp_path) == [
        ("6_Neutral/e.tif", "Neutral", None),
        ("HAPPY/a.png", "Happy", None),
        ("anger/b.JPG", "Angry", None),
        ("sadness/deep/er/d.jpeg", "Sad", None),
        ("suprise/c.webp", "Surprise", None),
    ]
    assert (reading.dropped, reading.notes) == ([], [])
    assert reading.rows[0].path == f"{tmp_path.as_posix()}/6_Neutral/e.tif"
    assert all(row.bbox is None and row.columns == {} for row in reading.rows)


def test_split_folders(tmp_path: Path) -> None:
    plant_bytes(tmp_path, "Training/fear/a.png", "valid/fear/a.png", "test/disgusted/b.png")
    assert summary(read(tmp_path), tmp_path) == [
        ("Training/fear/a.png", "Fear", "train"),
        ("test/disgusted/b.png", "Disgust", "test"),
        ("valid/fear/a.png", "Fear", "val"),
    ]


def test_path_is_kept_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant_bytes(tmp_path, "sets/faces/happy/a.png")
    monkeypatch.chdir(tmp_path)
    assert [row.path for row in read_folder(SourceConfig(path="sets/faces/")).rows] == ["sets/faces/happy/a.png"]


def test_other_expressions_and_files_that_are_no_images_are_accounted_for(tmp_path: Path) -> None:
    plant_bytes(tmp_path, "happy/a.png", "happy/notes.txt", "happy/Thumbs.db", "happy/._a.png", "manifest.csv")
    plant_bytes(tmp_path, "happy/.thumbnails/a.png", "happy/__MACOSX/a.png", ".git/x/a.png", "stray.png")
    plant_bytes(tmp_path, "Contempt/a.png", "Contempt/b.png", "uncertain/c.png")
    (tmp_path / "happy/b.png").symlink_to(tmp_path / "absent.png")
    reading = read(tmp_path)
    assert summary(reading, tmp_path) == [("happy/a.png", "Happy", None)]
    assert drops(reading) == [
        ("Contempt/a.png", "contempt"),
        ("Contempt/b.png", "contempt"),
        ("happy/._a.png", "no image file"),
        ("happy/.thumbnails", "no image file"),
        ("happy/Thumbs.db", "no image file"),
        ("happy/__MACOSX", "no image file"),
        ("happy/b.png", "no such file"),
        ("happy/notes.txt", "no image file"),
        ("stray.png", "not in a class folder"),
        ("uncertain/c.png", "uncertain"),
    ]


def test_doubled_folders_are_read_through(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    plant_bytes(root, "Faces/train/Train/sad/a.png", "Faces/train/Train/happy/happy/b.png", "Faces/test/sad/c.png")
    reading = read(root)
    assert summary(reading, root) == [
        ("Faces/test/sad/c.png", "Sad", "test"),
        ("Faces/train/Train/happy/happy/b.png", "Happy", "train"),
        ("Faces/train/Train/sad/a.png", "Sad", "train"),
    ]
    assert sorted(reading.notes) == [
        "the folder is doubled: read from Faces",
        "the folder is doubled: read from Faces/train/Train",
        "the folder is doubled: read through Faces/train/Train/happy/happy",
    ]


def test_a_root_that_is_named_as_a_split_keeps_the_split_in_it(tmp_path: Path) -> None:
    plant_bytes(tmp_path / "train", "train/happy/a.png")
    assert summary(read(tmp_path / "train"), tmp_path / "train") == [("train/happy/a.png", "Happy", "train")]


def test_a_single_class_in_a_folder_of_its_name(tmp_path: Path) -> None:
    plant_bytes(tmp_path / "happy", "happy/a.png")
    assert summary(read(tmp_path / "happy"), tmp_path / "happy") == [("happy/a.png", "Happy", None)]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_linked_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    plant_bytes(tmp_path / "elsewhere", "a.png")
    plant_bytes(tmp_path / "tree", "sad/b.png")
    (tmp_path / "tree/happy").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "tree/sad/around").symlink_to(tmp_path / "tree")
    reading = read(tmp_path / "tree")
    assert summary(reading, tmp_path / "tree") == [("happy/a.png", "Happy", None), ("sad/b.png", "Sad", None)]
    assert drops(reading) == [("sad/around", "no image file")]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "holds no images in class folders named Angry, Disgust"),
        (("happy/a.txt",), "holds no images .*; left out: 1 no image file"),
        (("a.png",), "holds no images .*; left out: 1 not in a class folder"),
        (("contempt/a.png",), "holds no images .*; left out: 1 contempt"),
        (("happy/a.png", "Kontempt/a.png"), "Kontempt is no class folder: expected one of Angry, .* or a synonym"),
        (("happy/a.png", "3/a.png"), "/3 is no class folder"),
        (("train/happy/a.png", "sad/a.png"), "mixes split folders with others: sad"),
        (("train/happy/a.png", "dev/happy/a.png"), "mixes split folders with others: dev"),
        (("happy/train/a.png", "sad/train/a.png"), "happy/train is named as a class or split but is inside"),
        (("happy/a.png", "happy/sad/a.png"), "happy/sad is named as a class or split but is inside"),
    ],
)
def test_unclear_tree_is_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    plant_bytes(tmp_path, *names)
    with pytest.raises(FerError, match=message):
        read(tmp_path)


def test_no_tree(tmp_path: Path) -> None:
    plant_bytes(tmp_path, "file")
    for name in ("absent", "file"):
        with pytest.raises(FerError, match=f"no folder .*{name}; path is the folder that holds one folder per class"):
            read(tmp_path / name)
    with pytest.raises(FerError, match="kind=folder needs path="):
        read_folder(SourceConfig())
