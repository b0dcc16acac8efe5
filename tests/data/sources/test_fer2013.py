"""FER2013: pixel CSVs in both spellings, extraction, and class folders."""

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.data.sources.config import SourceConfig, SourceKind
from fer_lightning.data.sources.fer2013 import read_fer2013
from fer_lightning.data.sources.pixel_csv import extract_pictures, read_pixel_csv
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.errors import FerError

Face = tuple[str, NDArray[np.uint8], str]
NAMES = ["Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral"]


def faces(count: int = 7) -> list[Face]:
    """Faces of all codes and usages, with pixels of their own."""
    random = np.random.default_rng(1)
    usages = ["Training", "PublicTest", "PrivateTest"]
    return [(str(row % 7), random.integers(0, 256, (48, 48), dtype=np.uint8), usages[row % 3]) for row in range(count)]


def text_of(pixels: NDArray[np.uint8]) -> str:
    return " ".join(str(value) for value in pixels.ravel().tolist())


def fer2013_csv(rows: Sequence[Face]) -> str:
    return "emotion,pixels,Usage\n" + "".join(f'{code},"{text_of(face)}",{usage}\n' for code, face, usage in rows)


def icml_csv(rows: Sequence[Face]) -> str:
    return "emotion, Usage, pixels\n" + "".join(f"{code},{usage},{text_of(face)}\n" for code, face, usage in rows)


def read(root: Path, images: Path | None = None) -> SourceReading:
    source = SourceConfig(kind=SourceKind.fer2013, path=str(root))
    return read_fer2013(source, images_dir=images or root / "images")


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return every file's bytes and the moment it was written."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


@pytest.mark.parametrize(("name", "write"), [("fer2013.csv", fer2013_csv), ("icml_face_data.csv", icml_csv)])
def test_pixel_csv(tmp_path: Path, name: str, write: object) -> None:
    rows = faces()
    assert callable(write)
    (tmp_path / name).write_text(write(rows), encoding="utf-8")
    reading = read(tmp_path)
    assert [row.label for row in reading.rows] == NAMES
    assert [row.split for row in reading.rows] == ["train", "val", "test", "train", "val", "test", "train"]
    assert [row.columns for row in reading.rows] == [{"fer2013_row": str(row)} for row in range(7)]
    assert reading.rows[4].path == f"{tmp_path.as_posix()}/images/val/fer0000004.png"
    assert not reading.dropped
    for row, (_, pixels, _) in zip(reading.rows, rows, strict=True):
        np.testing.assert_array_equal(cv2.imread(row.path, cv2.IMREAD_UNCHANGED), pixels)
    assert len(state(tmp_path / "images")) == 7


def test_bom_crlf_and_blank_lines_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_text(fer2013_csv(faces()), encoding="utf-8")
    plain = read(tmp_path).rows
    text = "\ufeff" + fer2013_csv(faces()).replace("\n", "\r\n") + "\r\n\r\n"
    (tmp_path / "fer2013.csv").write_bytes(text.encode())
    assert read(tmp_path).rows == plain


def test_a_second_extraction_touches_nothing_and_a_wrong_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_text(fer2013_csv(faces()), encoding="utf-8")
    first = read(tmp_path)
    before = state(tmp_path / "images")
    assert read(tmp_path) == first
    assert state(tmp_path / "images") == before

    images = tmp_path / "images"
    names = list(before)
    (images / names[0]).unlink()
    (images / names[1]).write_bytes(b"")
    (images / names[2]).write_bytes(before[names[2]][0][:-12])  # cut off: all pixels, no end
    (images / names[3]).write_bytes(before[names[4]][0])  # another face
    in_colour = cv2.imencode(".png", np.zeros((48, 48, 3), np.uint8))[1].tobytes()
    (images / names[5]).write_bytes(in_colour)
    (images / names[6]).write_bytes(before[names[6]][0][:26] + b"junk" + before[names[6]][0][-12:])
    read(tmp_path)
    after = state(images)
    assert {name: data for name, (data, _) in after.items()} == {name: data for name, (data, _) in before.items()}
    assert {name for name in names if after[name][1] == before[name][1]} == {names[4]}


