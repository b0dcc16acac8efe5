"""RAF-DB basic: label list, aligned and doubled folders, boxes, attributes."""

from pathlib import Path

import pytest

from fer_lightning.data.sources.config import Pictures, SourceConfig, SourceKind
from fer_lightning.data.sources.rafdb import read_rafdb_basic
from fer_lightning.data.sources.rows import SourceReading
from fer_lightning.errors import FerError
from tests.data.sources.raf_tree import plant_attributes, plant_boxes, plant_raf, write

LINES = [
    "train_00001.jpg 5",
    "train_00002.jpg 1",
    "train_00003.jpg 2",
    "train_00004.jpg 3",
    "test_0001.jpg 4",
    "test_0002.jpg 6",
    "test_0003.jpg 7",
]
EXPECTED = [
    ("train_00001", "Sad", "train"),
    ("train_00002", "Surprise", "train"),
    ("train_00003", "Fear", "train"),
    ("train_00004", "Disgust", "train"),
    ("test_0001", "Happy", "test"),
    ("test_0002", "Angry", "test"),
    ("test_0003", "Neutral", "test"),
]


def read(path: Path, pictures: Pictures = Pictures.aligned) -> SourceReading:
    return read_rafdb_basic(SourceConfig(kind=SourceKind.rafdb_basic, path=str(path), pictures=pictures))


def summary(reading: SourceReading, prefix: Path) -> list[tuple[str, str, str | None]]:
    return [(row.path.removeprefix(f"{prefix.as_posix()}/"), row.label, row.split) for row in reading.rows]


def test_aligned_pictures(tmp_path: Path) -> None:
    plant_raf(tmp_path, LINES)
    reading = read(tmp_path)
    assert summary(reading, tmp_path) == [
        (f"Image/aligned/{stem}_aligned.jpg", label, split) for stem, label, split in EXPECTED
    ]
    assert all(row.bbox is None and row.columns == {} for row in reading.rows)
    assert (reading.dropped, reading.notes) == ([], [])


def test_doubled_folder_is_found_and_noted(tmp_path: Path) -> None:
    plant_raf(tmp_path, LINES, folder="Image/aligned/aligned")
    reading = read(tmp_path)
    assert summary(reading, tmp_path)[0][0] == "Image/aligned/aligned/train_00001_aligned.jpg"
    assert len(reading.rows) == 7
    assert reading.notes == ["7 of 7 pictures are in Image/aligned/aligned, not in Image/aligned"]


def test_half_moved_pictures_are_found_in_both_folders(tmp_path: Path) -> None:
    plant_raf(tmp_path, LINES)
    write(tmp_path / "Image/aligned/aligned/test_0003_aligned.jpg", "picture")
    (tmp_path / "Image/aligned/test_0003_aligned.jpg").unlink()
    reading = read(tmp_path)
    assert summary(reading, tmp_path)[-1][0] == "Image/aligned/aligned/test_0003_aligned.jpg"
    assert reading.notes == ["1 of 7 pictures are in Image/aligned/aligned, not in Image/aligned"]


def test_the_folder_above_and_the_other_spelling_of_the_list(tmp_path: Path) -> None:
    plant_raf(tmp_path / "basic", LINES, list_name="list_partition_label.txt")
    reading = read(tmp_path)
    assert summary(reading, tmp_path)[0][0] == "basic/Image/aligned/train_00001_aligned.jpg"
    assert reading.notes == [f"read from {(tmp_path / 'basic').as_posix()}"]
    assert [row.path for row in read(tmp_path / "basic").rows] == [row.path for row in reading.rows]


def test_bom_crlf_tabs_and_blank_lines_change_nothing(tmp_path: Path) -> None:
    plain = read(plant_raf(tmp_path, LINES))
    text = "\ufeff" + "\r\n".join(line.replace(" ", " \t") + " " for line in LINES) + "\r\n\r\n  \r\n"
    write(tmp_path / "EmoLabel/list_patition_label.txt", text)
    assert read(tmp_path) == plain


