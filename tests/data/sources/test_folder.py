"""Folder-per-class trees."""

import hashlib
import logging
import os
import sys
from pathlib import Path

import pytest

from fer_lightning.data.sources.folder import read_folder_tree
from fer_lightning.errors import FerError


def plant(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(path.name.encode())


def test_class_folders_with_synonyms_and_any_case(tmp_path: Path) -> None:
    plant(tmp_path, "anger/b.JPG", "HAPPY/a.png", "suprise/c.webp", "sadness/deep/er/d.jpeg", "Neutral/e.tif")
    rows = read_folder_tree(tmp_path)
    assert [(row.image_path, row.label, row.split) for row in rows] == [
        ("HAPPY/a.png", "Happy", None),
        ("Neutral/e.tif", "Neutral", None),
        ("anger/b.JPG", "Angry", None),
        ("sadness/deep/er/d.jpeg", "Sad", None),
        ("suprise/c.webp", "Surprise", None),
    ]
    assert rows[0].content == hashlib.sha256(b"a.png").hexdigest()


def test_split_folders(tmp_path: Path) -> None:
    plant(tmp_path, "Training/fear/a.png", "valid/fear/a.png", "test/disgusted/b.png")
    assert [(row.image_path, row.label, row.split) for row in read_folder_tree(tmp_path)] == [
        ("Training/fear/a.png", "Fear", "train"),
        ("test/disgusted/b.png", "Disgust", "test"),
        ("valid/fear/a.png", "Fear", "val"),
    ]


def test_files_that_are_no_images_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plant(tmp_path, "happy/a.png", "happy/notes.txt", "happy/b.txt", "happy/Thumbs", "manifest.csv")
    with caplog.at_level(logging.INFO):
        assert [row.image_path for row in read_folder_tree(tmp_path)] == ["happy/a.png"]
    assert "left out files that are no images: {'(no suffix)': 1, '.txt': 2}" in caplog.text


def test_hidden_files_and_folders_are_no_images(tmp_path: Path) -> None:
    plant(tmp_path, "happy/a.png", "happy/._a.png", "happy/.thumbnails/a.png", ".git/x/a.png")
    assert [row.image_path for row in read_folder_tree(tmp_path)] == ["happy/a.png"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "holds no images in class folders named Angry, Disgust"),
        (("happy/a.txt",), "holds no images"),
        (("a.png",), "holds no images"),
        (("happy/a.png", "Contempt/a.png"), "Contempt is no class folder: expected one of Angry, .* or a synonym"),
        (("train/happy/a.png", "sad/a.png"), "mixes split folders with others: sad"),
        (("train/happy/a.png", "dev/happy/a.png"), "mixes split folders with others: dev"),
    ],
)
def test_unclear_tree_is_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    plant(tmp_path, *names)
    with pytest.raises(FerError, match=message):
        read_folder_tree(tmp_path)


def test_no_tree(tmp_path: Path) -> None:
    plant(tmp_path, "file")
    for name in ("absent", "file"):
        with pytest.raises(FerError, match=f"build.tree: no folder .*{name}"):
            read_folder_tree(tmp_path / name)


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    plant(tmp_path, "happy/a.png")
    (tmp_path / "happy/b.png").symlink_to(tmp_path / "absent.png")
    with pytest.raises(FerError, match=r"cannot read .*b.png: No such file"):
        read_folder_tree(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere such names cannot exist")
@pytest.mark.parametrize("name", [b"\xff.png", b"a\\b.png", b"a\nb.png", b"a\rb.png"])
def test_name_that_a_manifest_cannot_hold(tmp_path: Path, name: bytes) -> None:
    plant(tmp_path, "happy/a.png")
    (tmp_path / "happy" / os.fsdecode(name)).write_bytes(b"")
    with pytest.raises(FerError, match="cannot stand in a manifest"):
        read_folder_tree(tmp_path)