def test_a_file_of_another_encoder_with_the_right_pixels_is_kept(tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_text(fer2013_csv(faces(1)), encoding="utf-8")
    path = Path(read(tmp_path).rows[0].path)
    other = cv2.imencode(".png", faces(1)[0][1], [cv2.IMWRITE_PNG_COMPRESSION, 0])[1].tobytes()
    assert other != path.read_bytes()
    path.write_bytes(other)
    read(tmp_path)
    assert path.read_bytes() == other


def test_every_bad_line_is_accounted_for(tmp_path: Path) -> None:
    good = faces(1)[0][1]
    numbers = text_of(good)
    lines = [
        f"3,{numbers},Training",
        f"7,{numbers},Training",
        f"Happy,{numbers},Training",
        f"3,{numbers},Test",
        f"3,{numbers} 5,Training",
        f"3,{numbers.rpartition(' ')[0]},PublicTest",
        f"3,{numbers.rpartition(' ')[0]} 256,PublicTest",
        f"3,{numbers.rpartition(' ')[0]} -1,PublicTest",
        f"3,{numbers.rpartition(' ')[0]} 1.5,PublicTest",
        "3,,PublicTest",
        f"5,{numbers},PrivateTest",
    ]
    (tmp_path / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *lines]), encoding="utf-8")
    reading = read(tmp_path)
    assert [(row.label, row.split, row.columns["fer2013_row"]) for row in reading.rows] == [
        ("Happy", "train", "0"),
        ("Surprise", "test", "10"),
    ]
    assert reading.reasons() == {"unreadable pixels": 6, "unknown emotion": 2, "unknown usage": 1}
    assert [(drop.item, drop.detail) for drop in reading.dropped] == [
        ("fer2013.csv:3", "'7'; expected 0 to 6"),
        ("fer2013.csv:4", "'Happy'; expected 0 to 6"),
        ("fer2013.csv:5", "'Test'; expected one of Training, PublicTest, PrivateTest"),
        ("fer2013.csv:6", "2305 numbers instead of 2304"),
        ("fer2013.csv:7", "2303 numbers instead of 2304"),
        ("fer2013.csv:8", "'256' is no whole number in 0..255"),
        ("fer2013.csv:9", "'-1' is no whole number in 0..255"),
        ("fer2013.csv:10", "'1.5' is no whole number in 0..255"),
        ("fer2013.csv:11", "0 numbers instead of 2304"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"fer2013.csv has the columns \(none\); expected emotion, pixels and Usage"),
        ("emotion,pixels\n1,2\n", "has the columns emotion, pixels; expected"),
        ("emotion,pixels,Usage,x\n", "has the columns emotion, pixels, Usage, x; expected"),
        ("emotion,pixels,Usage\n\n", "has a header but no faces"),
        ("emotion,pixels,Usage\n1,2\n", r"fer2013.csv:2 has 2 fields; expected"),
        ("emotion,pixels,Usage\n1,2,Training\n", "no line of .* can be used: 1 unreadable pixels"),
        ('emotion,pixels,Usage\n1,"2\n', "is not a UTF-8 CSV file"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "fer2013.csv").write_text(text, encoding="utf-8")
    with pytest.raises(FerError, match=message):
        read(tmp_path)
    assert not (tmp_path / "images").exists()


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_bytes(b"emotion,pixels,Usage\n\xff\xfe,1,2\n")
    with pytest.raises(FerError, match="is not a UTF-8 CSV file"):
        read(tmp_path)


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_text(fer2013_csv(faces(1)), encoding="utf-8")
    (tmp_path / "blocked").write_text("a file", encoding="utf-8")
    lines = read_pixel_csv(tmp_path / "fer2013.csv")
    with pytest.raises(FerError, match="cannot write pictures to .*blocked.*choose another folder"):
        extract_pictures(lines, tmp_path / "blocked")


def plant(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture")


def test_class_folders(tmp_path: Path) -> None:
    names = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    plant(tmp_path, *(f"train/{name}/Training_{number}.jpg" for number, name in enumerate(names)))
    plant(tmp_path, "test/happy/b.JPG", "test/happy/a.png", "extra/x.txt")
    plant(
        tmp_path, "test/happy/notes.txt", "test/contempt/a.png", "test/a.png", "test/sad/deep/a.png", "test/sad/._a.png"
    )
    reading = read(tmp_path)
    assert {row.path.removeprefix(f"{tmp_path.as_posix()}/"): (row.label, row.split) for row in reading.rows} == {
        **{f"train/{name}/Training_{number}.jpg": (NAMES[number], "train") for number, name in enumerate(names)},
        "test/happy/a.png": ("Happy", "test"),
        "test/happy/b.JPG": ("Happy", "test"),
    }
    assert [(drop.item, drop.reason) for drop in reading.dropped] == [
        ("test/contempt/a.png", "unknown emotion"),
        ("test/happy/notes.txt", "not a picture"),
        ("test/sad/deep/", "folder inside a class folder"),
        ("test/a.png", "in no class folder"),
    ]
    assert [note for note in reading.notes if "extra" in note and "not read" in note]
    assert [note for note in reading.notes if "there is no val" in note]
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("x.csv",), "is no FER2013: expected fer2013.csv or icml_face_data.csv .* or folders train/<class>"),
        (("train/contempt/a.png",), "has no pictures in train/<class>/: 1 unknown emotion"),
    ],
)
def test_other_folders_are_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    plant(tmp_path, *names)
    with pytest.raises(FerError, match=message):
        read(tmp_path)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(FerError, match="cannot list .*absent: No such file"):
        read(tmp_path / "absent")
    with pytest.raises(FerError, match="needs path="):
        read_fer2013(SourceConfig(kind=SourceKind.fer2013), images_dir=tmp_path)


def test_the_csv_wins_over_folders_and_leaves_no_temporary_files(tmp_path: Path) -> None:
    plant(tmp_path, "train/happy/a.png")
    (tmp_path / "fer2013").mkdir()
    (tmp_path / "fer2013/fer2013.csv").write_text(fer2013_csv(faces(3)), encoding="utf-8")
    reading = read(tmp_path, tmp_path / "out")
    assert [os.path.relpath(row.path, tmp_path) for row in reading.rows] == [
        "out/train/fer0000000.png",
        "out/val/fer0000001.png",
        "out/test/fer0000002.png",
    ]
    assert list(state(tmp_path / "out")) == ["test/fer0000002.png", "train/fer0000000.png", "val/fer0000001.png"]