def test_every_line_is_a_row_or_accounted_for(tmp_path: Path) -> None:
    trouble = ["train_00009.jpg 8", "train_00010.jpg happy", "val_00001.jpg 4", "photo.jpg 4", "train_00011.jpg 4"]
    plant_raf(tmp_path, [*LINES, *trouble])
    (tmp_path / "Image/aligned/train_00011_aligned.jpg").unlink()
    write(tmp_path / "Image/aligned/Thumbs.db", "")
    write(tmp_path / "Image/aligned/._train_00001_aligned.jpg", "")
    reading = read(tmp_path)
    assert len(reading.rows) == 7
    assert [(drop.item, drop.reason, drop.detail) for drop in reading.dropped] == [
        ("list_patition_label.txt:8", "unknown code", "train_00009.jpg 8; expected 1 to 7"),
        ("list_patition_label.txt:9", "unknown code", "train_00010.jpg happy; expected 1 to 7"),
        ("list_patition_label.txt:10", "unknown split", "val_00001.jpg 4; expected a name that begins with train_ or test_"),
        ("list_patition_label.txt:11", "unknown split", "photo.jpg 4; expected a name that begins with train_ or test_"),
        ("list_patition_label.txt:12", "no such file", "train_00011_aligned.jpg"),
    ]  # fmt: skip
    assert reading.notes == ["1 files in Image/aligned are named by no line of the label list, first Thumbs.db"]


def test_a_picture_listed_twice(tmp_path: Path) -> None:
    plant_raf(tmp_path, ["train_1.jpg 4", "train_2.jpg 4", "train_1.jpg 4", "train_2.jpg 5", "train_3.jpg 6"])
    reading = read(tmp_path)
    assert [row.label for row in reading.rows] == ["Happy", "Angry"]
    assert [(drop.item[-1], drop.reason, drop.detail) for drop in reading.dropped] == [
        ("2", "conflicting lines", "train_2.jpg 4; also on line 4"),
        ("3", "listed twice", "train_1.jpg 4; also on line 1"),
        ("4", "conflicting lines", "train_2.jpg 5; also on line 2"),
    ]


@pytest.mark.parametrize("folder", ["Image/original", "Image/original/original"])
def test_boxes_of_the_originals(tmp_path: Path, folder: str) -> None:
    plant_raf(tmp_path, LINES[:4], folder=folder, suffix="")
    plant_boxes(
        tmp_path,
        {
            "train_00001": "10.49 20.5 110.51 219.5\n",
            "train_00002": "\ufeff1\r\n2\r\n3\r\n4\r\n",
            "train_00003": "-0.6 -3 5000.2 7000 ",
            "train_00004": "7 7 7 7",
        },
    )
    reading = read(tmp_path, Pictures.boxes)
    assert summary(reading, tmp_path)[0][0] == f"{folder}/train_00001.jpg"
    assert [row.bbox for row in reading.rows] == [  # top, left, right, bottom
        (21, 10, 111, 220),
        (2, 1, 3, 4),
        (-3, -1, 5000, 7000),  # outside its picture: to be seen later, not clamped
        (7, 7, 7, 7),
    ]


def test_missing_and_broken_boxes_are_accounted_for(tmp_path: Path) -> None:
    plant_raf(tmp_path, LINES[:5], folder="Image/original", suffix="")
    boxes = {"train_00001": "1 2 3 4", "train_00002": "1 2 3", "train_00003": "1 2 x 4", "train_00004": "1 2 inf nan"}
    plant_boxes(tmp_path, boxes, "Annotation/boundingbox/boundingbox")
    reading = read(tmp_path, Pictures.boxes)
    assert len(reading.rows) == 1
    assert [drop.reason for drop in reading.dropped] == ["unreadable box"] * 3 + ["no box"]
    assert reading.dropped[3].detail == "test_0001.jpg: no test_0001_boundingbox.txt"
    assert reading.dropped[0].detail.startswith("Annotation/boundingbox/boundingbox/train_00002_boundingbox.txt: ")


def test_no_box_at_all_is_refused(tmp_path: Path) -> None:
    plant_raf(tmp_path, LINES, folder="Image/original", suffix="")
    with pytest.raises(
        FerError, match="no box of the 7 lines .*; pictures=boxes looked in .*Annotation/boundingbox and"
    ):
        read(tmp_path, Pictures.boxes)


def test_attributes_become_words(tmp_path: Path) -> None:
    plant_raf(tmp_path, LINES)
    codes = {"train_00001": "0\n0\n0\n", "train_00002": "1\r\n1\r\n4\r\n", "train_00003": "2\n2\n2"}
    bad = {"train_00004": "3\n0\n0\n", "test_0001": "0\n0\n"}
    plant_attributes(tmp_path, codes | bad)
    reading = read(tmp_path)
    assert [row.columns for row in reading.rows] == [
        {"gender": "male", "race": "Caucasian", "age_group": "0-3"},
        {"gender": "female", "race": "African-American", "age_group": "70+"},
        {"gender": "unsure", "race": "Asian", "age_group": "20-39"},
        {},
        {},
        {},
        {},
    ]
    first = "Annotation/manual/train_00004_manu_attri.txt (unknown code '3')"
    assert reading.notes == [f"2 attribute files cannot be read and are left empty, first {first}"]


def test_no_picture_at_all_is_refused_with_the_places(tmp_path: Path) -> None:
    plant_raf(tmp_path, LINES, folder="Image/elsewhere")
    message = (
        "no picture of the 7 lines .*such as train_00001_aligned.jpg; looked in .*Image/aligned and .*aligned/aligned$"
    )
    with pytest.raises(FerError, match=message):
        read(tmp_path)
    write(tmp_path / "Image/aligned.zip", "")
    with pytest.raises(FerError, match="aligned/aligned; unpack Image/aligned.zip$"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected lines such as 'train_00001.jpg 5'"),
        ("train_00001.jpg 5\ntrain_00002.jpg\n", r"label.txt:2 reads 'train_00002.jpg'; expected"),
        ("train_00001.jpg,5\n", r"label.txt:1 reads 'train_00001.jpg,5'; expected"),
        ("train_00001.jpg 5 6\n", r"label.txt:1 reads"),
        (
            "".join(f"train_{code}.jpg {code}\n" for code in range(1, 12)),
            "it is RAF-DB compound; .* kind=rafdb_compound",
        ),
    ],
)
def test_other_lists_are_refused(tmp_path: Path, text: str, message: str) -> None:
    write(plant_raf(tmp_path, LINES) / "EmoLabel/list_patition_label.txt", text)
    with pytest.raises(FerError, match=message):
        read(tmp_path)


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    (plant_raf(tmp_path, LINES) / "EmoLabel/list_patition_label.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FerError, match="is not UTF-8 text"):
        read(tmp_path)


def test_no_list(tmp_path: Path) -> None:
    with pytest.raises(FerError, match="no label list at .*/EmoLabel/list_patition_label.txt, .*basic/EmoLabel"):
        read(tmp_path)
    with pytest.raises(FerError, match="kind=rafdb_basic needs path="):
        read_rafdb_basic(SourceConfig(kind=SourceKind.rafdb_basic))


def test_rows_do_not_depend_on_line_order(tmp_path: Path) -> None:
    forward = read(plant_raf(tmp_path / "a", LINES)).rows
    backward = read(plant_raf(tmp_path / "b", reversed(LINES))).rows
    names = [[(Path(row.path).name, row.label, row.split) for row in rows] for rows in (forward, backward)]
    assert names[0] == names[1][::-1]
